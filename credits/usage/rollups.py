"""Makes the rollups from the usage records: whole hours at a time, again and again the same.

An hour is read without a lock and then replaced in one short transaction. Whoever writes first takes
the next version of `RollupProgress`; somebody else who had read the same version writes nothing.
"""

import itertools
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from django.db import connection, transaction
from django.db.models import Exists, F, OuterRef, QuerySet
from django.utils import timezone

from credits.database import Dialect
from credits.usage.models import (
    PlatformDay,
    RollupPeriod,
    RollupProgress,
    SessionSlice,
    UsageArchive,
    UsageRollup,
)
from credits.usage.statements import execute, on_postgresql
from credits.usage.types import DAY, SUM_COLUMNS, day_of, hour_of

log = structlog.get_logger("ccm.usage")

GRACE = timedelta(seconds=60)
"""Records younger than this are left to the next run: a record's time is set before its transaction
commits, and until then nobody else can see it."""

LATE = timedelta(minutes=15)
"""How far back each run reads again, for records whose transactions took even longer."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_numbers = itertools.count(1)

_SUMS = (
    "COUNT(*) AS requests, SUM(CASE WHEN u.status >= 400 THEN 1 ELSE 0 END) AS errors, "
    "SUM(u.input_tokens) AS input_tokens, SUM(u.cache_read_tokens) AS cache_read_tokens, "
    "SUM(u.cache_write_tokens) AS cache_write_tokens, SUM(u.cache_write_1h_tokens) AS cache_write_1h_tokens, "
    "SUM(u.output_tokens) AS output_tokens, SUM(u.reasoning_tokens) AS reasoning_tokens, "
    "SUM(u.web_searches) AS web_searches, SUM(u.charge) AS charge, SUM(u.cost) AS cost, SUM(u.total_ms) AS total_ms, "
    "COALESCE(SUM(u.first_token_ms), 0) AS first_token_ms, COUNT(u.first_token_ms) AS first_tokens"
)
# CROSS JOIN keeps SQLite from reading the whole table: wallet by wallet there is an index to go by.
_FROM = (
    "FROM credits_wallet w CROSS JOIN credits_usagerecord u WHERE u.organization_id = w.organization_id "
    "AND u.created_at >= %s AND u.created_at < %s AND NOT EXISTS (SELECT 1 FROM credits_usagearchive a "
    "WHERE a.organization_id = u.organization_id AND a.starts_at <= u.created_at AND a.ends_at > u.created_at)"
)
_SUMMED = ", ".join(f"SUM({name})" for name in SUM_COLUMNS)
_SUM_NAMES = ", ".join(SUM_COLUMNS)
_ROLLUP_NAMES = f"starts_at, api_key_id, model, provider, route, {_SUM_NAMES}"
_SLICE_NAMES = "organization_id, session_id, starts_at, agent_id, parent_agent_id, first_seen, last_seen, " + _SUM_NAMES
_SESSION_NAMES = ("subagents", "first_seen", "last_seen", *SUM_COLUMNS)
_SESSIONS = f"""
INSERT INTO credits_usagesession (organization_id, session_id, {", ".join(_SESSION_NAMES)})
SELECT s.organization_id, s.session_id, COUNT(DISTINCT NULLIF(s.agent_id, '')), MIN(s.first_seen), MAX(s.last_seen),
    {", ".join(f"SUM(s.{name})" for name in SUM_COLUMNS)}
FROM (SELECT DISTINCT organization_id, session_id FROM {{slices}}) touched
    JOIN credits_sessionslice s ON s.organization_id = touched.organization_id AND s.session_id = touched.session_id
WHERE 1 = 1 GROUP BY s.organization_id, s.session_id
ON CONFLICT (organization_id, session_id) DO UPDATE SET
    {", ".join(f"{name} = excluded.{name}" for name in _SESSION_NAMES)}
"""
_ORPHANED_SESSIONS = """
DELETE FROM credits_usagesession WHERE NOT EXISTS (SELECT 1 FROM credits_sessionslice s
    WHERE s.organization_id = credits_usagesession.organization_id AND s.session_id = credits_usagesession.session_id)
