"""Amounts and rating: tables, and what holds for all readings and prices."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from credits import rating
from credits.errors import InvalidAmount
from credits.money import ceil_div, format_usd, usd_to_nanos
from credits.types import MeterReading, PriceSnapshot

SONNET = PriceSnapshot(
    input=3 * 10**9, output=15 * 10**9, cache_read=3 * 10**8, cache_write=3_750_000_000, cache_write_1h=6 * 10**9,
    web_search=10**7,
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "nanos"),
    [
        ("5", 5 * 10**9),
        ("2.50", 2_500_000_000),
        (" 0.000000001 ", 1),
        ("1e2", 10**11),
        ("-1.5", -1_500_000_000),
        (Decimal("0.1"), 10**8),
        (7, 7 * 10**9),
    ],
)
def test_dollars_become_nanos_exactly(text, nanos: int):
    assert usd_to_nanos(text) == nanos


@pytest.mark.parametrize("text", ["", "five", "1,5", "0.0000000001", "NaN", "Infinity", "1e30", "$5"])
def test_what_is_no_amount_is_refused(text: str):
    with pytest.raises(InvalidAmount):
        usd_to_nanos(text)


@pytest.mark.parametrize(
    ("nanos", "text"),
    [(0, "$0.00"), (1, "$0.000000001"), (1_234_500_000_000, "$1,234.50"), (-12_000, "-$0.000012"), (10**9, "$1.00")],
)
def test_amounts_are_shown_exactly(nanos: int, text: str):
    assert format_usd(nanos) == text


@given(st.integers(-(10**18), 10**18))
def test_a_shown_amount_reads_back_as_itself(nanos: int):
    assert usd_to_nanos(format_usd(nanos).replace("$", "").replace(",", "")) == nanos


@pytest.mark.parametrize(
    ("reading", "nanos"),
    [
        (MeterReading(), 0),
        (MeterReading(input=1), 3000),
        (MeterReading(output=1, reasoning=1), 15000),
        (MeterReading(cache_read=1), 300),
        (MeterReading(cache_write=1), 3750),
        (MeterReading(cache_write_1h=1), 6000),
        (MeterReading(web_searches=2), 2 * 10**7),
        (MeterReading(input=10, cache_read=10, cache_write=10, cache_write_1h=10, output=10), 280_500),
    ],
)
def test_a_reading_is_charged_by_class(reading: MeterReading, nanos: int):
    assert rating.charge(reading, SONNET) == nanos


def test_a_request_is_rounded_up_once():
    odd = PriceSnapshot(input=1, output=1, cache_read=1, cache_write=1, cache_write_1h=1)
    assert rating.charge(MeterReading(input=1, cache_read=1, cache_write=1, cache_write_1h=1, output=1), odd) == 1
    assert rating.charge(MeterReading(input=999_999, output=2), odd) == 2


PRICES = st.integers(0, 10**13)
PRICE = st.builds(PriceSnapshot, PRICES, PRICES, PRICES, PRICES, PRICES, PRICES)
COUNTS = st.integers(0, 10**7)
READING = st.builds(MeterReading, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS, st.integers(0, 50))


def total(a: MeterReading, b: MeterReading) -> MeterReading:
    return MeterReading(
        a.input + b.input, a.cache_read + b.cache_read, a.cache_write + b.cache_write,
        a.cache_write_1h + b.cache_write_1h, a.output + b.output, 0, a.web_searches + b.web_searches,
    )  # fmt: skip


@given(READING, READING, PRICE)
def test_charges_never_fall_with_more_tokens_and_add_up_within_a_nano(
    a: MeterReading, b: MeterReading, price: PriceSnapshot
):
    apart, together = rating.charge(a, price) + rating.charge(b, price), rating.charge(total(a, b), price)
    assert together >= rating.charge(a, price) >= 0
    assert apart - 1 <= together <= apart


@given(st.integers(0, 10**6), st.integers(0, 10**6), PRICE, st.data())
def test_no_way_of_using_a_request_costs_more_than_its_worst_case(
    input_tokens: int, max_tokens: int, price: PriceSnapshot, data: st.DataObject
):
    written = data.draw(st.integers(0, input_tokens))
    written_1h = data.draw(st.integers(0, input_tokens - written))
    plain = data.draw(st.integers(0, input_tokens - written - written_1h))
    reading = MeterReading(input=plain, cache_write=written, cache_write_1h=written_1h, output=max_tokens)
    assert rating.charge(reading, price) <= rating.worst_case(input_tokens, max_tokens, price)


@given(st.integers(0, 10**15), st.integers(0, 10**6), PRICE)
def test_the_affordable_output_is_the_most_that_fits(budget: int, input_tokens: int, price: PriceSnapshot):
    affordable = rating.affordable_output(budget, input_tokens, price)
    if affordable < 0:
        assert rating.worst_case(input_tokens, 0, price) > budget
    else:
        assert rating.worst_case(input_tokens, affordable, price) <= budget
        if price.output:
            assert rating.worst_case(input_tokens, affordable + 1, price) > budget


@given(st.integers(-(10**12), 10**12), st.integers(1, 10**9))
def test_ceil_div(dividend: int, divisor: int):
    quotient = ceil_div(dividend, divisor)
    assert (quotient - 1) * divisor < dividend <= quotient * divisor


def test_absurd_counts_are_brought_within_bounds():
    sane = rating.sane(MeterReading(input=-1, output=10**30, cache_read=5))
    assert (sane.input, sane.output, sane.cache_read) == (0, rating.MOST_TOKENS, 5)
