"""The tables of promo codes and corrections (design: credits/README.md). Amounts are integer nano-USD.

Part of `credits.models`, from where they are imported; the guards of `guards.py` hold here too.
"""

from django.conf import settings
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Upper
from django.utils import timezone

from accounts.models import Organization


class PromoCode(models.Model):
    """What a customer types to be given `amount`. Only `enabled`, `note` and `valid_until` may change
    later, and `redeemed` grows. What it gives cannot be paid out again.

    `code` is normalised (`promos.normalised`). `max_redemptions` 1 is a single-use code, n the first n
    organisations, none everybody once. `expires_in_days`: how long the credits last, none for ever."""

    code = models.CharField(max_length=40, unique=True)
    note = models.CharField(max_length=120, blank=True, help_text="What it is for. Customers do not see it.")
    amount = models.BigIntegerField()
    priority = models.SmallIntegerField(default=100, help_text="Credits with a lower number are used first.")
    expires_in_days = models.PositiveIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1)], help_text="Empty: the credits never expire."
    )
    valid_from = models.DateTimeField(default=timezone.now)
    valid_until = models.DateTimeField(null=True, blank=True)
    max_redemptions = models.PositiveIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1)], help_text="Empty: any number of organisations."
    )
    redeemed = models.PositiveIntegerField(default=0, editable=False)
    enabled = models.BooleanField(default=True)
    generated = models.BooleanField(
        default=False, editable=False, help_text="Drawn at random: shown once, then masked."
    )
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+", editable=False
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ("-id",)
        constraints = (
            models.CheckConstraint(condition=Q(amount__gt=0), name="credits_promo_amount"),
            models.CheckConstraint(condition=Q(code=Upper("code")) & ~Q(code=""), name="credits_promo_normalised"),
            models.CheckConstraint(
                condition=Q(max_redemptions=None) | Q(redeemed__lte=F("max_redemptions")), name="credits_promo_limit"
            ),
            models.CheckConstraint(
                condition=Q(valid_until=None) | Q(valid_until__gt=F("valid_from")), name="credits_promo_validity"
            ),
            models.CheckConstraint(
                condition=Q(expires_in_days=None) | Q(expires_in_days__gt=0), name="credits_promo_expiry"
            ),
        )

    def __str__(self) -> str:
        return self.shown

    @property
    def shown(self) -> str:
        """The code as operators see it: whoever knows a single-use code can redeem it."""
        return f"{self.code[:4]}…{self.pk}" if self.generated else self.code


class PromoRedemption(models.Model):
    """That an organisation has redeemed a code: once."""

    promo_code = models.ForeignKey(PromoCode, on_delete=models.PROTECT, related_name="redemptions", db_index=False)
    organization = models.ForeignKey(
        Organization, on_delete=models.PROTECT, related_name="promo_redemptions", verbose_name="organisation"
    )
    transfer = models.OneToOneField(
        "credits.Transfer",
        to_field="idempotency_key",
        db_column="transfer_key",
        on_delete=models.PROTECT,
        related_name="promo_redemption",
    )
    redeemed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ("-id",)
        constraints = (
            models.UniqueConstraint(fields=("promo_code", "organization"), name="credits_promo_once_an_organization"),
        )

    def __str__(self) -> str:
        return f"{self.promo_code} by {self.organization}"


