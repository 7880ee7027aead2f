"""What the charts on the usage pages draw. Pure."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from credits.money import NANOS_PER_USD
from credits.usage.selectors import By
from credits.usage.types import DAY, HOUR, Span, Sums

MOST_SERIES = 5
OTHERS = "others"


def chart(
    series: Mapping[tuple[datetime, Any], Sums], span: Span, time: By, names: Mapping[Any, str]
) -> dict[str, Any]:
    """The charges of each bar, stacked: `times` in seconds since 1970, `series` a list of names and of US dollars
    for each time. What was charged the most comes first; after MOST_SERIES all else is one."""
    totals: dict[Any, int] = {}
    for (_, value), sums in series.items():
        totals[value] = totals.get(value, 0) + sums.charge
    ranked = sorted(totals, key=lambda value: (-totals[value], str(value)))
    shown, rest = ranked[:MOST_SERIES], set(ranked[MOST_SERIES:])
    times = _times(span, HOUR if time == By.HOUR else DAY)
    lines = [(names.get(value, str(value)), {value}) for value in shown] + ([(OTHERS, rest)] if rest else [])
    return {
        "times": [int(moment.timestamp()) for moment in times],
        "hourly": time == By.HOUR,
        "series": [
            {
                "name": name,
                "values": [
                    _dollars(sum(series[moment, value].charge for value in values if (moment, value) in series))
                    for moment in times
                ],
            }
            for name, values in lines
        ],
    }


def _times(span: Span, step: timedelta) -> list[datetime]:
    return [span.since + step * number for number in range((span.until - span.since) // step)]


def _dollars(nanos: int) -> str:
    """As text: a chart's picture is the only place where it becomes a float."""
    return f"{nanos // NANOS_PER_USD}.{nanos % NANOS_PER_USD:09d}"
