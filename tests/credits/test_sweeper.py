"""What the sweeper leaves alone: answers that a journal knows more about than it does."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest
from django.db import OperationalError, connection
from django.utils import timezone
from pytest_django import Settings

from credits import batch, services
from credits.batch import BatchRunner, HoldOp
from credits.journal import Journal, standing
from credits.models import Hold, UsageRecord
from credits.types import MeterReading
from tests.credits.support import TOKEN, Tenant, assert_reconciled
from tests.credits.support import customer as customer  # noqa: PLC0414 - a fixture


def later() -> datetime:
    return timezone.now() + timedelta(minutes=5)


@pytest.fixture
def journals(settings: Settings, tmp_path: Path) -> Path:
    settings.JOURNAL_DIR = tmp_path
    return tmp_path


def journaled_hold(customer: Tenant, journals: Path) -> tuple[str, Journal]:
    """A hold of a living process, with 30 tokens in its journal."""
    request = customer.hold(output=1000)
    BatchRunner(connection, owner="test", lease_seconds=60, clock=timezone.now).run([HoldOp(request)])
    journal = Journal(journals, "process")
    slot = journal.open()
    assert slot is not None
    slot.write(request.request_id, MeterReading(output=30))
    return request.request_id, journal


def die(journal: Journal) -> None:
    """The kernel lets go of a dead process's lock; its file stays."""
    journal.map.close()
    journal._file.close()


def test_a_journal_that_cannot_be_settled_now_is_not_overtaken_by_the_lapsed_lease(
    customer: Tenant, journals: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request_id, journal = journaled_hold(customer, journals)
    die(journal)
    close = batch.close
    tries = []

    def locked_at_first(*args):
        tries.append(args)
        if len(tries) == 1:
            raise OperationalError("database is locked")
        return close(*args)

    monkeypatch.setattr(batch, "close", locked_at_first)
    assert services.sweep(later()) == services.Sweep(0, 0)
    assert Hold.objects.get(pk=request_id).state == "dispatched"
    assert services.sweep(later()) == services.Sweep(1, 0)
    assert UsageRecord.objects.get(pk=request_id).charge == 30 * TOKEN
    assert_reconciled()


def test_a_process_that_lives_but_could_not_renew_its_leases_keeps_its_holds(customer: Tenant, journals: Path) -> None:
    request_id, journal = journaled_hold(customer, journals)
    assert services.sweep(later()) == services.Sweep(0, 0)
    assert Hold.objects.get(pk=request_id).state == "dispatched"
    services.mark_overdue(later())
    assert services.sweep(later()) == services.Sweep(0, 0), "nor when somebody else has marked it"
    journal.close()
    assert services.sweep(later()) == services.Sweep(1, 0)
    assert UsageRecord.objects.get(pk=request_id).charge == 30 * TOKEN


def test_an_entry_that_is_made_while_the_sweep_waits_for_the_database_counts(
    customer: Tenant, journals: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = customer.hold(output=1000)
    BatchRunner(connection, owner="test", lease_seconds=60, clock=timezone.now).run([HoldOp(request)])
    journal = Journal(journals, "process")
    mark = services.mark_overdue

    def waits(*args):
        slot = journal.open()
        assert slot is not None
        slot.write(request.request_id, MeterReading(output=30))
        return mark(*args)

    monkeypatch.setattr(services, "mark_overdue", waits)
    assert services.sweep(later()) == services.Sweep(0, 0)
    assert not UsageRecord.objects.filter(pk=request.request_id).exists()
    journal.close()


def test_control_what_no_journal_knows_is_ended_when_its_lease_has_run_out(customer: Tenant, journals: Path) -> None:
    request_id, journal = journaled_hold(customer, journals)
    die(journal)
    for file in journals.iterdir():
        file.unlink()
    assert services.sweep(later()) == services.Sweep(1, 0)
    assert UsageRecord.objects.get(pk=request_id).charge == 0


def test_a_journal_with_something_unsettled_outlives_its_process(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "own")
    slot, done = journal.open(), journal.open()
    assert slot is not None
    assert done is not None
    slot.write("req_1", MeterReading(output=1))
    done.write("req_2", MeterReading(output=1))
    done.close()
    assert standing(tmp_path) == {"req_1"}
    journal.close()
    assert standing(tmp_path) == {"req_1"}
    assert standing(tmp_path / "absent") == set()
