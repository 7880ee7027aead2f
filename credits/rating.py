"""From tokens to money. Pure.

Prices are nanos per million tokens, so the products are summed first and divided once, upwards:
a request is never off by more than one nano (ledger-and-style A3).
"""

from credits.money import ceil_div
from credits.types import MeterReading, Nanos, PriceSnapshot

MILLION = 10**6
MOST_TOKENS = 2**31 - 1
"""More than this in one class is a provider's nonsense."""


def charge(reading: MeterReading, price: PriceSnapshot) -> Nanos:
    """What `reading` costs at `price`, in nanos. `reasoning` is part of `output`: no extra charge."""
    millionths = (
        reading.input * price.input
        + reading.cache_read * price.cache_read
        + reading.cache_write * price.cache_write
        + reading.cache_write_1h * price.cache_write_1h
        + reading.output * price.output
        + reading.web_searches * price.web_search * MILLION
    )
    return Nanos(ceil_div(millionths, MILLION))


def dearest_input(price: PriceSnapshot) -> int:
    """Nanos per million input tokens at worst: a client may write its whole prompt to the cache."""
    return max(price.input, price.cache_write, price.cache_write_1h)


def worst_case(input_tokens: int, max_tokens: int, price: PriceSnapshot) -> Nanos:
    """The most that a request of this size can cost, in nanos (web searches aside: their number
    is not known beforehand)."""
    return Nanos(ceil_div(input_tokens * dearest_input(price) + max_tokens * price.output, MILLION))


def affordable_output(budget: int, input_tokens: int, price: PriceSnapshot) -> int:
    """The output tokens that `budget` nanos pay for beside the input; negative if it does not pay
    for the input. Output that is free of charge is as much as anybody may ask for."""
    rest = budget * MILLION - input_tokens * dearest_input(price)
    if rest < 0:
        return -1
    return rest // price.output if price.output else MOST_TOKENS


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
