"""The ledger's tables (design: credits/README.md). All amounts are integer nano-USD.

What the database itself refuses beyond the CHECKs here stands in `guards.py`.
"""

import functools
import operator
from collections.abc import Iterable
from typing import Any, ClassVar

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.utils import timezone

import credits.correction_models  # noqa: F401 - Django looks for an app's models here
from accounts.models import ApiKey, Organization
from credits import tiers, types
from credits.budgets import WINDOWS
from credits.payments.models import AutoTopUp as AutoTopUp  # noqa: PLC0414 - Django finds an app's models here
from credits.payments.models import BalanceTransaction as BalanceTransaction  # noqa: PLC0414
from credits.payments.models import BillingAccount as BillingAccount  # noqa: PLC0414
from credits.payments.models import BillingNotice as BillingNotice  # noqa: PLC0414
from credits.payments.models import PaymentDispute as PaymentDispute  # noqa: PLC0414
from credits.payments.models import PaymentRefund as PaymentRefund  # noqa: PLC0414
from credits.payments.models import StripeEvent as StripeEvent  # noqa: PLC0414
from credits.payments.models import StripeProgress as StripeProgress  # noqa: PLC0414
from credits.payments.models import TopUp as TopUp  # noqa: PLC0414
from credits.usage.models import PlatformDay as PlatformDay  # noqa: PLC0414 - Django finds an app's models here
from credits.usage.models import RollupPeriod as RollupPeriod  # noqa: PLC0414
from credits.usage.models import RollupProgress as RollupProgress  # noqa: PLC0414
from credits.usage.models import SessionSlice as SessionSlice  # noqa: PLC0414
from credits.usage.models import TargetLatency as TargetLatency  # noqa: PLC0414
from credits.usage.models import TargetProgress as TargetProgress  # noqa: PLC0414
from credits.usage.models import TargetRollup as TargetRollup  # noqa: PLC0414
from credits.usage.models import UsageArchive as UsageArchive  # noqa: PLC0414
from credits.usage.models import UsageRollup as UsageRollup  # noqa: PLC0414
from credits.usage.models import UsageSession as UsageSession  # noqa: PLC0414


def one_of(column: str, values: Iterable[str]) -> Q:
    """`column` is one of `values`, spelled out: for a CHECK or an index with an IN of three values or more,
    SQLite makes and fills a table of its own for every row that is written."""
    return functools.reduce(operator.or_, (Q(**{column: str(value)}) for value in values))


class Wallet(models.Model):
    """An organisation's prepaid credits: the one row that its requests contend for.

    `held` is the part of `posted` that unfinished holds reserve. `debt` is what was used beyond
    the credits; it is kept apart, so that `posted` never goes below zero. `next_expiry` is never later
    than the first expiry of an open lot; it may be earlier, until the next sweep (`expiry.py`)."""

    organization = models.OneToOneField(
        Organization, primary_key=True, on_delete=models.PROTECT, related_name="wallet", verbose_name="organisation"
    )
    posted = models.BigIntegerField(default=0)
    held = models.BigIntegerField(default=0)
    debt = models.BigIntegerField(default=0)
    frozen = models.BooleanField(default=False)
    next_expiry = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = (
            models.CheckConstraint(condition=Q(held__gte=0, debt__gte=0), name="credits_wallet_not_negative"),
            models.CheckConstraint(condition=Q(posted__gte=F("held")), name="credits_wallet_covers_holds"),
        )
        indexes = (
            models.Index(
                fields=("next_expiry",), condition=Q(next_expiry__isnull=False), name="credits_wallet_next_expiry"
            ),
        )

    def __str__(self) -> str:
        return f"Wallet of {self.organization}"

    @property
    def available(self) -> int:
        return self.posted - self.held - self.debt


class AccountKind(models.TextChoices):
    WALLET = "wallet", "Wallet"
    RECEIVABLE = "receivable", "Receivable"
    STRIPE_CLEARING = "stripe_clearing", "Stripe clearing"
    STRIPE_FEES = "stripe_fees", "Stripe fees"
    TAX_PAYABLE = "tax_payable", "Tax payable"
    PROMO_EXPENSE = "promo_expense", "Promotions"
    REVENUE = "revenue", "Revenue"
    BREAKAGE = "breakage", "Breakage"
    DISPUTE_RESERVE = "dispute_reserve", "Dispute reserve"
    ADJUSTMENT = "adjustment", "Adjustments"


