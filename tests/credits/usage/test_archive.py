"""Records leave the database only into a file that was read back."""

import gzip
import hashlib
import json
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection, transaction
from django.utils import timezone
from pytest_django import Settings

from credits import tasks
from credits.models import Hold, Transfer, UsageArchive, UsageRecord
from credits.usage import archive, rollups
from credits.usage.requests import RequestFilters, requests_page
from credits.usage.selectors import usage_total
from credits.usage.sessions import session_detail
from credits.usage.types import Span
from tests.credits.support import TOKEN, USD, Tenant, assert_reconciled, new_tenant, raw
from tests.credits.usage.support import NOW, charged, differing, use

OLD = datetime(2024, 3, 10, 8, 15, tzinfo=UTC)
APRIL = datetime(2024, 4, 1, tzinfo=UTC)
SPAN = Span(datetime(2024, 1, 1, tzinfo=UTC), NOW)
DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def _data_directory(settings: Settings, tmp_path: Path) -> None:
    settings.DATA_DIR = tmp_path


@pytest.fixture
def used(customer: Tenant) -> Tenant:
    """Requests in March and April 2024 and in November 2025, and another tenant's in March."""
    other = new_tenant(USD)
    for at in (OLD, OLD + DAY, OLD + 31 * DAY, NOW):
        use(customer, at, session_id="s")
    use(other, OLD, session_id="s")
    rollups.roll_up(NOW + DAY)
    return customer


def kept() -> list[datetime]:
    return sorted(UsageRecord.objects.values_list("created_at", flat=True))


def refused(sql: str) -> bool:
    try:
        with transaction.atomic():
            raw(sql)
    except DatabaseError:
        return True
    return False


def test_a_month_becomes_a_file_with_a_manifest_and_only_then_goes(used: Tenant, tmp_path: Path):
    before = usage_total(used.organization_id, SPAN)
    ledger = (Hold.objects.count(), Transfer.objects.count())
    assert len(archive.archive_usage(APRIL)) == 2
    assert kept() == [OLD + 31 * DAY, NOW]
    folder = tmp_path / "archive" / "usage" / str(used.organization_id)
    assert sorted(file.name for file in folder.iterdir()) == ["2024-03.json", "2024-03.jsonl.gz"]
    packed = (folder / "2024-03.jsonl.gz").read_bytes()
    rows = [json.loads(line) for line in gzip.decompress(packed).splitlines()]
    manifest = json.loads((folder / "2024-03.json").read_text())
    assert manifest == {
        "organization": used.organization_id, "month": "2024-03", "records": 2, "charge": 20 * TOKEN,
        "sha256": hashlib.sha256(packed).hexdigest(),
    }  # fmt: skip
    assert [row["created_at"] for row in rows] == [OLD.isoformat(), (OLD + DAY).isoformat()]
    assert set(rows[0]) == {field.attname for field in UsageRecord._meta.concrete_fields}
    assert (folder / "2024-03.jsonl.gz").stat().st_mode & 0o077 == 0
    # the sums, the sessions and the ledger are what they were
    assert usage_total(used.organization_id, SPAN) == before
    detail = session_detail(used.organization_id, "s")
    assert detail is not None
    assert detail.sums.requests == 4
    assert (Hold.objects.count(), Transfer.objects.count()) == ledger
    assert_reconciled()


def test_sums_of_archived_months_outlive_a_rebuild(used: Tenant):
    before = usage_total(used.organization_id, SPAN)
    archive.archive_usage(APRIL)
    rollups.rebuild()
    tasks.check_rollups()
    assert usage_total(used.organization_id, SPAN) == before
    assert differing() == []
    raw("UPDATE credits_usagerollup SET requests = requests + 1 WHERE starts_at < '2024-04-01'")
    assert "rollups and archives" in " ".join(differing())


def test_pages_do_not_look_for_what_is_archived(used: Tenant):
    archive.archive_usage(APRIL)
    for filters in (RequestFilters(), RequestFilters(model="m"), RequestFilters(session_id="s")):
        page = requests_page(used.organization_id, filters=filters)
        assert [row.created_at for row in page.rows] == [NOW, OLD + 31 * DAY]


