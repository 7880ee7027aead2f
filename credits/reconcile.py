"""Checks of what must always hold in the ledger. They report and never repair (design: README.md)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.db import connection
from django.utils import timezone

from credits.database import Cursor, Dialect
from credits.models import ReconciliationRun
from credits.money import format_usd

log = structlog.get_logger("ccm.reconcile")

OVERDUE = timedelta(minutes=15)
"""A lapsed lease that the sweeper has not dealt with for this long."""

ENDLESS = timedelta(hours=6)
"""No request takes this long: its process lives, but has forgotten it."""

EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class Finding:
    check: str
    ok: bool
    detail: str

    def __str__(self) -> str:
        return f"{'ok' if self.ok else 'FAIL'} {self.check} {self.detail}"


R1 = """
SELECT w.organization_id, w.posted, COALESCE(SUM(l.remaining), 0)
FROM credits_wallet w LEFT JOIN credits_creditlot l ON l.wallet_id = w.organization_id
GROUP BY w.organization_id, w.posted HAVING w.posted <> COALESCE(SUM(l.remaining), 0)
ORDER BY w.organization_id
"""

R2 = """
SELECT w.organization_id, a.kind, CASE a.kind WHEN 'wallet' THEN w.posted ELSE w.debt END,
    CASE a.kind WHEN 'wallet' THEN 1 ELSE -1 END * (COALESCE(c.total, 0) - COALESCE(d.total, 0))
FROM credits_wallet w
JOIN credits_ledgeraccount a ON a.organization_id = w.organization_id
LEFT JOIN (SELECT credit_id, SUM(amount) AS total FROM credits_transfer GROUP BY credit_id) c ON c.credit_id = a.id
LEFT JOIN (SELECT debit_id, SUM(amount) AS total FROM credits_transfer GROUP BY debit_id) d ON d.debit_id = a.id
WHERE CASE a.kind WHEN 'wallet' THEN w.posted ELSE w.debt END
    <> CASE a.kind WHEN 'wallet' THEN 1 ELSE -1 END * (COALESCE(c.total, 0) - COALESCE(d.total, 0))
ORDER BY w.organization_id, a.kind
"""

R3 = """
SELECT w.organization_id, w.held, COALESCE(SUM(h.amount), 0)
FROM credits_wallet w LEFT JOIN credits_hold h
    ON h.wallet_id = w.organization_id AND h.state IN ('open', 'dispatched', 'needs_settlement')
GROUP BY w.organization_id, w.held HAVING w.held <> COALESCE(SUM(h.amount), 0)
ORDER BY w.organization_id
"""

R4 = """
SELECT COALESCE((SELECT SUM(t.amount) FROM credits_transfer t JOIN credits_ledgeraccount a ON a.id = t.credit_id), 0),
       COALESCE((SELECT SUM(t.amount) FROM credits_transfer t JOIN credits_ledgeraccount a ON a.id = t.debit_id), 0)
"""

R5_HOLDS = """
SELECT h.id, h.captured, COALESCE(SUM(t.amount), 0)
FROM credits_hold h LEFT JOIN credits_transfer t ON t.hold_id = h.id AND t.code IN ('capture', 'overage')
WHERE h.state NOT IN ('open', 'dispatched', 'needs_settlement') OR t.id IS NOT NULL
GROUP BY h.id, h.captured
HAVING h.captured <> COALESCE(SUM(t.amount), 0)
    OR SUM(CASE t.code WHEN 'capture' THEN 1 ELSE 0 END) > 1 OR SUM(CASE t.code WHEN 'overage' THEN 1 ELSE 0 END) > 1
