"""Price proposals: what is compared, what is proposed, and what deciding does."""

import threading
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection
from django.utils import timezone
from genai_prices.types import (
    ClauseEquals,
    ConditionalPrice,
    ModelInfo,
    TieredPrices,
    TimeOfDateConstraint,
)
from genai_prices.types import ModelPrice as SourceModelPrice
from genai_prices.types import Provider as SourceProvider
from genai_prices.types import Tier as SourceTier

from providers import prices, proposals
from providers.catalogue import build
from providers.config import import_config
from providers.models import (
    CatalogueVersion,
    Decision,
    Mapping,
    MappingCost,
    Model,
    ModelPrice,
    PriceProposal,
    Provider,
)
from providers.price_source import BundledPrices, SourcePrice, _price
from providers.proposals import approve, approve_all, propose, reject
from providers.proposals_shown import differences
from providers.types import Price
from tests.providers.catalogue_support import make_cost, make_mapping, make_model, make_price, make_provider

USD = 10**9


def usd(input_: str, output: str, **more: Any) -> Price:
    rates: dict[str, Any] = {name: value if name == "tiers" else Decimal(value) for name, value in more.items()}
    return prices.price(input=Decimal(input_), output=Decimal(output), **rates)


@dataclass
class Source:
    """A price source with a list of its own, by the provider's actual model."""

    listed: dict[str, Price] = field(default_factory=dict)
    version: str = "list 1"
    searches: bool = False

    def find(self, provider: Provider, actual_model: str, now: datetime) -> SourcePrice | None:
        price = self.listed.get(actual_model)
        return None if price is None else SourcePrice(f"{provider.name}/{actual_model}", price, self.searches)


@pytest.fixture
def mapping(db: None) -> Mapping:
    """Costs $1 / $5 and sells for $2 / $10."""
    model = make_model("m", price=("2", "10"))
    return make_mapping(model, make_provider(), actual_model="up", cost_input="1", cost_output="5")


def pending() -> list[PriceProposal]:
    return list(PriceProposal.objects.filter(state=Decision.PENDING).order_by("id"))


def shown(proposal: PriceProposal) -> list[str]:
    return [str(row) for row in differences(proposal)]


def test_a_dearer_cost_is_proposed_with_the_price_that_keeps_its_ratio(mapping: Mapping):
    report = propose(Source({"up": usd("1.5", "5")}))
    cost, price = pending()
    assert report.created == [cost, price]
    assert (cost.mapping, price.mapping) == (mapping, None)
    assert shown(cost) == [
        "input 1 → 1.5 (+50.0 %)",
        "cache_read 1 → 1.5 (+50.0 %)",
        "cache_write 1.25 → 1.875 (+50.0 %)",
        "cache_write_1h 2 → 3 (+50.0 %)",
    ]
    assert shown(price)[0] == "input 2 → 3 (+50.0 %)"
    assert (cost.source, cost.source_version) == ("openai/up", "list 1")
    assert ModelPrice.objects.count() == MappingCost.objects.count() == 1, "proposing changes nothing"


def test_the_same_difference_is_proposed_once(mapping: Mapping):
    source = Source({"up": usd("1.5", "5")})
    propose(source)
    before = pending()
    assert propose(source).created == []
    assert pending() == before


def test_a_source_that_changes_again_replaces_its_proposal_and_one_that_comes_back_withdraws_it(mapping: Mapping):
    propose(Source({"up": usd("1.5", "5")}))
    propose(Source({"up": usd("1.6", "5")}, "list 2"))
    assert [shown(row)[0] for row in pending()] == ["input 1 → 1.6 (+60.0 %)", "input 2 → 3.2 (+60.0 %)"]
    propose(Source({"up": usd("1", "5")}, "list 3"))
    assert pending() == []
    assert set(PriceProposal.objects.values_list("state", flat=True)) == {Decision.OUTDATED}


def test_what_was_rejected_is_not_proposed_again_until_the_source_changes(mapping: Mapping):
    source = Source({"up": usd("1.5", "5")})
    propose(source)
    reject([row.pk for row in pending()], by=None)
    propose(source)
    propose(Source(source.listed, "list 2"))
    assert pending() == []
    propose(Source({"up": usd("1.4", "5")}, "list 3"))
    assert [row.mapping for row in pending()] == [mapping, None]
    propose(source)
    assert [shown(row)[0] for row in pending()] == [], "the rejected rates again"


