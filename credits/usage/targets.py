"""Makes the targets' rows (how providers' models have answered lately) from the attempts of usage records.

A target is a provider's model, by their names. Five minutes (a slot) at a time are made of records,
hours of slots, days of hours once they are over, again and again the same. Nothing of a tenant is in
them.

What an attempt counts as: ok when its answer came, or at least its first token; the class of its error,
with the provider's HTTP status if there was one, when it failed; unfinished when the client left before,
or its process died. A latency is the attempt's own, from its beginning: what its
request took before, waiting or with earlier attempts, is not its target's. (The last attempt ends with
its request, so it began at the request's time less its own.)
"""

import itertools
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from credits.usage.models import TargetLatency, TargetPeriod, TargetProgress, TargetRollup
from credits.usage.rollups import EPOCH, GRACE, LATE, oldest_record
from credits.usage.statements import execute, on_postgresql
from credits.usage.types import DAY, day_of, hour_of

SLOT = timedelta(minutes=5)
KEPT = {
    TargetPeriod.SLOT: timedelta(hours=3),
    TargetPeriod.HOUR: timedelta(days=2),
    TargetPeriod.DAY: timedelta(days=8),
}
"""At least; what is older is dropped."""
AT_A_TIME = timedelta(hours=6)
EXACT = 100
"""A target with more answers than this in one period has its latencies rounded, by 3.2 % at most."""

OK = "ok"
UNFINISHED = "unfinished"
FIRST = "first_token"
TOTAL = "total"

log = structlog.get_logger("ccm.usage")

_numbers = itertools.count(1)
_ROLLUP = "provider, model, outcome, attempts, output_tokens, stream_ms"
_LATENCY = "provider, model, measure, ms, attempts"

_POSTGRESQL = {
    "slot": "date_bin('5 minutes', u.created_at, TIMESTAMPTZ '2000-01-01 00:00:00+00')",
    "hour": "date_trunc('hour', starts_at, 'UTC')",
    "day": "date_trunc('day', starts_at, 'UTC')",
    "each": "jsonb_array_elements(u.attempts) WITH ORDINALITY AS a(item, place)",
    "text": "(a.item ->> '{}')",
    "last": "a.place = jsonb_array_length(u.attempts)",
    "least": "LEAST",
    "greatest": "GREATEST",
}
_SQLITE = {
    "slot": "substr(u.created_at, 1, 14) "
    "|| printf('%%02d', CAST(substr(u.created_at, 15, 2) AS INTEGER) / 5 * 5) || ':00'",
    "hour": "substr(starts_at, 1, 13) || ':00:00'",
    "day": "substr(starts_at, 1, 10) || ' 00:00:00'",
    "each": "json_each(u.attempts) AS a",
    "text": "json_extract(a.value, '$.{}')",
    "last": "a.key = json_array_length(u.attempts) - 1",
    "least": "MIN",
    "greatest": "MAX",
}


@dataclass(frozen=True, slots=True)
class Draft:
    """The attempts of the records of [since, until), read when the rows had this version: a temporary
    table of this connection."""

    version: int
    since: datetime
    until: datetime
    attempts: str


def slot_of(moment: datetime) -> datetime:
    start = hour_of(moment)
    return start + (moment - start) // SLOT * SLOT


def progress() -> TargetProgress:
    return TargetProgress.objects.get_or_create(pk=1)[0]


def roll_up(now: datetime | None = None) -> int:
    """Bring the rows up to GRACE before now from wherever they were left, and drop what is too old; how
    many parts were written. May run twice or beside itself: of two at once, one writes."""
    now = now or timezone.now()
    until = now - GRACE
    longest = KEPT[TargetPeriod.DAY]
    parts = 0
    while True:
        state = progress()
        rolled = state.rolled_until
        if rolled is not None and rolled >= until:
            return parts
        if rolled is None or rolled < until - longest:
            start = day_of(max(oldest_record(until - longest) or until, until - longest))
        else:
            start = slot_of(rolled - LATE)
        end = min(until, hour_of(start) + AT_A_TIME)
        if not write(read(state.version, start, end), rolled_until=max(end, rolled or end)):
            return parts
        parts += 1
        if end == until:
            return parts


def rebuild(now: datetime | None = None) -> int:
    """Make all rows anew; how many parts were written."""
    with transaction.atomic():
        progress()
        TargetProgress.objects.filter(pk=1).update(version=F("version") + 1, rolled_until=None)
        TargetRollup.objects.all().delete()
        TargetLatency.objects.all().delete()
    parts = roll_up(now)
    log.info("targets_rebuilt", parts=parts)
    return parts


def read(version: int, since: datetime, until: datetime) -> Draft:
    """Take the attempts of [since, until) out of their records, without a lock; `since` is a full slot.
    To be given to `write`."""
    draft = Draft(version, since, until, f"credits_draft_attempts_{next(_numbers)}")
    execute(f"CREATE TEMPORARY TABLE {draft.attempts} AS {_attempts()}", since, until)
    return draft


def write(draft: Draft, *, rolled_until: datetime) -> bool:
    """Replace the slots of `draft`, and the hours and full days that they are part of. False when somebody else has
    written since it was read; then nothing is changed."""
    hours, days = hour_of(draft.since), day_of(draft.since)
    try:
        with transaction.atomic():
            claimed = TargetProgress.objects.filter(pk=1, version=draft.version)
            if claimed.update(version=F("version") + 1, rolled_until=rolled_until) != 1:
                return False
            _drop(TargetPeriod.SLOT, draft.since, draft.until)
            _insert_slots(draft.attempts)
            _add_up(TargetPeriod.SLOT, TargetPeriod.HOUR, hours, draft.until)
            if days < day_of(draft.until):
                _add_up(TargetPeriod.HOUR, TargetPeriod.DAY, days, day_of(draft.until))
            for period, kept in KEPT.items():
                _drop(period, EPOCH, day_of(rolled_until) - kept if kept >= DAY else hour_of(rolled_until) - kept)
        return True
    finally:
        execute(f"DROP TABLE {draft.attempts}")


