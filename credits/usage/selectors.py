"""Sums of usage: by day, hour, model and so on. What belongs to a tenant takes the organisation's id first.

What was settled before the last run of the rollup task comes from rollups, the rest from the records
themselves, both from one snapshot: a page is never minutes behind the wallet.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from django.db.models import Expression, F, Max, Q
from django.db.models.functions import TruncDay, TruncHour

from accounts.models import ApiKey
from credits.models import UsageRecord, Wallet
from credits.usage.models import PlatformDay, RollupPeriod, UsageRollup
from credits.usage.reading import SUMS_OF_RECORDS, SUMS_OF_ROWS, not_rolled_up, snapshot
from credits.usage.types import DAY, EVERYTHING, Filters, Span, Sums, day_of

BURN_DAYS = 7
LEAST_BURN = timedelta(days=1)
LONGEST = timedelta(days=3650)
"""Credits that last longer than this are said to last for ever."""


class By(StrEnum):
    """What usage can be added up by; the value names the column."""

    HOUR = "hour"
    DAY = "day"
    MODEL = "model"
    PROVIDER = "provider"
    ROUTE = "route"
    API_KEY = "api_key_id"


@dataclass(frozen=True, slots=True)
class Line:
    """`value` is a datetime for By.HOUR and By.DAY, the key's id for By.API_KEY, else a name."""

    value: Any
    sums: Sums


@dataclass(frozen=True, slots=True)
class MemberLine:
    """`user_id` is None for keys whose creator is unknown or gone."""

    user_id: int | None
    sums: Sums


def usage_by(organization_id: int, by: By, span: Span, filters: Filters = EVERYTHING) -> list[Line]:
    """Times in their order, without those that had no usage; all else by its charge, the most first."""
    with snapshot() as rolled:
        rollups = UsageRollup.objects.filter(
            _time(span, whole_days=by != By.HOUR), organization_id=organization_id, **filters.values
        )
        records = not_rolled_up(
            UsageRecord.objects.filter(organization_id=organization_id, **filters.values), rolled, span
        )
        found = _added_up(by, rollups, records)
    return _in_order(by, found)


def usage_series(
    organization_id: int, time: By, by: By, span: Span, filters: Filters = EVERYTHING
) -> dict[tuple[datetime, Any], Sums]:
    """By time (By.HOUR or By.DAY) and something else at once: what a chart stacks."""
    with snapshot() as rolled:
        rollups = UsageRollup.objects.filter(
            _time(span, whole_days=time != By.HOUR), organization_id=organization_id, **filters.values
        )
        records = UsageRecord.objects.filter(organization_id=organization_id, **filters.values)
        return _added_up(by, rollups, not_rolled_up(records, rolled, span), time)


def usage_total(organization_id: int, span: Span, filters: Filters = EVERYTHING) -> Sums:
    return sum((line.sums for line in usage_by(organization_id, By.ROUTE, span, filters)), Sums())


def usage_by_member(organization_id: int, span: Span, filters: Filters = EVERYTHING) -> list[MemberLine]:
    """By who made the API key that was used."""
    creators = dict(ApiKey.objects.filter(organization_id=organization_id).values_list("pk", "created_by_id"))
    found: dict[int | None, Sums] = {}
    for line in usage_by(organization_id, By.API_KEY, span, filters):
        member = creators.get(line.value)
        found[member] = found.get(member, Sums()) + line.sums
    return [MemberLine(*each) for each in sorted(found.items(), key=lambda each: (-each[1].charge, each[0] or 0))]


@dataclass(frozen=True, slots=True)
class DayLine:
    """What one model of one provider did on one day (UTC)."""

    day: datetime
    model: str
    provider: str
    sums: Sums


def usage_by_day_and_model(organization_id: int, span: Span, filters: Filters = EVERYTHING) -> list[DayLine]:
    """The newest day first, then what was charged the most."""
    found: dict[tuple[datetime, str, str], Sums] = {}
    with snapshot() as rolled:
        rollups = UsageRollup.objects.filter(
            _time(span, whole_days=True), organization_id=organization_id, **filters.values
        )
        records = UsageRecord.objects.filter(organization_id=organization_id, **filters.values)
        newest = not_rolled_up(records, rolled, span)
        for rows, time, sums in (
            (rollups, TruncDay("starts_at"), SUMS_OF_ROWS),
            (newest, TruncDay("created_at"), SUMS_OF_RECORDS),
        ):
            days = rows.order_by().annotate(day=time).values("day", "model", "provider")
            for row in days.annotate(**sums):
                key = (row["day"], row["model"], row["provider"])
                found[key] = found.get(key, Sums()) + Sums.of(row)
    lines = [DayLine(*key, sums) for key, sums in found.items()]
    return sorted(lines, key=lambda line: (-line.day.timestamp(), -line.sums.charge, line.model, line.provider))


RECENTLY = 2 * DAY
"""Within this, when a key was used last is known to the hour; before, to the day."""


def keys_last_used(organization_id: int, now: datetime) -> dict[int, datetime]:
    """When each API key had its newest request, by the key's id: to the minute if it was lately."""
    found: dict[int, datetime] = {}
    with snapshot() as rolled:
        rollups = UsageRollup.objects.filter(organization_id=organization_id)
        newest = not_rolled_up(UsageRecord.objects.filter(organization_id=organization_id), rolled)
        for rows, time in (
            (rollups.filter(period=RollupPeriod.DAY), "starts_at"),
            (rollups.filter(period=RollupPeriod.HOUR, starts_at__gte=now - RECENTLY), "starts_at"),
            (newest, "created_at"),
        ):
            for key_id, moment in rows.order_by().values_list("api_key_id").annotate(Max(time)):
                found[key_id] = max(moment, found.get(key_id, moment))
    return found


