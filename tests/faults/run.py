"""`make faults`: kills everything at random moments under load, and then asks whether the money is right.

    python -m tests.faults.run [--faults 200] [--seed N] [--database sqlite|postgres|both] [--lease 15]

Exits 1 when a request is unaccounted for, a charge is not what it must be (see verify.py), or the books
do not reconcile.
"""

import argparse
import os
import random
import secrets
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.fakes.anthropic import fake_anthropic
from tests.fakes.openai import fake_openai
from tests.faults import traffic
from tests.faults.injector import Injector
from tests.faults.load import Load
from tests.faults.product import Product
from tests.faults.proxy import CommitProxy
from tests.faults.verify import Report, Served, nanos, verify
from tests.plugin import postgres
from tests.processes import process_database

RICH = ("1000", "1000", "1000", "500", "500", "500")
"""Dollars."""
POOR = ("0.06", "0.15", "0.4", "0.9")
OPEN_ACCOUNTS = """
from accounts.services import create_key
from credits.services import grant, open_account
for email, nanos in {given!r}.items():
    account = open_account(email=email)
    grant(account.organization.pk, nanos, reason="fault run", idempotency_key=email)
    print(create_key(organization=account.organization, name="faults", created_by=account.user).secret)
"""
QUIET_SECONDS = 300.0
SHOWN_VIOLATIONS = 30


@dataclass(frozen=True)
class Options:
    """`pause` are the seconds between two faults, at most; `lease` those of a hold, `busy_timeout` SQLite's."""

    faults: int
    seed: int
    pause: float = 0.9
    lease: int = 15
    busy_timeout: float = 1.0
    callers: int = 20
    keep: Path | None = None


@dataclass
class Outcome:
    """What a run has come to; `sound` when nothing was wrong."""

    injected: Counter[str]
    answers: Counter[str]
    report: Report
    reconciled: str
    seconds: float

    @property
    def sound(self) -> bool:
        return not self.report.violations

    def __str__(self) -> str:
        lines = [f"{sum(self.injected.values())} faults in {self.seconds:.0f} s"]
        lines += [f"  {number:5}  {kind}" for kind, number in sorted(self.injected.items())]
        lines.append("answers of providers that were no regular answers")
        lines += [f"  {number:5}  {kind}" for kind, number in sorted(self.answers.items())]
        lines.append("requests, as the client saw them and as the books have them")
        lines += [f"  {n:5}  {seen:20} {stored}" for (seen, stored), n in sorted(self.report.outcomes.items())]
        lines.append(", ".join(f"{number} {name}" for name, number in self.report.totals.items()))
        lines += [f"  {line}" for line in self.reconciled.splitlines()]
        wrong = self.report.violations
        lines.append(f"{len(wrong)} violations" + (":" if wrong else ""))
        lines += [f"  {violation}" for violation in wrong[:SHOWN_VIOLATIONS]]
        return "\n".join(lines)


def run(options: Options, database: str) -> Outcome:
    """One run; `database` is the address of an empty PostgreSQL database, "" for SQLite."""
    began = time.monotonic()
    with (
        fake_anthropic(traffic.brain("anthropic")) as anthropic,
        fake_openai(traffic.brain("openai")) as openai,
        reachable(database) as (url, proxy),
        Product(
            database_url=url or f"sqlite:///?timeout={options.busy_timeout}",
            settings={"CCM_HOLD_LEASE_SECONDS": str(options.lease)},
        ) as product,
    ):
        product.import_config(traffic.config(anthropic.base_url, openai.base_url))
        granted, keys = customers(product)
        product.start_all()
        poor = range(len(RICH), len(RICH) + len(POOR))
        load = Load(product.url, keys, poor=poor, seed=options.seed, callers=options.callers)
        injector = Injector(
            product, load, seed=options.seed, busy_timeout=options.busy_timeout, proxy=proxy, database=database
        )
        load.start()
        inject(injector, options)
        load.stop()
        unfinished = await_quiet(product)
        reconciled = product.run("reconcile")
        served = [
            Served.of(name, each)
            for name, fake in (("anthropic", anthropic), ("openai", openai))
            for each in fake.requests
        ]
        report = verify(load.sent, served, product.books(), granted)
        if unfinished:
            report.violations.append(f"{unfinished} holds were not finished within {QUIET_SECONDS:.0f} seconds")
        if reconciled.returncode:
            report.violations.append("the books do not reconcile")
        report.violations += [
            f"a provider was sent a wrong request: {v}" for f in (anthropic, openai) for v in f.violations
        ]
        answers = Counter(sent.plan.kind for sent in load.sent if sent.plan.kind in traffic.FAULTY)
        if report.violations and options.keep is not None:
            shutil.copytree(product.data_dir, options.keep, dirs_exist_ok=True)
        said = reconciled.stdout.strip() or reconciled.stderr.strip()
        return Outcome(injector.injected, answers, report, said, time.monotonic() - began)