"""
_OLDEST_RECORD = """
SELECT MIN(oldest) FROM (SELECT (SELECT MIN(u.created_at) FROM credits_usagerecord u
    WHERE u.organization_id = w.organization_id AND u.created_at >= %s) AS oldest FROM credits_wallet w) each_wallet
"""


@dataclass(frozen=True, slots=True)
class Draft:
    """What the records of [since, until) add up to, read when the rollups had this version: two temporary
    tables of this connection."""

    version: int
    since: datetime
    until: datetime
    rollups: str
    slices: str


def progress() -> RollupProgress:
    return RollupProgress.objects.get_or_create(pk=1)[0]


def roll_up(now: datetime | None = None) -> int:
    """Bring the rollups up to GRACE before now, from wherever they were left, a day at a time; how many were written.

    May run twice or beside itself: of two at once, one writes and the other stops."""
    now = now or timezone.now()
    until = now - GRACE
    days = 0
    while True:
        state = progress()
        rolled = state.rolled_until
        if rolled is None:
            start = hour_of(oldest_record() or until)
        else:
            start = hour_of(min(rolled, until) - LATE)  # after `until` only if a clock was put back
        end = _end(rolled or start, until)
        if rolled is not None and end <= rolled <= now:
            return days
        if not write(read(state.version, start, end), rolled_until=end, until=max(end, rolled or end)):
            return days
        if rolled is not None and rolled > end:
            _refresh_sessions()
        days += 1
        if end == until:
            return days


def rebuild(since: datetime | None = None, until: datetime | None = None, *, now: datetime | None = None) -> int:
    """Make the rollups anew from the records, from the day of `since` (None: the first) until the end of the day of
    `until` (None: now); how many days were written. Months whose records are archived keep their sums."""
    start = day_of(since) if since else _oldest()
    last = day_of(until) + DAY if until else datetime.max.replace(tzinfo=UTC)
    days = 0
    while start is not None:
        state = progress()
        if state.rolled_until is None or start >= min(state.rolled_until, last):
            break
        end = _end(start, state.rolled_until)
        if not write(read(state.version, start, end)):
            continue  # the task was faster: read again
        days += 1
        start = end
    _refresh_sessions()
    log.info("rollups_rebuilt", since=since.isoformat() if since else None, days=days)
    return days + roll_up(now)


def read(version: int, since: datetime, until: datetime) -> Draft:
    """Add up the records of [since, until), without a lock; `since` is a full hour. To be given to `write`."""
    number = next(_numbers)
    draft = Draft(version, since, until, f"credits_draft_rollups_{number}", f"credits_draft_slices_{number}")
    hour = "date_trunc('hour', u.created_at, 'UTC')" if on_postgresql() else "substr(u.created_at, 1, 13) || ':00:00'"
    execute(
        f"CREATE TEMPORARY TABLE {draft.rollups} AS SELECT u.organization_id, {hour} AS starts_at, u.api_key_id, "
        f"u.model, u.provider, u.route, {_SUMS} {_FROM} GROUP BY 1, 2, 3, 4, 5, 6",
        since, until,
    )  # fmt: skip
    execute(
        f"CREATE TEMPORARY TABLE {draft.slices} AS SELECT u.organization_id, u.session_id, {hour} AS starts_at, "
        "u.agent_id, MAX(u.parent_agent_id) AS parent_agent_id, MIN(u.created_at) AS first_seen, "
        f"MAX(u.created_at) AS last_seen, {_SUMS} {_FROM} AND u.session_id <> '' GROUP BY 1, 2, 3, 4",
        since, until,
    )  # fmt: skip
    return draft


def write(draft: Draft, *, rolled_until: datetime | None = None, until: datetime | None = None) -> bool:
    """Replace the hours of `draft`, and the days and sessions that they are part of; hours after it until
    `until` are emptied, so that pages read their records instead. False when somebody else has written
    since it was read; then nothing is changed."""
    until = until or draft.until
    try:
        with transaction.atomic():
            if not _claim(draft.version, rolled_until):
                return False
            _open(UsageRollup.objects.filter(period=RollupPeriod.HOUR), draft.since, until).delete()
            execute(
                f"INSERT INTO credits_usagerollup (period, organization_id, {_ROLLUP_NAMES}) "
                f"SELECT 'hour', organization_id, {_ROLLUP_NAMES} FROM {draft.rollups}"
            )
            _add_up_days(day_of(draft.since), until)
            _open(SessionSlice.objects.all(), draft.since, until).delete()
            execute(f"INSERT INTO credits_sessionslice ({_SLICE_NAMES}) SELECT {_SLICE_NAMES} FROM {draft.slices}")
            execute(_SESSIONS.format(slices=draft.slices))
        return True
    finally:
        execute(f"DROP TABLE {draft.rollups}")
        execute(f"DROP TABLE {draft.slices}")


def _end(start: datetime, until: datetime) -> datetime:
    """What is done at a time: the day of `start`, and the days after it that have no records."""
    following = day_of(start) + DAY
    if following >= until:
        return until
    return min(until, day_of(oldest_record(following) or until))


def oldest_record(since: datetime = EPOCH) -> datetime | None:
    """When the oldest record of those since then was settled."""
    with connection.cursor() as cursor:
        cursor.execute(_OLDEST_RECORD, [Dialect(connection).time(since)])
        row = cursor.fetchone()
    return None if row is None or row[0] is None else _moment(row[0])


def _oldest() -> datetime | None:
    """The day of the oldest record or rollup, of which the latter may be wrong."""
    rollup = UsageRollup.objects.order_by("starts_at").filter(period=RollupPeriod.DAY).first()
    known = [moment for moment in (oldest_record(), rollup and rollup.starts_at) if moment]
    return day_of(min(known)) if known else None


def _claim(version: int, rolled_until: datetime | None) -> bool:
    """The lock: the row stays locked until the transaction ends, and no version is taken twice."""
    changes: dict[str, Any] = {"version": F("version") + 1}
    if rolled_until is not None:
        changes["rolled_until"] = rolled_until
    return RollupProgress.objects.filter(pk=1, version=version).update(**changes) == 1


def _open(rows: "QuerySet[Any]", since: datetime, until: datetime) -> "QuerySet[Any]":
    """The rows of this time but those of archived months, which could not be made again."""
    archived = UsageArchive.objects.filter(
        organization_id=OuterRef("organization_id"),
        starts_at__lte=OuterRef("starts_at"),
        ends_at__gt=OuterRef("starts_at"),
    )
    return rows.filter(~Exists(archived), starts_at__gte=since, starts_at__lt=until)


def _add_up_days(since: datetime, until: datetime) -> None:
    """The days from hours, of which there are far fewer than records."""
    end = day_of(until - timedelta(microseconds=1)) + DAY
    _open(UsageRollup.objects.filter(period=RollupPeriod.DAY), since, end).delete()
    day = "date_trunc('day', starts_at, 'UTC')" if on_postgresql() else "substr(starts_at, 1, 10) || ' 00:00:00'"
    execute(
        f"INSERT INTO credits_usagerollup (organization_id, period, starts_at, api_key_id, model, provider, route, "
        f"{_SUM_NAMES}) SELECT organization_id, 'day', {day}, api_key_id, model, provider, route, {_SUMMED} "
        "FROM credits_usagerollup r WHERE period = 'hour' AND starts_at >= %s AND starts_at < %s "
        "AND NOT EXISTS (SELECT 1 FROM credits_usagearchive a WHERE a.organization_id = r.organization_id "
        "AND a.starts_at <= r.starts_at AND a.ends_at > r.starts_at) GROUP BY 1, 3, 4, 5, 6, 7",
        since, end,
    )  # fmt: skip
    PlatformDay.objects.filter(starts_at__gte=since, starts_at__lt=end).delete()
    execute(
        f"INSERT INTO credits_platformday (starts_at, model, provider, {_SUM_NAMES}) "
        f"SELECT starts_at, model, provider, {_SUMMED} FROM credits_usagerollup "
        "WHERE period = 'day' AND starts_at >= %s AND starts_at < %s GROUP BY 1, 2, 3",
        since, end,
    )  # fmt: skip


def _refresh_sessions() -> None:
    with transaction.atomic():
        execute(_ORPHANED_SESSIONS)
        execute(_SESSIONS.format(slices="credits_sessionslice"))


def _moment(value: Any) -> datetime:
    """A time as the database's driver returns it: SQLite's is text."""
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    assert isinstance(moment, datetime)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