@dataclass(frozen=True, slots=True)
class Spending:
    """Nanos. `month_forecast` is what this month will come to, and `lasts` how long the credits will last (None:
    for ever, as far as can be told), if requests go on as they did in the last BURN_DAYS days."""

    today: int = 0
    this_month: int = 0
    month_forecast: int = 0
    lasts: timedelta | None = None


def spending(organization_id: int, now: datetime) -> Spending:
    """In whole nanos and seconds; a forecast is rounded down."""
    today, month, recent = Span.today(now), Span.this_month(now), Span.last_days(now, BURN_DAYS + 1)
    span = Span(min(month.since, recent.since), today.until)
    days = {line.value: line.sums.charge for line in usage_by(organization_id, By.DAY, span)}
    in_month = sum(charge for day, charge in days.items() if day >= month.since)
    burn = {day: charge for day, charge in days.items() if day >= recent.since and charge}
    if not burn:
        return Spending(days.get(today.since, 0), in_month, in_month)
    seconds = int(max(now - min(burn), LEAST_BURN).total_seconds())
    burnt = sum(burn.values())
    wallet = Wallet.objects.filter(pk=organization_id).values_list("posted", "held", "debt").first() or (0, 0, 0)
    available = max(wallet[0] - wallet[1] - wallet[2], 0)
    lasts = available * seconds // burnt
    return Spending(
        today=days.get(today.since, 0),
        this_month=in_month,
        month_forecast=in_month + burnt * int((month.until - now).total_seconds()) // seconds,
        lasts=timedelta(seconds=lasts) if lasts < LONGEST.total_seconds() else None,
    )


# -- all tenants, for operators


@dataclass(frozen=True, slots=True)
class PlatformLine:
    day: datetime
    model: str
    sums: Sums


def platform_total(span: Span) -> Sums:
    """Of all organisations."""
    return sum((line.sums for line in platform_usage(span)), Sums())


def platform_usage(span: Span) -> list[PlatformLine]:
    """Of all organisations, by day and model, in whole days: the newest first, then what was charged the most."""
    with snapshot() as rolled:
        rollups = PlatformDay.objects.filter(starts_at__gte=day_of(span.since), starts_at__lt=span.until)
        # From wallet to wallet: there is no index of time alone.
        records = not_rolled_up(UsageRecord.objects.filter(organization__wallet__isnull=False), rolled, span)
        found: dict[Any, Sums] = {}
        for each in rollups.order_by().values("starts_at", "model").annotate(**SUMS_OF_ROWS):
            found[each["starts_at"], each["model"]] = Sums.of(each)
        newest = records.order_by().annotate(day=TruncDay("created_at")).values("day", "model")
        for row in newest.annotate(**SUMS_OF_RECORDS):
            key = (row["day"], row["model"])
            found[key] = found.get(key, Sums()) + Sums.of(row)
    lines = [PlatformLine(day, model, sums) for (day, model), sums in found.items()]
    return sorted(lines, key=lambda line: (-line.day.timestamp(), -line.sums.charge, line.model))


# -- how


def _time(span: Span, *, whole_days: bool) -> Q:
    """The rollups of `span`: days as far as it has whole ones, hours at its edges."""
    first = day_of(span.since)
    first = first if first == span.since else first + DAY
    last = day_of(span.until)
    if not whole_days or first >= last:
        return _rows(RollupPeriod.HOUR, span.since, span.until)
    edges = [(span.since, first), (last, span.until)]
    found = _rows(RollupPeriod.DAY, first, last)
    for since, until in edges:
        if since < until:
            found |= _rows(RollupPeriod.HOUR, since, until)
    return found


def _rows(period: RollupPeriod, since: datetime, until: datetime) -> Q:
    return Q(period=period, starts_at__gte=since, starts_at__lt=until)


_OF_ROLLUPS: Mapping[By, Expression | F] = {By.HOUR: F("starts_at"), By.DAY: TruncDay("starts_at")}
_OF_RECORDS: Mapping[By, Expression | F] = {By.HOUR: TruncHour("created_at"), By.DAY: TruncDay("created_at")}


def _added_up(by: By, rollups: Any, records: Any, time: By | None = None) -> dict[Any, Sums]:
    """By `by`'s values; with `time` by pairs of a time and such a value."""
    found: dict[Any, Sums] = {}
    for rows, times, sums in ((rollups, _OF_ROLLUPS, SUMS_OF_ROWS), (records, _OF_RECORDS, SUMS_OF_RECORDS)):
        columns = {"by_value": times.get(by, F(by.value))} | ({"by_time": times[time]} if time else {})
        for row in rows.order_by().annotate(**columns).values(*columns).annotate(**sums):
            value = (row["by_time"], row["by_value"]) if time else row["by_value"]
            found[value] = found.get(value, Sums()) + Sums.of(row)
    return found


def _in_order(by: By, found: dict[Any, Sums]) -> list[Line]:
    lines = [Line(value, sums) for value, sums in found.items()]
    if by in {By.HOUR, By.DAY}:
        return sorted(lines, key=lambda line: line.value)
    return sorted(lines, key=lambda line: (-line.sums.charge, line.value))