@contextmanager
def reachable(database: str) -> Iterator[tuple[str, CommitProxy | None]]:
    """The database as the product sees it: PostgreSQL through a proxy."""
    if not database:
        yield "", None
        return
    with CommitProxy(database) as proxy:
        yield proxy.url, proxy


def customers(product: Product) -> tuple[dict[str, int], list[str]]:
    """What each was granted, in nanos by e-mail address, and their keys."""
    given = {f"customer{number}@example.com": nanos(usd) for number, usd in enumerate((*RICH, *POOR))}
    return given, product.python(OPEN_ACCOUNTS.format(given=given)).splitlines()


def inject(injector: Injector, options: Options) -> None:
    chance, product = random.Random(options.seed), injector.product
    product.look_after(1.0)
    while injector.count < options.faults:
        product.look_after(chance.uniform(0.1, options.pause))
        name = injector.inject()
        if name:
            print(f"{injector.count:4}  {name}", file=sys.stderr, flush=True)
    product.look_after(1.0)
    injector.heal()
    product.await_ready()


def await_quiet(product: Product) -> int:
    """Wait until the product itself, its worker and beat, has finished every hold; how many it has not."""
    deadline = time.monotonic() + QUIET_SECONDS
    while True:
        product.tick()
        try:
            unfinished = product.unfinished_holds()
        except (RuntimeError, subprocess.TimeoutExpired):
            unfinished = -1
        if not unfinished or time.monotonic() > deadline:
            return unfinished
        time.sleep(1.0)


@contextmanager
def database_of(name: str) -> Iterator[str]:
    """A database for one run: "" for SQLite, else on DATABASE_URL's or a private PostgreSQL server."""
    if name == "sqlite":
        os.environ.pop("DATABASE_URL", None)
        yield ""
        return
    if os.environ.get("DATABASE_URL", "").startswith("postgres"):
        with process_database() as url:
            yield url
        return
    server = postgres.start()
    os.environ["DATABASE_URL"] = server.url
    try:
        with process_database() as url:
            yield url
    finally:
        del os.environ["DATABASE_URL"]
        server.stop()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument(
        "--seed", type=int, default=0, help="the order of faults and requests (default: drawn, and shown)"
    )
    parser.add_argument("--database", choices=("sqlite", "postgres", "both"), default="both")
    parser.add_argument("--keep", type=Path, help="copy the data directory of a run with violations here")
    parser.add_argument(
        "--lease", type=int, default=Options.lease, help="seconds; with 2, a locked database outlasts every lease"
    )
    asked = parser.parse_args(arguments)
    seed = asked.seed or secrets.randbelow(10**6) + 1
    sound = True
    for name in ("sqlite", "postgres") if asked.database == "both" else (asked.database,):
        keep = asked.keep / name if asked.keep else None
        with database_of(name) as url:
            outcome = run(Options(faults=asked.faults, seed=seed, lease=asked.lease, keep=keep), url)
        sound = sound and outcome.sound
        print(f"\n== {name}, --seed {seed}\n{outcome}", flush=True)
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