TENANT_KINDS = (AccountKind.WALLET, AccountKind.RECEIVABLE)
PLATFORM_KINDS = tuple(kind for kind in AccountKind if kind not in TENANT_KINDS)


class LedgerAccount(models.Model):
    """A side of transfers. No balance is stored here: it is computed from them."""

    kind = models.CharField(max_length=20, choices=AccountKind.choices)
    organization = models.ForeignKey(
        Organization,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="ledger_accounts",
        verbose_name="organisation",
    )

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=("organization", "kind"), name="credits_account_once"),
            models.UniqueConstraint(
                fields=("kind",), condition=Q(organization=None), name="credits_platform_account_once"
            ),
            models.CheckConstraint(
                condition=Q(kind__in=TENANT_KINDS, organization__isnull=False)
                | Q(kind__in=PLATFORM_KINDS, organization__isnull=True),
                name="credits_account_owner",
            ),
        )

    def __str__(self) -> str:
        return f"{self.get_kind_display()} of {self.organization}" if self.organization else self.get_kind_display()


class TransferCode(models.TextChoices):
    GRANT = "grant", "Grant"
    PROMO = "promo", "Promotion"
    CAPTURE = "capture", "Capture"
    OVERAGE = "overage", "Overage"
    REPAY = "repay", "Debt repaid"
    EXPIRE = "expire", "Expiry"
    CORRECT = "correct", "Correction"
    ADJUST = "adjust", "Adjustment"
    WRITE_OFF = "write_off", "Debt written off"
    TOP_UP = "top_up", "Top-up"
    TAX = "tax", "Tax"
    FEE = "fee", "Fee"
    STRIPE_FEE = "stripe_fee", "Stripe's fee"
    REFUND = "refund", "Payment refunded"
    DISPUTE = "dispute", "Payment disputed"


class Transfer(models.Model):
    """One amount from one account to another, for ever. Written by `ledger.py` alone."""

    debit = models.ForeignKey(LedgerAccount, on_delete=models.PROTECT, related_name="debits")
    credit = models.ForeignKey(LedgerAccount, on_delete=models.PROTECT, related_name="credits")
    amount = models.BigIntegerField()
    code = models.CharField(max_length=20, choices=TransferCode.choices)
    idempotency_key = models.CharField(max_length=160, unique=True)
    group_id = models.CharField(max_length=140, help_text="The business event that this is a part of.")
    hold = models.ForeignKey(
        "Hold", null=True, blank=True, on_delete=models.PROTECT, related_name="transfers", db_index=False
    )
    reason = models.CharField(max_length=200, blank=True, default="", db_default="")
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ("-id",)
        constraints = (
            models.CheckConstraint(condition=Q(amount__gt=0), name="credits_transfer_amount"),
            models.CheckConstraint(condition=~Q(debit=F("credit")), name="credits_transfer_two_accounts"),
            models.CheckConstraint(condition=one_of("code", TransferCode.values), name="credits_transfer_code"),
        )

    def __str__(self) -> str:
        return self.idempotency_key


class LotKind(models.TextChoices):
    PROMO = "promo", "Promotion"
    PAID = "paid", "Paid"
    ADJUSTMENT = "adjustment", "Adjustment"


class CreditLot(models.Model):
    """Credits that came in together. A wallet's lots are used up by priority, then soonest expiry,
    then promotions before paid, then oldest. `expired` is what has lapsed of it so far; a correction
    may reopen a lot that then lapses again."""

    wallet = models.ForeignKey(Wallet, on_delete=models.PROTECT, related_name="lots", db_index=False)
    kind = models.CharField(max_length=12, choices=LotKind.choices)
    amount = models.BigIntegerField()
    remaining = models.BigIntegerField()
    expired = models.BigIntegerField(default=0, db_default=0)
    priority = models.SmallIntegerField(default=100)
    expires_at = models.DateTimeField(null=True, blank=True)
    refundable = models.BooleanField(default=False)
    source = models.OneToOneField(
        Transfer,
        to_field="idempotency_key",
        db_column="source_key",
        on_delete=models.PROTECT,
        related_name="lot",
        help_text="The transfer that brought the credits in.",
    )
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ("-id",)
        constraints = (
            models.CheckConstraint(condition=Q(amount__gt=0), name="credits_lot_amount"),
            models.CheckConstraint(
                condition=Q(remaining__gte=0, remaining__lte=F("amount")), name="credits_lot_remaining"
            ),
            models.CheckConstraint(condition=Q(expired__gte=0), name="credits_lot_expired"),
            models.CheckConstraint(condition=Q(kind__in=LotKind.values), name="credits_lot_kind"),
        )
        indexes = (models.Index(fields=("wallet",), condition=Q(remaining__gt=0), name="credits_lot_open"),)


