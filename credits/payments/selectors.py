"""What the pages show of payments. What belongs to a tenant takes the organisation's id first. Amounts are nanos."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Q, Sum

from credits.payments.auto import bought_this_month
from credits.payments.models import (
    IN_FLIGHT,
    AutoTopUp,
    BillingAccount,
    PaymentRefund,
    RefundState,
    TopUp,
    TopUpKind,
    TopUpState,
)

MOST = 100


@dataclass(frozen=True, slots=True)
class Payment:
    """A top-up as its customer sees it. `total` is with the tax once that is known; `refunded` has gone back."""

    id: int
    at: datetime
    auto: bool
    state: str
    label: str
    amount: int
    fee: int
    tax: int
    refunded: int
    pay_url: str
    receipt_url: str
    invoice_url: str
    failure: str

    @property
    def total(self) -> int:
        return self.amount + self.fee + self.tax

    @property
    def waits(self) -> bool:
        return self.state in IN_FLIGHT

    @property
    def paid(self) -> bool:
        return self.state == TopUpState.SUCCEEDED


def _payment(row: TopUp, refunded: int) -> Payment:
    return Payment(
        row.pk, row.created_at, row.kind == TopUpKind.AUTO, row.state, row.get_state_display(), row.amount, row.fee,
        row.tax, refunded, row.pay_url, row.receipt_url, row.invoice_url, row.failure_text,
    )  # fmt: skip


def payment(organization_id: int, top_up_id: int) -> Payment | None:
    """None for what is another organisation's."""
    row = TopUp.objects.filter(pk=top_up_id, organization_id=organization_id).first()
    return None if row is None else _payment(row, _refunded([row.pk]).get(row.pk, 0))


def payments(organization_id: int, before: int | None = None, limit: int = 20) -> Sequence[Payment]:
    """The newest first; `before` is the last id of the page before. What was begun and never paid is left out."""
    rows = TopUp.objects.filter(organization_id=organization_id).exclude(
        Q(state=TopUpState.CANCELED) & Q(kind=TopUpKind.MANUAL)
    )
    if before is not None:
        rows = rows.filter(pk__lt=before)
    found = list(rows.order_by("-pk")[: min(limit, MOST)])
    refunded = _refunded([row.pk for row in found])
    return [_payment(row, refunded.get(row.pk, 0)) for row in found]


def _refunded(top_ups: Sequence[int]) -> dict[int, int]:
    given = PaymentRefund.objects.filter(
        top_up__in=top_ups, state__in=(RefundState.REQUESTED, RefundState.PENDING, RefundState.SUCCEEDED)
    )
    return dict(given.values_list("top_up").annotate(Sum("amount")).order_by())


@dataclass(frozen=True, slots=True)
class Auto:
    """An organisation's auto top-up, and what it has cost this month."""

    enabled: bool
    threshold: int
    amount: int
    monthly_cap: int
    spent: int
    failures: int
    paused_until: datetime | None


def auto_top_up(organization_id: int, now: datetime) -> Auto | None:
    row = AutoTopUp.objects.filter(pk=organization_id).first()
    if row is None:
        return None
    paused = row.paused_until if row.paused_until and row.paused_until > now else None
    spent = bought_this_month(organization_id, now)
    return Auto(row.enabled, row.threshold, row.amount, row.monthly_cap, spent, row.failures, paused)


@dataclass(frozen=True, slots=True)
class Billing:
    """`card` is "" when there is none; `customer` whether Stripe knows the organisation."""

    card: str = ""
    customer: bool = False
    blocked: bool = False
    low_balance: int = 0


def billing(organization_id: int) -> Billing:
    row = BillingAccount.objects.filter(pk=organization_id).first()
    if row is None:
        return Billing(low_balance=BillingAccount._meta.get_field("low_balance").default)
    return Billing(row.card, row.customer is not None, row.blocked, row.low_balance)
