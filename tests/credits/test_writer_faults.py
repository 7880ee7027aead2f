"""The writer when callers leave, the database goes, or the process is killed."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from django.db import OperationalError, connection

from credits.batch import BatchRunner
from credits.books import Books
from credits.errors import LedgerUnavailable
from credits.models import Hold, UsageRecord
from credits.records import read_checkpoint
from credits.types import MeterReading, UsageSource
from credits.writer import LedgerWriter
from tests.credits.support import (
    FACTS,
    TOKEN,
    USD,
    Tenant,
    assert_reconciled,
    flat,
    in_thread,
    settlement,
    sweep_lapsed,
)

ROOT = Path(__file__).resolve().parents[2]


async def until(condition, seconds: float = 10.0) -> None:
    """Wait until `condition`, which may read the database, is true."""
    deadline = time.monotonic() + seconds
    while not await in_thread(condition):
        assert time.monotonic() < deadline, "it never became so"
        await asyncio.sleep(0.01)


class Gate:
    """Lets the writer's thread reach a commit, and go on only when told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()
        write = Books.write

        def stop_and_write(books: Books) -> None:
            self.reached.set()
            assert self.opened.wait(10)
            write(books)

        monkeypatch.setattr(Books, "write", stop_and_write)


@pytest.mark.asyncio
async def test_a_hold_whose_caller_left_before_the_commit_is_voided_at_once(tenant, ledger_writer, monkeypatch):
    gate = Gate(monkeypatch)
    request = tenant.hold()
    caller = asyncio.create_task(ledger_writer.hold(request))
    await asyncio.to_thread(gate.reached.wait, 10)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    gate.opened.set()
    await until(lambda: Hold.objects.filter(pk=request.request_id, state="voided").exists())
    assert (await in_thread(lambda: tenant.wallet)).available == 10 * USD
    record = await in_thread(lambda: UsageRecord.objects.get(pk=request.request_id))
    assert (record.status, record.error_code, record.charge) == (499, "client_disconnected", 0)


@pytest.mark.asyncio
async def test_a_hold_whose_caller_left_when_the_grant_was_there_is_voided(tenant, ledger_writer):
    """The grant is in the future, and the caller is cancelled before it runs again."""
    request = tenant.hold()
    caller = asyncio.create_task(ledger_writer.hold(request))
    hand_over = ledger_writer._hand_over_all

    def hand_over_and_cancel(pairs):
        hand_over(pairs)
        caller.cancel()

    ledger_writer._hand_over_all = hand_over_and_cancel
    with pytest.raises(asyncio.CancelledError):
        await caller
    await until(lambda: Hold.objects.filter(pk=request.request_id, state="voided").exists())


@pytest.mark.asyncio
async def test_control_a_grant_that_nobody_voids_stays_held(tenant, ledger_writer, monkeypatch):
    monkeypatch.setattr(ledger_writer, "_void", lambda request_id: None)
    gate = Gate(monkeypatch)
    caller = asyncio.create_task(ledger_writer.hold(tenant.hold()))
    await asyncio.to_thread(gate.reached.wait, 10)
    caller.cancel()
    gate.opened.set()
    await ledger_writer.close()
    assert (await in_thread(lambda: tenant.wallet)).held == 1000 * TOKEN


@pytest.mark.asyncio
async def test_a_hold_whose_caller_left_while_it_queued_is_never_made(tenant, monkeypatch):
    writer = LedgerWriter(lease_seconds=30)
    gate = Gate(monkeypatch)
    writer.start()
    first, second = tenant.hold(), tenant.hold()
    holding = asyncio.create_task(writer.hold(first))
    await asyncio.to_thread(gate.reached.wait, 10)
    leaving = asyncio.create_task(writer.hold(second))
    await asyncio.sleep(0)
    leaving.cancel()
    gate.opened.set()
    await holding
    await writer.close()
    assert not await in_thread(Hold.objects.filter(pk=second.request_id).exists)


@pytest.mark.asyncio
async def test_a_settlement_is_done_although_its_caller_left(tenant, ledger_writer):
    request = tenant.hold()
    await ledger_writer.hold(request)
    caller = asyncio.create_task(ledger_writer.settle(settlement(request.request_id, 7)))
    await asyncio.sleep(0)
    caller.cancel()
    await until(lambda: Hold.objects.filter(pk=request.request_id, state="captured").exists())
    await in_thread(assert_reconciled)


def failing(monkeypatch: pytest.MonkeyPatch, times: int, *, after: bool) -> None:
    """The next `times` runs of a batch lose the connection, before anything or after the commit."""
    run, left = BatchRunner.run, [times]

    def run_and_fail(self, operations):
        if left[0] and not after:
            left[0] -= 1
            self._connection.close()
            raise OperationalError("the server went away")
        outcomes = run(self, operations)
        if left[0]:
            left[0] -= 1
            self._connection.close()
            raise OperationalError("the server went away during COMMIT")
        return outcomes

    monkeypatch.setattr(BatchRunner, "run", run_and_fail)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after commit"])
