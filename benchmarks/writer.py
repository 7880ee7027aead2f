"""What a hold + settle pair costs: CPU time and throughput of the ledger's writer, durable.

    python -m benchmarks.writer [--database sqlite|postgres|both] [--seconds 3]
    python -m benchmarks.writer --soak 1000000

Pairs a second and CPU time a pair at 1, 16 and 256 callers, for one hot organisation and for 10,000.
SQLite lies in a directory on the disk, PostgreSQL is a private server that waits for the disk
(DATABASE_URL names another one). `--soak` sends so many requests of every kind and fails if memory grows.
"""

import argparse
import asyncio
import os
import resource
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from benchmarks import processes
from benchmarks.soak import soak
from tests.plugin import postgres

if TYPE_CHECKING:
    from credits.types import HoldRequest, PriceSnapshot, SettleRequest
    from credits.writer import LedgerWriter

CALLERS = (1, 16, 256)
ORGANIZATIONS = (1, 10_000)
DATABASES = ("sqlite", "postgres")
SOAK_ORGANIZATIONS = 500
GRANTED = 10**13
"""Nanos for each organisation: more than any run can use."""


class Figure(msgspec.Struct):
    """One line of the table; `server_ms` is the CPU time of PostgreSQL's own processes."""

    database: str
    organizations: int
    callers: int
    pairs_per_second: float
    cpu_ms: float
    server_ms: float


@contextmanager
def database(name: str) -> Iterator[int]:
    """Django set up for a database of this run's own; the process id of its private server, or 0.

    Once in a process: Django's settings cannot be changed afterwards."""
    from cryptography.fernet import Fernet

    directory = Path(tempfile.mkdtemp(prefix="ccm-bench-", dir=os.environ.get("CCM_BENCH_DIR") or Path.cwd()))
    given = os.environ.get("DATABASE_URL", "")
    server = postgres.start(durable=True) if name == "postgres" and not given.startswith("postgres") else None
    try:
        os.environ.update(
            DJANGO_SETTINGS_MODULE="ccm_site.settings",
            DJANGO_SECRET_KEY=secrets.token_hex(32),
            CCM_KEY_PEPPER=secrets.token_hex(8),
            CCM_ENCRYPTION_KEYS=Fernet.generate_key().decode(),
            CCM_DATA_DIR=str(directory),
            DATABASE_URL="" if name == "sqlite" else server.url if server else given,
            LOG_LEVEL="ERROR",
        )
        import django

        django.setup()
        from django.test.utils import setup_databases, teardown_databases

        made = setup_databases(verbosity=0, interactive=False)
        try:
            yield server.process.pid if server else 0
        finally:
            teardown_databases(made, verbosity=0)
    finally:
        if server is not None:
            server.stop()
        shutil.rmtree(directory, ignore_errors=True)


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def hold_and_settlement(
    organization_id: int, api_key_id: int, price: "PriceSnapshot"
) -> "tuple[HoldRequest, SettleRequest]":
    """A request as the gateway makes it of one of Claude Code's."""
    from credits.types import Explanation, HoldRequest, MeterReading, RequestFacts, SettleRequest

    request_id = f"req_{time.time_ns() // 1_000_000:011x}{secrets.token_hex(8)}"
    context = {"requested_model": "claude-opus", "route": "default", "session_id": "s" * 36, "streamed": True}
    facts = RequestFacts(
        requested_model="claude-opus", route="default",
        explanation=Explanation.of(b'{"rules":[{"rule":"default","matched":true,"why":"nothing else"}]}'),
        provider="demo", actual_model="demo-opus",
        attempts=({"provider": "demo", "model": "demo-opus", "ms": 812},),
        streamed=True, first_token_ms=310, total_ms=812, session_id="s" * 36, client="claude-cli/2.1",
    )  # fmt: skip
    hold = HoldRequest(request_id, organization_id, api_key_id, "demo-opus", price, 20_000, 4096, context)
    reading = MeterReading(input=1200, cache_read=18_000, output=300)
    return hold, SettleRequest(request_id, reading, price, facts)


class Load:
    """Callers that hold and settle one request after another, for organisations in turn."""

    def __init__(self, writer: "LedgerWriter", tenants: Sequence[tuple[int, int]], price: "PriceSnapshot") -> None:
        self.writer, self.tenants, self.price = writer, tenants, price
        self.pairs = 0

    async def caller(self, until: float) -> None:
        while time.monotonic() < until:
            hold, settlement = hold_and_settlement(*self.tenants[self.pairs % len(self.tenants)], self.price)
            await self.writer.hold(hold)
            await self.writer.settle(settlement)
            self.pairs += 1


