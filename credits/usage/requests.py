"""Single requests, the newest first, page by page."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any

from django.db.models import Max, Q, QuerySet, Sum

from credits.correction_models import Correction
from credits.models import PriceSnapshot, UsageRecord
from credits.rating import PriceLine, price_lines
from credits.types import MeterReading
from credits.usage.models import RollupPeriod, SessionSlice, UsageArchive, UsageRollup
from credits.usage.reading import not_rolled_up, snapshot
from credits.usage.types import HOUR, Filters, Span

MOST = 200
HOURS = 60
"""How many are looked through by one query."""


@dataclass(frozen=True, slots=True)
class RequestFilters(Filters):
    """`errors`: only requests with a status of 400 or more. `agent_id` is one of the session's, "" its main thread."""

    session_id: str | None = None
    agent_id: str | None = None
    errors: bool = False


ALL_REQUESTS = RequestFilters()


@dataclass(frozen=True, slots=True)
class UsageRow:
    """One request, as a customer's list shows it."""

    request_id: str
    created_at: datetime
    model: str
    requested_model: str
    route: str
    provider: str
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    charge: int
    status: int
    error_code: str
    api_key_id: int
    session_id: str
    agent_id: str
    total_ms: int
    refunded: int = 0
    """Nanos that corrections gave back."""


@dataclass(frozen=True, slots=True)
class RequestDetail:
    """All that a customer may know of one request: not what it cost the operator."""

    request_id: str
    created_at: datetime
    api_key_id: int
    model: str
    requested_model: str
    route: str
    why: list[Any]
    provider: str
    status: int
    error_code: str
    stop_reason: str
    streamed: bool
    first_token_ms: int | None
    total_ms: int
    session_id: str
    agent_id: str
    parent_agent_id: str
    request_class: str
    client: str
    input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    cache_write_1h_tokens: int
    output_tokens: int
    reasoning_tokens: int
    web_searches: int
    usage_source: str
    charge: int
    attempts: list[dict[str, Any]]
    lines: Sequence[PriceLine] = ()
    refunds: Sequence["Refund"] = ()


@dataclass(frozen=True, slots=True)
class Refund:
    """What an operator gave back for a request, in nanos."""

    amount: int
    at: datetime
    reason: str


DETAIL_COLUMNS = tuple(field.name for field in fields(RequestDetail) if field.name not in {"lines", "refunds"})
ATTEMPT_KEYS = ("provider", "model", "ms", "status", "error")
"""What a customer is told of an attempt."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last request of a page: the next one begins after it."""

    created_at: datetime
    request_id: str

    def __str__(self) -> str:
        return f"{int(self.created_at.timestamp())}.{self.created_at.microsecond:06d}-{self.request_id}"

    @classmethod
    def parse(cls, text: str) -> "Cursor | None":
        """None for what is no cursor."""
        moment, found, request_id = text.partition("-")
        seconds, _, micros = moment.partition(".")
        if not (found and seconds.isascii() and seconds.isdigit() and micros.isascii() and micros.isdigit()):
            return None
        if len(seconds) > 11 or len(micros) != 6 or "\0" in request_id:
            return None
        return cls(datetime.fromtimestamp(int(seconds), UTC).replace(microsecond=int(micros)), request_id)


@dataclass(frozen=True, slots=True)
class Page:
    rows: Sequence[UsageRow]
    next: Cursor | None


def requests_page(
    organization_id: int,
    span: Span | None = None,
    filters: RequestFilters = ALL_REQUESTS,
    after: Cursor | None = None,
    limit: int = 50,
) -> Page:
    """The newest requests, newest first, at most MOST; `after` is the cursor of the page before."""
    limit = min(limit, MOST)
    records = UsageRecord.objects.filter(organization_id=organization_id).defer("why", "attempts")
    if after:
        records = records.filter(_before(after))
    if filters == ALL_REQUESTS:
        rows = list(_newest(_within(records, span), limit + 1))
    else:
        with snapshot() as rolled:
            rows = _filtered(organization_id, records, rolled, span, filters, after, limit + 1)
    refunds = _refunded([record.request_id for record in rows[:limit]])
    page = [_row(record, refunds.get(record.request_id, 0)) for record in rows[:limit]]
    more = len(rows) > limit
    return Page(page, Cursor(page[-1].created_at, page[-1].request_id) if more else None)


def _refunded(request_ids: Sequence[str]) -> dict[str, int]:
    """Nanos that corrections gave back, of the requests that have any."""
    found = Correction.objects.filter(hold_id__in=request_ids).values_list("hold_id")
    return dict(found.annotate(Sum("amount")).order_by())


def request_detail(organization_id: int, request_id: str) -> RequestDetail | None:
    """None for a request that is not there, or another tenant's."""
    records = UsageRecord.objects.filter(organization_id=organization_id, request_id=request_id)
    row = records.values(*DETAIL_COLUMNS, "price_snapshot_id").first()
    if row is None:
        return None
    price = PriceSnapshot.objects.get(pk=row.pop("price_snapshot_id")).as_type()
    row["attempts"] = [{key: each[key] for key in ATTEMPT_KEYS if key in each} for each in row["attempts"]]
    detail = RequestDetail(**row)
    refunds = Correction.objects.filter(hold_id=request_id).order_by("created_at")
    return replace(
        detail,
        lines=price_lines(_reading(detail), price),
        refunds=[Refund(each.amount, each.created_at, each.reason) for each in refunds],
    )


