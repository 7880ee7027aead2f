"""A tenant's requests as CSV or JSON, line after line at flat memory, however many there are."""

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

from django.db.models import Q

from credits.models import UsageRecord
from credits.money import NANOS_PER_USD
from credits.usage.types import EVERYTHING, Filters, Span

BATCH = 1000
COLUMNS = (
    "request_id", "created_at", "api_key_id", "model", "requested_model", "route", "provider", "status", "error_code",
    "stop_reason", "streamed", "first_token_ms", "total_ms", "session_id", "agent_id", "parent_agent_id", "client",
    "input_tokens", "cache_read_tokens", "cache_write_tokens", "cache_write_1h_tokens", "output_tokens",
    "reasoning_tokens", "web_searches", "usage_source", "charge",
)  # fmt: skip
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def export_csv(organization_id: int, span: Span, filters: Filters = EVERYTHING) -> Iterator[str]:
    """A heading and a line for each request, the oldest first. The charge in nanos and in dollars.

    Text that a spreadsheet would take for a formula begins with an apostrophe: some of it is the client's."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([*COLUMNS[:-1], "charge_nanos", "charge_usd"])
    yield text.getvalue()
    for rows in batches(organization_id, span, filters):
        text.seek(0)
        text.truncate()
        for row in rows:
            cells = [cell(row[name]) for name in COLUMNS[:-1]]
            writer.writerow([*cells, row["charge"], _dollars(row["charge"])])
        yield text.getvalue()


def export_json(organization_id: int, span: Span, filters: Filters = EVERYTHING) -> Iterator[str]:
    """An array of objects, the oldest request first, a line each; `charge_nanos` is a whole number."""
    yield "["
    separator = "\n"
    for rows in batches(organization_id, span, filters):
        lines = []
        for row in rows:
            values = {name: row[name] for name in COLUMNS[:-1]}
            values["created_at"] = row["created_at"].isoformat()
            lines.append(json.dumps({**values, "charge_nanos": row["charge"], "charge_usd": _dollars(row["charge"])}))
        yield separator + ",\n".join(lines)
        separator = ",\n"
    yield "\n]\n"


def batches(
    organization_id: int, span: Span, filters: Filters = EVERYTHING, columns: tuple[str, ...] = COLUMNS
) -> Iterator[list[dict[str, Any]]]:
    """The records of `span` in the order of their settlement, each batch a query of its own: no cursor is
    held open while a slow client reads."""
    records = UsageRecord.objects.filter(
        organization_id=organization_id, created_at__gte=span.since, created_at__lt=span.until, **filters.values
    )
    records = records.order_by("created_at", "request_id")
    after = Q()
    while rows := list(records.filter(after).values(*columns)[:BATCH]):
        yield rows
        last = rows[-1]
        after = Q(created_at__gte=last["created_at"]) & (
            Q(created_at__gt=last["created_at"]) | Q(request_id__gt=last["request_id"])
        )


def cell(value: Any) -> Any:
    """As a spreadsheet may read it."""
    if isinstance(value, str):
        return f"'{value}" if value.startswith(FORMULA) else value
    return value.isoformat() if hasattr(value, "isoformat") else value


def _dollars(nanos: int) -> str:
    return f"{nanos // NANOS_PER_USD}.{nanos % NANOS_PER_USD:09d}"
