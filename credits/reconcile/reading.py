"""How the checks read: all on one snapshot of the database, which blocks no writer, and from the last
checkpoint on."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from django.db import connection

from credits.database import Cursor, Dialect

SETTLE_SECONDS = 10.0
"""How long a run waits for transactions that were writing transfers when it began."""

# A full run reads the whole ledger: it takes longer than requests may, and sorts in more memory.
POSTGRESQL_BEGIN = (
    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
    "SET LOCAL statement_timeout = '30min'",
    "SET LOCAL work_mem = '128MB'",
)
SQLITE_BEGIN = ("PRAGMA cache_size = -131072", "PRAGMA mmap_size = 2147483648", "BEGIN DEFERRED")
SQLITE_END = ("ROLLBACK", "PRAGMA mmap_size = 0", "PRAGMA cache_size = -4000", "PRAGMA shrink_memory")


@dataclass(frozen=True, slots=True)
class Verified:
    """What the newest checkpoint vouches for (models.ReconciliationCheckpoint), with its sums:
    account -> (debits, credits) in nanos. The empty one vouches for nothing."""

    number: int = 0
    cut: int = 0
    hold_cut: str = ""
    transfers: int = 0
    moved: int = 0
    balances: dict[int, tuple[int, int]] = field(default_factory=dict)


NOTHING = Verified()


@dataclass(frozen=True, slots=True)
class Movement:
    """What went from one account to another; `settled` when no transfer can still be added to it."""

    debit: int
    credit: int
    settled: bool
    transfers: int
    amount: int


class Reading:
    """`since` is what need not be read again. Transfers up to the id `settled_up_to` are all there, however
    transactions commit (`settled_transfers`); None if that is not known."""

    def __init__(self, cursor: Cursor, now: datetime, since: Verified, settled_up_to: int | None) -> None:
        self.cursor = cursor
        self.now = now
        self.since = since
        self.settled_up_to = settled_up_to
        self.dialect = Dialect(connection)

    @property
    def full(self) -> bool:
        return self.since.number == 0

    def rows(self, sql: str, *params: Any) -> list[tuple[Any, ...]]:
        self.cursor.execute(sql, params)
        return self.cursor.fetchall()

    def one(self, sql: str, *params: Any) -> Any:
        """The only value of the only row."""
        return self.rows(sql, *params)[0][0]

    @cached_property
    def movements(self) -> list[Movement]:
        """Of the transfers since the checkpoint, in one pass over them."""
        rows = self.rows(
            "SELECT debit_id, credit_id, CASE WHEN id <= %s THEN 1 ELSE 0 END, COUNT(*), SUM(amount) "
            "FROM credits_transfer WHERE id > %s GROUP BY 1, 2, 3",
            self.settled_up_to or 0,
            self.since.cut,
        )
        return [Movement(row[0], row[1], bool(row[2]), int(row[3]), int(row[4])) for row in rows]

    @cached_property
    def balances(self) -> dict[int, tuple[int, int]]:
        """Account -> (debits, credits) of all transfers."""
        return add_up(self.since.balances, self.movements)


def add_up(start: dict[int, tuple[int, int]], movements: list[Movement]) -> dict[int, tuple[int, int]]:
    sums = dict(start)
    for movement in movements:
        debits, credits_ = sums.get(movement.debit, (0, 0))
        sums[movement.debit] = (debits + movement.amount, credits_)
        debits, credits_ = sums.get(movement.credit, (0, 0))
        sums[movement.credit] = (debits, credits_ + movement.amount)
    return sums


@contextmanager
def snapshot() -> Iterator[Cursor]:
    """One consistent view that blocks no writer (Django's own transactions would, on SQLite)."""
    with connection.cursor() as cursor:
        if connection.in_atomic_block:
            yield cursor
            return
        postgresql = connection.vendor == "postgresql"
        for statement in POSTGRESQL_BEGIN if postgresql else SQLITE_BEGIN:
            cursor.execute(statement)
        try:
            yield cursor
        finally:
            for statement in ("ROLLBACK",) if postgresql else SQLITE_END:
                cursor.execute(statement)


def settled_transfers() -> int | None:
    """An id such that a snapshot taken from now on shows every transfer up to it that will ever be; None
    if some transaction does not end in time.

    PostgreSQL hands ids out before it commits, so a smaller id may appear after a larger one. Whoever has
    drawn an id holds a lock on the table until its end: so the largest id is read first, and then waited for
    those who hold the lock. On SQLite there is one writer at a time, and ids appear in their order."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT COALESCE(MAX(id), 0) FROM credits_transfer")
        largest: int = cursor.fetchone()[0]
        deadline = time.monotonic() + SETTLE_SECONDS
        waiting_for = writers()
        while waiting_for:
            if time.monotonic() > deadline:
                return None
            time.sleep(0.02)
            waiting_for &= writers()
    return largest


def writers() -> set[str]:
    """The transactions that have written transfers or holds and have not ended, other than our own."""
    if connection.vendor != "postgresql":
        return set()
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT virtualtransaction FROM pg_locks WHERE locktype = 'relation' AND granted "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
            "AND relation IN ('credits_transfer'::regclass, 'credits_hold'::regclass) "
            "AND mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock') "
            "AND pid IS DISTINCT FROM pg_backend_pid()"
        )
        return {row[0] for row in cursor.fetchall()}
