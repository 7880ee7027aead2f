"""What a hold + settle pair costs: CPU time and throughput of the ledger writer, durable.

    python -m benchmarks.writer [--seconds 3]

On SQLite in a temporary directory on disk; on PostgreSQL when DATABASE_URL names one (its
database `test_<name>` is made for the run and dropped again).
"""

import argparse
import asyncio
import os
import resource
import secrets
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from credits.types import PriceSnapshot
    from credits.writer import LedgerWriter

CALLERS = (1, 16, 256)


def set_up() -> Path:
    """Settings for a database of this run's own; its directory."""
    from cryptography.fernet import Fernet

    directory = Path(tempfile.mkdtemp(prefix="ccm-bench-", dir=os.environ.get("CCM_BENCH_DIR") or Path.cwd()))
    os.environ.update(
        DJANGO_SETTINGS_MODULE="ccm_site.settings",
        DJANGO_SECRET_KEY=secrets.token_hex(32),
        CCM_KEY_PEPPER=secrets.token_hex(8),
        CCM_ENCRYPTION_KEYS=Fernet.generate_key().decode(),
        CCM_DATA_DIR=str(directory),
        LOG_LEVEL="ERROR",
    )
    import django

    django.setup()
    return directory


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


class Load:
    """Callers that hold and settle one request after another, for organisations in turn."""

    def __init__(self, writer: "LedgerWriter", tenants: list[tuple[int, int]], price: "PriceSnapshot") -> None:
        self.writer, self.tenants, self.price = writer, tenants, price
        self.pairs = 0

    async def caller(self, number: int, until: float) -> None:
        from credits.types import HoldRequest, MeterReading, RequestFacts, SettleRequest

        organization_id, api_key_id = self.tenants[number % len(self.tenants)]
        context = {"requested_model": "claude-opus", "route": "default", "session_id": "s" * 36, "streamed": True}
        facts = RequestFacts(
            requested_model="claude-opus", route="default",
            why=({"rule": "default", "matched": True, "why": "nothing else"},),
            provider="demo", actual_model="demo-opus",
            attempts=({"provider": "demo", "model": "demo-opus", "ms": 812},),
            streamed=True, first_token_ms=310, total_ms=812, session_id="s" * 36, client="claude-cli/2.1",
        )  # fmt: skip
        while time.monotonic() < until:
            request_id = f"req_{time.time_ns() // 1_000_000:011x}{secrets.token_hex(8)}"
            await self.writer.hold(
                HoldRequest(request_id, organization_id, api_key_id, "demo-opus", self.price, 20_000, 4096, context)
            )
            reading = MeterReading(input=1200, cache_read=18_000, output=300)
            await self.writer.settle(SettleRequest(request_id, reading, self.price, facts))
            self.pairs += 1


def seed(count: int) -> list[tuple[int, int]]:
    from accounts.services import create_key
    from credits.services import grant, open_account

    tenants = []
    for number in range(count):
        account = open_account(email=f"bench{number}@example.com")
        key = create_key(organization=account.organization, name="bench", created_by=None)
        grant(account.organization.pk, 10**15, reason="bench", idempotency_key=f"bench:{number}")
        tenants.append((account.organization.pk, key.id))
    return tenants


async def measure(tenants: list[tuple[int, int]], seconds: float) -> None:
    from credits.types import PriceSnapshot
    from credits.writer import LedgerWriter

    price = PriceSnapshot(5 * 10**9, 25 * 10**9, 5 * 10**8, 6_250_000_000, 10**10)
    writer = LedgerWriter()
    writer.start()
    for callers in CALLERS:
        load = Load(writer, tenants, price)
        cpu, began = cpu_seconds(), time.monotonic()
        await asyncio.gather(*(load.caller(number, began + seconds) for number in range(callers)))
        wall, used = time.monotonic() - began, cpu_seconds() - cpu
        print(f"{callers:4} callers: {load.pairs / wall:8.0f} pairs/s   {1000 * used / load.pairs:.3f} ms CPU a pair")
    await writer.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--organizations", type=int, default=64)
    options = parser.parse_args()
    directory = set_up()
    from django.db import connection
    from django.test.utils import setup_databases, teardown_databases

    made = setup_databases(verbosity=0, interactive=False)
    try:
        print(f"{connection.vendor}, {options.organizations} organisations, every commit durable")
        asyncio.run(measure(seed(options.organizations), options.seconds))
        from credits.reconcile import run_checks

        print(*run_checks(), sep="\n")
    finally:
        teardown_databases(made, verbosity=0)
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
