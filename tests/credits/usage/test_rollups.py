"""Rollups say what the records say, whenever they are made and however often."""

from datetime import datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models import F
from django.utils import timezone

from credits import tasks
from credits.models import RollupProgress, UsageRecord, UsageRollup, UsageSession
from credits.usage import rollups
from credits.usage.agreement import rollup_agreement
from credits.usage.reading import snapshot_cursor
from credits.usage.selectors import By, usage_by, usage_total
from credits.usage.sessions import sessions_page
from credits.usage.types import SUM_COLUMNS, Span
from tests.credits.support import TOKEN, USD, Tenant, new_tenant, raw, tampered
from tests.credits.usage.support import NOW, captured, charged, differing, use
from tests.races.test_credits_races import together

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
LATER = NOW + 2 * HOUR


def everything() -> list[dict[str, Any]]:
    """All rollups and sessions, but for their ids."""
    rows = UsageRollup.objects.order_by(
        "organization_id", "period", "starts_at", "api_key_id", "model", "route"
    ).values()
    sessions = UsageSession.objects.order_by("organization_id", "session_id").values()
    return [{name: value for name, value in row.items() if name != "id"} for row in [*rows, *sessions]]


def rolled_charge(period: str) -> int:
    return sum(UsageRollup.objects.filter(period=period).values_list("charge", flat=True))


def test_hours_and_days_add_up_to_the_records_and_the_ledger(customer: Tenant):
    other = new_tenant(USD)
    for tenant in (customer, other):
        for hours, model in ((0, "m"), (0, "m"), (1, "m"), (30, "n"), (31, "m")):
            use(tenant, NOW - hours * HOUR, model=model, session_id="s", status=200 if hours else 529)
    assert rollups.roll_up(LATER) > 0
    assert differing() == []
    assert rolled_charge("hour") == rolled_charge("day") == charged() == captured() == 100 * TOKEN
    row = UsageRollup.objects.get(
        organization_id=customer.organization_id, period="hour", starts_at=NOW.replace(minute=0), model="m"
    )
    assert (row.requests, row.errors, row.output_tokens, row.charge) == (2, 2, 20, 20 * TOKEN)
    assert (row.cost, row.margin, row.total_ms) == (8 * TOKEN, 12 * TOKEN, 10)
    day = UsageRollup.objects.get(
        organization_id=customer.organization_id, period="day", model="m", starts_at__gte=NOW - DAY
    )
    assert (day.requests, day.route, day.provider, day.api_key_id) == (3, "default", "p", customer.api_key_id)


def test_rolling_up_again_or_anew_changes_nothing(customer: Tenant):
    for minutes in range(0, 3000, 400):
        use(customer, NOW - minutes * timedelta(minutes=1), session_id=f"s{minutes % 3}", agent_id=str(minutes % 2))
    rollups.roll_up(LATER)
    first = everything()
    assert rollups.roll_up(LATER) == 0
    rollups.roll_up(LATER + HOUR)
    rollups.rebuild()
    assert everything() == first


def test_a_request_settled_hours_late_belongs_to_the_hour_in_which_it_was_charged(customer: Tenant):
    use(customer, NOW - 5 * HOUR)
    rollups.roll_up(NOW)
    use(customer, NOW + HOUR, begun=NOW - 5 * HOUR, tokens=7)
    rollups.roll_up(LATER)
    lines = usage_by(customer.organization_id, By.HOUR, Span(NOW - DAY, NOW + DAY))
    assert [(line.value.hour, line.sums.output_tokens) for line in lines] == [(7, 10), (13, 7)]
    assert differing() == []


def test_a_record_that_was_committed_late_is_found_by_the_next_run(customer: Tenant):
    use(customer, NOW)
    rollups.roll_up(NOW + timedelta(minutes=5))
    use(customer, NOW + timedelta(minutes=1))  # its transaction was as slow as can be
    rollups.roll_up(NOW + timedelta(minutes=10))
    assert rolled_charge("hour") == charged() == 20 * TOKEN


def test_after_an_outage_everything_is_caught_up_with_in_parts(customer: Tenant):
    use(customer, NOW - 20 * DAY)
    rollups.roll_up(NOW - 20 * DAY)
    for days in range(0, 19, 3):
        use(customer, NOW - days * DAY)
    assert rollups.roll_up(LATER) > 5
    assert rolled_charge("day") == charged()
    assert differing() == []


