"""What the credits app's tests share, those in tests/races and tests/property too."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count
from typing import Any, TypeVar

import pytest
from django.db import connection
from django.utils import timezone
from msgspec.structs import replace

from accounts.models import ApiKey, User
from accounts.services import create_key
from credits import guards, services
from credits.entries import bring_in, open_books
from credits.expiry import platform_account
from credits.ledger import Posting
from credits.models import AccountKind, LotKind, TransferCode, Wallet
from credits.reconcile import run_checks
from credits.types import HoldRequest, MeterReading, PriceSnapshot, RequestFacts, SettleRequest
from credits.writer import LedgerWriter

USD = 10**9
# One dollar for each million tokens: a token costs 1000 nanos, in whatever class.
FLAT = PriceSnapshot(input=USD, output=USD, cache_read=USD, cache_write=USD, cache_write_1h=USD, web_search=0)
TOKEN = 1000


def flat(rate: int) -> PriceSnapshot:
    """Every class at `rate` nanos per million tokens."""
    return PriceSnapshot(rate, rate, rate, rate, rate)


FREE = PriceSnapshot(input=0, output=0, cache_read=0, cache_write=0, cache_write_1h=0)
FACTS = RequestFacts(requested_model="m", route="default", provider="p", actual_model="a", total_ms=5)

_numbers = count(1)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Tenant:
    organization_id: int
    api_key_id: int

    @property
    def wallet(self) -> Wallet:
        return Wallet.objects.get(pk=self.organization_id)

    def grant(self, nanos: int, **options: object) -> None:
        key = f"test:{next(_numbers)}"
        services.grant(self.organization_id, nanos, reason="test", idempotency_key=key, **options)  # type: ignore[arg-type]

    def hold(
        self, *, prompt: int = 0, output: int = 1000, price: PriceSnapshot = FLAT, request_id: str = ""
    ) -> HoldRequest:
        return HoldRequest(
            request_id=request_id or f"req_{next(_numbers)}",
            organization_id=self.organization_id,
            api_key_id=self.api_key_id,
            model="m",
            price=price,
            input_tokens=prompt,
            max_tokens=output,
            context={"route": "default", "requested_model": "m", "streamed": True},
        )


def operator(name: str = "maker") -> User:
    return User.objects.create_superuser(f"{name}-{next(_numbers)}@example.com", "x")


def pay_in(tenant: Tenant, nanos: int, *, priority: int = 100, expires_at: datetime | None = None) -> None:
    """Paid credits, as a top-up brings them in."""
    key = f"topup:{next(_numbers)}:credit"
    with open_books(tenant.organization_id, timezone.now()) as opened:
        clearing = platform_account(opened.books, AccountKind.STRIPE_CLEARING)
        posting = Posting(clearing, opened.accounts.wallet, nanos, TransferCode.GRANT, key, key)
        bring_in(opened, posting, LotKind.PAID, priority=priority, expires_at=expires_at)


def settlement(request_id: str, output: int, **counts: Any) -> SettleRequest:
    return SettleRequest(request_id, MeterReading(output=output, **counts), None, FACTS)


def new_tenant(nanos: int = 0, name: str = "tenant") -> Tenant:
    account = services.open_account(email=f"{name}-{next(_numbers)}@example.com")
    key = create_key(organization=account.organization, name="key", created_by=account.user)
    made = Tenant(account.organization.pk, key.id)
    if nanos:
        made.grant(nanos)
    return made


def assert_reconciled() -> None:
    assert [str(finding) for finding in run_checks() if finding.failed] == []


@pytest.fixture
def customer(db: None) -> Tenant:
    """A customer with ten dollars, in a test's own transaction."""
    return new_tenant(10 * USD)


@pytest.fixture
def tenant(transactional_db: None) -> Tenant:
    """A customer with ten dollars whom other threads and processes see too."""
    return new_tenant(10 * USD)


@pytest.fixture
def ledger_writer(transactional_db: None) -> Iterator[LedgerWriter]:
    writer = LedgerWriter(lease_seconds=30)
    writer.start()
    yield writer
    writer.close_sync()


def sweep_lapsed() -> services.Sweep:
    """A sweep when all leases have run out, and what the one does that comes another lease later."""
    later = timezone.now() + timedelta(minutes=5)
    services.sweep(later)
    return services.sweep(later + timedelta(minutes=5))


def revoke(tenant: Tenant) -> None:
    from accounts.services import revoke_key

    revoke_key(key=ApiKey.objects.get(pk=tenant.api_key_id))


def raw(sql: str, *params: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)


def tampered(sql: str, *params: Any) -> None:
    """What the database would refuse, with its guards away for the moment."""
    guards.remove(connection)
    try:
        raw(sql, *params)
    finally:
        guards.install(connection)


async def in_thread(function: Callable[[], T]) -> T:
    """Ask the database from an async test; the thread keeps no connection."""

    def call() -> T:
        try:
            return function()
        finally:
            connection.close()

    return await asyncio.to_thread(call)


def larger(request: HoldRequest) -> HoldRequest:
    """Another request under the same id."""
    return replace(request, max_tokens=request.max_tokens + 1)
