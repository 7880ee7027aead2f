"""Rating in tables: each class, each side of each tier's bound, one division upwards."""

from typing import Any

import pytest
from msgspec.structs import replace

from credits import rating, tiers
from credits.types import MeterReading, PriceSnapshot, PriceTier

USD = 10**9
TIERED = PriceSnapshot(
    input=3 * USD, output=15 * USD, cache_read=3 * USD // 10, cache_write=3_750_000_000, cache_write_1h=6 * USD,
    web_search=10**7,
    tiers=(
        PriceTier(200_000, 6 * USD, 22_500_000_000, 6 * USD // 10, 7_500_000_000, 12 * USD),
        PriceTier(400_000, 9 * USD, 30 * USD, 9 * USD // 10, 11_250_000_000, 18 * USD),
    ),
)  # fmt: skip
CLASSES = ("input", "cache_read", "cache_write", "cache_write_1h")


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize(
    ("tokens", "tier"),
    [(1, None), (199_999, None), (200_000, None), (200_001, 0), (400_000, 0), (400_001, 1), (10**9, 1)],
)
def test_each_input_class_alone_reaches_a_tier_just_above_its_bound(name: str, tokens: int, tier: int | None):
    rates = TIERED if tier is None else TIERED.tiers[tier]
    counts: dict[str, Any] = {name: tokens}
    reading = replace(MeterReading(output=1000), **counts)
    exact = tokens * getattr(rates, name) + 1000 * rates.output
    assert rating.charge(reading, TIERED) == -(-exact // 10**6)


@pytest.mark.parametrize(
    ("reading", "nanos"),
    [
        # All four classes count towards the bound, and all of the request pays the tier's prices.
        (MeterReading(input=50_000, cache_read=50_000, cache_write=50_000, cache_write_1h=50_000), 652_500_000),
        (
            MeterReading(input=50_001, cache_read=50_000, cache_write=50_000, cache_write_1h=50_000),
            1_305_000_000 + 6000,
        ),
        # Output does not count towards it, however long.
        (MeterReading(input=1, output=10**6), 15 * USD + 3000),
        (MeterReading(input=200_000, output=10**6), 15 * USD + 600_000_000),
        (MeterReading(input=200_001, output=10**6), 22_500_000_000 + 1_200_006_000),
        # A web search costs the same at any length.
        (MeterReading(web_searches=3), 3 * 10**7),
        (MeterReading(input=200_001, web_searches=3), 1_200_006_000 + 3 * 10**7),
        # Reasoning is part of the output.
        (MeterReading(output=10, reasoning=10), 150_000),
    ],
)
def test_readings_and_their_charges(reading: MeterReading, nanos: int):
    assert rating.charge(reading, TIERED) == nanos


def test_the_sum_is_rounded_up_once_whatever_the_tier():
    odd = PriceSnapshot(1, 1, 1, 1, 1, tiers=(PriceTier(3, 3, 3, 3, 3, 3),))
    assert rating.charge(MeterReading(input=1, cache_read=1, cache_write=1, output=5), odd) == 1
    assert rating.charge(MeterReading(input=2, cache_read=1, cache_write=1, output=5), odd) == 1
    assert rating.charge(MeterReading(input=333_333), odd) == 1
    assert rating.charge(MeterReading(input=333_334), odd) == 2
    assert rating.charge(MeterReading(), odd) == 0


@pytest.mark.parametrize(
    ("input_tokens", "nanos"),
    [(200_000, 1_200_000_000 + 1_500_000), (200_001, 2_400_012_000 + 2_250_000), (400_001, 7_200_018_000 + 3_000_000)],
)
def test_a_hold_covers_the_tier_that_its_input_may_reach(input_tokens: int, nanos: int):
    assert rating.worst_case(input_tokens, 100, TIERED) == nanos
    assert rating.affordable_output(nanos, input_tokens, TIERED) == 100
    assert rating.affordable_output(nanos - 1, input_tokens, TIERED) == 99


def test_a_hold_covers_the_cheaper_tier_too_when_it_has_the_dearer_output():
    odd = PriceSnapshot(1, 9 * USD, 1, 1, 1, tiers=(PriceTier(10, 2, USD, 2, 2, 2),))
    assert rating.worst_case(100, 1000, odd) >= rating.charge(MeterReading(input=10, output=1000), odd)
    assert rating.affordable_output(9 * 10**6 + 1, 100, odd) == 1000


def test_reading_the_cache_may_be_the_dearest_way():
    odd = PriceSnapshot(input=1, output=0, cache_read=5 * USD, cache_write=1, cache_write_1h=1)
    assert rating.worst_case(1000, 0, odd) == rating.charge(MeterReading(cache_read=1000), odd) == 5 * 10**6


def test_tiers_are_stored_as_one_text_each():
    assert tiers.written(()) == ""
    assert tiers.read("") == ()
    text = tiers.written(TIERED.tiers)
    assert tiers.read(text) == TIERED.tiers
    assert text.startswith("[[200000,6000000000,22500000000,")
    assert hash(TIERED) == hash(PriceSnapshot(*[getattr(TIERED, n) for n in TIERED.__struct_fields__]))
