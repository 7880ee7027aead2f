"""What differs between SQLite and PostgreSQL for the ledger's own SQL."""

import functools
import itertools
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from typing import Any, Protocol, cast

import msgspec
from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

ROWS = "{rows}"
MOST_ROWS = 16
"""Rows are inserted 16 at a time, and what is left at once: few statements to be prepared, and few to run."""

_encode = msgspec.json.Encoder().encode


class Cursor(Protocol):
    """The part of a cursor that the ledger uses; parameters are written `%s`."""

    @property
    def rowcount(self) -> int: ...
    def execute(self, sql: str, params: Any = ()) -> Any: ...
    def executemany(self, sql: str, param_list: Any) -> Any: ...
    def fetchall(self) -> list[tuple[Any, ...]]: ...
    def fetchone(self) -> tuple[Any, ...] | None: ...


class Dialect:
    """`any_of("id")` in a statement takes one parameter, made by `values`: however many ids are
    asked for, the statement's text stays the same, so that it is prepared once."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self._connection = connection
        self.postgresql = connection.vendor == "postgresql"
        self.time = connection.ops.adapt_datetimefield_value
        # SQLite locks the whole database when a transaction begins (transaction_mode IMMEDIATE).
        self.for_update = " FOR UPDATE" if self.postgresql else ""
        self.skip_locked = " FOR UPDATE SKIP LOCKED" if self.postgresql else ""

    @contextmanager
    def cursor(self) -> Iterator[Cursor]:
        """The driver's cursor: Django's own rewrites each SQLite statement anew and writes the values
        into each PostgreSQL statement, which costs as much as running it. Errors are Django's all
        the same."""
        self._connection.ensure_connection()
        with self._connection.wrap_database_errors:
            if self.postgresql:
                import psycopg  # not at the top: a process on SQLite would carry 9 MiB for nothing

                with psycopg.Cursor(self._connection.connection) as cursor:
                    yield cast(Cursor, cursor)
            else:
                yield _SqliteCursor(self._connection.connection.cursor())

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """One transaction, rolled back when an exception leaves the block. Only for statements on
        this dialect's cursors: on SQLite it goes past Django, whose bookkeeping costs more."""
        if self.postgresql or self._connection.in_atomic_block:
            with transaction.atomic(using=self._connection.alias):
                yield
            return
        connection = self._connection.connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def version(self, cursor: Cursor) -> Any:
        """Inside a transaction: a value that changes when another connection has written anything. None
        where the database has no such thing."""
        if self.postgresql:
            return None
        cursor.execute("PRAGMA data_version")
        row = cursor.fetchone()
        return None if row is None else row[0]

    def as_stored(self, column: str) -> str:
        """A time in a SELECT that can be compared with what `time` makes, without being parsed first."""
        return column if self.postgresql else f"CAST({column} AS TEXT)"

    def date(self, stored: Any) -> date:
        """A date as the cursor gave it."""
        return stored if isinstance(stored, date) else date.fromisoformat(stored)

    def any_of(self, column: str) -> str:
        return f"{column} = ANY(%s)" if self.postgresql else f"{column} IN (SELECT value FROM json_each(%s))"

    def close_holds(self, cursor: Cursor, closings: Sequence[tuple[str, int, Any, str]]) -> int:
        """End unfinished holds, each given as (state, captured, time, id); how many were unfinished."""
        # No IN: SQLite would fill a table of its own with the three words (see `guards.py`).
        states = ("open", "dispatched", "needs_settlement")
        unfinished = "(" + " OR ".join(f"credits_hold.state = '{state}'" for state in states) + ")"
        if isinstance(cursor, _SqliteCursor):
            return cursor.execute_rows(
                "UPDATE credits_hold SET state = closing.column1, captured = closing.column2, "
                f"updated_at = closing.column3 FROM (VALUES {ROWS}) AS closing "
                f"WHERE credits_hold.id = closing.column4 AND {unfinished}",
                "(%s, %s, %s, %s)",
                closings,
            )
        cursor.executemany(
            f"UPDATE credits_hold SET state = %s, captured = %s, updated_at = %s WHERE id = %s AND {unfinished}",
            closings,
        )
        return cursor.rowcount

    def values(self, values: Iterable[int] | Iterable[str]) -> Any:
        return list(values) if self.postgresql else _encode(list(values)).decode()


@functools.lru_cache(maxsize=128)
def _with_question_marks(sql: str) -> str:
    return sql.replace("%s", "?")


@functools.lru_cache(maxsize=8 * MOST_ROWS)
def _with_rows(sql: str, row: str, rows: int) -> str:
    return _with_question_marks(sql.replace(ROWS, ", ".join([row] * rows)))


class _SqliteCursor:
    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self._cursor = cursor
        self.fetchall = cursor.fetchall
        self.fetchone = cursor.fetchone

    @property
    def rowcount(self) -> int:
        return self._cursor.rowcount

    def execute(self, sql: str, params: Any = ()) -> Any:
        return self._cursor.execute(_with_question_marks(sql), params)

    def executemany(self, sql: str, param_list: Any) -> Any:
        """Rows to insert go several to a statement: the interpreter's lock changes hands at each
        statement's end, which under load costs more than the statement."""
        if not sql.startswith("INSERT"):
            return self._cursor.executemany(_with_question_marks(sql), param_list)
        head, _, row = sql.rpartition(" VALUES ")
        self.execute_rows(f"{head} VALUES {ROWS}", row, param_list)
        return self

    def execute_rows(self, sql: str, row: str, param_list: Sequence[Sequence[Any]]) -> int:
        """Run `sql` with several rows of parameters at a time in the place of ROWS; `row` is what
        stands for one. How many rows were changed in all."""
        start, left, changed = 0, len(param_list), 0
        while left:
            rows = min(left, MOST_ROWS)
            values = list(itertools.chain.from_iterable(param_list[start : start + rows]))
            self._cursor.execute(_with_rows(sql, row, rows), values)
            changed += self._cursor.rowcount
            start, left = start + rows, left - rows
        return changed