def test_approving_adds_rows_that_hold_from_now_on_and_the_past_stays(mapping: Mapping):
    propose(Source({"up": usd("1.5", "5")}))
    version = CatalogueVersion.current()
    decided = approve([row.pk for row in pending()], by=None)
    assert len(decided.done) == 2
    assert CatalogueVersion.current() == version + 1
    entry = build().models["m"]
    assert entry.price is not None
    assert entry.targets[0].cost is not None
    assert (entry.price.input, entry.targets[0].cost.input) == (3 * USD, 1_500_000_000)
    assert sorted(ModelPrice.objects.values_list("input", flat=True)) == [2, 3]
    assert sorted(MappingCost.objects.values_list("input", flat=True)) == [1, Decimal("1.5")]
    assert build(timezone.now() - timedelta(days=1)).models["m"].price == usd("2", "10")
    assert propose(Source({"up": usd("1.5", "5")})).created == [], "the new ratio is the old one"


def test_a_price_waits_for_the_decision_on_its_cost(mapping: Mapping):
    propose(Source({"up": usd("1.5", "5")}))
    cost, price = pending()
    [(refused, why)] = approve([price.pk], by=None).refused
    assert (refused, why) == (price, "decide on the cost of m first: the price follows from it.")
    approve([cost.pk], by=None)
    assert pending() == [price]
    propose(Source({"up": usd("1.5", "5")}))
    assert pending() == [price], "another comparison does not lose it"
    assert approve([price.pk], by=None).done == [price]
    assert pending() == []


def test_rejecting_a_cost_withdraws_the_price_that_followed_from_it(mapping: Mapping):
    propose(Source({"up": usd("1.5", "5")}))
    cost, price = pending()
    reject([cost.pk], by=None)
    price.refresh_from_db()
    assert price.state == Decision.OUTDATED
    assert pending() == []


def test_a_proposal_that_was_overtaken_is_refused_in_words(mapping: Mapping):
    propose(Source({"up": usd("1.5", "5")}))
    cost, _ = pending()
    make_cost(mapping, "1.2", "5", at=timezone.now())
    [(_, why)] = approve([cost.pk], by=None).refused
    assert "it was changed since" in why
    cost.refresh_from_db()
    assert cost.state == Decision.OUTDATED
    [(_, why)] = approve([cost.pk], by=None).refused
    assert why == "it is outdated already."
    assert MappingCost.objects.count() == 2


def test_an_unknown_cost_becomes_known_and_a_first_price_is_never_proposed(db: None):
    mapping = make_mapping(make_model("m", price=None), make_provider(), actual_model="up")
    propose(Source({"up": usd("1", "5")}))
    [cost] = pending()
    assert (cost.mapping, cost.old) == (mapping, None)
    assert shown(cost)[0] == "input unknown → 1"
    approve([cost.pk], by=None)
    assert pending() == []
    assert build().models["m"].price is None


def test_a_markup_follows_by_itself(db: None):
    model = make_model("m", price=None, markup=Decimal("0.2"))
    make_mapping(model, make_provider(), actual_model="up", cost_input="1", cost_output="5")
    propose(Source({"up": usd("2", "5")}))
    [cost] = pending()
    assert cost.mapping is not None
    approve([cost.pk], by=None)
    price = build().models["m"].price
    assert price is not None
    assert price.input == 2_400_000_000


def test_with_several_mappings_the_dearest_decides(mapping: Mapping):
    make_mapping(mapping.model, mapping.provider, actual_model="dear", cost_input="4", cost_output="4")
    propose(Source({"up": usd("2", "5"), "dear": usd("4", "4")}))
    assert [row.mapping for row in pending()] == [mapping], "the dearest input is the other mapping's still"
    propose(Source({"up": usd("2", "6"), "dear": usd("4", "4")}))
    [_, price] = pending()
    assert shown(price) == ["output 10 → 12 (+20.0 %)"]


def test_a_new_tier_of_the_cost_becomes_one_of_the_price(mapping: Mapping):
    tiers = [{"above": 200_000, "input": "2", "output": "7.5", "cache_write": "2.5", "cache_write_1h": "4"}]
    propose(Source({"up": usd("1", "5", tiers=tiers)}))
    cost, price = pending()
    assert shown(cost)[:2] == ["input above 200000 1 → 2 (+100.0 %)", "output above 200000 5 → 7.5 (+50.0 %)"]
    assert shown(price)[:2] == ["input above 200000 2 → 4 (+100.0 %)", "output above 200000 10 → 15 (+50.0 %)"]
    approve_all()
    entry = build().models["m"].price
    assert entry is not None
    [tier] = entry.tiers
    assert (tier.above, tier.input, tier.output) == (200_000, 4 * USD, 15 * USD)


def test_an_operator_s_own_plan_goes_first(mapping: Mapping):
    tomorrow = timezone.now() + timedelta(days=1)
    make_price(mapping.model, "5", "5", at=tomorrow)
    propose(Source({"up": usd("1.5", "5")}))
    assert [row.mapping for row in pending()] == [mapping]
    make_cost(mapping, "9", "9", at=tomorrow)
    propose(Source({"up": usd("1.5", "5")}))
    assert pending() == []


