"""How providers and their models have answered of late: an hour, a day, a week. Times are UTC."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import reduce
from operator import or_
from typing import Any

from django.db import connection
from django.db.models import Q, Sum
from django.utils import timezone

from credits.database import Dialect
from credits.usage.models import TargetPeriod, TargetProgress, TargetRollup
from credits.usage.reading import snapshot_cursor
from credits.usage.targets import FIRST, OK, SLOT, TOTAL, UNFINISHED, slot_of
from credits.usage.types import DAY, HOUR, day_of, hour_of

REFUSED = frozenset({"invalid_request_error", "request_too_large"})
"""Errors that are the request's fault: they say nothing about the provider's health."""


class Window(StrEnum):
    HOUR = "1h"
    DAY = "24h"
    WEEK = "7d"


Parts = Sequence[tuple[TargetPeriod, datetime]]
"""Rows of these periods that start at or after the moment, added up."""


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Milliseconds, by nearest rank: so many percent of the answers took no longer."""

    p50: int
    p90: int
    p99: int


@dataclass(frozen=True, slots=True)
class Answering:
    """What became of the attempts of a window. `errors` counts them by class and, after a space, the
    provider's HTTP status where it answered ("overloaded_error 529"); those for which the
    request itself was to blame (`refused`) among them; `unfinished` ones ended before anything was
    known. Neither of the two counts for `uptime`. `output_tokens` and `stream_ms` are of streamed answers."""

    ok: int = 0
    unfinished: int = 0
    errors: Mapping[str, int] = field(default_factory=dict)
    output_tokens: int = 0
    stream_ms: int = 0
    first_token: Percentiles | None = None
    total: Percentiles | None = None

    @property
    def attempts(self) -> int:
        return self.ok + self.unfinished + sum(self.errors.values())

    @property
    def refused(self) -> int:
        return sum(count for error, count in self.errors.items() if error.split(" ")[0] in REFUSED)

    @property
    def failed(self) -> int:
        return sum(self.errors.values()) - self.refused

    @property
    def uptime(self) -> float | None:
        """The share of attempts that were answered, from 0 to 1; None without any that could tell."""
        counted = self.ok + self.failed
        return self.ok / counted if counted else None

    @property
    def tokens_per_second(self) -> float | None:
        """Of streamed answers, from their first token on; None without any."""
        return self.output_tokens * 1000 / self.stream_ms if self.stream_ms else None


NOTHING = Answering()


@dataclass(frozen=True, slots=True)
class Answered:
    """Of one window. It begins with five full minutes (an hour's window), a full hour or a full day, and
    ends at `until`: up to then all attempts are in it, None when none were ever rolled up."""

    window: Window
    since: datetime
    until: datetime | None
    providers: Mapping[str, Answering]
    targets: Mapping[tuple[str, str], Answering]
    """By provider and the provider's own name of the model."""


def answered(window: Window, now: datetime | None = None) -> Answered:
    """All providers and targets that had an attempt in this window; four queries."""
    now = now or timezone.now()
    with snapshot_cursor():
        until = progress_until()
        parts = _parts(window, now)
        targets = _of(("provider", "model"), parts)
        providers = _of(("provider",), parts)
    return Answered(
        window, parts[0][1], until, {key[0]: value for key, value in providers.items()},
        {(key[0], key[1]): value for key, value in targets.items()},
    )  # fmt: skip


def progress_until() -> datetime | None:
    """Reads only: a fresh installation has no such row yet, and within a snapshot none can be made."""
    return TargetProgress.objects.filter(pk=1).values_list("rolled_until", flat=True).first()


def _parts(window: Window, now: datetime) -> Parts:
    """The rows that the window is made of, the running period being the last. A day's own rows are
    there once it is over."""
    if window is Window.HOUR:
        return [(TargetPeriod.SLOT, slot_of(now) - HOUR + SLOT)]
    if window is Window.DAY:
        return [(TargetPeriod.HOUR, hour_of(now) - DAY + HOUR)]
    today = day_of(now)
    return [(TargetPeriod.DAY, today - 6 * DAY), (TargetPeriod.HOUR, today)]


def _of(columns: tuple[str, ...], parts: Parts) -> dict[tuple[str, ...], Answering]:
    of_parts = (Q(period=period, starts_at__gte=since) for period, since in parts)
    rows = TargetRollup.objects.filter(reduce(or_, of_parts)).order_by()
    sums = rows.values(*columns, "outcome").annotate(
        sum_attempts=Sum("attempts"), sum_tokens=Sum("output_tokens"), sum_ms=Sum("stream_ms")
    )
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in sums:
        one = found.setdefault(tuple(row[column] for column in columns), {"errors": {}})
        if row["outcome"] == OK:
            one |= {"ok": row["sum_attempts"], "output_tokens": row["sum_tokens"], "stream_ms": row["sum_ms"]}
        elif row["outcome"] == UNFINISHED:
            one["unfinished"] = row["sum_attempts"]
        else:
            one["errors"][row["outcome"]] = row["sum_attempts"]
    for key, latencies in _percentiles(columns, parts).items():
        found[key] |= latencies
    return {key: Answering(**one) for key, one in found.items()}


def _percentiles(columns: tuple[str, ...], parts: Parts) -> dict[tuple[str, ...], dict[str, Percentiles]]:
    """By nearest rank: the least value that at least so many percent of all do not exceed."""
    names = ", ".join(columns)
    ranks = ", ".join(f"MIN(CASE WHEN upto * 100 >= n * {rank} THEN ms END)" for rank in (50, 90, 99))
    of_parts = " UNION ALL ".join(
        f"SELECT {names}, measure, ms, attempts FROM credits_targetlatency WHERE period = %s AND starts_at >= %s"
        for _ in parts
    )
    sql = (
        f"SELECT {names}, measure, {ranks} FROM (SELECT {names}, measure, ms, "
        f"SUM(attempts) OVER (PARTITION BY {names}, measure ORDER BY ms) AS upto, "
        f"SUM(attempts) OVER (PARTITION BY {names}, measure) AS n FROM (SELECT {names}, measure, ms, "
        f"SUM(attempts) AS attempts FROM ({of_parts}) each GROUP BY {names}, measure, ms) by_value) ranked "
        f"GROUP BY {names}, measure"
    )
    found: dict[tuple[str, ...], dict[str, Percentiles]] = {}
    with connection.cursor() as cursor:
        time = Dialect(connection).time
        cursor.execute(sql, [value for period, since in parts for value in (period.value, time(since))])
        for *key, measure, p50, p90, p99 in cursor.fetchall():
            assert measure in {FIRST, TOTAL}
            found.setdefault(tuple(key), {})[measure] = Percentiles(int(p50), int(p90), int(p99))
    return found
