"""From prices as operators write them (Decimal USD) to prices as requests are rated (integer nanos). Pure."""

from decimal import Decimal

from providers.types import Price

NANO_PLACES = 9
PARTS = 1_000_000


def nanos(usd: Decimal) -> int:
    """Nano-USD in `usd`. Raises ValueError when that is no whole number."""
    scaled = usd.scaleb(NANO_PLACES)
    whole = int(scaled)
    if whole != scaled:
        raise ValueError(f"{usd} USD is not a whole number of nano-USD")
    return whole


def plain(value: Decimal) -> str:
    """`value` without exponent and trailing zeros."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def usd(amount: int) -> str:
    """The USD that `amount` nano-USD are."""
    return plain(Decimal(amount).scaleb(-NANO_PLACES))


def price(
    *,
    input: Decimal,  # noqa: A002 - the word of the wire and of Price
    output: Decimal,
    cache_read: Decimal | None = None,
    cache_write: Decimal | None = None,
    cache_write_1h: Decimal | None = None,
    web_search: Decimal = Decimal(0),
) -> Price:
    """Arguments are USD per million tokens, `web_search` USD per 1000 searches.

    What is not given costs what Anthropic's multipliers make of the input price: 1.25 times for
    a cache write, twice for one that lasts an hour. A cache read without a price gets no discount."""
    base = nanos(input)
    return Price(
        input=base,
        output=nanos(output),
        cache_read=base if cache_read is None else nanos(cache_read),
        cache_write=_share(base, 5, 4) if cache_write is None else nanos(cache_write),
        cache_write_1h=2 * base if cache_write_1h is None else nanos(cache_write_1h),
        web_search=nanos(web_search.scaleb(-3)),
    )


def with_markup(cost: Price, markup: Decimal) -> Price:
    """`cost` and the share `markup` of it (0.2: a fifth more), each class rounded up to whole nanos."""
    parts = PARTS + int(markup * PARTS)
    return Price(
        input=_share(cost.input, parts, PARTS),
        output=_share(cost.output, parts, PARTS),
        cache_read=_share(cost.cache_read, parts, PARTS),
        cache_write=_share(cost.cache_write, parts, PARTS),
        cache_write_1h=_share(cost.cache_write_1h, parts, PARTS),
        web_search=_share(cost.web_search, parts, PARTS),
    )


def _share(amount: int, numerator: int, denominator: int) -> int:
    return -(-amount * numerator // denominator)