class LotConsumption(models.Model):
    """Which lots a transfer out of a wallet used up, so that it can be unwound in that order."""

    transfer = models.ForeignKey(
        Transfer,
        to_field="idempotency_key",
        db_column="transfer_key",
        on_delete=models.PROTECT,
        related_name="consumptions",
    )
    lot = models.ForeignKey(CreditLot, on_delete=models.PROTECT, related_name="consumptions", db_index=False)
    amount = models.BigIntegerField()

    class Meta:
        constraints = (models.CheckConstraint(condition=Q(amount__gt=0), name="credits_consumption_amount"),)


class PriceSnapshot(models.Model):
    """The prices a request was held and settled with, in nanos per million tokens; `web_search`
    in nanos per search; `tiers` as `credits.tiers` writes them. Never changed; each content is
    stored once."""

    COLUMNS: ClassVar[tuple[str, ...]] = (
        "input", "output", "cache_read", "cache_write", "cache_write_1h", "web_search", "tiers",
    )  # fmt: skip

    input = models.BigIntegerField()
    output = models.BigIntegerField()
    cache_read = models.BigIntegerField()
    cache_write = models.BigIntegerField()
    cache_write_1h = models.BigIntegerField()
    web_search = models.BigIntegerField()
    tiers = models.TextField(default="", db_default="", blank=True)

    class Meta:
        constraints = (
            models.UniqueConstraint(
                fields=("input", "output", "cache_read", "cache_write", "cache_write_1h", "web_search", "tiers"),
                name="credits_price_once",
            ),
            models.CheckConstraint(
                condition=Q(
                    input__gte=0,
                    output__gte=0,
                    cache_read__gte=0,
                    cache_write__gte=0,
                    cache_write_1h__gte=0,
                    web_search__gte=0,
                ),
                name="credits_price_not_negative",
            ),
        )

    def as_type(self) -> types.PriceSnapshot:
        """What `rating` reckons with."""
        values = {name: getattr(self, name) for name in self.COLUMNS}
        return types.PriceSnapshot(**values | {"tiers": tiers.read(self.tiers)})


class HoldState(models.TextChoices):
    OPEN = "open", "Open"
    DISPATCHED = "dispatched", "Dispatched"
    CAPTURED = "captured", "Captured"
    VOIDED = "voided", "Voided"
    EXPIRED = "expired", "Expired"
    NEEDS_SETTLEMENT = "needs_settlement", "Needs settlement"
    WRITTEN_OFF = "written_off", "Written off"


UNFINISHED = (HoldState.OPEN, HoldState.DISPATCHED, HoldState.NEEDS_SETTLEMENT)
IS_UNFINISHED = one_of("state", UNFINISHED)
"""As the index of unfinished holds has it, word for word: so SQLite knows that the index serves."""
UNFINISHED_SQL = "(" + " OR ".join(f"state = '{state}'" for state in UNFINISHED) + ")"