def test_a_lost_connection_neither_loses_nor_doubles_anything(tenant, ledger_writer, monkeypatch, after: bool):
    failing(monkeypatch, 1, after=after)
    request = tenant.hold()
    grant = ledger_writer.hold_sync(request)
    assert grant.amount == 1000 * TOKEN
    assert tenant.wallet.held == 1000 * TOKEN
    monkeypatch.undo()
    failing(monkeypatch, 1, after=after)
    assert ledger_writer.settle_sync(settlement(request.request_id, 10)).charge == 10 * TOKEN
    assert tenant.wallet.posted == 10 * USD - 10 * TOKEN
    assert_reconciled()


def test_a_database_that_stays_away_is_said_so_and_the_reading_is_not_lost(tenant, ledger_writer, monkeypatch):
    request = tenant.hold()
    ledger_writer.hold_sync(request)
    failing(monkeypatch, 100, after=False)
    with pytest.raises(LedgerUnavailable):
        ledger_writer.hold_sync(tenant.hold())
    with pytest.raises(LedgerUnavailable):
        ledger_writer.settle_sync(settlement(request.request_id, 70))
    monkeypatch.undo()
    ledger_writer.close_sync()
    sweep_lapsed()
    assert UsageRecord.objects.get(pk=request.request_id).charge == 70 * TOKEN
    assert_reconciled()


@pytest.mark.asyncio
async def test_of_several_checkpoints_the_newest_is_stored(tenant, ledger_writer):
    request = tenant.hold()
    await ledger_writer.hold(request)
    half = flat(USD // 2)
    for output in range(1, 50):
        reading = MeterReading(output=output, source=UsageSource.COUNTED)
        ledger_writer.checkpoint(request.request_id, reading, FACTS, half if output == 1 else None)

    def stored() -> bool:
        with connection.cursor() as cursor:
            cursor.execute("SELECT checkpoint FROM credits_hold")
            point = read_checkpoint(cursor.fetchone()[0])
        return point is not None and point.reading.output == 49 and point.cost_price == half and point.facts == FACTS

    await until(stored)


def test_leases_of_running_requests_are_renewed_and_those_of_ended_ones_not(tenant):
    writer = LedgerWriter(lease_seconds=0.3)
    writer.start()
    running, ended = tenant.hold(), tenant.hold()
    for request in (running, ended):
        writer.hold_sync(request)
    writer.settle_sync(settlement(ended.request_id, 1))
    before = {hold.pk: hold.lease_until for hold in Hold.objects.all()}
    deadline = time.monotonic() + 10
    while Hold.objects.get(pk=running.request_id).lease_until == before[running.request_id]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert Hold.objects.get(pk=ended.request_id).lease_until == before[ended.request_id]
    writer.close_sync()


VICTIM = """
import os, sys, threading
import django
django.setup()
from django.conf import settings
from django.db import connection
settings.DATABASES["default"]["NAME"] = connection.settings_dict["NAME"] = sys.argv[1]
from credits.books import Books
from credits.types import HoldRequest, MeterReading, RequestFacts, SettleRequest, UsageSource
from credits.writer import LedgerWriter
from tests.credits.support import FACTS, Tenant, settlement

tenant = Tenant(int(sys.argv[2]), int(sys.argv[3]))
stage = sys.argv[4]
writer = LedgerWriter(lease_seconds=60)
writer.start()

def die_here():
    print("here", flush=True)
    threading.Event().wait()

if stage == "in the hold's transaction":
    write = Books.write
    Books.write = lambda books: (write(books), die_here())
request = tenant.hold(output=1000, request_id="req_victim")
if stage == "in the hold's transaction":
    writer.hold_sync(request)
writer.hold_sync(request)
if stage == "after the hold":
    die_here()
writer.checkpoint("req_victim", MeterReading(output=60, source=UsageSource.COUNTED), FACTS)
writer.hold_sync(tenant.hold(request_id="req_other", output=1))  # the checkpoint is written after its batch
writer.hold_sync(tenant.hold(request_id="req_third", output=1))
if stage == "after a checkpoint":
    die_here()
if stage == "in the settlement's transaction":
    write = Books.write
    Books.write = lambda books: (write(books), die_here())
writer.settle_sync(settlement("req_victim", 90))
die_here()
"""


@pytest.mark.parametrize(
    ("stage", "charged"),
    [
        ("in the hold's transaction", None),
        ("after the hold", 0),
        ("after a checkpoint", 60),
        ("in the settlement's transaction", 60),
        ("after the settlement", 90),
    ],
)
def test_kill_9_loses_and_doubles_nothing(tenant: Tenant, stage: str, charged: int | None, tmp_path: Path):
    command = [sys.executable, "-c", textwrap.dedent(VICTIM), str(connection.settings_dict["NAME"])]
    victim = subprocess.Popen(
        [*command, str(tenant.organization_id), str(tenant.api_key_id), stage],
        cwd=ROOT,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "ccm_site.settings"},
        stdout=subprocess.PIPE,
    )
    try:
        assert victim.stdout is not None
        assert victim.stdout.readline() == b"here\n"
        victim.send_signal(signal.SIGKILL)
    finally:
        victim.kill()
        victim.wait()
        victim.stdout.close()  # type: ignore[union-attr]
    assert_reconciled()
    sweep_lapsed()
    assert_reconciled()
    assert tenant.wallet.held == 0
    charge = UsageRecord.objects.filter(pk="req_victim").values_list("charge", flat=True).first()
    assert charge == (None if charged is None else charged * TOKEN)
    assert tenant.wallet.posted == 10 * USD - (charged or 0) * TOKEN
