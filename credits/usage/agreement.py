"""Do the rollups say what the usage records and the ledger say? Reports; `tasks.check_rollups` mends."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection

from credits.database import Cursor, Dialect
from credits.money import format_usd
from credits.usage.rollups import LATE
from credits.usage.types import hour_of

EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class Difference:
    """What the rollups have too much, or too little if below zero: requests, and nanos of charge and cost. `day`
    is None where no day is known, `organization_id` 0 for all together."""

    check: str
    organization_id: int
    day: str | None
    requests: int
    charge: int
    cost: int

    def __str__(self) -> str:
        when = f" on {self.day}" if self.day else ""
        return (
            f"{self.check}: organisation {self.organization_id}{when} by {self.requests} requests, "
            f"{format_usd(self.charge)} of charge, {format_usd(self.cost)} of cost"
        )


_UNARCHIVED = (
    "NOT EXISTS (SELECT 1 FROM credits_usagearchive a WHERE a.organization_id = {0}.organization_id "
    "AND a.starts_at <= {0}.{1} AND a.ends_at > {0}.{1})"
)
_DIFFERENT = "HAVING SUM(requests) <> 0 OR SUM(charge) <> 0 OR SUM(cost) <> 0"

# Each query: organisation, day, and by how much the rollups differ. %(cut)s is where they are complete.
RECORDS = f"""
SELECT organization_id, day, SUM(requests), SUM(charge), SUM(cost) FROM (
    SELECT organization_id, {{rolled_day}} AS day, SUM(requests) AS requests, SUM(charge) AS charge, SUM(cost) AS cost
    FROM credits_usagerollup r
    WHERE period = 'hour' AND starts_at < %(cut)s AND {_UNARCHIVED.format("r", "starts_at")} GROUP BY 1, 2
    UNION ALL SELECT organization_id, {{record_day}}, -COUNT(*), -SUM(charge), -SUM(cost)
    FROM credits_usagerecord u
    WHERE created_at < %(cut)s AND {_UNARCHIVED.format("u", "created_at")} GROUP BY 1, 2
) both_sides GROUP BY organization_id, day {_DIFFERENT} ORDER BY 2, 1
"""
SESSIONS = f"""
SELECT organization_id, day, SUM(requests), SUM(charge), SUM(cost) FROM (
    SELECT organization_id, {{rolled_day}} AS day, SUM(requests) AS requests, SUM(charge) AS charge, SUM(cost) AS cost
    FROM credits_sessionslice s
    WHERE starts_at < %(cut)s AND {_UNARCHIVED.format("s", "starts_at")} GROUP BY 1, 2
    UNION ALL SELECT organization_id, {{record_day}}, -COUNT(*), -SUM(charge), -SUM(cost)
    FROM credits_usagerecord u
    WHERE created_at < %(cut)s AND session_id <> '' AND {_UNARCHIVED.format("u", "created_at")} GROUP BY 1, 2
) both_sides GROUP BY organization_id, day {_DIFFERENT} ORDER BY 2, 1
"""
SESSION_SUMS = f"""
SELECT organization_id, NULL, SUM(requests), SUM(charge), SUM(cost) FROM (
    SELECT organization_id, session_id, requests, charge, cost FROM credits_usagesession
    UNION ALL SELECT organization_id, session_id, -SUM(requests), -SUM(charge), -SUM(cost)
    FROM credits_sessionslice GROUP BY organization_id, session_id
) both_sides GROUP BY organization_id, session_id {_DIFFERENT} ORDER BY 1
"""
DAYS = f"""
SELECT organization_id, day, SUM(requests), SUM(charge), SUM(cost) FROM (
    SELECT organization_id, {{rolled_day}} AS day, CASE period WHEN 'day' THEN requests ELSE -requests END AS requests,
        CASE period WHEN 'day' THEN charge ELSE -charge END AS charge,
        CASE period WHEN 'day' THEN cost ELSE -cost END AS cost
    FROM credits_usagerollup
) both_periods GROUP BY organization_id, day {_DIFFERENT} ORDER BY 2, 1
"""
PLATFORM = f"""
SELECT 0, day, SUM(requests), SUM(charge), SUM(cost) FROM (
    SELECT {{rolled_day}} AS day, requests, charge, cost FROM credits_platformday
    UNION ALL SELECT {{rolled_day}}, -SUM(requests), -SUM(charge), -SUM(cost)
    FROM credits_usagerollup WHERE period = 'day' GROUP BY 1
) both_tables GROUP BY day {_DIFFERENT} ORDER BY 2
"""
# The debit's account is the tenant's: what was captured, or what became debt. Corrections are transfers of
# their own and change neither the record nor these.
LEDGER = """
SELECT organization_id, day, 0, SUM(charge), 0 FROM (
    SELECT organization_id, {rolled_day} AS day, SUM(charge) AS charge FROM credits_usagerollup
    WHERE period = 'hour' AND starts_at < %(cut)s GROUP BY 1, 2
    UNION ALL SELECT a.organization_id, {transfer_day}, -SUM(t.amount)
    FROM credits_transfer t JOIN credits_ledgeraccount a ON a.id = t.debit_id
    WHERE t.code IN ('capture', 'overage') AND t.created_at < %(cut)s GROUP BY 1, 2
) both_sides GROUP BY organization_id, day HAVING SUM(charge) <> 0 ORDER BY 2, 1
"""
ARCHIVES = f"""
SELECT organization_id, day, SUM(requests), SUM(charge), 0 FROM (
    SELECT r.organization_id, {{archived_month}} AS day, r.requests, r.charge, 0 AS cost
    FROM credits_usagearchive a JOIN credits_usagerollup r ON r.organization_id = a.organization_id
        AND r.period = 'day' AND r.starts_at >= a.starts_at AND r.starts_at < a.ends_at
    UNION ALL SELECT organization_id, {{archived_month}}, -records, -charge, 0 FROM credits_usagearchive a
) both_sides GROUP BY organization_id, day {_DIFFERENT} ORDER BY 2, 1
"""
CHECKS = {
    "rollups and records": RECORDS,
    "session slices and records": SESSIONS,
    "sessions and their slices": SESSION_SUMS,
    "days and hours": DAYS,
    "all organisations and days": PLATFORM,
    "rollups and ledger": LEDGER,
    "rollups and archives": ARCHIVES,
}


def differences(cursor: Cursor) -> list[Difference]:
    """Of every organisation and day (UTC), where the rollups are complete. Run it on one snapshot."""
    cursor.execute("SELECT rolled_until FROM credits_rollupprogress")
    row = cursor.fetchone()
    if row is None or row[0] is None:
        return []
    rolled = datetime.fromisoformat(f"{row[0]}+00:00") if isinstance(row[0], str) else row[0]
    if connection.vendor == "postgresql":
        cursor.execute("SET LOCAL statement_timeout = 0")  # whole tables take longer than a page may
    cut = Dialect(connection).time(hour_of(rolled - LATE))
    found = []
    for check, sql in CHECKS.items():
        cursor.execute(sql.format(**_days()), {"cut": cut})
        found += [_difference(check, each) for each in cursor.fetchall()]
    return found


def rollup_agreement(cursor: Cursor, _now: datetime | None = None) -> tuple[bool, str]:
    """(ok, detail), as a check of `reconcile` says it."""
    found = differences(cursor)
    if not found:
        return True, "rollups say what usage records and ledger say"
    examples = "; ".join(map(str, found[:EXAMPLES]))
    return False, f"{len(found)} differ: {examples}"


def _difference(check: str, row: tuple[Any, ...]) -> Difference:
    return Difference(check, row[0], None if row[1] is None else str(row[1]), *(int(value) for value in row[2:]))


def _days() -> dict[str, str]:
    columns = {
        "rolled_day": "starts_at", "record_day": "created_at", "transfer_day": "t.created_at",
        "archived_month": "a.starts_at",
    }  # fmt: skip
    if connection.vendor == "postgresql":
        return {name: f"({column} AT TIME ZONE 'UTC')::date" for name, column in columns.items()}
    return {name: f"substr({column}, 1, 10)" for name, column in columns.items()}
