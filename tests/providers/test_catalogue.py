"""The snapshot that requests are served by: complete, exact, and up to date."""

import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from unittest import mock

import pytest
from django.db import DatabaseError, connection
from hypothesis import given
from hypothesis import strategies as st

from accounts.models import ApiKey, Organization
from providers import prices
from providers.catalogue import LiveCatalogue, build
from providers.models import CatalogueVersion, Credential, Mapping, Model, ModelPrice, Provider, RouterProfile
from providers.types import Price, Profile
from tests.providers.catalogue_support import (
    make_cost,
    make_credential,
    make_mapping,
    make_model,
    make_price,
    make_provider,
)

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = NOW
        self.seconds = 0.0

    def wall(self) -> datetime:
        return self.now

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def live(clock: Clock) -> LiveCatalogue:
    return LiveCatalogue(clock=clock.wall, monotonic=clock.monotonic)


usd = st.decimals(min_value=0, max_value=99_999, places=9, allow_nan=False, allow_infinity=False)


@given(usd)
def test_usd_become_whole_nanos_and_come_back(amount):
    assert Decimal(prices.nanos(amount)) == amount * 10**9
    assert Decimal(prices.usd(prices.nanos(amount))) == amount


def test_a_price_below_a_nano_is_no_price():
    with pytest.raises(ValueError, match="whole number"):
        prices.nanos(Decimal("0.0000000001"))


def test_rates_that_are_not_given_follow_the_input_price():
    assert prices.price(input=Decimal("0.000000003"), output=Decimal(10)) == Price(
        input=3, output=10**10, cache_read=3, cache_write=4, cache_write_1h=6, web_search=0
    )
    assert prices.price(input=Decimal(3), output=Decimal(15), web_search=Decimal(10)).web_search == 10_000_000


@given(usd, st.decimals(min_value=0, max_value=999, places=6))
def test_a_markup_is_exact_and_rounds_up(cost, markup):
    marked = prices.with_markup(prices.price(input=cost, output=cost), markup)
    exact = cost * 10**9 * (1 + markup)
    assert exact <= marked.input < exact + 1


@pytest.mark.django_db
def test_a_model_with_its_targets_in_order():
    first = make_provider("openai", connect_timeout=3, idle_timeout=40)
    second = make_provider("backup", kind="openai-compatible", base_url="https://gpt.example/v1", wire="anthropic")
    model = make_model(display_name="GPT", context_window=400_000, max_output=128_000, thinking=True)
    make_mapping(model, second, priority=2, actual_model="gpt")
    make_mapping(model, first, weight=3, cost_input=Decimal("1.25"), cost_output=Decimal(10))
    catalogue = build(NOW)
    entry = catalogue.models["gpt-5.1"]
    assert catalogue.providers == {"openai", "backup"}
    assert (entry.display_name, entry.context_window, entry.max_output, entry.thinking) == (
        "GPT",
        400_000,
        128_000,
        True,
    )
    assert entry.price == Price(1_250_000_000, 10**10, 1_250_000_000, 1_562_500_000, 2_500_000_000)
    openai, backup = entry.targets
    assert (openai.provider, openai.wire, openai.base_url) == ("openai", "openai_chat", "https://api.openai.com/v1")
    assert (openai.weight, openai.timeouts.connect, openai.timeouts.idle) == (3, 3.0, 40.0)
    assert openai.cost is not None
    assert openai.cost.output == 10**10
    assert (backup.wire, backup.base_url, backup.actual_model) == ("anthropic", "https://gpt.example/v1", "gpt")
    assert backup.cost is None


