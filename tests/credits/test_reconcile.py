"""Every check is able to fail, a run reads what is new, and what it reads is one moment's."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from io import StringIO

import pytest
from django.core import mail
from django.core.management import call_command
from django.db import connection, connections, transaction
from django.utils import timezone

from credits import guards, services
from credits.batch import BatchRunner, HoldOp, SettleOp
from credits.key_budgets import set_key_budget
from credits.models import LedgerAccount, ReconciliationCheckpoint, ReconciliationRun, Transfer
from credits.reconcile import CHECKS, Finding, fingerprints, reconcile, run_checks
from credits.reconcile import reading as reading_module
from credits.reconcile import run as run_module
from credits.reconcile.findings import Check, Outcome, Severity
from credits.reconcile.reading import NOTHING, Reading, snapshot
from credits.types import MeterReading, SettleRequest
from credits.usage import rollups
from tests.credits.support import FACTS, TOKEN, USD, Tenant, flat, new_tenant, raw, settlement, tampered

NAMES = ["G", "R1", "R2", "R3", "R4", "R5", "R8", "R10", "R11", "B", "U", "C", "R6", "R9"]


def runner() -> BatchRunner:
    return BatchRunner(connections["default"], owner="test", lease_seconds=60, clock=timezone.now)


def request(tenant: Tenant, output: int = 10) -> str:
    """One held and settled request; its id."""
    hold = tenant.hold()
    runner().run([HoldOp(hold)])
    runner().run([SettleOp(settlement(hold.request_id, output))])
    return hold.request_id


@pytest.fixture
def used(customer: Tenant) -> Tenant:
    request(customer)
    set_key_budget(customer.organization_id, customer.api_key_id, {"day": 10 * USD})
    runner().run([HoldOp(customer.hold())])
    return customer


@contextmanager
def damaged(*statements: str) -> Iterator[None]:
    """The books with their guards away and these statements carried out, put back afterwards."""
    with transaction.atomic():
        guards.remove(connection)
        for statement in statements:
            raw(statement)
        guards.install(connection)
        yield
        transaction.set_rollback(True)


def failing() -> dict[str, tuple[int, int]]:
    """Check -> (rows, nanos) that are off, in a full run."""
    return {f.check: (f.count, f.difference) for f in run_checks() if not f.ok}


ORPHAN = (
    "INSERT INTO credits_transfer (debit_id, credit_id, amount, code, idempotency_key, group_id, reason, created_at) "
    "SELECT 987654, credit_id, 5, 'grant', 'orphan', 'g', '', created_at FROM credits_transfer WHERE code = 'capture'"
)
STRAY = (
    "INSERT INTO credits_transfer (debit_id, credit_id, amount, code, idempotency_key, group_id, hold_id, reason, "
    "created_at) SELECT debit_id, credit_id, 5, 'overage', 'again', 'g', hold_id, '', created_at FROM credits_transfer "
    "WHERE code = 'capture'"
)
DAMAGE: dict[str, tuple[str, dict[str, tuple[int, int]]]] = {
    "a lot lost credits": ("UPDATE credits_creditlot SET remaining = remaining - 5", {"R1": (1, 5)}),
    "a wallet gained credits": ("UPDATE credits_wallet SET posted = posted + 5", {"R1": (1, 5), "R2": (1, 5)}),
    "debt out of nothing": ("UPDATE credits_wallet SET debt = debt + 5", {"R2": (1, 5)}),
    "a transfer was changed": (
        "UPDATE credits_transfer SET amount = amount + 5 WHERE code = 'grant'", {"R2": (1, 5)},
    ),
    "more is held than the holds": ("UPDATE credits_wallet SET held = held + 5", {"R3": (1, 5)}),
    "a transfer from an account that is not there": (ORPHAN, {"R4": (1, 5)}),
    "a capture was deleted": (
        "DELETE FROM credits_transfer WHERE code = 'capture'", {"R2": (1, 10_000), "R5": (1, 10_000)},
    ),
    "a capture was posted again": (STRAY, {"R2": (1, 5), "R5": (2, 10)}),
    "consumption is less than the capture": (
        "UPDATE credits_lotconsumption SET amount = amount - 5", {"R5": (1, 5)},
    ),
    "the usage record says another charge": (
        "UPDATE credits_usagerecord SET charge = charge + 5, margin = margin + 5", {"R5": (1, 5)},
    ),
    "the usage record is gone": ("DELETE FROM credits_usagerecord", {"R5": (1, 10_000)}),
    "a hold's process is gone": (
        "UPDATE credits_hold SET lease_until = '2020-01-01 00:00:00+00:00' WHERE state = 'dispatched'", {"R8": (1, 0)},
    ),
    "a hold waits for its settlement": (
        "UPDATE credits_hold SET state = 'needs_settlement', updated_at = '2020-01-01 00:00:00+00:00', "
        "lease_until = created_at WHERE state = 'dispatched'", {"R8": (1, 0)},
    ),
    "a request cost more than it brought": (
        "UPDATE credits_usagerecord SET cost = charge + 7, margin = -7", {"R10": (1, 7)},
    ),
    "a key's budget holds what no request does": ("UPDATE credits_keybudget SET held = held + 5", {"B": (1, 5)}),
    "an expired lot was not swept": (
        "UPDATE credits_creditlot SET expires_at = '2020-01-01 00:00:00+00:00'", {"R11": (1, 10 * USD - 1_010_000)},
    ),
}  # fmt: skip


@pytest.mark.django_db
@pytest.mark.parametrize("what", DAMAGE)
def test_a_check_finds_the_damage_and_by_how_much(used: Tenant, what: str):
    assert failing() == {}
    statement, expected = DAMAGE[what]
    with damaged(statement):
        if what.startswith("a transfer from an account"):
            assert failing()["R4"] == (1, 5)
            return
        found = failing()
        if "R5" in expected and "consumption" not in what and "deleted" in what:
            assert found.keys() >= expected.keys()  # its consumption is left without a transfer
            assert found["R2"] == expected["R2"]
        else:
            assert found.items() >= expected.items()
        assert found.keys() == expected.keys()
        assert failing() == found, "nothing is repaired"


@pytest.mark.django_db
def test_a_lost_guard_fails_check_g(used: Tenant):
    name = "credits_transfer_no_update"
    raw(f"DROP TRIGGER {name}" + (" ON credits_transfer" if connection.vendor == "postgresql" else ""))
    assert failing() == {"G": (1, 0)}


@pytest.mark.django_db
def test_every_check_has_been_made_to_fail():
    """R6 and R9 in tests/credits/payments, where there is a Stripe to differ from."""
    covered = {name for _, expected in DAMAGE.values() for name in expected} | {"G", "C", "U", "R6", "R9"}
    assert covered == set(NAMES) == {check.name for check in CHECKS}


@pytest.mark.django_db
def test_rollups_that_differ_from_the_records_are_told_by_a_full_run(used: Tenant):
    rollups.roll_up(timezone.now() + timedelta(minutes=5))
    assert failing() == {}
    with damaged("UPDATE credits_usagerollup SET charge = charge + 5 WHERE period = 'hour'"):
        assert set(failing()) == {"U"}


@pytest.mark.django_db
def test_expired_credits_that_holds_reserve_are_no_finding(customer: Tenant):
    tenant = new_tenant()
    now = timezone.now()
    tenant.grant(1000 * TOKEN, expires_at=now + timedelta(hours=1))

    def unswept() -> list[tuple[int, int]]:
        return [(f.count, f.difference) for f in run_checks(now + timedelta(days=2)) if f.check == "R11" and not f.ok]

    assert unswept() == [(1, 1000 * TOKEN)]
    runner().run([HoldOp(tenant.hold(output=1000))])
    assert unswept() == []


@pytest.mark.django_db
def test_a_sale_under_cost_is_a_warning_above_the_tolerance(customer: Tenant, settings):
    hold = customer.hold()
    runner().run([HoldOp(hold)])
    dear = flat(2 * USD)
    runner().run([SettleOp(SettleRequest(hold.request_id, MeterReading(output=10), dear, FACTS))])
    out = StringIO()
    call_command("reconcile", stdout=out)
    line = next(line for line in out.getvalue().splitlines() if " R10 " in line)
    assert line.startswith("warn R10 1 requests of the last day cost $0.00001 more than they brought")
    assert hold.request_id in line
    settings.UNDER_COST_NANOS = 10 * TOKEN
    assert failing() == {}


@pytest.mark.django_db
def test_the_command_prints_a_line_each_and_exits_1_on_failure(used: Tenant):
    out = StringIO()
    call_command("reconcile", "--full", stdout=out)
    assert [line.split()[:2] for line in out.getvalue().splitlines()] == [["ok", name] for name in NAMES]
    raw("UPDATE credits_wallet SET held = held + 5")
    out = StringIO()
    with pytest.raises(SystemExit) as exit_:
        call_command("reconcile", stdout=out)
    assert exit_.value.code == 1
    assert "FAIL R3 1 differ, by $0.000000005" in out.getvalue()
    assert [(run.ok, run.full) for run in ReconciliationRun.objects.order_by("id")] == [(True, True), (False, False)]


@pytest.mark.django_db
def test_a_failed_run_is_mailed_to_the_admins_and_a_good_one_is_not(used: Tenant, settings):
    settings.ADMINS = [("ops", "ops@example.com")]
    assert reconcile().ok
    assert mail.outbox == []
    raw("UPDATE credits_wallet SET held = held + 5")
    assert not reconcile().ok
    (message,) = mail.outbox
    assert message.to == ["ops@example.com"]
    assert "Reconciliation failed: R3" in message.subject
    assert "FAIL R3 1 differ" in message.body


@pytest.mark.django_db
def test_a_mail_that_cannot_be_sent_hides_no_failure(used: Tenant, settings):
    settings.ADMINS = [("ops", "ops@example.com")]
    settings.EMAIL_BACKEND = "no.such.backend"
    raw("UPDATE credits_wallet SET held = held + 5")
    assert not reconcile().ok
    assert ReconciliationRun.objects.get().results


# Checkpoints


@pytest.mark.django_db
def test_a_run_reads_only_what_is_new_since_the_last_that_held(used: Tenant):
    def read(run: ReconciliationRun) -> str:
        return str(next(result["detail"] for result in run.results if result["check"] == "R4"))

    assert "2 transfers, 2 of them read" in read(reconcile())
    assert "2 transfers, 0 of them read" in read(reconcile())
    assert ReconciliationCheckpoint.objects.count() == 1, "nothing new is worth no checkpoint"
    request(used)
    assert "3 transfers, 1 of them read" in read(reconcile())
    assert "3 transfers, 0 of them read" in read(reconcile())
    assert "3 transfers, 3 of them read" in read(reconcile(full=True))
    assert [c.number for c in ReconciliationCheckpoint.objects.order_by("number")] == [1, 2, 3]


@pytest.mark.django_db
@pytest.mark.parametrize("what", [what for what, (_, expected) in DAMAGE.items() if not expected.keys() & {"R10"}])
def test_an_incremental_run_finds_new_damage_and_goes_on_finding_it(used: Tenant, what: str):
    assert reconcile().ok
    request_id = request(used)
    statement, expected = DAMAGE[what]
    if "capture" in statement and "WHERE code = 'capture'" in statement:
        statement += f" AND hold_id = '{request_id}'"
    with damaged(statement):
        for _ in range(2):
            run = reconcile()
            assert not run.full
            found = {result["check"] for result in run.results if not result["ok"]}
            if what == "a transfer was changed":
                assert found == set(), "it lies before the checkpoint: the full run's to find"
                full = {result["check"] for result in reconcile(full=True).results if not result["ok"]}
                assert full == {"R2", "C"}
            else:
                assert found == expected.keys()


@pytest.mark.django_db
def test_damage_before_a_checkpoint_is_found_by_the_full_run_even_where_the_wallets_agree(used: Tenant):
    request(used)
    assert reconcile().ok
    with damaged(
        "UPDATE credits_transfer SET amount = amount + 5 WHERE code = 'grant'",
        "UPDATE credits_wallet SET posted = posted + 5",
        "UPDATE credits_creditlot SET remaining = remaining + 5, amount = amount + 5",
    ):
        found = {finding["check"]: finding for finding in reconcile(full=True).results if not finding["ok"]}
        assert found.keys() == {"C"}
        assert "checkpoint 1" in found["C"]["detail"]
        assert not reconcile(full=True).ok, "it goes on failing"
        assert reconcile(new_base=True).ok is False, "that run still tells it"
        assert reconcile(full=True).ok, "from the new base on"


@pytest.mark.django_db
def test_a_tampered_balance_is_found(used: Tenant):
    assert reconcile().ok
    account = LedgerAccount.objects.get(kind="wallet", organization=used.organization_id).pk
    raw("UPDATE credits_checkpointbalance SET credits = credits + 5 WHERE account_id = %s", account)
    assert {result["check"] for result in reconcile().results if not result["ok"]} == {"R2", "R4"}
    assert {result["check"] for result in reconcile(full=True).results if not result["ok"]} == {"C"}


@pytest.mark.django_db
def test_an_unfinished_hold_is_read_again_until_it_is_finished(customer: Tenant):
    hold = customer.hold(request_id="req_00000000001")
    runner().run([HoldOp(hold)])
    request(customer)
    later = timezone.now() + timedelta(hours=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timezone, "now", lambda: later)
        reconcile()
    runner().run([SettleOp(settlement(hold.request_id, 10))])
    with damaged(f"UPDATE credits_usagerecord SET charge = 1, margin = 1 WHERE request_id = '{hold.request_id}'"):
        assert {result["check"] for result in reconcile().results if not result["ok"]} == {"R5"}


# One moment


def in_thread(work: Callable[[], object]) -> None:
    """With a connection of its own, to the end."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)
        finally:
            connections["default"].close()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    assert errors == []


