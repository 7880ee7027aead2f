"""From tokens to money. Pure.

Prices are nanos per million tokens, so the products are summed first and divided once, upwards:
a request is never off by more than one nano (ledger-and-style A3).

A price may have tiers: the last one whose `above` is exceeded by the input tokens, of all input
classes together, prices the whole request, its output too. That is how Anthropic, Google and
OpenAI charge for long contexts (and what genai-prices' `TieredPrices` means).
"""

from dataclasses import dataclass

from credits.money import ceil_div
from credits.types import MeterReading, Nanos, PriceSnapshot, PriceTier

MILLION = 10**6
MOST_TOKENS = 2**31 - 1
"""More than this in one class is a provider's nonsense."""

Rates = PriceSnapshot | PriceTier


def charge(reading: MeterReading, price: PriceSnapshot) -> Nanos:
    """What `reading` costs at `price`, in nanos. `reasoning` is part of `output`: no extra charge."""
    rates = tier_of(reading, price) if price.tiers else price
    millionths = (
        reading.input * rates.input
        + reading.cache_read * rates.cache_read
        + reading.cache_write * rates.cache_write
        + reading.cache_write_1h * rates.cache_write_1h
        + reading.output * rates.output
        + reading.web_searches * price.web_search * MILLION
    )
    return Nanos(ceil_div(millionths, MILLION))


@dataclass(frozen=True, slots=True)
class PriceLine:
    """One line of a request's bill: `count` tokens (or searches) at `rate` nanos per million tokens (or per search).
    `amount` is in nanos, rounded down: only the sum of all lines is rounded up, once."""

    what: str
    count: int
    rate: int
    amount: int


def price_lines(reading: MeterReading, price: PriceSnapshot) -> list[PriceLine]:
    """How `charge` comes to its sum: a line for each class that `reading` has anything of."""
    rates = tier_of(reading, price)
    lines = [
        PriceLine(what, count, rate, count * rate // MILLION)
        for what, count, rate in (
            ("input", reading.input, rates.input),
            ("cache read", reading.cache_read, rates.cache_read),
            ("cache write", reading.cache_write, rates.cache_write),
            ("cache write, 1 hour", reading.cache_write_1h, rates.cache_write_1h),
            ("output", reading.output, rates.output),
        )
        if count
    ]
    if reading.web_searches:
        searches = reading.web_searches
        lines.append(PriceLine("web search", searches, price.web_search, searches * price.web_search))
    return lines


def tier_of(reading: MeterReading, price: PriceSnapshot) -> Rates:
    """The prices that `reading` is charged at: by its input tokens, whatever class they are in."""
    tokens = reading.input + reading.cache_read + reading.cache_write + reading.cache_write_1h
    rates: Rates = price
    for tier in price.tiers:
        if tokens > tier.above:
            rates = tier
    return rates


def reachable(input_tokens: int, price: PriceSnapshot) -> list[Rates]:
    """The prices that a request of at most `input_tokens` may come to be charged at: the provider
    may count fewer tokens than were reserved."""
    return [price, *(tier for tier in price.tiers if input_tokens > tier.above)]


def dearest_input(rates: Rates) -> int:
    """Nanos per million input tokens at worst: a client may write its whole prompt to the cache,
    and nothing says that reading from it has to be cheaper."""
    return max(rates.input, rates.cache_read, rates.cache_write, rates.cache_write_1h)


def worst_case(input_tokens: int, max_tokens: int, price: PriceSnapshot) -> Nanos:
    """The most that a request of this size can cost, in nanos (web searches aside: their number
    is not known beforehand)."""
    if not price.tiers:
        return _worst(input_tokens, max_tokens, price)
    return max(_worst(input_tokens, max_tokens, rates) for rates in reachable(input_tokens, price))


def _worst(input_tokens: int, max_tokens: int, rates: Rates) -> Nanos:
    return Nanos(ceil_div(input_tokens * dearest_input(rates) + max_tokens * rates.output, MILLION))


def affordable_output(budget: int, input_tokens: int, price: PriceSnapshot) -> int:
    """The output tokens that `budget` nanos pay for beside the input; negative if it does not pay
    for the input. Output that is free of charge is as much as anybody may ask for."""
    if not price.tiers:
        return _affordable(budget, input_tokens, price)
    return min(_affordable(budget, input_tokens, rates) for rates in reachable(input_tokens, price))


def _affordable(budget: int, input_tokens: int, rates: Rates) -> int:
    rest = budget * MILLION - input_tokens * dearest_input(rates)
    if rest < 0:
        return -1
    return rest // rates.output if rates.output else MOST_TOKENS


def sane(reading: MeterReading) -> MeterReading:
    """`reading` with each count brought between zero and MOST_TOKENS, whatever a provider said."""
    counts = (
        reading.input, reading.cache_read, reading.cache_write, reading.cache_write_1h,
        reading.output, reading.reasoning, reading.web_searches,
    )  # fmt: skip
    if min(counts) >= 0 and max(counts) <= MOST_TOKENS:
        return reading

    def bound(count: int) -> int:
        return min(max(count, 0), MOST_TOKENS)

    return MeterReading(
        input=bound(reading.input),
        cache_read=bound(reading.cache_read),
        cache_write=bound(reading.cache_write),
        cache_write_1h=bound(reading.cache_write_1h),
        output=bound(reading.output),
        reasoning=bound(reading.reasoning),
        web_searches=bound(reading.web_searches),
        source=reading.source,
    )
