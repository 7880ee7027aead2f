"""What is asked of usage and what comes back. Money is nanos, times are UTC."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any, Self

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def hour_of(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def day_of(moment: datetime) -> datetime:
    return hour_of(moment).replace(hour=0)


def month_of(moment: datetime) -> datetime:
    return day_of(moment).replace(day=1)


def month_after(month: datetime) -> datetime:
    """The start of the month after the one that `month` is in."""
    return month_of(month_of(month) + 31 * DAY)


@dataclass(frozen=True, slots=True)
class Span:
    """From `since` to before `until`. Sums are kept by the hour, so `since` goes back to a full hour
    and `until` on to one."""

    since: datetime
    until: datetime

    def __post_init__(self) -> None:
        object.__setattr__(self, "since", hour_of(self.since))
        until = hour_of(self.until)
        object.__setattr__(self, "until", until if until == self.until else until + HOUR)

    @classmethod
    def today(cls, now: datetime) -> Self:
        return cls(day_of(now), day_of(now) + DAY)

    @classmethod
    def this_month(cls, now: datetime) -> Self:
        return cls(month_of(now), month_after(now))

    @classmethod
    def last_days(cls, now: datetime, days: int) -> Self:
        """`days` days, today being the last."""
        return cls(day_of(now) - (days - 1) * DAY, day_of(now) + DAY)


@dataclass(frozen=True, slots=True)
class Filters:
    """Narrows usage to what has these values; None is any."""

    api_key_id: int | None = None
    model: str | None = None
    provider: str | None = None
    route: str | None = None

    @property
    def values(self) -> dict[str, Any]:
        named = {name: getattr(self, name) for name in ("api_key_id", "model", "provider", "route")}
        return {name: value for name, value in named.items() if value is not None}


EVERYTHING = Filters()


@dataclass(frozen=True, slots=True)
class Sums:
    """Several requests added up (models.UsageSums names the columns alike)."""

    requests: int = 0
    errors: int = 0
    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    web_searches: int = 0
    charge: int = 0
    cost: int = 0
    total_ms: int = 0
    first_token_ms: int = 0
    first_tokens: int = 0

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """From the columns of `reading.SUMS_OF_…`, of which a sum of nothing is null."""
        return cls(**{name: int(row[f"sum_{name}"] or 0) for name in SUM_COLUMNS})

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(*(getattr(self, name) + getattr(other, name) for name in SUM_COLUMNS))

    @property
    def margin(self) -> int:
        return self.charge - self.cost

    @property
    def cached_tokens(self) -> int:
        return self.cache_read_tokens + self.cache_write_tokens + self.cache_write_1h_tokens


SUM_COLUMNS = tuple(field.name for field in fields(Sums))
