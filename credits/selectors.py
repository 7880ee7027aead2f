"""Reads of the credits app but usage (usage/). What belongs to a tenant takes the organisation's id first."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count, Sum

from credits.correction_models import Adjustment, AdjustmentState
from credits.models import IS_UNFINISHED, UNFINISHED, CreditLot, Hold, HoldState, ReconciliationRun, Wallet


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


def balance(organization_id: int) -> Balance:
    """All zeros for an organisation without a wallet."""
    row = Wallet.objects.filter(pk=organization_id).values_list("posted", "held", "debt", "frozen").first()
    return Balance(*row) if row else Balance()


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


def holds_by_state() -> dict[str, int]:
    """The number of holds in each unfinished state, zeros included."""
    found = Hold.objects.filter(IS_UNFINISHED).values_list("state").annotate(Count("pk")).order_by()
    return {HoldState(state).value: 0 for state in UNFINISHED} | dict(found)


def wallets_in_debt() -> int:
    return Wallet.objects.filter(debt__gt=0).count()


def last_reconciliation(*, full: bool | None = None) -> ReconciliationRun | None:
    """The newest run; with `full` the newest that read the whole ledger, or that did not."""
    runs = ReconciliationRun.objects.order_by("-id")
    return (runs if full is None else runs.filter(full=full)).first()