class Correction(models.Model):
    """A refund of a request, whole or in part: its usage record stays as it was.

    `restored` went back into the lots that the request had used, last first; `debt_cancelled` was
    still owed; `credited` had been owed and repaid, and came back as a lot of its own."""

    hold = models.ForeignKey("credits.Hold", on_delete=models.PROTECT, related_name="corrections", db_index=False)
    ticket = models.CharField(max_length=60)
    amount = models.BigIntegerField()
    restored = models.BigIntegerField(default=0)
    debt_cancelled = models.BigIntegerField(default=0)
    credited = models.BigIntegerField(default=0)
    reason = models.CharField(max_length=200)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", db_index=False)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ("-id",)
        constraints = (
            models.UniqueConstraint(fields=("hold", "ticket"), name="credits_correction_once_a_ticket"),
            models.CheckConstraint(condition=Q(amount__gt=0), name="credits_correction_amount"),
            models.CheckConstraint(
                condition=Q(restored__gte=0, debt_cancelled__gte=0, credited__gte=0)
                & Q(amount=F("restored") + F("debt_cancelled") + F("credited")),
                name="credits_correction_parts",
            ),
        )

    def __str__(self) -> str:
        return f"{self.ticket}: {self.hold_id}"


class LotReopening(models.Model):
    """What a correction put back into a lot."""

    transfer = models.ForeignKey(
        "credits.Transfer",
        to_field="idempotency_key",
        db_column="transfer_key",
        on_delete=models.PROTECT,
        related_name="reopenings",
    )
    lot = models.ForeignKey("credits.CreditLot", on_delete=models.PROTECT, related_name="reopenings", db_index=False)
    amount = models.BigIntegerField()

    class Meta:
        constraints = (models.CheckConstraint(condition=Q(amount__gt=0), name="credits_reopening_amount"),)


class AdjustmentKind(models.TextChoices):
    CREDIT = "credit", "Give credits"
    DEBIT = "debit", "Take credits"
    WRITE_OFF = "write_off", "Write off debt"


class AdjustmentState(models.TextChoices):
    PROPOSED = "proposed", "Proposed"
    APPROVED = "approved", "Approved"
    REJECTED = "rejected", "Rejected"


class Adjustment(models.Model):
    """A change of an organisation's credits or debt that one operator proposes and another decides."""

    organization = models.ForeignKey(
        Organization, on_delete=models.PROTECT, related_name="adjustments", verbose_name="organisation"
    )
    kind = models.CharField(max_length=12, choices=AdjustmentKind.choices)
    amount = models.BigIntegerField()
    reason = models.CharField(max_length=200)
    ticket = models.CharField(max_length=60, blank=True)
    key = models.CharField(max_length=64, unique=True, editable=False)
    state = models.CharField(max_length=10, choices=AdjustmentState.choices, default=AdjustmentState.PROPOSED)
    proposed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    proposed_at = models.DateTimeField(default=timezone.now)
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    decided_at = models.DateTimeField(null=True, blank=True)
    decision = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ("-id",)
        permissions = (("decide_adjustment", "Can approve or reject adjustments of others"),)
        constraints = (
            models.CheckConstraint(condition=Q(amount__gt=0), name="credits_adjustment_amount"),
            models.CheckConstraint(condition=Q(kind__in=AdjustmentKind.values), name="credits_adjustment_kind"),
            models.CheckConstraint(condition=~Q(decided_by=F("proposed_by")), name="credits_adjustment_two_people"),
            models.CheckConstraint(
                condition=Q(state=AdjustmentState.PROPOSED, decided_by=None, decided_at=None)
                | Q(
                    state__in=(AdjustmentState.APPROVED, AdjustmentState.REJECTED),
                    decided_by__isnull=False,
                    decided_at__isnull=False,
                ),
                name="credits_adjustment_decision",
            ),
        )

    def __str__(self) -> str:
        return f"{self.get_kind_display()}: {self.organization}"


class HoldWriteOff(models.Model):
    """A hold that an operator gave up: `amount` was reserved, nothing was charged."""

    hold = models.OneToOneField("credits.Hold", on_delete=models.PROTECT, related_name="write_off")
    amount = models.BigIntegerField()
    reason = models.CharField(max_length=200)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", db_index=False)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ("-id",)
        verbose_name = "hold written off"
        verbose_name_plural = "holds written off"
        constraints = (models.CheckConstraint(condition=Q(amount__gte=0), name="credits_hold_write_off_amount"),)

    def __str__(self) -> str:
        return self.hold_id
