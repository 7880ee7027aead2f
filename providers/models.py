"""What operators manage: providers with their credentials, models with prices and mappings,
router profiles. The gateway never reads these rows: it reads the catalogue built of them.

Every change raises the catalogue's version in its own transaction (`CatalogueEntry`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models, transaction
from django.db.models import F, Q
from django.db.models.functions import Lower
from django.utils import timezone

from accounts import changes
from accounts.models import ApiKey, Organization
from providers import crypto, fields, prices
from providers.errors import ConfigError
from providers.fields import RouteField, TiersField, UsdPerMillion, UsdPerThousand
from providers.kept_models import HealthProbe as HealthProbe  # noqa: PLC0414 - Django finds an app's models here
from providers.kept_models import ProbeSchedule as ProbeSchedule  # noqa: PLC0414
from providers.kept_models import StagedImport as StagedImport  # noqa: PLC0414
from providers.kinds import KINDS
from providers.types import Policy, Price, Timeouts

DEFAULTS = Timeouts()
MOST_PROBE_MINUTES = 1440
Row = TypeVar("Row", bound=models.Model)


class CatalogueVersion(models.Model):
    """One row, which counts the changes of the catalogue."""

    ONLY = 1
    version = models.BigIntegerField(default=0)

    class Meta:
        constraints = (models.CheckConstraint(condition=Q(id=1), name="providers_one_catalogue_version"),)

    def __str__(self) -> str:
        return f"catalogue version {self.version}"

    @classmethod
    def current(cls) -> int:
        return cls.objects.filter(pk=cls.ONLY).values_list("version", flat=True).first() or 0

    @classmethod
    def bump(cls) -> None:
        """Raise the version and tell every process on commit. Call it inside the transaction that
        changes the catalogue, before the change: so all of them queue up at this one row."""
        one_change = _one_change.get()
        if one_change is not None and one_change.raised:
            return
        if one_change is not None:
            one_change.raised = True
        with transaction.atomic():
            if not cls.objects.filter(pk=cls.ONLY).update(version=F("version") + 1):
                cls.objects.get_or_create(pk=cls.ONLY)
                cls.objects.filter(pk=cls.ONLY).update(version=F("version") + 1)
            changes.publish(changes.CATALOGUE)


@dataclass(slots=True)
class _OneChange:
    raised: bool = False


_one_change: ContextVar[_OneChange | None] = ContextVar("one_change", default=None)


@contextmanager
def one_change() -> Iterator[None]:
    """A transaction of many edits that raises the version once, with its first edit. What fails
    within must leave the whole of it, so that this first raise is never rolled back alone."""
    with transaction.atomic():
        token = _one_change.set(_OneChange())
        try:
            yield
        finally:
            _one_change.reset(token)


class CatalogueQuerySet(models.QuerySet[Row]):
    """Bulk writes go past `save`, so they raise the version here."""

    @transaction.atomic
    def update(self, **values: Any) -> int:
        CatalogueVersion.bump()
        return super().update(**values)

    @transaction.atomic
    def bulk_create(self, *args: Any, **kwargs: Any) -> list[Row]:
        CatalogueVersion.bump()
        return super().bulk_create(*args, **kwargs)


class CatalogueEntry(models.Model):
    """A row that the catalogue is built of. Deleting one raises the version too: see `apps.py`."""

    objects = CatalogueQuerySet.as_manager()

    class Meta:
        abstract = True

    @transaction.atomic
    def save(self, *args: Any, **kwargs: Any) -> None:
        CatalogueVersion.bump()
        super().save(*args, **kwargs)


class Provider(CatalogueEntry):
    """A company or server that answers requests."""

    name = models.CharField(
        max_length=80,
        unique=True,
        validators=[fields.provider_name, fields.no_separator],
        help_text="Clients may name it: provider/model.",
    )
    kind = models.CharField(max_length=40, choices=fields.kind_choices)
    base_url = models.CharField(
        "base URL",
        max_length=300,
        blank=True,
        validators=[fields.base_url],
        help_text="Leave empty for the kind's own address.",
    )
    wire = models.CharField(
        max_length=40, blank=True, choices=fields.wire_choices, help_text="Leave empty for the kind's own wire format."
    )
    enabled = models.BooleanField(default=True)
    count_tokens = models.BooleanField(
        "ask it to count tokens",
        null=True,
        blank=True,
        help_text="For count_tokens, where its wire format has a way to ask. Unknown: as is usual for the kind "
        "(yes for Anthropic, Gemini, Vertex AI and Bedrock). Whatever it does not answer quickly is counted here.",
    )
    connect_timeout = models.FloatField(
        default=DEFAULTS.connect, validators=[MinValueValidator(0.1)], help_text="Seconds to reach the server."
    )
    first_byte_timeout = models.FloatField(
        default=DEFAULTS.first_byte,
        validators=[MinValueValidator(0.1)],
        help_text="Seconds until the answer begins. Models that think long need minutes.",
    )
    idle_timeout = models.FloatField(
        default=DEFAULTS.idle,
        validators=[MinValueValidator(0.1)],
        help_text="Seconds of silence within an answer after which it counts as broken.",
    )
    total_timeout = models.FloatField(
        default=DEFAULTS.total, validators=[MinValueValidator(0.1)], help_text="Seconds that one answer may take."
    )

    probe_every = models.PositiveSmallIntegerField(
        "health probe",
        default=0,
        validators=[MaxValueValidator(MOST_PROBE_MINUTES)],
        help_text="Minutes between probes, 0: none. Free of charge where the provider lists its models; elsewhere each "
        "is a tiny request to the model of the cheapest mapping, which you pay.",
    )

    class Meta:
        ordering = ("name",)
        constraints = (models.UniqueConstraint(Lower("name"), name="providers_provider_name_any_case"),)

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        self.base_url = self.base_url.strip().rstrip("/")
        kind = KINDS.get(self.kind)
        if kind is not None and not kind.base_url and not self.base_url:
            raise ValidationError({"base_url": f"The kind {kind.label} has no address of its own: enter one."})


class CredentialQuerySet(CatalogueQuerySet[Any]):
    def of_platform(self) -> "CredentialQuerySet":
        return self.filter(organization=None)


class Credential(CatalogueEntry):
    """One secret of a provider, in a weighted pool. Stored encrypted; never shown again."""

    objects: ClassVar[Any] = CredentialQuerySet.as_manager()

    provider = models.ForeignKey(Provider, on_delete=models.CASCADE, related_name="credentials")
    organization = models.ForeignKey(
        Organization,
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="+",
        verbose_name="organisation",
        help_text="Whose own key it is: it serves that organisation alone, before the others. Empty: everybody.",
    )
    label = models.CharField(
        max_length=80,
        help_text="Your own name for it. An export writes it as an environment variable, if it is one's name.",
    )
    sealed = models.TextField(editable=False)
    masked = models.CharField("secret", max_length=8, editable=False)
    weight = models.PositiveSmallIntegerField(
        default=1, validators=[MinValueValidator(1)], help_text="Its share of the requests within the pool."
    )
    requests_per_minute = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Of all web processes together. Empty: no limit but the provider's.",
    )
    concurrency = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Requests at a time, of all web processes together. Empty: no limit.",
    )
    enabled = models.BooleanField(default=True)

    class Meta:
        ordering = ("provider", "id")
        constraints = (
            models.UniqueConstraint(
                fields=("provider", "label"), condition=Q(organization=None), name="providers_credential_label_once"
            ),
            # Apart from the others': one tenant does not learn what another calls its keys.
            models.UniqueConstraint(
                fields=("provider", "organization", "label"), name="providers_own_credential_label_once"
            ),
        )

    def __str__(self) -> str:
        return f"{self.label} ({self.masked})"

    def set_secret(self, secret: str) -> None:
        """Seal `secret` into this row; save it afterwards."""
        self.sealed = crypto.encrypt(secret)
        self.masked = crypto.mask(secret)

    def open_secret(self) -> str:
        """The secret itself. Raises CannotDecrypt."""
        return crypto.decrypt(self.sealed)


class Order(models.TextChoices):
    """`types.Policy`, as operators read it."""

    PRIORITY = Policy.PRIORITY.value, "Priority, then weight"
    PRICE = Policy.PRICE.value, "Cheapest first"
    LATENCY = Policy.LATENCY.value, "Quickest first word"
    THROUGHPUT = Policy.THROUGHPUT.value, "Fastest writer"


class Model(CatalogueEntry):
    """What customers ask for and pay for."""

    name = models.CharField(
        max_length=120, unique=True, validators=[fields.model_name], help_text="What customers write as the model."
    )
    display_name = models.CharField(max_length=120, blank=True)
    description = models.TextField(blank=True)
    context_window = models.PositiveIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1)], help_text="Tokens of input and output together."
    )
    max_output = models.PositiveIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1)], help_text="Tokens of one answer at most."
    )
    vision = models.BooleanField(default=True, help_text="Can see images. Else they become a text note.")
    tools = models.BooleanField(default=True, help_text="Can call tools.")
    thinking = models.BooleanField(default=False, help_text="Can reason before it answers.")
    enabled = models.BooleanField(default=True)
    discoverable = models.BooleanField(default=True, help_text="Listed by GET /v1/models and on the price page.")
    policy = models.CharField(
        max_length=12,
        choices=Order,
        default=Order.PRIORITY,
        help_text="Which of its providers is asked first. One that is failing comes last whatever this says.",
    )
    markup = models.DecimalField(
        max_digits=9,
        decimal_places=6,
        null=True,
        blank=True,
        validators=[MinValueValidator(0)],
        help_text="Instead of prices: customers pay the dearest mapping's cost and this share more (0.20 is 20%).",
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name


class TokenFactor(models.Model):
    """How many tokens a model's providers report for each one measured here: see `providers.calibration`.
    No catalogue entry: the catalogue is told when a factor has moved far enough to matter."""

    model = models.OneToOneField(Model, on_delete=models.CASCADE, related_name="token_factor")
    counted = models.FloatField(default=1.0)
    counted_samples = models.PositiveIntegerField(default=0)
    estimated = models.FloatField(default=1.0)
    estimated_samples = models.PositiveIntegerField(default=0)
    version = models.PositiveIntegerField(default=0)
    """Raised with every change, so that no process overwrites another's."""
    updated_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return f"token factor of {self.model}"


