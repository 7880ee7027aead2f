"""Who uses CCM: people, the organisations they belong to, and the keys clients send."""

from typing import Any, ClassVar

from django.contrib.auth.models import AbstractUser, BaseUserManager
from django.db import models
from django.db.models.functions import Lower
from django.utils import timezone

from accounts.roles import Role
from accounts.types import Limits


class UserManager(BaseUserManager["User"]):
    use_in_migrations = True

    def create_user(self, email: str, password: str | None = None, **fields: object) -> "User":
        user = self.model(email=self.normalize_email(email).lower(), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: object) -> "User":
        from accounts.emails import vouch_for

        user = self.create_user(email, password, **{**fields, "is_staff": True, "is_superuser": True})
        vouch_for(user)
        return user


class User(AbstractUser):
    """A person. The e-mail address is the log-in; there is no user name."""

    username = None  # type: ignore[assignment]
    email = models.EmailField("e-mail address", unique=True)
    USERNAME_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []
    objects = UserManager()  # type: ignore[assignment,misc]

    class Meta:
        constraints = (models.UniqueConstraint(Lower("email"), name="accounts_user_email_any_case"),)

    def __str__(self) -> str:
        return self.email


class Limited(models.Model):
    """Has limits of its own. Empty: the installation's default (CCM_LIMIT_…); 0: no limit."""

    limit_requests = models.PositiveIntegerField(
        "requests per minute", null=True, blank=True, help_text="Empty: the installation's default. 0: no limit."
    )
    limit_tokens = models.PositiveIntegerField(
        "tokens per minute", null=True, blank=True, help_text="Input and output together, cache reads aside."
    )
    limit_input_tokens = models.PositiveIntegerField(
        "input tokens per minute", null=True, blank=True, help_text="Cache reads do not count."
    )
    limit_output_tokens = models.PositiveIntegerField("output tokens per minute", null=True, blank=True)
    limit_concurrency = models.PositiveIntegerField("requests at once", null=True, blank=True)

    class Meta:
        abstract = True

    @property
    def limits(self) -> Limits:
        return Limits(**{name: getattr(self, f"limit_{name}") for name in Limits.__struct_fields__})


LIMIT_COLUMNS = tuple(f"limit_{name}" for name in Limits.__struct_fields__)


class Organization(Limited):
    """The tenant: owns members, keys, wallet, profiles and usage."""

    name = models.CharField(max_length=120)
    personal_owner = models.OneToOneField(
        User,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="personal_organization",
        help_text="Set for the organisation that every user gets on sign-up.",
    )
    own_keys_only = models.BooleanField(
        "own provider keys only",
        default=False,
        help_text="Where it has provider keys of its own for a model, CCM's are never used instead.",
    )
    keeps_text = models.BooleanField(
        "prompt logging",
        default=False,
        editable=False,
        help_text="Prompts and answers of its requests are kept for some days: its owner or admin wants it.",
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    closed_at = models.DateTimeField(null=True, blank=True, editable=False)
    erased_at = models.DateTimeField(
        null=True, blank=True, editable=False, help_text="When what it held of people was deleted, after it was closed."
    )
    members: "models.ManyToManyField[User, Membership]" = models.ManyToManyField(
        User, through="Membership", related_name="organizations"
    )

    class Meta:
        ordering = ("name", "id")
        verbose_name = "organisation"

    def __str__(self) -> str:
        return self.name


class Membership(models.Model):
    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, related_name="memberships", verbose_name="organisation"
    )
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=10, choices=Role.choices, default=Role.DEVELOPER)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=("organization", "user"), name="accounts_membership_once"),
            models.CheckConstraint(condition=models.Q(role__in=Role.values), name="accounts_membership_role"),
        )

    def __str__(self) -> str:
        return f"{self.user} in {self.organization} ({self.role})"


class ApiKey(Limited):
    """What a client sends. The key itself is shown once and never stored: only its HMAC is.

    `allowed_models` are the names of the only models it may use; empty: all. A management key makes and
    changes other keys through the API, and is no use for anything that costs credits. After a rotation
    the secret before it is good until `previous_until`."""

    organization = models.ForeignKey(
        Organization, on_delete=models.PROTECT, related_name="api_keys", verbose_name="organisation"
    )
    created_by = models.ForeignKey(User, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    name = models.CharField(max_length=80)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    last_four = models.CharField(max_length=4, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)
    disabled_at = models.DateTimeField(null=True, blank=True, editable=False)
    updated_at = models.DateTimeField(null=True, blank=True, editable=False)
    management = models.BooleanField(default=False, db_default=False, editable=False)
    previous_digest = models.CharField(max_length=64, null=True, blank=True, unique=True, editable=False)
    previous_until = models.DateTimeField(null=True, blank=True, editable=False)
    allowed_models: "models.JSONField[Any, Any]" = models.JSONField(default=list, db_default=[], blank=True)

    class Meta:
        ordering = ("-created_at", "-id")
        verbose_name = "API key"

    def __str__(self) -> str:
        return f"{self.name} ({self.masked})"

    @property
    def masked(self) -> str:
        return f"sk-ccm-…{self.last_four}"

    @property
    def is_active(self) -> bool:
        return self.revoked_at is None and self.disabled_at is None and not self.is_expired

    @property
    def is_expired(self) -> bool:
        return self.expires_at is not None and self.expires_at <= timezone.now()

    @property
    def state(self) -> str:
        """`revoked`, `expired`, `disabled` or `active`: in this order, what comes first says it."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.is_expired else "active" if self.disabled_at is None else "disabled"


class OperatorToken(models.Model):
    """Lets a program act as an operator at /admin/api/. Shown once; only its HMAC is stored."""

    user = models.ForeignKey(
        User,
        on_delete=models.CASCADE,
        related_name="operator_tokens",
        limit_choices_to={"is_staff": True},
        help_text="Whose permissions it has.",
    )
    name = models.CharField(max_length=80)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    last_four = models.CharField(max_length=4, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        ordering = ("-id",)

    def __str__(self) -> str:
        return f"{self.name} (ccm-op-…{self.last_four})"


class WelcomeGift(models.Model):
    """That somebody was given the welcome credits. `mailbox` is a keyed digest of the mailbox behind their address:
    other spellings of it get nothing."""

    user = models.OneToOneField(User, null=True, on_delete=models.SET_NULL, related_name="welcome_gift")
    mailbox = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return f"{self.user}"


class Invitation(models.Model):
    """Asks somebody into an organisation. The mail holds a token of which only a digest is kept."""

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="invitations")
    email = models.EmailField()
    role = models.CharField(max_length=10, choices=Role.choices, default=Role.DEVELOPER)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    invited_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True, help_text="When it was accepted or withdrawn.")

    class Meta:
        ordering = ("-id",)
        constraints = (
            models.UniqueConstraint(
                fields=("organization", "email"), condition=models.Q(ended_at=None), name="accounts_invited_once"
            ),
            models.CheckConstraint(condition=models.Q(role__in=Role.values), name="accounts_invitation_role"),
        )

    def __str__(self) -> str:
        return f"{self.email} into {self.organization}"


class AuditEntry(models.Model):
    """One sensitive change: who did what to whom. Never changed, and kept when people leave."""

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="audit_entries")
    actor = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    action = models.CharField(max_length=40)
    subject = models.CharField(max_length=200, blank=True)
    details = models.CharField(max_length=500, blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ("-id",)
        verbose_name_plural = "audit entries"
        indexes = (models.Index(fields=("organization", "-id"), name="accounts_audit_of_org"),)

    def __str__(self) -> str:
        return f"{self.action} {self.subject}"
