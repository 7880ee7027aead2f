"""Long-context tiers in configurations: prices and costs, in and out."""

import pytest

from providers.catalogue import build
from providers.config import Outcome, import_config
from providers.config_export import export_config
from providers.errors import ConfigError
from providers.models import (
    Mapping,
    MappingCost,
    Model,
    ModelPrice,
    Provider,
)
from tests.providers.config_support import model_toml, outcomes

pytestmark = pytest.mark.django_db


TIERS = (
    'tiers = [{ above = 200000, input = "6", output = 22.5, cache_read = "0.6" }, '
    '{ above = 400000, input = 8, output = "30" }]'
)
TIERED = model_toml(
    f'input = "3"\noutput = "15"\ncache_read = "0.3"\n{TIERS}\n'
    '[[models.mappings]]\nprovider = "p"\nactual_model = "m"\n'
    'cost = { input = "2", output = "10", cache_read = "0.2", tiers = [{ above = 200000, input = "4", output = "15", '
    'cache_read = "0.3" }] }'
)


def test_tiers_arrive_and_an_export_gives_them_back():
    assert import_config(TIERED, environ={}).warnings == []
    model = build().models["m"]
    assert model.price is not None
    assert [(tier.above, tier.input, tier.cache_read, tier.cache_write) for tier in model.price.tiers] == [
        (200_000, 6 * 10**9, 6 * 10**8, 7_500_000_000),
        (400_000, 8 * 10**9, 8 * 10**9, 10 * 10**9),
    ]
    cost = model.targets[0].cost
    assert cost is not None
    assert [(tier.above, tier.output) for tier in cost.tiers] == [(200_000, 15 * 10**9)]
    text = export_config()
    assert 'tiers = [{ above = 200000, input = "6", output = "22.5", cache_read = "0.6" }, ' in text
    assert outcomes(import_config(text, environ={})) == {Outcome.UNCHANGED}
    for row in (Mapping, ModelPrice, Model, Provider):
        row.objects.all().delete()
    import_config(text, environ={})
    assert export_config() == text
    assert build().models["m"].price == model.price


def test_a_changed_tier_is_a_new_price_and_a_new_cost():
    import_config(TIERED, environ={})
    report = import_config(TIERED.replace("22.5", "23").replace('output = "15", c', 'output = "16", c'), environ={})
    assert [change.what for change in report.of(Outcome.CHANGED)] == ["price of m", "cost of m → p m"]
    assert report.of(Outcome.CHANGED)[1].detail == (
        "tiers 200000: input 4, output 15, cache_read 0.3 → 200000: input 4, output 16, cache_read 0.3"
    )
    assert (ModelPrice.objects.count(), MappingCost.objects.count()) == (2, 2)
    without = import_config(TIERED.replace(TIERS, ""), environ={})
    assert "price of m" in [change.what for change in without.of(Outcome.CHANGED)]
    price = build().models["m"].price
    assert price is not None
    assert price.tiers == ()


@pytest.mark.parametrize(
    ("tiers", "problem"),
    [
        ("tiers = 3", "models[0].tiers: must be a list of tables."),
        ("tiers = [3]", "models[0].tiers[0]: must be a table."),
        ('tiers = [{ input = "6", output = "9" }]', "models[0].tiers: A tier begins above a whole number"),
        ('tiers = [{ above = "5", input = "6", output = "9" }]', "models[0].tiers[0].above: must be a whole number."),
        ('tiers = [{ above = 5, input = "6" }]', "models[0].tiers: The tier above 5 needs a price for output."),
        ('tiers = [{ above = 5, input = "-6", output = "9" }]', "models[0].tiers[0].input: must be a number"),
        ('tiers = [{ above = 5, input = "1", output = "15" }]', "1 for input above 5 tokens is less than the 3"),
    ],
)
def test_a_tier_that_cannot_be_meant_is_named(tiers, problem):
    with pytest.raises(ConfigError) as caught:
        import_config(model_toml(f'input = "3"\noutput = "15"\n{tiers}'), environ={})
    assert problem in str(caught.value)
    assert not Model.objects.exists()


def test_a_loss_on_long_requests_alone_is_warned_of():
    lossy = TIERED.replace(TIERS, "").replace('input = "3"', 'input = "2"')
    assert import_config(lossy, environ={}).warnings == [
        "model m: p costs 4 for input above 200000 tokens, customers pay 2.",
    ]
