"""What-if: the same as deciding and pricing each recorded request anew, but by groups."""

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import msgspec
import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from credits import rating
from credits.explanations import explained as explanation_of
from credits.models import UsageRecord
from credits.types import Explanation, MeterReading
from gateway.metering import price_snapshot
from gateway.routing import Signals, choose, merge
from gateway.what_if import ASSUMED, GONE, NO_PRICE, NOT_LOOKED, TOKENS, WhatIf, what_if
from providers.catalogue import build
from providers.models import Mapping, Model, ModelPrice, Provider
from providers.types import Catalogue, Profile
from tests.credits.support import USD, Tenant, new_tenant
from tests.credits.usage import support
from tests.credits.usage.support import use

NOW = timezone.now().replace(microsecond=0)
SINCE = NOW - timedelta(days=30)
DAY = timedelta(days=1)
TIERS = [
    {"above": 500, "input": "6", "output": "30", "cache_read": "0.6", "cache_write": "7.5", "cache_write_1h": "12"}
]


@pytest.fixture
def tenant(db: None) -> Tenant:
    return new_tenant(1000 * USD)


@pytest.fixture(autouse=True)
def _models(db: None) -> None:
    provider = Provider.objects.create(name="demo", kind="demo")
    for name, price in (("dear", "10"), ("cheap", "1"), ("tiered", "3")):
        model = Model.objects.create(name=name, context_window=900 if name == "cheap" else None)
        Mapping.objects.create(model=model, provider=provider, actual_model=name)
        rates: dict[str, Any] = {"input": Decimal(price), "output": Decimal(price) * 5}
        if name == "tiered":
            rates["tiers"] = TIERS
        ModelPrice.objects.bulk_create([ModelPrice(model=model, effective_from=SINCE - DAY, **rates)])


PLATFORM = Profile(default="dear")


def explained(route: str, signals: Signals) -> Explanation:
    rules = [{"rule": route, "matched": True, "why": "w"}]
    return Explanation.of(msgspec.json.encode({"rules": rules, "targets": [], "signals": signals, "origin": ""}))


def record(
    tenant: Tenant, signals: Signals | None, at: datetime, *, output: int = 100, model: str = "dear", **facts: Any
) -> str:
    """A request that went to `model`, with what was recorded of it."""
    facts = {"requested_model": "claude-opus-5-5", "route": "default", **facts}
    explanation = None if signals is None else explained(str(facts["route"]), signals)
    return use(tenant, at, tokens=output, model=model, explanation=explanation, **facts)


def asked(tenant: Tenant, **routes: Any) -> WhatIf:
    catalogue = build()
    return what_if(tenant.organization_id, Profile(**routes), _with_platform(catalogue), SINCE, NOW + DAY)


def _with_platform(catalogue: Catalogue) -> Catalogue:
    return replace(catalogue, platform_profile=PLATFORM)


def test_under_the_same_profile_nothing_changes(tenant: Tenant):
    for signals in (Signals(), Signals(thinking="enabled"), Signals(image=True)):
        record(tenant, signals, NOW - DAY)
    found = asked(tenant)
    assert found.requests == 3
    assert found.charged == found.would == sum(UsageRecord.objects.values_list("charge", flat=True))
    assert found.unknown == ()


def test_each_signal_takes_its_route(tenant: Tenant):
    record(tenant, Signals(thinking="enabled"), NOW - DAY)
    record(tenant, Signals(helper="title"), NOW - DAY, output=10)
    record(tenant, Signals(), NOW - DAY)
    found = asked(tenant, think="cheap", background="cheap")
    would = {(each.would_route, each.would_model): each.requests for each in found.changes}
    assert would == {("think", "cheap"): 1, ("background", "cheap"): 1, ("default", "dear"): 1}
    cheap = build().models["cheap"].price
    assert cheap is not None
    moved = [each for each in found.changes if each.would_model == "cheap"]
    assert sum(each.would for each in moved) == rating.charge(MeterReading(output=110), price_snapshot(cheap))
    assert [(each.what, each.requests) for each in found.unknown] == [(TOKENS, 2)]


