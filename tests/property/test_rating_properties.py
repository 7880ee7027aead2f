"""What holds of rating for all readings and prices, with tiers and without."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from credits import rating, tiers
from credits.types import MeterReading, PriceSnapshot, PriceTier

unhurried = settings(deadline=None)  # a busy machine is no failure
RATES = st.tuples(*[st.integers(0, 10**12)] * 5)
COUNTS = st.integers(0, 10**6)
READINGS = st.builds(MeterReading, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS, st.integers(0, 50))
BOUNDS = st.lists(st.integers(1, 3 * 10**6), max_size=4, unique=True).map(sorted)
CLASSES = ("input", "cache_read", "cache_write", "cache_write_1h", "output", "web_searches")


@st.composite
def any_price(draw: st.DrawFn) -> PriceSnapshot:
    """Tiers may be dearer or cheaper than what is below them."""
    made = tuple(PriceTier(above, *draw(RATES)) for above in draw(BOUNDS))
    return replace(PriceSnapshot(*draw(RATES)), web_search=draw(st.integers(0, 10**9)), tiers=made)


@st.composite
def rising_price(draw: st.DrawFn) -> PriceSnapshot:
    """Prices as operators can enter them: no tier is cheaper than the one below it."""
    rates = list(draw(RATES))
    base = tuple(rates)
    made = []
    for above in draw(BOUNDS):
        rates = [rate + more for rate, more in zip(rates, draw(RATES), strict=True)]
        made.append(PriceTier(above, *rates))
    return replace(PriceSnapshot(*base), web_search=draw(st.integers(0, 10**9)), tiers=tuple(made))


def input_tokens(reading: MeterReading) -> int:
    return reading.input + reading.cache_read + reading.cache_write + reading.cache_write_1h


def exact(reading: MeterReading, price: PriceSnapshot) -> int:
    """Millionths of a nano, written the slow way."""
    passed = [tier for tier in price.tiers if input_tokens(reading) > tier.above]
    rates: PriceSnapshot | PriceTier = max(passed, key=lambda tier: tier.above) if passed else price
    classes = ("input", "cache_read", "cache_write", "cache_write_1h", "output")
    tokens = sum(getattr(reading, name) * getattr(rates, name) for name in classes)
    return int(tokens + reading.web_searches * price.web_search * 10**6)


@unhurried
@given(READINGS, any_price())
def test_a_charge_is_exact_rounded_up_once_and_never_negative(reading: MeterReading, price: PriceSnapshot):
    charge = rating.charge(reading, price)
    assert charge >= 0
    assert (charge - 1) * 10**6 < exact(reading, price) <= charge * 10**6


@unhurried
@given(READINGS, rising_price(), st.sampled_from(CLASSES), st.integers(0, 10**6))
def test_a_charge_never_falls_with_more_tokens_of_any_class(
    reading: MeterReading, price: PriceSnapshot, name: str, more: int
):
    longer = replace(reading, **{name: getattr(reading, name) + more})
    assert rating.charge(longer, price) >= rating.charge(reading, price)


@unhurried
@given(READINGS, READINGS, any_price())
def test_charges_of_one_tier_add_up_within_a_nano(a: MeterReading, b: MeterReading, price: PriceSnapshot):
    flat = replace(price, tiers=())
    both = MeterReading(
        a.input + b.input, a.cache_read + b.cache_read, a.cache_write + b.cache_write,
        a.cache_write_1h + b.cache_write_1h, a.output + b.output, 0, a.web_searches + b.web_searches,
    )  # fmt: skip
    for one in (flat, price):
        together = rating.charge(both, one)
        apart = rating.charge(a, one) + rating.charge(b, one)
        if rating.tier_of(both, one) == rating.tier_of(a, one) == rating.tier_of(b, one):
            assert apart - 1 <= together <= apart


@unhurried
@given(any_price(), st.integers(0, 4 * 10**6), st.integers(0, 10**6), st.integers(0, 50), st.data())
def test_no_reading_within_a_hold_costs_more_than_the_hold(
    price: PriceSnapshot, held_input: int, held_output: int, held_searches: int, data: st.DataObject
):
    counts, left = [], held_input
    for _ in range(4):
        counts.append(data.draw(st.integers(0, left)))
        left -= counts[-1]
    plain, read, write, write_1h = data.draw(st.permutations(counts))
    output, searches = data.draw(st.integers(0, held_output)), data.draw(st.integers(0, held_searches))
    reading = MeterReading(plain, read, write, write_1h, output, web_searches=searches)
    assert rating.charge(reading, price) <= rating.worst_case(held_input, held_output, price, held_searches)


@unhurried
@given(any_price(), st.data())
def test_every_bound_of_a_hold_is_covered_on_both_sides(price: PriceSnapshot, data: st.DataObject):
    for tier in price.tiers:
        for tokens in (tier.above, tier.above + 1):
            name = data.draw(st.sampled_from(CLASSES[:4]))
            counts: dict[str, Any] = {name: tokens}
            reading = replace(MeterReading(output=100), **counts)
            assert rating.charge(reading, price) <= rating.worst_case(tier.above + 1, 100, price)


@unhurried
@given(st.integers(0, 10**15), st.integers(0, 4 * 10**6), any_price(), st.integers(0, 50))
def test_the_affordable_output_is_the_most_that_fits(budget: int, held_input: int, price: PriceSnapshot, searches: int):
    affordable = rating.affordable_output(budget, held_input, price, searches)
    if affordable < 0:
        assert rating.worst_case(held_input, 0, price, searches) > budget
    else:
        assert rating.worst_case(held_input, affordable, price, searches) <= budget
        if affordable < rating.MOST_TOKENS:
            assert rating.worst_case(held_input, affordable + 1, price, searches) > budget


@unhurried
@given(READINGS, st.data())
def test_cached_tokens_are_never_counted_twice(reading: MeterReading, data: st.DataObject):
    """Peers charged cached tokens at the input price too (LiteLLM #11364, #11789): with one price for
    all classes the charge is the number of tokens."""
    usd = data.draw(st.integers(0, 10**12))
    flat = PriceSnapshot(usd, usd, usd, usd, usd, 0)
    tokens = input_tokens(reading) + reading.output
    assert rating.charge(reading, flat) == -(-tokens * usd // 10**6)


@unhurried
@given(any_price())
def test_stored_tiers_come_back(price: PriceSnapshot):
    assert tiers.read(tiers.written(price.tiers)) == price.tiers