class DatedQuerySet(CatalogueQuerySet[Row]):
    @transaction.atomic
    def update(self, **values: Any) -> int:
        """Raises ConfigError when a row is effective already."""
        if self.filter(effective_from__lte=timezone.now()).exists():
            raise ConfigError("A price or cost that is effective cannot be changed. Add a new one.")
        return super().update(**values)


class DatedRates(CatalogueEntry):
    """What a model's or mapping's tokens cost from a moment on. Never changed once it is effective:
    new rates are a new row."""

    effective_from = models.DateTimeField(default=timezone.now)
    input = UsdPerMillion(help_text="USD per million tokens.")
    output = UsdPerMillion(help_text="USD per million tokens.")
    cache_read = UsdPerMillion(null=True, blank=True, help_text="Empty: the input price.")
    cache_write = UsdPerMillion(null=True, blank=True, help_text="Empty: 1.25 times the input price.")
    cache_write_1h = UsdPerMillion(
        "cache write, 1 hour", null=True, blank=True, help_text="Empty: twice the input price."
    )
    web_search = UsdPerThousand(default=0, help_text="USD per 1000 searches.")
    tiers = TiersField(
        "long-context tiers",
        help_text="For the whole of a request with more input tokens than this, cached ones included; a line each: "
        "200000: input 6, output 22.5, cache_read 0.6",
    )

    objects: ClassVar[Any] = DatedQuerySet.as_manager()

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Raises ConfigError when the row is effective already: it may stand on invoices."""
        rows = type(self)._default_manager
        if self.pk and rows.filter(pk=self.pk, effective_from__lte=timezone.now()).exists():
            raise ConfigError(f"The price of {self} is effective: it cannot be changed. Add a new one.")
        super().save(*args, **kwargs)

    def clean(self) -> None:
        if self.tiers and self.input is not None and self.output is not None:
            try:
                cheaper = prices.tier_below(self.price)
            except (ValueError, KeyError, TypeError):  # the fields' own validators say what is wrong
                return
            if cheaper:
                raise ValidationError({"tiers": cheaper})

    @property
    def price(self) -> Price:
        """In nanos, what is left empty filled in. Raises ValueError for what is no whole nano."""
        return prices.price(
            input=self.input,
            output=self.output,
            cache_read=self.cache_read,
            cache_write=self.cache_write,
            cache_write_1h=self.cache_write_1h,
            web_search=self.web_search,
            tiers=self.tiers,
        )


class ModelPrice(DatedRates):
    """What customers pay for a model from a moment on."""

    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="prices")

    class Meta:
        ordering = ("model", "-effective_from")
        constraints = (
            models.UniqueConstraint(fields=("model", "effective_from"), name="providers_price_once_a_moment"),
        )

    def __str__(self) -> str:
        return f"{self.model} from {self.effective_from:%Y-%m-%d %H:%M}"


class Mapping(CatalogueEntry):
    """Model -> a provider's own model name."""

    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="mappings")
    provider = models.ForeignKey(Provider, on_delete=models.CASCADE, related_name="mappings")
    actual_model = models.CharField(max_length=200, help_text="The model's name at the provider.")
    priority = models.PositiveSmallIntegerField(default=1, help_text="1 first; equal priorities share by weight.")
    weight = models.PositiveSmallIntegerField(default=1, validators=[MinValueValidator(1)])
    enabled = models.BooleanField(default=True)
    extra_body: "models.JSONField[Any, Any]" = models.JSONField(
        "extra fields",
        default=dict,
        blank=True,
        validators=[fields.extra_body],
        help_text="JSON that is added to each request's body, where CCM sends no such field: "
        '{"provider": {"only": ["google-vertex"]}}. Chat Completions only.',
    )

    class Meta:
        ordering = ("model", "priority", "id")
        constraints = (
            models.UniqueConstraint(fields=("model", "provider", "actual_model"), name="providers_mapping_once"),
        )

    def __str__(self) -> str:
        return f"{self.model} → {self.provider} {self.actual_model}"


