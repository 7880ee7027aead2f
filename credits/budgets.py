"""What an API key may spend: in all, and in a day, week or month (UTC). Pure.

The counters stand on the key's budget row and change in the transaction of the hold or the
settlement itself, under the wallet's lock: concurrent requests cannot pass a limit together
(architecture, section 5). A charge counts on the day on which it is settled.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

TOTAL, DAY, WEEK, MONTH = WINDOWS = ("total", "day", "week", "month")


class Binding(NamedTuple):
    """The limit that leaves the least room; amounts in nanos, `resets_at` None for the total."""

    window: str
    limit: int
    room: int
    resets_at: datetime | None


def starts(on: date) -> dict[str, date]:
    """The first day of each window that `on` lies in; weeks begin on Monday."""
    return {TOTAL: date.min, DAY: on, WEEK: on - timedelta(days=on.weekday()), MONTH: on.replace(day=1)}


def resets_at(window: str, on: date) -> datetime | None:
    """When the window that `on` lies in ends; None for the total, which never does."""
    if window == TOTAL:
        return None
    begin = starts(on)[window]
    if window == MONTH:
        end = (begin + timedelta(days=31)).replace(day=1)
    else:
        end = begin + timedelta(days=1 if window == DAY else 7)
    return datetime(end.year, end.month, end.day, tzinfo=UTC)


def utc_date(now: datetime) -> date:
    return now.astimezone(UTC).date()


@dataclass(slots=True)
class Budget:
    """A key's limits (None: no limit), what it has spent as of `spent_on`, and what its unfinished
    holds reserve, all in nanos. Limits and counters stand in the order of WINDOWS."""

    api_key_id: int
    limits: tuple[int | None, ...]
    spent: tuple[int, ...]
    held: int
    spent_on: date

    def roll(self, now: datetime) -> None:
        """Begin each window anew that has ended since `spent_on`. A clock that went back changes nothing."""
        today = utc_date(now)
        if today <= self.spent_on:
            return
        before, after = starts(self.spent_on), starts(today)
        self.spent = tuple(
            spent if before[window] == after[window] else 0 for window, spent in zip(WINDOWS, self.spent, strict=True)
        )
        self.spent_on = today

    def binding(self) -> Binding | None:
        """The tightest limit; None without limits. Call `roll` first."""
        rooms = [
            Binding(window, limit, max(0, limit - spent - self.held), resets_at(window, self.spent_on))
            for window, limit, spent in zip(WINDOWS, self.limits, self.spent, strict=True)
            if limit is not None
        ]
        return min(rooms, key=lambda binding: binding.room, default=None)

    def reserve(self, amount: int) -> None:
        self.held += amount

    def settle(self, held: int, charge: int) -> None:
        """A hold of `held` nanos ended with `charge`."""
        self.held -= held
        self.spent = tuple(spent + charge for spent in self.spent)