def test_again_does_nothing_and_what_was_cut_off_goes_on(used: Tenant, monkeypatch):
    def fail(month: object, ids: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(archive, "_delete", fail)
        archive.archive_usage(APRIL)
    assert UsageArchive.objects.count() == 1
    assert len(kept()) == 5
    assert len(archive.archive_usage(APRIL)) == 2
    assert archive.archive_usage(APRIL) == []
    assert not UsageArchive.objects.filter(deleted_at=None).exists()


def test_a_run_out_of_time_leaves_the_rest_to_the_next(used: Tenant):
    assert archive.archive_usage(APRIL, seconds=-1) == []
    assert len(kept()) == 5


def test_nothing_is_deleted_when_the_file_is_not_what_was_written(used: Tenant, tmp_path: Path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(archive, "_delete", lambda month, ids: (_ for _ in ()).throw(KeyboardInterrupt))
        archive.archive_usage(APRIL)
    file = tmp_path / "archive" / UsageArchive.objects.get().path
    whole = file.read_bytes()
    for damaged in (whole[:-9], b"", gzip.compress(b"{}\n"), whole + b"x"):
        file.write_bytes(damaged)
        with pytest.raises(archive.ArchiveDamaged):
            archive.archive_usage(APRIL)
        assert kept().count(OLD + DAY) == 1
    file.write_bytes(whole)
    archive.archive_usage(APRIL)
    assert kept() == [OLD + 31 * DAY, NOW]


def test_one_month_that_cannot_be_archived_stops_no_other(used: Tenant, tmp_path: Path):
    (tmp_path / "archive" / "usage").mkdir(parents=True)
    (tmp_path / "archive" / "usage" / str(used.organization_id)).write_text("in the way")
    with pytest.raises(OSError):
        archive.archive_usage(APRIL)
    assert kept() == [OLD, OLD + DAY, OLD + 31 * DAY, NOW]
    assert UsageArchive.objects.count() == 1


def test_rollups_that_are_wrong_are_made_anew_before_the_records_go(used: Tenant):
    raw("DELETE FROM credits_usagerollup")
    archive.archive_usage(APRIL)
    assert usage_total(used.organization_id, Span(OLD, APRIL)).charge == 20 * TOKEN


def test_control_without_that_the_sums_would_be_lost(used: Tenant, monkeypatch):
    monkeypatch.setattr(archive, "_require_rollups", lambda month: None)
    raw("DELETE FROM credits_usagerollup")
    archive.archive_usage(APRIL)
    assert usage_total(used.organization_id, Span(OLD, APRIL)).charge == 0


def test_the_database_refuses_to_delete_what_is_in_no_archive(used: Tenant):
    assert refused("DELETE FROM credits_usagerecord")
    archive.archive_usage(APRIL)
    assert refused("DELETE FROM credits_usagerecord")
    assert refused("DELETE FROM credits_usagearchive")
    assert refused("UPDATE credits_usagearchive SET records = 1")
    assert refused("UPDATE credits_usagearchive SET deleted_at = NULL")
    if connection.vendor == "postgresql":
        assert refused("TRUNCATE credits_usagerecord")
        assert refused("TRUNCATE credits_usagearchive")
    use(used, OLD)  # comes too late for the file
    assert refused("DELETE FROM credits_usagerecord WHERE created_at < '2024-04-01'")
    with pytest.raises(archive.ArchiveDamaged, match="was finished"):
        archive.archive_usage(APRIL)


def test_only_one_process_archives(used: Tenant):
    with archive._alone() as first:
        assert first
        assert archive.archive_usage(APRIL) == []
    assert len(kept()) == 5


def test_the_task_keeps_what_the_setting_says(used: Tenant, settings: Settings):
    settings.USAGE_RETENTION_DAYS = 0
    tasks.archive_usage()
    settings.USAGE_RETENTION_DAYS = 36_500
    tasks.archive_usage()
    assert len(kept()) == 5
    assert archive.due_before(NOW) == datetime(1925, 12, 19, tzinfo=UTC)
    settings.USAGE_RETENTION_DAYS = (timezone.now() - NOW).days + 100
    tasks.archive_usage()
    assert kept() == [NOW]


def test_the_command_archives_or_only_says_what_it_would(used: Tenant):
    out = StringIO()
    call_command("archive_usage", "--before", "2024-04-15", "--dry-run", stdout=out)
    assert f"organisation {used.organization_id} 2024-03: 2 records, $0.00002" in out.getvalue()
    assert "2 months would be archived" in out.getvalue()
    assert len(kept()) == 5
    call_command("archive_usage", "--before", "2024-04-15", stdout=out)
    assert "2 months were archived" in out.getvalue()
    assert charged() == 20 * TOKEN
    for date in ("soon", "2999-01-01"):
        with pytest.raises(CommandError):
            call_command("archive_usage", "--before", date)