ORDER BY h.id
"""

R5_LOTS = """
SELECT t.idempotency_key, t.amount, COALESCE(SUM(c.amount), 0)
FROM credits_transfer t LEFT JOIN credits_lotconsumption c ON c.transfer_key = t.idempotency_key
WHERE t.debit_id IN (SELECT id FROM credits_ledgeraccount WHERE kind = 'wallet')
GROUP BY t.idempotency_key, t.amount HAVING t.amount <> COALESCE(SUM(c.amount), 0)
ORDER BY t.idempotency_key
"""

R5_REOPENED = """
SELECT c.hold_id, c.restored, COALESCE(SUM(r.amount), 0)
FROM credits_correction c
LEFT JOIN credits_lotreopening r ON r.transfer_key = 'correct:' || c.ticket || ':' || c.hold_id
GROUP BY c.id, c.hold_id, c.restored HAVING c.restored <> COALESCE(SUM(r.amount), 0)
ORDER BY c.hold_id
"""

R5_REFUNDED = """
SELECT h.id, SUM(c.amount), h.captured FROM credits_correction c JOIN credits_hold h ON h.id = c.hold_id
GROUP BY h.id, h.captured HAVING SUM(c.amount) > h.captured ORDER BY h.id
"""

R5_USAGE = """
SELECT u.request_id, u.charge, h.captured FROM credits_usagerecord u JOIN credits_hold h ON h.id = u.request_id
WHERE u.charge <> h.captured ORDER BY u.request_id
"""

R8 = """
SELECT id, state, wallet_id FROM credits_hold
WHERE state IN ('open', 'dispatched', 'needs_settlement') AND (lease_until < %s OR created_at < %s)
ORDER BY created_at
"""


def run_checks(now: datetime | None = None) -> list[Finding]:
    """Every check on one snapshot of the database."""
    now = now or timezone.now()
    with _snapshot() as cursor:
        return [check(cursor, now) for check in CHECKS]


def reconcile() -> ReconciliationRun:
    """Run the checks and store what they found."""
    started_at = timezone.now()
    findings = run_checks(started_at)
    run = ReconciliationRun.objects.create(
        started_at=started_at,
        finished_at=timezone.now(),
        ok=all(finding.ok for finding in findings),
        results=[asdict(finding) for finding in findings],
    )
    for finding in findings:
        if not finding.ok:
            log.error("reconciliation_failed", check=finding.check, detail=finding.detail)
    return run


@contextmanager
def _snapshot() -> Iterator[Cursor]:
    """One consistent view that blocks no writer (Django's own transactions would, on SQLite)."""
    with connection.cursor() as cursor:
        if connection.in_atomic_block:
            yield cursor
            return
        cursor.execute(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY" if connection.vendor == "postgresql" else "BEGIN DEFERRED"
        )
        try:
            yield cursor
        finally:
            cursor.execute("ROLLBACK")


def _rows(cursor: Cursor, sql: str, params: Any = None) -> list[tuple[Any, ...]]:
    cursor.execute(sql, params)
    return cursor.fetchall()


def _amounts(check: str, good: str, differing: list[tuple[Any, ...]]) -> Finding:
    """`differing` rows end with what is stored and what it should be, in nanos."""
    if not differing:
        return Finding(check, True, good)
    off = sum(int(row[-2]) - int(row[-1]) for row in differing)
    examples = "; ".join(
        f"{' '.join(map(str, row[:-2]))}: {format_usd(int(row[-2]))} instead of {format_usd(int(row[-1]))}"
        for row in differing[:EXAMPLES]
    )
    return Finding(check, False, f"{len(differing)} differ, by {format_usd(off)} together: {examples}")


def lots(cursor: Cursor, _now: datetime) -> Finding:
    return _amounts("R1", "every wallet is the sum of its lots", _rows(cursor, R1))


def accounts(cursor: Cursor, _now: datetime) -> Finding:
    return _amounts("R2", "every wallet and debt is what its transfers add up to", _rows(cursor, R2))


def held(cursor: Cursor, _now: datetime) -> Finding:
    return _amounts("R3", "held is the sum of unfinished holds", _rows(cursor, R3))


def trial_balance(cursor: Cursor, _now: datetime) -> Finding:
    (credits_, debits) = _rows(cursor, R4)[0]
    differing = [] if credits_ == debits else [("credits and debits", credits_, debits)]
    return _amounts("R4", "debits equal credits", differing)


def captures(cursor: Cursor, _now: datetime) -> Finding:
    differing = [row for sql in (R5_HOLDS, R5_LOTS, R5_USAGE, R5_REOPENED, R5_REFUNDED) for row in _rows(cursor, sql)]
    return _amounts("R5", "every captured hold is posted once, consumed from lots and on its usage record", differing)


def ages(cursor: Cursor, now: datetime) -> Finding:
    dialect = Dialect(connection)
    old = _rows(cursor, R8, (dialect.time(now - OVERDUE), dialect.time(now - ENDLESS)))
    if not old:
        return Finding("R8", True, "no hold is overdue")
    examples = "; ".join(f"{row[0]} {row[1]}" for row in old[:EXAMPLES])
    return Finding("R8", False, f"{len(old)} holds are overdue: {examples}")


CHECKS: tuple[Callable[[Cursor, datetime], Finding], ...] = (lots, accounts, held, trial_balance, captures, ages)