@contextmanager
def meanwhile(work: Callable[[], object]) -> Iterator[None]:
    """`work` is done once, and committed, after R1 has read and before R2 does."""
    did: list[bool] = []

    def interrupt(reading: reading_module.Reading) -> Outcome:
        assert reading.movements is not None
        if not did:
            did.append(True)
            in_thread(work)
        return Outcome(True, "")

    CHECKS.insert(2, Check("now", "", Severity.ERROR, interrupt))
    try:
        yield
    finally:
        del CHECKS[2]


@contextmanager
def no_snapshot() -> Iterator[object]:
    with connection.cursor() as cursor:
        yield cursor


@pytest.mark.django_db(transaction=True)
def test_money_that_moves_during_a_run_is_no_false_alarm(tenant: Tenant):
    with meanwhile(lambda: tenant.grant(USD)):
        assert failing() == {}


@pytest.mark.django_db(transaction=True)
def test_control_without_one_snapshot_it_is(tenant: Tenant, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(run_module, "snapshot", no_snapshot)
    with meanwhile(lambda: tenant.grant(USD)):
        assert failing().keys() == {"R2"}


@pytest.mark.django_db(transaction=True)
def test_runs_beside_a_writer_that_works_never_give_a_false_alarm(tenant: Tenant):
    stop, done = threading.Event(), []

    def work() -> None:
        while not stop.is_set():
            done.append(request(tenant))

    def load() -> None:
        in_thread(work)

    threads = [threading.Thread(target=load) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        found = [str(Finding(**result)) for _ in range(6) for result in reconcile().results if not result["ok"]]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert found == []
    assert len(done) > 0
    assert reconcile(full=True).ok


def uncommitted_grant(tenant: Tenant, drawn: threading.Event, commit: threading.Event) -> None:
    with transaction.atomic():
        tenant.grant(USD)
        drawn.set()
        assert commit.wait(30)


@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="one writer at a time: ids appear in their order")
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("guarded", [True, False], ids=["guarded", "control"])
def test_a_transfer_that_commits_late_is_not_left_out(tenant: Tenant, monkeypatch: pytest.MonkeyPatch, guarded: bool):
    """It has a smaller id than one that the run saw. The control does not wait for those who write."""
    monkeypatch.setattr(reading_module, "SETTLE_SECONDS", 0.2)
    if not guarded:
        monkeypatch.setattr(reading_module, "writers", set)
    other = new_tenant()
    reconcile()
    drawn, commit = threading.Event(), threading.Event()
    late = threading.Thread(target=in_thread, args=(lambda: uncommitted_grant(tenant, drawn, commit),))
    late.start()
    assert drawn.wait(30)
    other.grant(USD)
    before = ReconciliationCheckpoint.objects.count()
    assert reconcile().ok
    assert ReconciliationCheckpoint.objects.count() == before + (0 if guarded else 1)
    commit.set()
    late.join()
    newest = Transfer.objects.order_by("-id").first()
    assert newest is not None
    assert newest.credit.organization_id == other.organization_id, "the late one has the smaller id"
    failed = {result["check"] for result in reconcile().results if not result["ok"]}
    assert failed == (set() if guarded else {"R2"})
    assert reconcile(full=True).ok is guarded  # the control's checkpoint left a transfer out


@pytest.mark.django_db(transaction=True)
def test_of_two_runs_at_once_one_makes_the_checkpoint(tenant: Tenant):
    with meanwhile(reconcile):
        assert reconcile().ok
    assert ReconciliationRun.objects.count() == 2
    assert [c.number for c in ReconciliationCheckpoint.objects.all()] == [1]
    services.grant(tenant.organization_id, USD, reason="r", idempotency_key="k")
    assert reconcile().ok


SWAPS = {
    "captures": "UPDATE credits_transfer SET amount = amount + {by} WHERE code = 'capture' AND hold_id = {id}",
    "what was taken from lots": (
        "UPDATE credits_lotconsumption SET amount = amount + {by} WHERE transfer_key = 'hold:' || {id} || ':capture'"
    ),
    "usage records": (
        "UPDATE credits_usagerecord SET charge = charge + {by}, margin = margin + {by} WHERE request_id = {id}"
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", SWAPS)
def test_a_full_run_sees_amounts_that_changed_places(customer: Tenant, what: str):
    """All totals are as they were."""
    runner = BatchRunner(connection, owner="test", lease_seconds=60, clock=timezone.now)
    for number in (1, 2):
        runner.run([HoldOp(customer.hold(request_id=f"req_swap{number}"))])
        runner.run([SettleOp(settlement(f"req_swap{number}", 50))])
    assert all(finding.ok for finding in run_checks())
    for number, by in ((1, 7), (2, -7)):
        tampered(SWAPS[what].format(by=by, id=f"'req_swap{number}'"))
    found = {finding.check: finding for finding in run_checks()}
    assert not found["R5"].ok
    assert "req_swap1" in found["R5"].detail


@pytest.mark.parametrize("parts", [(1, 2), (2**62, 2**61 + 12345), (-7, 2**40), (10**13, -(10**13))])
def test_a_key_s_amounts_add_up_to_the_same_fingerprint_however_they_are_split(db: None, parts: tuple[int, int]):
    with snapshot() as cursor:
        reading = Reading(cursor, timezone.now(), NOTHING, None)
        sum_ = fingerprints.sums(reading)("k", "a")
        table = "(SELECT 'key' AS k, CAST(%s AS bigint) AS a UNION ALL SELECT 'key', CAST(%s AS bigint)) rows"
        split, whole, other = (
            int(reading.one(f"SELECT {sum_} FROM {table}", *pair)) for pair in (parts, (sum(parts), 0), (parts[0], 0))
        )
    assert split == whole != other
