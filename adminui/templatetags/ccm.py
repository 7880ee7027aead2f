"""How the pages write money and token counts."""

from django import template

from credits.money import format_usd

register = template.Library()
register.filter("usd", format_usd)


@register.filter
def tokens(count: int | None) -> str:
    return "–" if count is None else f"{count:,}"