def test_the_price_is_that_of_the_time(tenant: Tenant):
    model = Model.objects.get(name="cheap")
    ModelPrice.objects.bulk_create(
        [ModelPrice(model=model, effective_from=NOW - 5 * DAY, input=Decimal(2), output=Decimal(20))]
    )
    record(tenant, Signals(), NOW - 10 * DAY, output=1000)
    record(tenant, Signals(), NOW - 1 * DAY, output=1000)
    found = asked(tenant, default="cheap")
    (change,) = found.changes
    assert change.would == 1000 * 5_000 + 1000 * 20_000  # $5 and then $20 per million


def test_a_model_without_a_price_then_is_left_as_it_was(tenant: Tenant):
    model = Model.objects.create(name="young")
    Mapping.objects.create(model=model, provider=Provider.objects.get(), actual_model="young")
    ModelPrice.objects.bulk_create(
        [ModelPrice(model=model, effective_from=NOW - 2 * DAY, input=Decimal(1), output=Decimal(1))]
    )
    record(tenant, Signals(), NOW - 3 * DAY)
    record(tenant, Signals(), NOW - 1 * DAY)
    found = asked(tenant, default="young")
    assert {each.would_model: each.requests for each in found.changes} == {"dear": 1, "young": 1}
    assert (NO_PRICE, 1) in [(each.what, each.requests) for each in found.unknown]


def test_what_cannot_be_known_is_said(tenant: Tenant):
    record(tenant, None, NOW - DAY, route="think")
    record(tenant, None, NOW - DAY, requested_model="gpt-retired", route="explicit", model="gpt-retired")
    record(tenant, Signals(), NOW - DAY, requested_model="gpt-retired", route="explicit", model="gpt-retired")
    found = asked(tenant, think="cheap")
    assert {(each.model, each.would_model): each.requests for each in found.changes} == {
        ("dear", "cheap"): 1,
        ("gpt-retired", "gpt-retired"): 2,
    }
    told = {each.what: each.requests for each in found.unknown}
    assert told == {ASSUMED: 1, GONE: 2, TOKENS: 1}


def test_plan_mode_that_nobody_looked_for_is_unknown(tenant: Tenant):
    record(tenant, Signals(plan_mode=None), NOW - DAY)
    record(tenant, Signals(plan_mode=True), NOW - DAY)
    found = asked(tenant, think="cheap")
    assert {each.would_route: each.requests for each in found.changes} == {"default": 1, "think": 1}
    assert {each.what: each.requests for each in found.unknown} == {NOT_LOOKED: 1, TOKENS: 1}


def test_checks_of_tool_calls_follow_the_safety_route(tenant: Tenant):
    record(tenant, Signals(), NOW - DAY, route="safety", requested_model="dear", request_class="auxiliary")
    assert [each.would_model for each in asked(tenant, safety="cheap").changes] == ["cheap"]


def test_others_and_other_times_do_not_count(tenant: Tenant):
    record(new_tenant(USD), Signals(), NOW - DAY)
    record(tenant, Signals(), SINCE - DAY)
    assert asked(tenant, default="cheap").requests == 0


SIGNALS = [
    Signals(),
    Signals(thinking="enabled"),
    Signals(web_search=True),
    Signals(image=True, plan_mode=True),
    Signals(subagent=True),
    Signals(tag="cheap"),
    Signals(helper="title", request_class="auxiliary"),
    Signals(effort="max"),
]


@pytest.fixture
def many(tenant: Tenant) -> Iterator[Tenant]:
    chance = random.Random(7)
    model = Model.objects.get(name="cheap")
    ModelPrice.objects.bulk_create(
        [
            ModelPrice(model=model, effective_from=NOW - days * DAY, input=Decimal(days), output=Decimal(3 * days))
            for days in (4, 9)
        ]
    )
    for _ in range(120):
        record(
            tenant,
            chance.choice(SIGNALS),
            NOW - timedelta(hours=chance.randrange(1, 24 * 20)),
            output=chance.randrange(1, 2000),
            requested_model=chance.choice(["claude-opus-5-5", "claude-haiku-4-5", "tiered", "dear"]),
        )
    yield tenant


