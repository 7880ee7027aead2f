"""How the pages write money, token counts and times."""

import json
from datetime import timedelta
from typing import Any

from django import template

from credits.money import NANOS_PER_USD, format_usd

register = template.Library()
register.filter("usd", format_usd)


@register.filter
def cents(nanos: int) -> str:
    """Dollars and cents, rounded down, for figures that are no more exact than that."""
    return format_usd(nanos - nanos % (NANOS_PER_USD // 100))


@register.filter
def tokens(count: int | None) -> str:
    return "–" if count is None else f"{count:,}"


@register.filter
def duration(time: timedelta) -> str:
    """About how long, in its largest unit: `5 days`."""
    seconds = int(time.total_seconds())
    for unit, length in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= length:
            count = seconds // length
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return "less than a minute"


@register.filter
def ms(milliseconds: int | None) -> str:
    """A request's time, in seconds from the first one on."""
    if milliseconds is None:
        return "–"
    return f"{milliseconds} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.1f} s"


@register.filter(name="json")
def as_json(value: Any) -> str:
    """For a data attribute; the template escapes it."""
    return json.dumps(value, separators=(",", ":"))