def test_what_is_off_or_unknown_to_the_source_is_left_alone(mapping: Mapping):
    assert propose(Source()).unknown == ["m → openai up"]
    Mapping.objects.filter(pk=mapping.pk).update(enabled=False)
    report = propose(Source({"up": usd("9", "9")}))
    assert (report.unknown, report.created) == ([], [])


def test_a_web_search_that_the_source_does_not_price_stays_as_it_is(db: None):
    mapping = make_mapping(make_model(), make_provider(), cost_input="1", cost_output="5", cost_web_search="10")
    assert propose(Source({mapping.actual_model: usd("1", "5")})).created == []
    known = Source({mapping.actual_model: usd("1", "5", web_search="14")}, searches=True)
    [cost, *_] = propose(known).created
    assert shown(cost) == ["web_search 10 → 14 (+40.0 %)"]


def test_an_import_that_raises_price_and_cost_together_needs_no_proposal(db: None):
    text = """
    [[providers]]
    name = "p"
    kind = "demo"
    [[models]]
    name = "m"
    input = "{price}"
    output = "10"
    [[models.mappings]]
    provider = "p"
    actual_model = "up"
    cost = {{ input = "{cost}", output = "5" }}
    """
    import_config(text.format(price=2, cost=1), environ={})
    import_config(text.format(price=6, cost=4), environ={})
    assert propose(Source({"up": usd("4", "5")})).created == []


def compare_at_once() -> list[Exception]:
    """Two comparisons that both ask the source before either has stored anything, if nothing keeps
    them apart."""
    barrier = threading.Barrier(2)
    errors: list[Exception] = []

    class Together(Source):
        def find(self, provider: Provider, actual_model: str, now: datetime) -> SourcePrice | None:
            with suppress(threading.BrokenBarrierError):
                barrier.wait(2)
            return super().find(provider, actual_model, now)

    def compare() -> None:
        try:
            propose(Together({"up": usd("1.5", "5")}))
        except Exception as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=compare) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return errors


@pytest.fixture
def committed(transactional_db: None) -> None:
    model = make_model("m", price=("2", "10"))
    make_mapping(model, make_provider(), actual_model="up", cost_input="1", cost_output="5")


def test_two_comparisons_at_once_propose_once(committed: None):
    assert compare_at_once() == []
    assert PriceProposal.objects.count() == 2


def test_without_the_guard_the_second_comparison_fails(committed: None, monkeypatch: pytest.MonkeyPatch):
    """The control of the test above."""
    if connection.vendor == "sqlite":
        pytest.skip("SQLite's transactions keep writers apart by themselves")
    monkeypatch.setattr(proposals, "_one_at_a_time", lambda: None)
    [error] = compare_at_once()
    assert isinstance(error, IntegrityError)


# -- the source itself


NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


def test_the_bundled_prices_know_our_kinds(db: None):
    source = BundledPrices()
    assert source.version.startswith("genai-prices 0.2")
    for kind, model, name in (
        ("anthropic", "claude-sonnet-4-5-20250929", "anthropic/claude-sonnet-4-5"),
        ("gemini", "gemini-2.5-pro", "google/gemini-2.5-pro"),
        ("openai", "gpt-5.2", "openai/gpt-5.2"),
        ("openrouter", "z-ai/glm-4.6", "openrouter/z-ai/glm-4.6"),
    ):
        found = source.find(Provider(name="p", kind=kind), model, NOW)
        assert found is not None
        assert found.name == name
        assert found.price.output > found.price.input > found.price.cache_read > 0
    assert source.find(Provider(name="p", kind="anthropic"), "no-such-model", NOW) is None
    assert source.find(Provider(name="p", kind="demo"), "claude-sonnet-4-5", NOW) is None
    elsewhere = Provider(name="p", kind="openai-compatible", base_url="https://api.perplexity.ai/v1")
    assert source.find(elsewhere, "sonar", NOW) is None, "it charges by the request too"
    compatible = Provider(name="p", kind="openai-compatible", base_url="https://api.deepseek.com/v1")
    assert source.find(compatible, "deepseek-chat", NOW) is not None
    assert source.find(Provider(name="p", kind="vllm"), "deepseek-chat", NOW) is None