class MappingCost(DatedRates):
    """What the operator pays a provider for a mapping's tokens from a moment on. A mapping without
    one has an unknown cost."""

    mapping = models.ForeignKey(Mapping, on_delete=models.CASCADE, related_name="costs")

    class Meta:
        ordering = ("mapping", "-effective_from")
        constraints = (
            models.UniqueConstraint(fields=("mapping", "effective_from"), name="providers_cost_once_a_moment"),
        )

    def __str__(self) -> str:
        return f"{self.mapping} from {self.effective_from:%Y-%m-%d %H:%M}"


class Decision(models.TextChoices):
    PENDING = "pending", "Pending"
    APPROVED = "approved", "Approved"
    REJECTED = "rejected", "Rejected"
    OUTDATED = "outdated", "Outdated"


class PriceProposal(models.Model):
    """New rates that the price source, or a changed cost, calls for; an operator decides on them.

    With a mapping it is about that mapping's cost, without one about the model's price. `old` and
    `new` are rates as `prices.rates_of` tells them, amounts as text; `old` is None when it was unknown."""

    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="proposals")
    mapping = models.ForeignKey(Mapping, null=True, blank=True, on_delete=models.CASCADE, related_name="proposals")
    old: "models.JSONField[Any, Any]" = models.JSONField(null=True, blank=True)
    new: "models.JSONField[Any, Any]" = models.JSONField()
    source = models.CharField(max_length=200, help_text="Where the new rates come from.")
    source_version = models.CharField(max_length=60)
    state = models.CharField(max_length=10, choices=Decision.choices, default=Decision.PENDING)
    created_at = models.DateTimeField(default=timezone.now)
    decided_at = models.DateTimeField(null=True, blank=True)
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )

    class Meta:
        ordering = ("-id",)
        constraints = (
            models.UniqueConstraint(
                fields=("mapping",),
                condition=Q(state=Decision.PENDING, mapping__isnull=False),
                name="providers_one_pending_cost",
            ),
            models.UniqueConstraint(
                fields=("model",),
                condition=Q(state=Decision.PENDING, mapping__isnull=True),
                name="providers_one_pending_price",
            ),
        )

    def __str__(self) -> str:
        return f"cost of {self.mapping}" if self.mapping_id else f"price of {self.model}"


