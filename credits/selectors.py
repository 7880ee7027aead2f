"""Reads of the credits app. What belongs to a tenant takes the organisation's id first."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count, Sum

from credits.correction_models import Adjustment, AdjustmentState, Correction
from credits.models import UNFINISHED, CreditLot, Hold, HoldState, ReconciliationRun, UsageRecord, Wallet


@dataclass(frozen=True, slots=True)
class Balance:
    """Nanos. `available` is what new requests may hold."""

    posted: int = 0
    held: int = 0
    debt: int = 0
    frozen: bool = False

    @property
    def available(self) -> int:
        return self.posted - self.held - self.debt


@dataclass(frozen=True, slots=True)
class UsageRow:
    """One request, as a customer's list shows it."""

    request_id: str
    created_at: datetime
    model: str
    requested_model: str
    route: str
    provider: str
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    charge: int
    status: int
    error_code: str
    api_key_id: int
    refunded: int = 0


@dataclass(frozen=True, slots=True)
class UsageTotals:
    requests: int = 0
    charge: int = 0
    cost: int = 0
    margin: int = 0


def balance(organization_id: int) -> Balance:
    """All zeros for an organisation without a wallet."""
    row = Wallet.objects.filter(pk=organization_id).values_list("posted", "held", "debt", "frozen").first()
    return Balance(*row) if row else Balance()


def recent_usage(organization_id: int, limit: int = 50) -> Sequence[UsageRow]:
    """The newest requests, newest first."""
    newest = UsageRecord.objects.filter(organization_id=organization_id).order_by("-created_at")
    records = list(newest.defer("why", "attempts")[:limit])
    refunds = _refunded([record.pk for record in records])
    return [_usage_row(record, refunds.get(record.pk, 0)) for record in records]


def _refunded(request_ids: Sequence[str]) -> dict[str, int]:
    """Nanos that corrections gave back, of the requests that have any."""
    found = Correction.objects.filter(hold_id__in=request_ids).values_list("hold_id")
    return dict(found.annotate(Sum("amount")).order_by())


@dataclass(frozen=True, slots=True)
class Expiring:
    """Credits, in nanos, that expire together."""

    amount: int
    expires_at: datetime


def expiring(organization_id: int, limit: int = 3) -> Sequence[Expiring]:
    """What expires first, of the credits that are left."""
    lots = CreditLot.objects.filter(wallet_id=organization_id, remaining__gt=0, expires_at__isnull=False)
    by_time = lots.values_list("expires_at").annotate(total=Sum("remaining")).order_by("expires_at")
    return [Expiring(total, expires_at) for expires_at, total in by_time[:limit] if expires_at is not None]


def adjustments_to_decide() -> int:
    return Adjustment.objects.filter(state=AdjustmentState.PROPOSED).count()


def _usage_row(record: UsageRecord, refunded: int) -> UsageRow:
    return UsageRow(
        request_id=record.request_id,
        created_at=record.created_at,
        model=record.model,
        requested_model=record.requested_model,
        route=record.route,
        provider=record.provider,
        input_tokens=record.input_tokens,
        cached_tokens=record.cache_read_tokens + record.cache_write_tokens + record.cache_write_1h_tokens,
        output_tokens=record.output_tokens,
        charge=record.charge,
        status=record.status,
        error_code=record.error_code,
        api_key_id=record.api_key_id,
        refunded=refunded,
    )


def usage_totals(since: datetime) -> UsageTotals:
    """Of all organisations, for operators."""
    sums = UsageRecord.objects.filter(created_at__gte=since).aggregate(
        requests=Count("pk"), charge=Sum("charge"), cost=Sum("cost"), margin=Sum("margin")
    )
    return UsageTotals(**{name: value or 0 for name, value in sums.items()})


def holds_by_state() -> dict[str, int]:
    """The number of holds in each unfinished state, zeros included."""
    found = Hold.objects.filter(state__in=UNFINISHED).values_list("state").annotate(Count("pk")).order_by()
    return {HoldState(state).value: 0 for state in UNFINISHED} | dict(found)


def wallets_in_debt() -> int:
    return Wallet.objects.filter(debt__gt=0).count()


def last_reconciliation() -> ReconciliationRun | None:
    return ReconciliationRun.objects.order_by("-id").first()