def _reading(detail: RequestDetail) -> MeterReading:
    return MeterReading(
        input=detail.input_tokens,
        cache_read=detail.cache_read_tokens,
        cache_write=detail.cache_write_tokens,
        cache_write_1h=detail.cache_write_1h_tokens,
        output=detail.output_tokens,
        reasoning=detail.reasoning_tokens,
        web_searches=detail.web_searches,
    )


def _filtered(
    organization_id: int,
    records: "QuerySet[UsageRecord]",
    rolled: datetime | None,
    span: Span | None,
    filters: RequestFilters,
    after: Cursor | None,
    limit: int,
) -> list[UsageRecord]:
    """Rollups tell in which hours there is something to find, so that a rare value is found without
    reading all of the tenant's records."""
    matching = records.filter(**_columns(filters))
    rows = list(_newest(not_rolled_up(matching, rolled, span), limit))
    if rolled is None:
        return rows
    hours = _hours(organization_id, span, filters, after, limit)
    for start in range(0, len(hours), HOURS):
        if len(rows) >= limit:
            break
        some = hours[start : start + HOURS]
        edges = Q(created_at__gte=some[-1], created_at__lt=min(some[0] + HOUR, rolled)) & _any(some)
        rows += _newest(matching.filter(edges), limit - len(rows))
    return rows


def _any(hours: Sequence[datetime]) -> Q:
    """In one of these hours, newest first; those that follow one another make one range."""
    ranges: list[tuple[datetime, datetime]] = []
    for hour in hours:
        if ranges and ranges[-1][0] == hour + HOUR:
            ranges[-1] = (hour, ranges[-1][1])
        else:
            ranges.append((hour, hour + HOUR))
    found = Q()
    for since, until in ranges:
        found |= Q(created_at__gte=since, created_at__lt=until)
    return found


def _hours(
    organization_id: int, span: Span | None, filters: RequestFilters, after: Cursor | None, limit: int
) -> list[datetime]:
    """The hours with requests that match, newest first, of those whose records are still here. Of a session
    all that it had, else as many as `limit` requests can need: each has one, but for the cursor's own hour."""
    hours: QuerySet[Any]
    most: int | None = None
    if filters.session_id:
        hours = SessionSlice.objects.filter(session_id=filters.session_id)
        if filters.agent_id is not None:
            hours = hours.filter(agent_id=filters.agent_id)
    else:
        hours = UsageRollup.objects.filter(period=RollupPeriod.HOUR, **filters.values)
        most = limit + 1
    if filters.errors:
        hours = hours.filter(errors__gt=0)
    deleted = UsageArchive.objects.filter(organization_id=organization_id, deleted_at__isnull=False)
    kept_since = deleted.aggregate(end=Max("ends_at"))["end"]
    edges = {
        "starts_at__gte": max((edge for edge in (kept_since, span and span.since) if edge), default=None),
        "starts_at__lt": span and span.until,
        "starts_at__lte": after and after.created_at,
    }
    hours = hours.filter(organization_id=organization_id, **{name: edge for name, edge in edges.items() if edge})
    return list(hours.order_by("-starts_at").values_list("starts_at", flat=True).distinct()[:most])


def _columns(filters: RequestFilters) -> dict[str, Any]:
    columns = filters.values
    if filters.session_id is not None:
        columns["session_id"] = filters.session_id
        if filters.agent_id is not None:
            columns["agent_id"] = filters.agent_id
    if filters.errors:
        columns["status__gte"] = 400
    return columns


def _within(records: "QuerySet[UsageRecord]", span: Span | None) -> "QuerySet[UsageRecord]":
    return records.filter(created_at__gte=span.since, created_at__lt=span.until) if span else records


def _before(cursor: Cursor) -> Q:
    return Q(created_at__lte=cursor.created_at) & (
        Q(created_at__lt=cursor.created_at) | Q(request_id__lt=cursor.request_id)
    )


def _newest(records: "QuerySet[UsageRecord]", limit: int) -> "QuerySet[UsageRecord]":
    return records.order_by("-created_at", "-request_id")[:limit]


def _row(record: UsageRecord, refunded: int) -> UsageRow:
    return UsageRow(
        request_id=record.request_id,
        created_at=record.created_at,
        model=record.model,
        requested_model=record.requested_model,
        route=record.route,
        provider=record.provider,
        input_tokens=record.input_tokens,
        cached_tokens=record.cache_read_tokens + record.cache_write_tokens + record.cache_write_1h_tokens,
        output_tokens=record.output_tokens,
        charge=record.charge,
        status=record.status,
        error_code=record.error_code,
        api_key_id=record.api_key_id,
        session_id=record.session_id,
        agent_id=record.agent_id,
        total_ms=record.total_ms,
        refunded=refunded,
    )