def seed(count: int) -> list[tuple[int, int]]:
    """So many organisations with credits: (organisation, API key) of each. Posted as grants are, but all
    at once, since 10,000 calls of `services.grant` would take minutes; `check_books` looks at it too."""
    from django.db import connection, transaction
    from django.utils import timezone

    from accounts.models import ApiKey, Organization
    from credits import ledger
    from credits.database import Dialect
    from credits.models import TENANT_KINDS, CreditLot, LedgerAccount, LotKind, Wallet

    dialect, kind = Dialect(connection), LotKind.ADJUSTMENT
    with transaction.atomic():
        organizations = Organization.objects.bulk_create(Organization(name=f"bench {n}") for n in range(count))
        api_keys = ApiKey.objects.bulk_create(
            ApiKey(organization=each, name="bench", digest=secrets.token_hex(32), last_four="0000")
            for each in organizations
        )
        Wallet.objects.bulk_create(Wallet(organization=each, posted=GRANTED) for each in organizations)
        accounts = LedgerAccount.objects.bulk_create(
            LedgerAccount(kind=kind_, organization=each) for each in organizations for kind_ in TENANT_KINDS
        )
        wallets, receivables = accounts[0::2], accounts[1::2]
        source = LedgerAccount.objects.get(kind=ledger.grant_source(kind), organization=None)
        postings = [
            ledger.granted(
                f"bench:{account.organization_id}", kind, source.pk,
                ledger.TenantAccounts(account.pk, receivable.pk), GRANTED, reason="bench", created_by=None,
            )
            for account, receivable in zip(wallets, receivables, strict=True)
        ]  # fmt: skip
        with dialect.cursor() as cursor:
            ledger.post(cursor, postings, dialect.time(timezone.now()))
        CreditLot.objects.bulk_create(
            CreditLot(
                wallet_id=account.organization_id, kind=kind, amount=GRANTED, remaining=GRANTED, source_id=each.key
            )
            for account, each in zip(wallets, postings, strict=True)
        )
    return [(key.organization_id, key.pk) for key in api_keys]


def sample_price() -> "PriceSnapshot":
    from credits.types import PriceSnapshot

    return PriceSnapshot(5 * 10**9, 25 * 10**9, 5 * 10**8, 6_250_000_000, 10**10)


async def measure(name: str, server: int, tenants: Sequence[tuple[int, int]], seconds: float) -> list[Figure]:
    from credits.writer import LedgerWriter

    writer = LedgerWriter()
    writer.start()
    figures = []
    for organizations in ORGANIZATIONS:
        for callers in CALLERS:
            load = Load(writer, tenants[:organizations], sample_price())
            cpu, server_cpu = cpu_seconds(), processes.cpu_seconds(server) if server else 0.0
            began = time.monotonic()
            await asyncio.gather(*(load.caller(began + seconds) for _ in range(callers)))
            wall, used = time.monotonic() - began, cpu_seconds() - cpu
            server_used = processes.cpu_seconds(server) - server_cpu if server else 0.0
            pairs = max(1, load.pairs)
            figures.append(
                Figure(name, organizations, callers, pairs / wall, 1000 * used / pairs, 1000 * server_used / pairs)
            )
    await writer.close()
    return figures


def check_books() -> None:
    """Raises SystemExit when a check of the ledger fails."""
    from credits.reconcile import run_checks

    wrong = [str(finding) for finding in run_checks() if not finding.ok]
    if wrong:
        sys.exit("\n".join(["the books are not in order:", *wrong]))


def measured(names: Sequence[str], seconds: float) -> list[Figure]:
    """The figures of each database, in a process of its own. Raises SystemExit when one fails."""
    figures = []
    for name in names:
        print(f"ledger writer on {name} ...", file=sys.stderr, flush=True)
        command = [sys.executable, "-m", "benchmarks.writer", "--database", name, "--seconds", str(seconds), "--json"]
        done = subprocess.run(command, check=False, stdout=subprocess.PIPE)
        if done.returncode:
            sys.exit(f"the ledger writer's benchmark failed on {name}")
        figures += msgspec.json.decode(done.stdout, type=list[Figure])
    return figures


def table(figures: Sequence[Figure]) -> str:
    lines = [
        f"{'holds + settlements, durable':30}{'organisations':>14}{'callers':>9}{'pairs/s':>10}"
        f"{'CPU ms/pair':>13}{'server ms':>11}"
    ]
    for each in figures:
        server = f"{each.server_ms:11.3f}" if each.database == "postgres" else f"{'':11}"
        lines.append(
            f"{each.database:30}{each.organizations:14}{each.callers:9}{each.pairs_per_second:10.0f}"
            f"{each.cpu_ms:13.3f}{server}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", choices=(*DATABASES, "both"), default="sqlite")
    parser.add_argument("--seconds", type=float, default=3.0, help="measured time of one line (default 3)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--soak", type=int, default=0, metavar="REQUESTS", help="see whether memory stays flat")
    options = parser.parse_args()
    if options.database == "both":
        print(table(measured(DATABASES, options.seconds)))
        return
    with database(options.database) as server:
        if options.soak:
            verdict = asyncio.run(soak(seed(SOAK_ORGANIZATIONS), options.soak))
            check_books()
            print(f"{options.database}: {verdict.sentence}; the books are in order", flush=True)
            sys.exit(0 if verdict.flat else 1)
        figures = asyncio.run(measure(options.database, server, seed(max(ORGANIZATIONS)), options.seconds))
        check_books()
        print(msgspec.json.encode(figures).decode() if options.json else table(figures))


if __name__ == "__main__":
    main()
