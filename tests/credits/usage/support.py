"""Requests that are really held and settled, at whatever time a test says."""

from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import Any

from django.db import connection
from msgspec.structs import replace

from credits.batch import BatchRunner, HoldOp, SettleOp
from credits.models import Transfer, UsageRecord
from credits.types import MeterReading, RequestFacts, Settlement, SettleRequest
from credits.usage.agreement import differences
from credits.usage.reading import snapshot_cursor
from tests.credits.support import FLAT, Tenant

NOW = datetime(2025, 11, 24, 12, 30, tzinfo=UTC)
FACTS = RequestFacts(requested_model="m", route="default", provider="p", actual_model="a", total_ms=5)

COST = replace(FLAT, output=4 * 10**8)
"""What the provider asks: 400 nanos a token."""

_numbers = count(1)


@dataclass
class Clock:
    now: datetime = NOW

    def __call__(self) -> datetime:
        return self.now


def use(tenant: Tenant, at: datetime, *, tokens: int = 10, model: str = "m", begun: datetime | None = None,
        request_id: str = "", **facts: Any) -> str:  # fmt: skip
    """A request of `tenant` settled at this time: 1000 nanos a token. `begun` is when it was held."""
    clock = Clock(begun or at)
    runner = BatchRunner(connection, owner="test", lease_seconds=60, clock=clock)
    request_id = request_id or f"req_{int(clock.now.timestamp() * 1000):011x}{next(_numbers):016x}"
    runner.run([HoldOp(replace(tenant.hold(request_id=request_id, output=tokens), model=model))])
    clock.now = at
    known = {"status": 200, **facts}
    request = SettleRequest(request_id, MeterReading(output=tokens), COST, replace(FACTS, **known))
    settled = runner.run([SettleOp(request)])
    assert isinstance(settled[0], Settlement)
    return request_id


def differing() -> list[str]:
    with snapshot_cursor() as cursor:
        return [str(difference) for difference in differences(cursor)]


def charged() -> int:
    """Nanos, by the records."""
    return sum(UsageRecord.objects.values_list("charge", flat=True))


def captured() -> int:
    """Nanos, by the ledger."""
    return sum(Transfer.objects.filter(code__in=("capture", "overage")).values_list("amount", flat=True))