class Hold(models.Model):
    """The reservation of one request's worst case. `id` is the request's id.

    `lease_until` is renewed while the process that made the hold (`owner`) lives."""

    id = models.CharField("ID", primary_key=True, max_length=64)
    wallet = models.ForeignKey(Wallet, on_delete=models.PROTECT, related_name="holds", db_index=False)
    api_key = models.ForeignKey(
        ApiKey, on_delete=models.PROTECT, related_name="+", db_index=False, verbose_name="API key"
    )
    amount = models.BigIntegerField()
    captured = models.BigIntegerField(default=0)
    state = models.CharField(max_length=16, choices=HoldState.choices)
    price_snapshot = models.ForeignKey(PriceSnapshot, on_delete=models.PROTECT, related_name="+", db_index=False)
    model = models.CharField(max_length=200)
    input_tokens = models.BigIntegerField()
    max_tokens = models.BigIntegerField(help_text="Output tokens that the amount affords.")
    fingerprint = models.CharField(max_length=64)
    context: "models.JSONField[Any, Any]" = models.JSONField(default=dict)
    checkpoint: "models.JSONField[Any, Any]" = models.JSONField(null=True, blank=True)
    owner = models.CharField(max_length=64)
    lease_until = models.DateTimeField()
    created_at = models.DateTimeField(default=timezone.now)
    updated_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ("-id",)  # request ids sort by time
        constraints = (
            models.CheckConstraint(
                condition=Q(amount__gte=0, input_tokens__gte=0, max_tokens__gte=0), name="credits_hold_amount"
            ),
            models.CheckConstraint(condition=one_of("state", HoldState.values), name="credits_hold_state"),
            models.CheckConstraint(
                condition=Q(state="captured", captured__gt=0) | (~Q(state="captured") & Q(captured=0)),
                name="credits_hold_captured",
            ),
        )
        indexes = (models.Index(fields=("lease_until",), condition=IS_UNFINISHED, name="credits_hold_unfinished"),)

    def __str__(self) -> str:
        return self.id


class UsageRecord(models.Model):
    """The one row that a request leaves. `margin` = `charge` - `cost`; times are milliseconds.

    `created_at` is when the request was settled, as on its transfers. There is no index of time alone:
    each index costs every request, and whoever reads all tenants goes from wallet to wallet."""

    request_id = models.CharField("request ID", primary_key=True, max_length=64)
    organization = models.ForeignKey(
        Organization,
        on_delete=models.PROTECT,
        related_name="usage_records",
        db_index=False,
        verbose_name="organisation",
    )
    api_key = models.ForeignKey(
        ApiKey, on_delete=models.PROTECT, related_name="usage_records", db_index=False, verbose_name="API key"
    )
    created_at = models.DateTimeField(default=timezone.now)
    model = models.CharField(max_length=200)
    requested_model = models.CharField(max_length=200, blank=True)
    route = models.CharField(max_length=20, blank=True)
    why: "models.JSONField[Any, Any]" = models.JSONField(default=list)
    """The ref of its explanation, a text; in older records the list of rules itself."""
    provider = models.CharField(max_length=120, blank=True)
    actual_model = models.CharField(max_length=200, blank=True)
    attempts: "models.JSONField[Any, Any]" = models.JSONField(default=list)
    status = models.SmallIntegerField()
    error_code = models.CharField(max_length=60, blank=True)
    stop_reason = models.CharField(max_length=60, blank=True)
    streamed = models.BooleanField(default=False)
    first_token_ms = models.BigIntegerField(null=True, blank=True)
    total_ms = models.BigIntegerField(default=0)
    session_id = models.CharField(max_length=128, blank=True)
    agent_id = models.CharField(max_length=128, blank=True)
    parent_agent_id = models.CharField(max_length=128, blank=True)
    request_class = models.CharField(max_length=60, blank=True)
    client = models.CharField(max_length=200, blank=True)
    input_tokens = models.BigIntegerField(default=0)
    cache_read_tokens = models.BigIntegerField(default=0)
    cache_write_tokens = models.BigIntegerField(default=0)
    cache_write_1h_tokens = models.BigIntegerField(default=0)
    output_tokens = models.BigIntegerField(default=0)
    reasoning_tokens = models.BigIntegerField(default=0)
    web_searches = models.BigIntegerField(default=0)
    usage_source = models.CharField(max_length=20)
    price_snapshot = models.ForeignKey(PriceSnapshot, on_delete=models.PROTECT, related_name="+", db_index=False)
    charge = models.BigIntegerField(default=0)
    cost = models.BigIntegerField(default=0)
    margin = models.BigIntegerField(default=0)

    class Meta:
        ordering = ("-request_id",)  # request ids sort by time
        constraints = (
            models.CheckConstraint(condition=Q(charge__gte=0, cost__gte=0), name="credits_usage_not_negative"),
            models.CheckConstraint(condition=Q(margin=F("charge") - F("cost")), name="credits_usage_margin"),
            models.CheckConstraint(
                condition=Q(
                    input_tokens__gte=0,
                    cache_read_tokens__gte=0,
                    cache_write_tokens__gte=0,
                    cache_write_1h_tokens__gte=0,
                    output_tokens__gte=0,
                    reasoning_tokens__gte=0,
                    web_searches__gte=0,
                ),
                name="credits_usage_counts",
            ),
        )
        indexes = (models.Index(fields=("organization", "-created_at"), name="credits_usage_of_org"),)

    def __str__(self) -> str:
        return self.request_id


