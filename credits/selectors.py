"""Reads of the credits app. What belongs to a tenant takes the organisation's id first."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count, Sum

from credits.models import UNFINISHED, Hold, HoldState, ReconciliationRun, UsageRecord, Wallet


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
    records = UsageRecord.objects.filter(organization_id=organization_id).order_by("-created_at")
    return [_usage_row(record) for record in records.defer("why", "attempts")[:limit]]


def _usage_row(record: UsageRecord) -> UsageRow:
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
