"""From prices as operators write them (Decimal USD) to prices as requests are rated (integer nanos). Pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from msgspec.structs import replace

from providers.types import Price, Tier

NANO_PLACES = 9
PARTS = 1_000_000
CLASSES = ("input", "output", "cache_read", "cache_write", "cache_write_1h")
"""The token classes, in the order of Price and Tier."""


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
    web_search: Decimal | None = None,
    tiers: Sequence[Mapping[str, Any]] = (),
) -> Price:
    """Arguments are USD per million tokens, `web_search` USD per 1000 searches; `tiers` as stored
    (`providers.tiers`).

    What is not given costs what Anthropic's multipliers make of the input price: 1.25 times for
    a cache write, twice for one that lasts an hour. A cache read without a price gets no discount.
    A tier follows its own input price in the same way."""
    rates = _rates(input, output, cache_read, cache_write, cache_write_1h)
    return _whole(rates, nanos((web_search or Decimal(0)).scaleb(-3)), [_tier(row) for row in tiers])


def _rates(
    base: Decimal,
    output: Decimal,
    cache_read: Decimal | None,
    cache_write: Decimal | None,
    cache_write_1h: Decimal | None,
) -> tuple[int, int, int, int, int]:
    """In the order of CLASSES."""
    paid = nanos(base)
    return (
        paid,
        nanos(output),
        paid if cache_read is None else nanos(cache_read),
        share(paid, 5, 4) if cache_write is None else nanos(cache_write),
        2 * paid if cache_write_1h is None else nanos(cache_write_1h),
    )


def _tier(row: Mapping[str, Any]) -> Tier:
    read, write, write_1h = (Decimal(row[name]) if name in row else None for name in CLASSES[2:])
    return Tier(row["above"], *_rates(Decimal(row["input"]), Decimal(row["output"]), read, write, write_1h))


def rates_of(price: Price) -> dict[str, Any]:
    """`price` as rows store it, every class told: the opposite of `price`."""
    return {
        **{name: Decimal(getattr(price, name)).scaleb(-NANO_PLACES) for name in CLASSES},
        "web_search": Decimal(price.web_search).scaleb(3 - NANO_PLACES),
        "tiers": [
            {"above": tier.above, **{name: usd(getattr(tier, name)) for name in CLASSES}} for tier in price.tiers
        ],
    }


def tier_below(price: Price) -> str:
    """Which class a tier makes cheaper than the tier below it, in words; "" when none does. It
    would make a longer request cheaper than a shorter one."""
    below: Price | Tier = price
    for tier in price.tiers:
        for name in CLASSES:
            if getattr(tier, name) < getattr(below, name):
                less = f"{usd(getattr(tier, name))} for {name} above {tier.above} tokens"
                return (
                    f"{less} is less than the {usd(getattr(below, name))} below that, and a longer request must not be "
                    "cheaper. (A price that is left out follows the input price.)"
                )
        below = tier
    return ""


def at(price: Price, tokens: int) -> Price | Tier:
    """The prices of a request with so many input tokens."""
    rates: Price | Tier = price
    for tier in price.tiers:
        if tokens > tier.above:
            rates = tier
    return rates


def dearest(choices: Sequence[Price]) -> Price:
    """The dearest of `choices` in each class, at every length of a request: who is charged this is
    never charged less than any of them."""
    bounds = sorted({tier.above for price in choices for tier in price.tiers})
    return made_of(
        bounds,
        lambda tokens, name: max(getattr(at(price, tokens), name) for price in choices),
        web_search=max(price.web_search for price in choices),
    )


def made_of(bounds: Iterable[int], rate: Callable[[int, str], int], *, web_search: int) -> Price:
    """The price of which `rate` tells the nanos by input tokens and class, with tiers where it rises
    above one of `bounds` (ascending). A rate never falls with more tokens."""
    base = [rate(1, name) for name in CLASSES]
    tiers: list[Tier] = []
    below = base
    for above in bounds:
        rates = [max(rate(above + 1, name), least) for name, least in zip(CLASSES, below, strict=True)]
        if rates != below:
            tiers.append(Tier(above, *rates))
        below = rates
    return _whole(base, web_search, tiers)


def following(price: Price, *, before: Price, after: Price) -> Price:
    """`price` moved as the cost moved, class by class: it keeps its ratio to the cost. Where that
    was free of charge there is no ratio: the price stays, but not under the new cost."""
    bounds = sorted({tier.above for rates in (price, before, after) for tier in rates.tiers})
    return made_of(
        bounds,
        lambda tokens, name: _follow(
            getattr(at(price, tokens), name), getattr(at(before, tokens), name), getattr(at(after, tokens), name)
        ),
        web_search=_follow(price.web_search, before.web_search, after.web_search),
    )


def _follow(price: int, before: int, after: int) -> int:
    if before == after:
        return price
    return share(price, after, before) if before else max(price, after)


def with_searches(price: Price, web_search: int) -> Price:
    return replace(price, web_search=web_search)


def written(price: Price) -> dict[str, Any]:
    """`price` as JSON: amounts as text in USD, every class told."""
    rates = rates_of(price)
    return {name: value if name == "tiers" else plain(value) for name, value in rates.items()}


def read(stored: Mapping[str, Any]) -> Price:
    """The opposite of `written`."""
    rates: dict[str, Any] = {name: value if name == "tiers" else Decimal(value) for name, value in stored.items()}
    return price(**rates)


def with_markup(cost: Price, markup: Decimal) -> Price:
    """`cost` and the share `markup` of it (0.2: a fifth more), each class rounded up to whole nanos."""
    parts = PARTS + int(markup * PARTS)

    def marked(rates: Price | Tier) -> list[int]:
        return [share(getattr(rates, name), parts, PARTS) for name in CLASSES]

    tiers = [Tier(tier.above, *marked(tier)) for tier in cost.tiers]
    return _whole(marked(cost), share(cost.web_search, parts, PARTS), tiers)


def _whole(rates: Sequence[int], web_search: int, tiers: Sequence[Tier]) -> Price:
    base, output, cache_read, cache_write, cache_write_1h = rates
    return Price(base, output, cache_read, cache_write, cache_write_1h, web_search, tuple(tiers))


def share(amount: int, numerator: int, denominator: int) -> int:
    """`amount` times the fraction, rounded up."""
    return -(-amount * numerator // denominator)