@pytest.mark.django_db
def test_what_is_disabled_or_cannot_be_called_is_no_target():
    model = make_model()
    make_mapping(model, make_provider("off", enabled=False))
    make_mapping(model, make_provider("mapping-off"), enabled=False)
    make_mapping(model, make_provider("keyless", secret=None))
    make_mapping(model, make_provider("nowhere", kind="openai-compatible", secret=None))
    make_mapping(model, make_provider("unheard-of", kind="unheard-of"))
    keyed = make_provider("all-keys-off")
    make_mapping(model, keyed)
    keyed.credentials.update(enabled=False)
    make_mapping(model, make_provider("own", kind="ollama", secret=None))
    make_mapping(model, make_provider("fake", base_url="http://127.0.0.1:9/v1", secret=None))
    make_mapping(make_model("hidden", enabled=False), make_provider("demo", kind="demo", secret=None))
    catalogue = build(NOW)
    assert [target.provider for target in catalogue.models["gpt-5.1"].targets] == ["own", "fake"]
    assert set(catalogue.models) == {"gpt-5.1"}
    assert "off" not in catalogue.providers


@pytest.mark.django_db
def test_a_model_without_price_is_listed_without_one():
    make_model(price=None)
    assert build(NOW).models["gpt-5.1"].price is None


@pytest.mark.django_db
def test_a_markup_is_on_the_known_cost_and_without_one_there_is_no_price():
    model = make_model(markup=Decimal("0.2"), price=("99", "99"))
    mapping = make_mapping(model, make_provider())
    assert build(NOW).models["gpt-5.1"].price is None
    make_cost(mapping, "1.25", "10")
    price = build(NOW).models["gpt-5.1"].price
    assert price is not None
    assert (price.input, price.output) == (1_500_000_000, 12_000_000_000)


@pytest.mark.django_db
def test_a_markup_is_on_the_dearest_mapping_class_by_class_so_nothing_is_sold_under_cost():
    model = make_model(markup=Decimal("0.1"), price=None)
    make_mapping(model, make_provider("a"), cost_input="1", cost_output="9", cost_cache_read="0.1")
    tiers = [{"above": 1000, "input": "4", "output": "6"}]
    make_mapping(model, make_provider("b"), priority=2, cost_input="2", cost_output="5", cost_tiers=tiers)
    entry = build(NOW).models["gpt-5.1"]
    assert entry.price is not None
    assert (entry.price.input, entry.price.output, entry.price.cache_read) == (22 * 10**8, 99 * 10**8, 22 * 10**8)
    [tier] = entry.price.tiers
    assert (tier.above, tier.input, tier.output) == (1000, 44 * 10**8, 99 * 10**8)
    for target in entry.targets:
        assert target.cost is not None
        for tokens in (1, 1000, 1001):
            for name in prices.CLASSES:
                assert getattr(prices.at(entry.price, tokens), name) >= getattr(prices.at(target.cost, tokens), name)
    make_mapping(model, make_provider("c"), priority=3)
    assert build(NOW).models["gpt-5.1"].price is None, "a mapping of unknown cost might be dearer"


@pytest.mark.django_db
def test_a_markup_s_price_does_not_move_when_a_credential_fails():
    model = make_model(markup=Decimal("0"), price=None)
    make_mapping(model, make_provider("a"), cost_input="1", cost_output="2")
    dear = make_provider("b")
    make_mapping(model, dear, cost_input="3", cost_output="4")
    before = build(NOW).models["gpt-5.1"].price
    dear.credentials.update(enabled=False)
    assert build(NOW).models["gpt-5.1"].price == before
    Provider.objects.filter(pk=dear.pk).update(enabled=False)
    after = build(NOW).models["gpt-5.1"].price
    assert after is not None
    assert after.input == 10**9


@pytest.mark.django_db
def test_profiles_tell_unset_from_off():
    organization = Organization.objects.create(name="Acme")
    key = ApiKey.objects.create(organization=organization, name="k", digest="d" * 64, last_four="abcd")
    RouterProfile.objects.create(scope="platform", default="a", think_efforts=["max"], pin_explicit_model=False)
    RouterProfile.objects.create(scope="organization", organization=organization, think="", auto_map_regex="^x")
    RouterProfile.objects.create(scope="key", api_key=key, long_context_threshold=5)
    catalogue = build(NOW)
    assert catalogue.platform_profile == Profile(
        default="a", think_efforts=frozenset({"max"}), pin_explicit_model=False
    )
    assert catalogue.organization_profiles == {organization.pk: Profile(think="", auto_map_regex="^x")}
    assert catalogue.key_profiles == {key.pk: Profile(long_context_threshold=5)}