def test_it_is_what_each_request_alone_comes_to(many: Tenant):
    """Against the plain way: each record decided and priced by itself."""
    routes: dict[str, Any] = {
        "think": "cheap", "background": "cheap", "websearch": "tiered", "image": "tiered", "subagent": "cheap",
    }  # fmt: skip
    found = asked(many, **routes)
    catalogue = _with_platform(build())
    profile = merge(None, Profile(**routes), PLATFORM).profile
    would = 0
    for row in UsageRecord.objects.all():
        signals = msgspec.convert(explanation_of(row.why)["signals"], Signals)
        choice = choose(signals, asked=row.requested_model, tokens=1, profile=profile, catalogue=catalogue)
        if choice.found.model.name == row.model:
            would += row.charge
            continue
        price = build(row.created_at).models[choice.found.model.name].price
        assert price is not None
        would += rating.charge(MeterReading(output=row.output_tokens), price_snapshot(price))
    assert found.requests == 120
    assert found.charged == sum(UsageRecord.objects.values_list("charge", flat=True))
    assert 0 <= would - found.would <= 120  # each request alone is rounded up


def test_it_asks_the_database_no_more_for_more_requests(
    many: Tenant, django_assert_max_num_queries: DjangoAssertNumQueries
):
    with django_assert_max_num_queries(100):  # a catalogue a price change, a query each; not one a request
        asked(many, think="cheap")


def test_a_conversation_that_is_long_takes_the_long_route(tenant: Tenant, monkeypatch: pytest.MonkeyPatch):
    """By the input that was charged: of 400 and 800 tokens one is longer than the threshold."""
    for tokens in (400, 800):
        monkeypatch.setattr(support, "MeterReading", lambda output, tokens=tokens: MeterReading(input=tokens))
        record(tenant, Signals(), NOW - DAY)
    found = asked(tenant, long_context="tiered", long_context_threshold=500)
    moved = [each for each in found.changes if each.would_route == "long_context"]
    assert [(each.requests, each.would) for each in moved] == [(1, 800 * 6_000)]  # in the tier above 500


class TestCommand:
    def run(self, tmp_path: Path, tenant: Tenant, toml: str, **options: Any) -> str:
        file = tmp_path / "profile.toml"
        file.write_text(toml)
        out = StringIO()
        call_command("what_if", org=str(tenant.organization_id), profile=str(file), stdout=out, **options)
        return out.getvalue()

    def test_it_prints_what_would_have_been(self, tmp_path: Path, tenant: Tenant):
        record(tenant, Signals(thinking="enabled"), NOW - DAY, output=100_000)
        text = self.run(tmp_path, tenant, '[router]\ndefault = "dear"\nthink = "cheap"\n', days=7)
        assert "1 requests, charged $0.10" in text
        assert "Under this profile: $0.50, $0.40 more." in text or "less." in text
        assert "think" in text

    @pytest.mark.parametrize(
        ("toml", "says"),
        [
            ('[router]\nthink = "retired"\n', "think: the model"),
            ('[router]\nthonk = "dear"\n', "router.thonk"),
            ("[providers]\n", "router"),
            ("[router", "not TOML"),
        ],
    )
    def test_a_file_that_cannot_be_is_refused(self, tmp_path: Path, tenant: Tenant, toml: str, says: str):
        with pytest.raises(CommandError, match=says):
            self.run(tmp_path, tenant, toml)

    def test_whose_usage_and_which_days(self, tmp_path: Path, tenant: Tenant):
        with pytest.raises(CommandError, match="no organisation"):
            call_command("what_if", org="nobody", profile="x")
        with pytest.raises(CommandError, match="--days"):
            self.run(tmp_path, tenant, "", days=0)
