"""How the pages write money, token counts and times."""

from datetime import timedelta

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