class Explanation(models.Model):
    """Why requests took their routes (types.Explanation), each content once; `used_on` is the last day
    (UTC) on which a usage record was written that refers to it."""

    ref = models.CharField(primary_key=True, max_length=32)
    content = models.TextField()
    used_on = models.DateField(db_index=True)

    def __str__(self) -> str:
        return self.ref


class KeyBudget(models.Model):
    """What an API key may spend: in all, and in a UTC day, week (from Monday) and month; no limit where
    empty. The counters are the ledger's (`budgets.py`): as of `spent_on`, and of unfinished holds."""

    api_key = models.OneToOneField(
        ApiKey, primary_key=True, on_delete=models.PROTECT, related_name="budget", verbose_name="API key"
    )
    limit_total = models.BigIntegerField(null=True, blank=True)
    limit_day = models.BigIntegerField(null=True, blank=True)
    limit_week = models.BigIntegerField(null=True, blank=True)
    limit_month = models.BigIntegerField(null=True, blank=True)
    spent_total = models.BigIntegerField(default=0, editable=False)
    spent_day = models.BigIntegerField(default=0, editable=False)
    spent_week = models.BigIntegerField(default=0, editable=False)
    spent_month = models.BigIntegerField(default=0, editable=False)
    held = models.BigIntegerField(default=0, editable=False)
    spent_on = models.DateField(editable=False)

    class Meta:
        constraints = (
            models.CheckConstraint(
                condition=Q(spent_total__gte=0, spent_day__gte=0, spent_week__gte=0, spent_month__gte=0, held__gte=0),
                name="credits_budget_counters",
            ),
            *(
                models.CheckConstraint(
                    condition=Q(**{f"limit_{window}": None}) | Q(**{f"limit_{window}__gte": 0}),
                    name=f"credits_budget_{window}",
                )
                for window in WINDOWS
            ),
        )

    def __str__(self) -> str:
        return f"Budget of {self.api_key}"


class ReconciliationRun(models.Model):
    """What one check of the ledger's invariants found; never changed (trigger). `full` says that it
    relied on no checkpoint. `results`: a `Finding` (reconcile/findings.py) each."""

    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(default=timezone.now)
    full = models.BooleanField(default=True)
    ok = models.BooleanField()
    results: "models.JSONField[Any, Any]" = models.JSONField(default=list)

    class Meta:
        ordering = ("-id",)
        constraints = (models.CheckConstraint(condition=Q(finished_at__gte=F("started_at")), name="credits_run_times"),)

    def __str__(self) -> str:
        return f"{'ok' if self.ok else 'FAIL'} {self.started_at:%Y-%m-%d %H:%M}"


class ReconciliationCheckpoint(models.Model):
    """How far the ledger has been verified: the transfers up to the id `cut`, of which there are
    `transfers`, of `moved` nanos in all, and the holds up to the id `hold_cut`. Never changed (trigger).

    Its sums per account are in CheckpointBalance, for the newest checkpoint only. A full run verifies
    the checkpoints since the last `base`."""

    number = models.BigIntegerField(unique=True)
    run = models.OneToOneField(ReconciliationRun, on_delete=models.PROTECT, related_name="checkpoint")
    cut = models.BigIntegerField()
    hold_cut = models.CharField(max_length=64, blank=True)
    transfers = models.BigIntegerField()
    moved = models.BigIntegerField()
    base = models.BooleanField(default=False)

    class Meta:
        constraints = (
            models.CheckConstraint(
                condition=Q(number__gt=0, cut__gte=0, transfers__gte=0, moved__gte=0), name="credits_checkpoint_counts"
            ),
        )


class CheckpointBalance(models.Model):
    """What the newest checkpoint's transfers add up to on an account, in nanos."""

    account = models.OneToOneField(LedgerAccount, primary_key=True, on_delete=models.PROTECT, related_name="+")
    debits = models.BigIntegerField()
    credits = models.BigIntegerField()

    class Meta:
        constraints = (
            models.CheckConstraint(condition=Q(debits__gte=0, credits__gte=0), name="credits_balance_not_negative"),
        )