def test_a_source_s_tiers_begin_above_their_start():
    found = _price(
        SourceModelPrice(
            input_mtok=TieredPrices(base=Decimal(3), tiers=[SourceTier(200_000, Decimal(6))]),
            output_mtok=Decimal(15),
            cache_write_mtok=Decimal("3.75"),
            web_searches_kcount=Decimal(10),
        )
    )
    assert found is not None
    [tier] = found.tiers
    assert (tier.above, tier.input, tier.output) == (200_000, 6 * USD, 15 * USD)
    assert (found.cache_read, found.cache_write, found.cache_write_1h) == (3 * USD, 3_750_000_000, 6 * USD)
    assert (tier.cache_read, tier.cache_write_1h) == (6 * USD, 12 * USD)
    assert found.web_search == 10**7


@pytest.mark.parametrize(
    "source",
    [
        SourceModelPrice(input_mtok=Decimal(1)),
        SourceModelPrice(input_mtok=Decimal(-1), output_mtok=Decimal(1)),
        SourceModelPrice(input_mtok=Decimal(1), output_mtok=Decimal(1), requests_kcount=Decimal(5)),
    ],
)
def test_what_tokens_alone_do_not_price_is_unknown(source: SourceModelPrice):
    assert _price(source) is None


def test_a_price_below_a_nano_is_rounded_up():
    found = _price(SourceModelPrice(input_mtok=Decimal("0.18000000000000002"), output_mtok=Decimal(1)))
    assert found is not None
    assert found.input == 180_000_001


def test_where_the_price_depends_on_the_hour_the_dearest_counts():
    by_day = SourceModelPrice(input_mtok=Decimal(2), output_mtok=Decimal(4))
    by_night = SourceModelPrice(input_mtok=Decimal(1), output_mtok=Decimal(2))
    hours = TimeOfDateConstraint(time(16, 30, tzinfo=UTC), time(0, 30, tzinfo=UTC))
    model = ModelInfo(
        id="m",
        match=ClauseEquals("m"),
        prices=[ConditionalPrice(prices=by_day), ConditionalPrice(hours, prices=by_night)],
    )
    source = BundledPrices()
    source._providers = [SourceProvider("deepseek", "D", "https://x", models=[model])]
    for hour in (1, 12, 18, 23):
        found = source.find(Provider(name="p", kind="deepseek"), "m", NOW.replace(hour=hour))
        assert found is not None
        assert (found.price.input, found.price.output) == (2 * USD, 4 * USD)


# -- the command and the task


@pytest.fixture
def list_of_prices(monkeypatch: pytest.MonkeyPatch) -> Source:
    source = Source({"up": usd("1.5", "5")})
    monkeypatch.setattr(proposals, "BundledPrices", lambda: source)
    return source


def test_the_command_proposes_and_applies_only_when_told(mapping: Mapping, list_of_prices: Source):
    out = StringIO()
    call_command("sync_prices", stdout=out)
    assert "proposed  cost of m → openai up: input 1 → 1.5 (+50.0 %)" in out.getvalue()
    assert "2 proposed, 2 pending, by list 1." in out.getvalue()
    assert MappingCost.objects.count() == 1
    out = StringIO()
    call_command("sync_prices", "--apply", stdout=out)
    assert "pending   price of m: input 2 → 3 (+50.0 %)" in out.getvalue()
    assert "2 approved." in out.getvalue()
    assert build().models["m"].price == usd("3", "10", cache_write="3.75", cache_write_1h="6", cache_read="3")
    call_command("sync_prices", "--apply", stdout=out)
    assert ModelPrice.objects.count() == 2


def test_the_command_fails_for_what_cannot_be_applied(
    mapping: Mapping, list_of_prices: Source, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("providers.proposals._apply", lambda proposal, now: "it is too dear.")
    with pytest.raises(CommandError, match=r"Not approved: cost of m → openai up: it is too dear\."):
        call_command("sync_prices", "--apply", stdout=StringIO())


def test_the_task_only_proposes_and_beat_knows_it(mapping: Mapping, list_of_prices: Source):
    from ccm_site.celery import app
    from providers.tasks import sync_prices

    sync_prices()
    sync_prices()
    assert len(pending()) == 2
    assert ModelPrice.objects.count() == MappingCost.objects.count() == 1
    app.finalize()
    assert app.conf.beat_schedule["providers.sync_prices"]["task"] in app.tasks


def test_the_real_data_proposes_for_a_shipped_catalogue_and_settles(db: None):
    provider = Provider.objects.create(name="anthropic", kind="anthropic")
    model = Model.objects.create(name="claude-haiku-4-5")
    make_price(model, "2", "10")
    make_mapping(model, provider, cost_input="0.5", cost_output="2.5")
    assert len(propose().created) == 2
    approve_all()
    assert propose().created == []
    price, cost = ModelPrice.objects.order_by("-effective_from")[0], MappingCost.objects.order_by("-effective_from")[0]
    assert price.price.input == 4 * cost.price.input