def test_a_clock_that_was_put_back_hides_nothing_and_counts_nothing_twice(customer: Tenant):
    use(customer, NOW + 3 * HOUR, session_id="s")
    rollups.roll_up(NOW + 30 * DAY)
    use(customer, NOW)
    assert usage_total(customer.organization_id, Span.today(NOW)).charge == 10 * TOKEN
    rollups.roll_up(NOW + timedelta(minutes=2))
    assert usage_total(customer.organization_id, Span.today(NOW)).charge == 20 * TOKEN
    assert [line.sums.requests for line in sessions_page(customer.organization_id)] == [1]
    rollups.roll_up(NOW + 5 * HOUR)
    assert usage_total(customer.organization_id, Span.today(NOW)).charge == 20 * TOKEN
    assert differing() == []


def test_pages_are_exact_before_between_and_after_the_task_runs(customer: Tenant):
    """The rollups' age must not be seen: what is not summed up yet is read from the records."""
    span = Span.last_days(NOW, 3)
    for run in range(6):
        use(customer, NOW + run * timedelta(minutes=20), tokens=run + 1, model=f"m{run % 2}")
        assert usage_total(customer.organization_id, span).charge == charged()
        if run % 2:
            rollups.roll_up(NOW + run * timedelta(minutes=20, seconds=run))
            assert usage_total(customer.organization_id, span).charge == charged()
            assert sum(line.sums.charge for line in usage_by(customer.organization_id, By.HOUR, span)) == charged()


# -- two workers at once


def two_workers(customer: Tenant) -> None:
    """One reads, is held up, and writes after another has read more and written that."""
    use(customer, NOW)
    rollups.roll_up(NOW + timedelta(minutes=2))
    slow = rollups.read(rollups.progress().version, NOW.replace(minute=0), NOW + timedelta(minutes=1))
    use(customer, NOW + timedelta(minutes=5))
    rollups.roll_up(NOW + timedelta(minutes=10))
    rollups.write(slow, rolled_until=NOW + timedelta(minutes=9))


def test_a_worker_that_was_held_up_overwrites_nothing(customer: Tenant):
    two_workers(customer)
    assert usage_total(customer.organization_id, Span.today(NOW)).charge == charged() == 20 * TOKEN


def test_control_without_the_version_it_would_lose_what_was_summed_up_since(customer: Tenant, monkeypatch):
    def claim_anyway(_version: int, until: datetime) -> bool:
        return bool(RollupProgress.objects.update(version=F("version") + 1, rolled_until=until))

    monkeypatch.setattr(rollups, "_claim", claim_anyway)
    two_workers(customer)
    assert usage_total(customer.organization_id, Span.today(NOW)).charge == 10 * TOKEN


def test_many_workers_and_a_rebuild_at_once_leave_one_sum(tenant: Tenant):
    moment = timezone.now() - 30 * HOUR
    for number in range(12):
        use(tenant, moment + number * 2 * HOUR, session_id=f"s{number % 4}")
    outcomes = together([rollups.roll_up, rollups.roll_up, rollups.rebuild, rollups.roll_up] * 2)
    assert [outcome for outcome in outcomes if not isinstance(outcome, int)] == []
    rollups.roll_up()
    assert rolled_charge("hour") == rolled_charge("day") == charged()
    assert differing() == []


# -- agreement


def test_every_disagreement_is_reported_and_a_rebuild_mends_what_can_be_mended(customer: Tenant):
    use(customer, NOW - DAY, session_id="s")
    rollups.roll_up(LATER)
    for sql, check in (
        (
            "UPDATE credits_usagerollup SET charge = charge + 5, cost = cost + 5 WHERE period = 'hour'",
            "rollups and ledger",
        ),
        ("UPDATE credits_usagerollup SET requests = requests - 1", "rollups and records"),
        ("UPDATE credits_usagerollup SET charge = charge + 5 WHERE period = 'day'", "days and hours"),
        ("DELETE FROM credits_usagerollup", "rollups and records"),
        ("UPDATE credits_sessionslice SET charge = charge - 5", "session slices and records"),
        ("UPDATE credits_usagesession SET charge = charge - 5", "sessions and their slices"),
        ("DELETE FROM credits_usagesession", "sessions and their slices"),
    ):
        raw(sql)
        assert check in " ".join(differing()), sql
        tasks.check_rollups()
        assert differing() == [], sql


