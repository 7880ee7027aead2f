"""What the sweeper leaves alone: holds that a living process has in hand, wherever the sweep and the process are."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from django.db import OperationalError, connection
from django.utils import timezone
from pytest_django import Settings

from credits import batch, services
from credits import journal as journal_module
from credits.batch import BatchRunner, HoldOp, SettleOp
from credits.books import Books
from credits.journal import Journal, Slot, standing
from credits.models import Hold, UsageRecord
from credits.types import MeterReading
from tests.credits.support import TOKEN, Tenant, assert_reconciled, raw, settlement, sweep_lapsed
from tests.credits.support import customer as customer  # noqa: PLC0414 - a fixture

NOTHING = services.Sweep(0, 0)


def later() -> datetime:
    return timezone.now() + timedelta(minutes=5)


@pytest.fixture
def journals(settings: Settings, tmp_path: Path) -> Path:
    settings.JOURNAL_DIR = tmp_path
    return tmp_path


@pytest.fixture
def runner() -> BatchRunner:
    return BatchRunner(connection, owner="test", lease_seconds=60, clock=timezone.now)


class Process:
    """A web process that serves one request, step by step."""

    STEPS = ("claim", "hold", "begin", "go_on", "settle", "let_go")

    def __init__(self, customer: Tenant, journal: Journal, runner: BatchRunner, steps: tuple[str, ...] = STEPS) -> None:
        self.request = customer.hold(output=1000)
        self.journal = journal
        self.slot: Slot | None = None
        self.done = 0
        self._runner, self._steps = runner, steps

    @property
    def id(self) -> str:
        return self.request.request_id

    def advance(self, to: int) -> None:
        while self.done < to:
            getattr(self, self._steps[self.done])()
            self.done += 1

    def claim(self) -> None:
        self.slot = self.journal.claim(self.id)

    def hold(self) -> None:
        self._runner.run([HoldOp(self.request)])

    def begin(self) -> None:
        self._entry.write(MeterReading(output=30))

    def go_on(self) -> None:
        self._entry.write_output(70)

    def settle(self) -> None:
        self._entry.write(MeterReading(output=90))
        self._runner.run([SettleOp(settlement(self.id, 90))])

    def let_go(self) -> None:
        self._entry.close()

    @property
    def _entry(self) -> Slot:
        if self.slot is None:
            self.claim()
        assert self.slot is not None
        return self.slot


@pytest.fixture
def journal(journals: Path) -> Iterator[Journal]:
    made = Journal(journals, "process")
    yield made
    made.let_go()


@pytest.fixture
def process(customer: Tenant, journal: Journal, runner: BatchRunner) -> Process:
    """With its answer begun."""
    made = Process(customer, journal, runner)
    made.advance(3)
    return made


PLACES = 10
"""The places of two sweeps at which something else may happen."""


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], None]], None]:
    """`at(place, what)`: what happens at that place of the sweeps to come."""
    places: Iterator[int] = iter(())
    wanted: list[tuple[int, Callable[[], None]]] = []

    def reach() -> None:
        place = next(places)
        for number, what in wanted:
            if number == place:
                what()

    def around(module: object, name: str, *, before: bool = False) -> None:
        function = getattr(module, name)

        def wrapped(*args: object, **options: object) -> object:
            if before:
                reach()
            result = function(*args, **options)
            if not before:
                reach()
            return result

        monkeypatch.setattr(module, name, wrapped)

    around(services, "_settle_journals")
    around(services, "mark_overdue")
    around(services, "_left")
    around(journal_module, "standing")

    def choose(place: int, what: Callable[[], None]) -> None:
        nonlocal places
        places = iter(range(1000))
        wanted[:] = [(place, what)]

    return choose


def charges_at_every_moment(
    customer: Tenant,
    journal: Journal,
    runner: BatchRunner,
    at: Callable[[int, Callable[[], None]], None],
    steps: tuple[str, ...],
) -> set[int]:
    """What a request comes to be charged whose process goes on from any step to any other while two sweeps, to
    which its lease has run out, are at any of their places."""
    every = range(len(steps) + 1)
    charges: set[int] = set()
    for place in range(PLACES):
        goals = [(Process(customer, journal, runner, steps), start, end) for start in every for end in every[start:]]
        for process, start, _ in goals:
            process.advance(start)

        def go_on(goals: list[tuple[Process, int, int]] = goals) -> None:
            for process, _, end in goals:
                process.advance(end)

        at(place, go_on)
        sweep_lapsed()
        assert all(process.done == end for process, _, end in goals), "the place was reached"
        for process, _, _ in goals:
            process.advance(len(steps))
        ids = [process.id for process, _, _ in goals]
        charges.update(UsageRecord.objects.filter(pk__in=ids).values_list("charge", flat=True))
    assert_reconciled()
    return charges


def test_wherever_a_sweep_meets_a_living_process_the_process_settles_its_own(customer, journal, runner, at) -> None:
    assert charges_at_every_moment(customer, journal, runner, at, Process.STEPS) == {90 * TOKEN}


def test_control_a_process_that_claims_only_when_it_has_something_to_charge_is_overtaken(
    customer, journal, runner, at
) -> None:
    late = tuple(step for step in Process.STEPS if step != "claim")
    assert charges_at_every_moment(customer, journal, runner, at, late) == {0, 90 * TOKEN}


def test_a_journal_that_cannot_be_settled_now_is_not_overtaken_by_the_lapsed_lease(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    process.journal.let_go()
    close = batch.close
    tries = []

    def locked_at_first(*args):
        tries.append(args)
        if len(tries) <= 2:
            raise OperationalError("database is locked")
        return close(*args)

    monkeypatch.setattr(batch, "close", locked_at_first)
    assert sweep_lapsed() == NOTHING
    assert Hold.objects.get(pk=process.id).state == "dispatched"
    assert services.sweep(later()) == services.Sweep(1, 0)
    assert UsageRecord.objects.get(pk=process.id).charge == 30 * TOKEN
    assert_reconciled()


def test_a_process_that_lives_but_could_not_renew_its_leases_keeps_its_holds(process: Process) -> None:
    assert sweep_lapsed() == NOTHING
    assert Hold.objects.get(pk=process.id).state == "dispatched"
    services.mark_overdue(later())
    assert sweep_lapsed() == NOTHING, "nor when somebody else has marked it"
    process.journal.close()
    assert services.sweep(later()) == services.Sweep(1, 0)
    assert UsageRecord.objects.get(pk=process.id).charge == 30 * TOKEN


def test_a_process_that_dies_before_it_has_anything_to_charge_costs_nothing_at_once(
    customer: Tenant, journal: Journal, journals: Path, runner: BatchRunner
) -> None:
    process = Process(customer, journal, runner)
    process.advance(2)
    process.journal.let_go()
    assert services.sweep() == services.Sweep(1, 0)
    record = UsageRecord.objects.get(pk=process.id)
    assert (record.charge, record.usage_source) == (0, "none")
    assert list(journals.iterdir()) == []


def test_what_no_journal_knows_is_ended_when_two_leases_have_run_out(process: Process, journals: Path) -> None:
    process.journal.let_go()
    for file in journals.iterdir():
        file.unlink()
    assert services.sweep(later()) == NOTHING
    assert Hold.objects.get(pk=process.id).state == "needs_settlement"
    assert services.sweep(later()) == NOTHING, "the second lease is running"
    assert services.sweep(later() + timedelta(minutes=1, seconds=5)) == services.Sweep(1, 0)
    assert UsageRecord.objects.get(pk=process.id).charge == 0


def renew(process: Process) -> None:
    """As the writer of another machine does, whose journal is not here."""
    raw("UPDATE credits_hold SET lease_until = %s WHERE id = %s", timezone.now() + timedelta(days=1), process.id)


@pytest.fixture
def elsewhere(process: Process, journals: Path) -> Process:
    for file in journals.iterdir():
        file.unlink()
    return process


def test_a_process_of_another_machine_that_renews_its_lease_after_an_outage_keeps_its_holds(elsewhere: Process) -> None:
    services.sweep(later())
    assert Hold.objects.get(pk=elsewhere.id).state == "needs_settlement"
    renew(elsewhere)
    assert services.sweep(later() + timedelta(minutes=5)) == NOTHING
    elsewhere.advance(5)
    assert UsageRecord.objects.get(pk=elsewhere.id).charge == 90 * TOKEN
    assert_reconciled()


def test_a_lease_that_is_renewed_while_the_sweep_waits_for_the_wallet_counts(
    elsewhere: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    services.sweep(later())
    lock = Books.lock_wallets

    def waits(books: Books, organization_ids: object) -> None:
        lock(books, organization_ids)  # type: ignore[arg-type]
        renew(elsewhere)

    monkeypatch.setattr(Books, "lock_wallets", waits)
    assert services.sweep(later() + timedelta(minutes=5)) == NOTHING
    monkeypatch.undo()
    assert Hold.objects.get(pk=elsewhere.id).state == "needs_settlement"


def test_an_open_hold_of_a_living_process_does_not_expire(
    customer: Tenant, journal: Journal, runner: BatchRunner
) -> None:
    request = customer.hold()
    slot = journal.claim(request.request_id)
    runner.run([HoldOp(request, dispatch=False)])
    assert services.sweep(later()) == NOTHING
    slot.close()
    assert services.sweep(later()) == services.Sweep(0, 1)


def test_a_journal_with_something_unsettled_outlives_its_process(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "own")
    journal.claim("req_1").write(MeterReading(output=1))
    journal.claim("req_2").close()
    assert standing(tmp_path) == {"req_1"}
    journal.close()
    assert standing(tmp_path) == {"req_1"}
    assert standing(tmp_path / "absent") == set()
