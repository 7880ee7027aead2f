"""Reads that put rollups and the newest records together."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from django.db import connection
from django.db.backends.utils import CursorWrapper
from django.db.models import Case, Count, IntegerField, QuerySet, Sum, Value, When

from credits.models import UsageRecord
from credits.usage.models import RollupProgress
from credits.usage.types import SUM_COLUMNS, Span

# The prefix keeps a sum's name apart from its column's.
SUMS_OF_ROWS = {f"sum_{name}": Sum(name) for name in SUM_COLUMNS}
SUMS_OF_RECORDS = {
    **{f"sum_{name}": Sum(name) for name in SUM_COLUMNS if name not in {"requests", "errors", "first_tokens"}},
    "sum_requests": Count("*"),
    "sum_errors": Sum(Case(When(status__gte=400, then=Value(1)), default=Value(0), output_field=IntegerField())),
    "sum_first_tokens": Count("first_token_ms"),
}


@contextmanager
def snapshot_cursor() -> Iterator[CursorWrapper]:
    """One consistent view of the database that blocks no writer. In a transaction that is already under
    way, that transaction's own."""
    isolation = "ISOLATION LEVEL REPEATABLE READ READ ONLY" if connection.vendor == "postgresql" else "DEFERRED"
    with connection.cursor() as cursor:
        if connection.in_atomic_block:
            yield cursor
            return
        cursor.execute(f"BEGIN {isolation}")
        try:
            yield cursor
        finally:
            cursor.execute("ROLLBACK")


@contextmanager
def snapshot() -> Iterator[datetime | None]:
    """Until when things are rolled up (None: not at all yet), in one consistent view: rollups and newer records
    are read by several statements, and between them the task may write."""
    with snapshot_cursor():
        yield rolled_until()


def rolled_until() -> datetime | None:
    return RollupProgress.objects.filter(pk=1).values_list("rolled_until", flat=True).first()


def not_rolled_up(
    records: "QuerySet[UsageRecord]", rolled: datetime | None, span: Span | None = None
) -> "QuerySet[UsageRecord]":
    """The records of `span` that are in no rollup yet: those of the last few minutes."""
    edges: dict[str, Any] = {}
    start = max((edge for edge in (rolled, span.since if span else None) if edge), default=None)
    if start:
        edges["created_at__gte"] = start
    if span:
        edges["created_at__lt"] = span.until
    return records.filter(**edges)