@pytest.mark.django_db
def test_the_number_of_queries_does_not_grow(django_assert_max_num_queries: Any):
    for number in range(10):
        provider = make_provider(f"p{number}")
        make_mapping(make_model(f"m{number}"), provider)
    with django_assert_max_num_queries(12):
        build(NOW)


def _edits() -> list[Any]:
    def add_price() -> object:
        return make_price(Model.objects.get(), "2", "4", at=NOW - timedelta(days=1))

    return [
        lambda: Provider.objects.get().delete(),
        lambda: Provider.objects.update(first_byte_timeout=7),
        lambda: make_credential(Provider.objects.get(), label="B"),
        lambda: Credential.objects.get().delete(),
        lambda: Model.objects.update(vision=False),
        lambda: make_model("another"),
        add_price,
        lambda: Mapping.objects.update(weight=9),
        lambda: make_mapping(Model.objects.get(), Provider.objects.get(), actual_model="b"),
        lambda: RouterProfile.objects.create(scope="platform", default="gpt-5.1"),
    ]


@pytest.mark.django_db
@pytest.mark.parametrize("place", range(len(_edits())))
def test_each_kind_of_edit_reaches_the_live_catalogue(live, place):
    make_mapping(make_model(), make_provider())
    assert live.refresh_if_changed()
    before = live.current
    assert not live.refresh_if_changed()
    assert live.current is before
    _edits()[place]()
    assert live.refresh_if_changed()
    assert live.current != before


@pytest.mark.django_db
def test_a_price_takes_over_when_its_time_comes(live, clock):
    model = make_model()
    make_price(model, "2", "20", at=NOW + timedelta(hours=1))
    live.refresh_if_changed()
    assert live.current.models["gpt-5.1"].price.output == 10 * 10**9
    clock.now = NOW + timedelta(minutes=59)
    assert not live.refresh_if_changed()
    clock.now = NOW + timedelta(hours=1)
    assert live.refresh_if_changed()
    assert live.current.models["gpt-5.1"].price.output == 20 * 10**9
    assert ModelPrice.objects.count() == 2


@pytest.mark.django_db
def test_the_last_good_snapshot_outlives_the_database(live, clock):
    make_model()
    live.refresh_if_changed()
    snapshot = live.current
    with mock.patch.object(CatalogueVersion, "current", side_effect=DatabaseError("gone")):
        clock.seconds = 29
        assert not live.refresh_if_changed()
        assert live.healthy
        clock.seconds = 31
        assert not live.refresh_if_changed()
        assert live.current is snapshot
        assert not live.healthy
        assert live.age == 31
    assert not live.refresh_if_changed()
    assert live.healthy


def test_before_the_first_reading_it_is_empty_and_unhealthy(live):
    assert live.current.models == {}
    assert not live.healthy


@pytest.mark.django_db
def test_an_edit_in_the_middle_of_a_build_is_seen_whole():
    """The models are read, then an edit adds a provider and renames the model: the build starts again."""
    model = make_model("before")
    edited = threading.Event()

    def edit(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        result = execute(sql, params, many, context)
        if "providers_modelprice" in sql and not edited.is_set():
            edited.set()
            Model.objects.filter(pk=model.pk).update(name="after")
        return result

    with connection.execute_wrapper(edit):
        catalogue = build(NOW)
    assert edited.is_set()
    assert set(catalogue.models) == {"after"}
    assert catalogue.version == CatalogueVersion.current()


@pytest.mark.django_db
def test_every_process_is_told_of_an_edit_once_it_is_committed(monkeypatch, django_capture_on_commit_callbacks):
    told: list[str] = []
    monkeypatch.setattr("accounts.changes._publish", told.append)
    with django_capture_on_commit_callbacks() as callbacks:
        make_model(price=None)
    assert told == []
    for callback in callbacks:
        callback()
    assert told == ["catalogue"]