class Scope(models.TextChoices):
    PLATFORM = "platform", "Platform"
    ORGANIZATION = "organization", "Organisation"
    KEY = "key", "API key"


class RouterProfile(CatalogueEntry):
    """Which model each route uses, and its signals. NULL in a field: the wider profile decides."""

    scope = models.CharField(max_length=12, choices=Scope.choices)
    organization = models.OneToOneField(
        Organization, null=True, blank=True, on_delete=models.CASCADE, related_name="+", verbose_name="organisation"
    )
    api_key = models.OneToOneField(
        ApiKey, null=True, blank=True, on_delete=models.CASCADE, related_name="+", verbose_name="API key"
    )
    default = RouteField()
    think = RouteField()
    websearch = RouteField("web search")
    image = RouteField()
    long_context = RouteField()
    background = RouteField()
    subagent = RouteField()
    safety = RouteField()
    long_context_threshold = models.PositiveIntegerField(
        null=True, blank=True, help_text="Tokens from which a conversation counts as long."
    )
    auto_map_regex = models.CharField(
        max_length=fields.MAX_PATTERN,
        blank=True,
        validators=[fields.regex],
        help_text="Model names that match are replaced by the default route's model.",
    )
    background_regex = models.CharField(
        max_length=fields.MAX_PATTERN,
        blank=True,
        validators=[fields.regex],
        help_text="Requests for a model name that matches take the background route.",
    )
    think_efforts = models.JSONField(
        null=True, blank=True, validators=[fields.efforts], help_text='Efforts that count as thinking, such as ["max"].'
    )
    think_in_plan_mode = models.BooleanField(null=True, blank=True, help_text="Plan Mode takes the think route.")
    pin_explicit_model = models.BooleanField(
        null=True, blank=True, help_text="A model that the client names itself wins over think and background."
    )

    class Meta:
        ordering = ("scope", "id")
        constraints = (
            models.CheckConstraint(
                condition=Q(scope=Scope.PLATFORM, organization=None, api_key=None)
                | Q(scope=Scope.ORGANIZATION, organization__isnull=False, api_key=None)
                | Q(scope=Scope.KEY, organization=None, api_key__isnull=False),
                name="providers_profile_scope",
                violation_error_message="Choose what the scope says, and only that: an organisation or an API key.",
            ),
            models.UniqueConstraint(
                fields=("scope",),
                condition=Q(scope=Scope.PLATFORM),
                name="providers_one_platform_profile",
                violation_error_message="There is a platform profile already.",
            ),
        )

    def __str__(self) -> str:
        if self.scope == Scope.PLATFORM:
            return "Platform"
        return f"{self.get_scope_display()}: {self.organization or self.api_key}"