def _drop(period: TargetPeriod, since: datetime, until: datetime) -> None:
    for rows in (TargetRollup.objects, TargetLatency.objects):
        rows.filter(period=period, starts_at__gte=since, starts_at__lt=until).delete()


def _attempts() -> str:
    """A row for each attempt of the records between two moments (the parameters). CROSS JOIN keeps SQLite
    from reading the whole table: wallet by wallet there is an index to go by."""
    sql = _POSTGRESQL if on_postgresql() else _SQLITE
    provider, model, error, upstream, ms = (
        sql["text"].format(name) for name in ("provider", "model", "error", "status", "ms")
    )
    return f"""
WITH each_attempt AS (
    SELECT {sql["slot"]} AS starts_at, u.status, u.first_token_ms, u.output_tokens, u.streamed,
        {provider} AS provider, COALESCE({model}, '') AS model,
        {error} || COALESCE(' ' || {upstream}, '') AS error,
        CAST({ms} AS BIGINT) AS ms, {sql["last"]} AS is_last, u.total_ms AS request_ms
    FROM credits_wallet w CROSS JOIN credits_usagerecord u CROSS JOIN {sql["each"]}
    WHERE u.organization_id = w.organization_id AND u.created_at >= %s AND u.created_at < %s
), with_outcome AS (
    SELECT *, CASE WHEN error IS NOT NULL THEN error
        WHEN is_last AND (status < 400 OR first_token_ms IS NOT NULL) THEN '{OK}' ELSE '{UNFINISHED}' END AS outcome,
        CASE WHEN streamed AND first_token_ms IS NOT NULL AND ms IS NOT NULL
            THEN {sql["least"]}({sql["greatest"]}(first_token_ms - (request_ms - ms), 0), ms) END AS first_ms
    FROM each_attempt WHERE provider IS NOT NULL
)
SELECT starts_at, provider, model, outcome,
    CASE WHEN outcome = '{OK}' THEN ms END AS total_ms,
    CASE WHEN outcome = '{OK}' THEN first_ms END AS first_ms,
    CASE WHEN outcome = '{OK}' AND ms > first_ms THEN output_tokens ELSE 0 END AS output_tokens,
    CASE WHEN outcome = '{OK}' AND ms > first_ms THEN ms - first_ms ELSE 0 END AS stream_ms
FROM with_outcome
"""


def _insert_slots(attempts: str) -> None:
    execute(
        f"INSERT INTO credits_targetrollup (period, starts_at, {_ROLLUP}) SELECT 'slot', starts_at, provider, model, "
        f"outcome, COUNT(*), SUM(output_tokens), SUM(stream_ms) FROM {attempts} GROUP BY 2, 3, 4, 5"
    )
    both = " UNION ALL ".join(
        f"SELECT starts_at, provider, model, '{measure}' AS measure, {column} AS ms, 1 AS attempts FROM {attempts} "
        f"WHERE {column} IS NOT NULL"
        for measure, column in ((FIRST, "first_ms"), (TOTAL, "total_ms"))
    )
    execute(_latencies(TargetPeriod.SLOT, both))


def _add_up(parts: TargetPeriod, whole: TargetPeriod, since: datetime, until: datetime) -> None:
    """Replace the rows of `whole` from `since` to before `until` by what their `parts` come to."""
    _drop(whole, since, until)
    start = (_POSTGRESQL if on_postgresql() else _SQLITE)[whole.value]
    between = f"period = '{parts.value}' AND starts_at >= %s AND starts_at < %s"
    execute(
        f"INSERT INTO credits_targetrollup (period, starts_at, {_ROLLUP}) SELECT '{whole.value}', {start}, provider, "
        "model, outcome, SUM(attempts), SUM(output_tokens), SUM(stream_ms) FROM credits_targetrollup "
        f"WHERE {between} GROUP BY 2, 3, 4, 5",
        since, until,
    )  # fmt: skip
    rows = (
        f"SELECT {start} AS starts_at, provider, model, measure, ms, attempts FROM credits_targetlatency "
        f"WHERE {between}"
    )
    execute(_latencies(whole, rows), since, until)


def _latencies(period: TargetPeriod, rows: str) -> str:
    """Puts `rows` into the histogram of `period`."""
    rounded = (
        f"CASE WHEN n <= {EXACT} OR ms < 128 THEN ms WHEN ms < 512 THEN (ms + 4) / 8 * 8 "
        "WHEN ms < 2048 THEN (ms + 16) / 32 * 32 WHEN ms < 8192 THEN (ms + 64) / 128 * 128 "
        "WHEN ms < 32768 THEN (ms + 256) / 512 * 512 WHEN ms < 131072 THEN (ms + 1024) / 2048 * 2048 "
        "ELSE (ms + 4096) / 8192 * 8192 END"
    )
    return (
        f"INSERT INTO credits_targetlatency (period, starts_at, {_LATENCY}) "
        f"SELECT '{period.value}', starts_at, provider, model, measure, {rounded}, SUM(attempts) FROM (SELECT each.*, "
        f"SUM(attempts) OVER (PARTITION BY starts_at, provider, model, measure) AS n FROM ({rows}) each) counted "
        "GROUP BY 2, 3, 4, 5, 6"
    )