def test_a_record_that_differs_from_the_ledger_is_no_rollups_fault_and_stays_reported(customer: Tenant):
    use(customer, NOW - DAY)
    tampered("UPDATE credits_usagerecord SET charge = charge + 5, margin = margin + 5")
    rollups.roll_up(LATER)
    tasks.check_rollups()
    with snapshot_cursor() as cursor:
        ok, detail = rollup_agreement(cursor)
    assert not ok
    assert f"rollups and ledger: organisation {customer.organization_id} on 2025-11-23" in detail
    assert "$0.000000005" in detail


def test_nothing_differs_before_the_first_run(customer: Tenant):
    use(customer, NOW)
    assert differing() == []


def test_the_command_rebuilds_and_says_whether_all_agrees(customer: Tenant):
    use(customer, NOW - 3 * DAY)
    rollups.roll_up(LATER)
    raw("UPDATE credits_usagerollup SET charge = 1, cost = 1")
    out = StringIO()
    with pytest.raises(SystemExit):
        call_command("rebuild_rollups", "--since", f"{NOW - DAY:%Y-%m-%d}", stdout=out)
    assert "differ" in out.getvalue()
    call_command("rebuild_rollups", stdout=out)
    assert "rollups say what usage records and ledger say" in out.getvalue()
    with pytest.raises(CommandError, match="is not a date"):
        call_command("rebuild_rollups", "--since", "yesterday")


# -- what others got wrong (their issue trackers)


def test_spend_is_written_once_however_many_replicas_count(customer: Tenant):
    """Counters that are incremented by each replica come to a multiple: here sums are replaced, not added to."""
    use(customer, NOW)
    for _ in range(3):
        rollups.rebuild()
        rollups.roll_up(LATER)
    assert rolled_charge("hour") == 10 * TOKEN


def test_no_increment_is_lost_in_a_failed_write(customer: Tenant, monkeypatch):
    """A deadlock must not drop what was to be added: what failed is read again."""
    use(customer, NOW)

    def fail(since: object, until: object) -> None:
        raise RuntimeError

    with monkeypatch.context() as patch:
        patch.setattr(rollups, "_add_up_days", fail)
        with pytest.raises(RuntimeError):
            rollups.roll_up(LATER)
    assert not UsageRollup.objects.exists()
    rollups.roll_up(LATER)
    assert rolled_charge("day") == charged()


def test_cached_tokens_stay_in_their_classes(customer: Tenant):
    """Classes of tokens that overlap are counted twice: each column's sum is the sum of that column."""
    use(customer, NOW)
    tampered(
        "UPDATE credits_usagerecord SET input_tokens = 1, cache_read_tokens = 20, cache_write_tokens = 300, "
        "cache_write_1h_tokens = 4000, reasoning_tokens = 5, web_searches = 6, first_token_ms = 70"
    )
    rollups.roll_up(LATER)
    row = UsageRollup.objects.get(period="day")
    columns = [name for name in SUM_COLUMNS if name not in {"requests", "errors", "first_tokens"}]
    record = UsageRecord.objects.values(*columns).get()
    assert {name: getattr(row, name) for name in columns} == record
    assert (row.requests, row.errors, row.first_tokens) == (1, 0, 1)


def test_sums_larger_than_a_float_holds_are_exact(customer: Tenant):
    for _ in range(3):
        use(customer, NOW)
    tampered("UPDATE credits_usagerecord SET charge = 2000000000000000001, cost = 0, margin = 2000000000000000001")
    rollups.roll_up(LATER)
    assert usage_total(customer.organization_id, Span.today(NOW)).charge == 6000000000000000003
    assert rolled_charge("hour") == 6000000000000000003


def test_the_hot_path_has_one_index_beside_the_primary_key(customer: Tenant):
    with connection.cursor() as cursor:
        found = connection.introspection.get_constraints(cursor, "credits_usagerecord")
    indexes = {tuple(each["columns"]) for each in found.values() if each["index"] and not each["primary_key"]}
    assert indexes - {("request_id",)} == {("organization_id", "created_at")}