class ProfileVersion(models.Model):
    """What a router profile was changed to, when and by whom: written with each change, never changed.

    `values` are the fields that are set from then on, `changes` the old and new value of each field that
    this version changed (null: not set). `means` says by which way it came, `reverts` the number
    of the version that it went back to."""

    scope = models.CharField(max_length=12, choices=Scope.choices)
    organization = models.ForeignKey(
        Organization, null=True, blank=True, on_delete=models.CASCADE, related_name="+", verbose_name="organisation"
    )
    api_key = models.ForeignKey(
        ApiKey, null=True, blank=True, on_delete=models.CASCADE, related_name="+", verbose_name="API key"
    )
    number = models.PositiveIntegerField()
    created_at = models.DateTimeField(default=timezone.now)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    means = models.CharField("by way of", max_length=80)
    values: "models.JSONField[Any, Any]" = models.JSONField(default=dict)
    changes: "models.JSONField[Any, Any]" = models.JSONField(default=dict)
    reverts = models.PositiveIntegerField(null=True, blank=True)

    class Meta:
        ordering = ("-id",)
        constraints = (
            models.UniqueConstraint(
                fields=("number",), condition=Q(scope=Scope.PLATFORM), name="providers_version_of_platform"
            ),
            models.UniqueConstraint(fields=("organization", "number"), name="providers_version_of_organization"),
            models.UniqueConstraint(fields=("api_key", "number"), name="providers_version_of_key"),
        )

    def __str__(self) -> str:
        owner = self.organization or self.api_key or "Platform"
        return f"{owner}, version {self.number}"
