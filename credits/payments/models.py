"""The tables of payments (rules: docs/billing.md). Amounts are integer nano-USD.

Part of `credits.models`, from where they are imported; the guards of `guards.py` hold here too. Ids and words of
state that are Stripe's are kept as Stripe spells them.
"""

from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from accounts.models import Organization
from credits.money import NANOS_PER_USD

DEFAULT_LOW_BALANCE = 5 * NANOS_PER_USD


def _is_one_of(column: str, values: type[models.TextChoices]) -> Q:
    return Q(**{f"{column}__in": values.values})


def _stripe_id(**options: Any) -> "models.CharField[Any, Any]":
    return models.CharField(max_length=255, null=True, blank=True, unique=True, **options)


class BillingAccount(models.Model):
    """What an organisation is at Stripe, and its wishes about mails. The card is a summary for the page: its data
    are with Stripe. `blocked`: it may buy nothing until an operator lifts that (after a lost dispute).

    `low_balance`: a mail is sent when less than this is available, 0 for never; `low_told` until it is more again."""

    organization = models.OneToOneField(
        Organization, primary_key=True, on_delete=models.PROTECT, related_name="billing", verbose_name="organisation"
    )
    customer = _stripe_id()
    payment_method = models.CharField(max_length=255, blank=True)
    card = models.CharField(max_length=60, blank=True)
    blocked = models.BooleanField(default=False)
    low_balance = models.BigIntegerField(default=DEFAULT_LOW_BALANCE)
    low_told = models.BooleanField(default=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = (models.CheckConstraint(condition=Q(low_balance__gte=0), name="credits_billing_low_balance"),)

    def __str__(self) -> str:
        return str(self.organization)


class TopUpKind(models.TextChoices):
    MANUAL = "manual", "Bought"
    AUTO = "auto", "Auto top-up"


class TopUpState(models.TextChoices):
    CREATED = "created", "Starting"
    PROCESSING = "processing", "Waiting for payment"
    SUCCEEDED = "succeeded", "Paid"
    FAILED = "failed", "Failed"
    CANCELED = "canceled", "Cancelled"


IN_FLIGHT = (TopUpState.CREATED, TopUpState.PROCESSING)


class TopUp(models.Model):
    """Credits that somebody buys. Committed before Stripe is asked for anything; credited once, when Stripe says that
    it has been paid. Whatever was thought of it before, paid is paid: a failed or cancelled one may still succeed.

    `amount` is what comes into the wallet, `fee` what is paid on top, `tax` what Stripe reckoned, known when paid.
    `claimed_until`: a worker is speaking with Stripe about it. `pay_url` is where the customer pays or confirms."""

    organization = models.ForeignKey(
        Organization, on_delete=models.PROTECT, related_name="top_ups", verbose_name="organisation"
    )
    kind = models.CharField(max_length=10, choices=TopUpKind.choices)
    state = models.CharField(max_length=12, choices=TopUpState.choices, default=TopUpState.CREATED)
    amount = models.BigIntegerField()
    fee = models.BigIntegerField(default=0)
    tax = models.BigIntegerField(default=0)
    key = models.CharField(max_length=64, unique=True, editable=False)
    attempt = models.PositiveIntegerField(default=1)
    checkout_session = _stripe_id()
    invoice = _stripe_id()
    payment_intent = _stripe_id()
    charge = _stripe_id()
    pay_url = models.TextField(blank=True)
    receipt_url = models.TextField(blank=True)
    invoice_url = models.TextField(blank=True)
    failure = models.CharField(max_length=60, blank=True)
    failure_text = models.CharField(max_length=300, blank=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    created_at = models.DateTimeField(default=timezone.now)
    updated_at = models.DateTimeField(default=timezone.now)
    paid_at = models.DateTimeField(null=True, blank=True)
    claimed_until = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-id",)
        verbose_name = "top-up"
        constraints = (
            models.CheckConstraint(condition=Q(amount__gt=0, fee__gte=0, tax__gte=0), name="credits_topup_amounts"),
            models.CheckConstraint(condition=_is_one_of("kind", TopUpKind), name="credits_topup_kind"),
            models.CheckConstraint(
                condition=Q(state=TopUpState.SUCCEEDED, paid_at__isnull=False, payment_intent__isnull=False)
                | Q(
                    state__in=[state for state in TopUpState.values if state != TopUpState.SUCCEEDED],
                    paid_at__isnull=True,
                    tax=0,
                ),
                name="credits_topup_paid",
            ),
            models.UniqueConstraint(
                fields=("organization",),
                condition=Q(kind=TopUpKind.AUTO, state__in=IN_FLIGHT),
                name="credits_topup_one_auto_in_flight",
            ),
        )
        indexes = (
            models.Index(fields=("updated_at",), condition=Q(state__in=IN_FLIGHT), name="credits_topup_in_flight"),
        )

    def __str__(self) -> str:
        return f"Top-up {self.pk}"

    @property
    def total(self) -> int:
        """What the customer pays; before it is paid without the tax, which is not known then."""
        return self.amount + self.fee + self.tax


class AutoTopUp(models.Model):
    """An organisation's order to buy `amount` whenever less than `threshold` is available, and at most `monthly_cap`
    in a calendar month (UTC), fees and tax included. After a failure it waits until `paused_until`; after several in
    a row it is switched off."""

    organization = models.OneToOneField(
        Organization,
        primary_key=True,
        on_delete=models.PROTECT,
        related_name="auto_top_up",
        verbose_name="organisation",
    )
    enabled = models.BooleanField(default=False)
    threshold = models.BigIntegerField()
    amount = models.BigIntegerField()
    monthly_cap = models.BigIntegerField()
    failures = models.PositiveIntegerField(default=0)
    paused_until = models.DateTimeField(null=True, blank=True)
    updated_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    updated_at = models.DateTimeField(default=timezone.now)

    class Meta:
        verbose_name = "auto top-up"
        constraints = (
            models.CheckConstraint(
                condition=Q(threshold__gte=0, amount__gt=0, monthly_cap__gte=F("amount")),
                name="credits_autotopup_amounts",
            ),
        )

    def __str__(self) -> str:
        return f"Auto top-up of {self.organization}"


class RefundState(models.TextChoices):
    REQUESTED = "requested", "Requested"
    PENDING = "pending", "Pending"
    SUCCEEDED = "succeeded", "Refunded"
    FAILED = "failed", "Failed"
    CANCELED = "canceled", "Cancelled"


class PaymentRefund(models.Model):
    """Money that goes back to a customer, by an operator here or at Stripe. `amount` is what goes back, and `credit`,
    `fee` and `tax` its parts; of the credits `from_wallet` were still there and `from_debt` had been spent.

    The id is Stripe's, or our own for one that was asked for here. The credits leave with the request, so that they
    cannot be spent meanwhile, and come back when it fails."""

    id = models.CharField("ID", primary_key=True, max_length=255)
    top_up = models.ForeignKey(TopUp, on_delete=models.PROTECT, related_name="refunds", verbose_name="top-up")
    stripe_id = _stripe_id()
    state = models.CharField(max_length=12, choices=RefundState.choices)
    amount = models.BigIntegerField()
    credit = models.BigIntegerField()
    fee = models.BigIntegerField()
    tax = models.BigIntegerField()
    from_wallet = models.BigIntegerField()
    from_debt = models.BigIntegerField()
    reason = models.CharField(max_length=200, blank=True)
    failure = models.CharField(max_length=200, blank=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    created_at = models.DateTimeField(default=timezone.now)
    updated_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ("-created_at",)
        verbose_name = "payment refund"
        constraints = (
            models.CheckConstraint(
                condition=Q(
                    amount__gt=0, credit__gte=0, fee__gte=0, tax__gte=0, from_wallet__gte=0, from_debt__gte=0,
                    amount=F("credit") + F("fee") + F("tax"), credit=F("from_wallet") + F("from_debt"),
                ),
                name="credits_paymentrefund_parts",
            ),
            models.CheckConstraint(condition=_is_one_of("state", RefundState), name="credits_paymentrefund_state"),
        )  # fmt: skip

    def __str__(self) -> str:
        return self.stripe_id or self.id


class DisputeKind(models.TextChoices):
    DISPUTE = "dispute", "Dispute"
    WARNING = "warning", "Early fraud warning"


class DisputeState(models.TextChoices):
    OPEN = "open", "Open"
    WITHDRAWN = "withdrawn", "Open, funds withdrawn"
    WON = "won", "Won"
    LOST = "lost", "Lost"
    CLOSED = "closed", "Closed"


class PaymentDispute(models.Model):
    """A payment that its bank takes back, or warns of; the id is Stripe's. While it is open the organisation's credits
    are frozen: `froze` says that it was this that froze them. The parts are as of a refund."""

    id = models.CharField("ID", primary_key=True, max_length=255)
    top_up = models.ForeignKey(TopUp, on_delete=models.PROTECT, related_name="disputes", verbose_name="top-up")
    kind = models.CharField(max_length=10, choices=DisputeKind.choices)
    state = models.CharField(max_length=10, choices=DisputeState.choices, default=DisputeState.OPEN)
    status = models.CharField(max_length=40, blank=True)
    reason = models.CharField(max_length=60, blank=True)
    amount = models.BigIntegerField(default=0)
    credit = models.BigIntegerField(default=0)
    fee = models.BigIntegerField(default=0)
    tax = models.BigIntegerField(default=0)
    from_wallet = models.BigIntegerField(default=0)
    from_debt = models.BigIntegerField(default=0)
    froze = models.BooleanField(default=False)
    created_at = models.DateTimeField(default=timezone.now)
    closed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-created_at",)
        verbose_name = "payment dispute"
        constraints = (
            models.CheckConstraint(
                condition=Q(
                    credit__gte=0, fee__gte=0, tax__gte=0, from_wallet__gte=0, from_debt__gte=0,
                    amount=F("credit") + F("fee") + F("tax"), credit=F("from_wallet") + F("from_debt"),
                ),
                name="credits_paymentdispute_parts",
            ),
            models.CheckConstraint(condition=_is_one_of("state", DisputeState), name="credits_paymentdispute_state"),
        )  # fmt: skip

    def __str__(self) -> str:
        return self.id


class StripeEvent(models.Model):
    """What Stripe told us, once an event, as it came. Never believed: its object is fetched anew when it is handled.
    `outcome` says what came of it; `source` whether it was told or found (`events.poll`)."""

    id = models.CharField("ID", primary_key=True, max_length=255)
    type = models.CharField(max_length=80)
    object_id = models.CharField(max_length=255)
    payload: "models.JSONField[Any, Any]" = models.JSONField(default=dict)
    source = models.CharField(max_length=10, default="webhook")
    created_at = models.DateTimeField()
    received_at = models.DateTimeField(default=timezone.now)
    handled_at = models.DateTimeField(null=True, blank=True)
    outcome = models.CharField(max_length=20, blank=True)
    attempts = models.PositiveIntegerField(default=0)
    tried_at = models.DateTimeField(null=True, blank=True)
    error = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ("-received_at",)
        verbose_name = "Stripe event"
        indexes = (
            models.Index(
                fields=("received_at",), condition=Q(handled_at__isnull=True), name="credits_stripeevent_unhandled"
            ),
        )

    def __str__(self) -> str:
        return f"{self.type} {self.id}"


class BalanceTransaction(models.Model):
    """A line of our balance at Stripe, which the ledger is compared with (check R6). `amount` is what came or, below
    zero, went; `fee` what Stripe kept of it."""

    id = models.CharField("ID", primary_key=True, max_length=255)
    type = models.CharField(max_length=60)
    source = models.CharField(max_length=255, blank=True, db_index=True)
    amount = models.BigIntegerField()
    fee = models.BigIntegerField()
    created_at = models.DateTimeField(db_index=True)
    seen_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ("-created_at",)

    def __str__(self) -> str:
        return self.id


class StripeProgress(models.Model):
    """How far `name` ("events", "balance") has been read from Stripe, and when that was last done."""

    name = models.CharField(primary_key=True, max_length=20)
    read_to = models.DateTimeField()
    read_at = models.DateTimeField(default=timezone.now)
    missed = models.PositiveIntegerField(default=0, help_text="Events that no webhook had told, at the last reading.")


class BillingNotice(models.Model):
    """A mail about money that is to be sent once; its key makes sure of that."""

    key = models.CharField(max_length=160, primary_key=True)
    organization = models.ForeignKey(
        Organization, on_delete=models.PROTECT, related_name="billing_notices", verbose_name="organisation"
    )
    kind = models.CharField(max_length=30)
    data: "models.JSONField[Any, Any]" = models.JSONField(default=dict)
    created_at = models.DateTimeField(default=timezone.now)
    sent_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = (
            models.Index(fields=("created_at",), condition=Q(sent_at__isnull=True), name="credits_notice_unsent"),
        )
