"""What the rows refuse, and that every change of them raises the catalogue's version."""

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts.models import ApiKey, Organization
from providers.errors import ConfigError
from providers.models import (
    CatalogueVersion,
    Credential,
    Mapping,
    Model,
    ModelPrice,
    Provider,
    RouterProfile,
    one_change,
)
from providers.services import set_models_enabled, set_price, set_providers_enabled
from tests.providers.catalogue_support import make_credential, make_mapping, make_model, make_price, make_provider

pytestmark = pytest.mark.django_db


def _raises_version(edit: Callable[[], object]) -> bool:
    before = CatalogueVersion.current()
    edit()
    return CatalogueVersion.current() > before


def test_every_kind_of_edit_raises_the_version():
    assert _raises_version(make_provider)
    provider = Provider.objects.get()
    assert _raises_version(lambda: make_credential(provider, label="B"))
    assert _raises_version(lambda: Model.objects.create(name="m"))
    model = Model.objects.get()
    assert _raises_version(lambda: make_mapping(model, provider))
    assert _raises_version(lambda: make_price(model, "1", "2"))
    assert _raises_version(lambda: RouterProfile.objects.create(scope="platform"))
    assert _raises_version(provider.save)
    assert _raises_version(lambda: Mapping.objects.update(weight=2))
    assert _raises_version(lambda: Model.objects.bulk_create([Model(name="a"), Model(name="b")]))
    assert _raises_version(lambda: set_providers_enabled(provider_ids=[provider.pk], enabled=False))
    assert _raises_version(lambda: set_models_enabled(model_ids=[model.pk], enabled=False))
    assert _raises_version(Credential.objects.filter(label="B").delete)
    assert _raises_version(provider.delete)
    assert Mapping.objects.count() == 0


def test_the_profile_of_a_deleted_organisation_leaves_the_catalogue():
    organization = Organization.objects.create(name="Acme")
    RouterProfile.objects.create(scope="organization", organization=organization, default="m")
    assert _raises_version(organization.delete)


def test_an_edit_that_is_rolled_back_leaves_the_version():
    before = CatalogueVersion.current()
    with pytest.raises(RuntimeError), transaction.atomic():
        make_provider()
        raise RuntimeError
    assert CatalogueVersion.current() == before


def test_many_edits_as_one_change_raise_the_version_once():
    make_provider("first")
    before = CatalogueVersion.current()
    with one_change():
        make_provider("second")
        make_provider("third")
    assert CatalogueVersion.current() == before + 1
    with one_change():
        pass
    assert CatalogueVersion.current() == before + 1


def test_the_version_is_one_row():
    CatalogueVersion.bump()
    with pytest.raises(IntegrityError), transaction.atomic():
        CatalogueVersion.objects.create(pk=2)


def test_an_effective_price_cannot_be_edited_and_a_coming_one_can():
    model = make_model()
    effective = ModelPrice.objects.get()
    effective.input = Decimal(2)
    with pytest.raises(ConfigError, match="cannot be changed"):
        effective.save()
    coming = make_price(model, "1", "1", at=timezone.now() + timedelta(days=1))
    coming.input = Decimal("1.5")
    coming.save()
    coming.refresh_from_db()
    assert coming.input == Decimal("1.5")


def test_a_new_price_is_a_new_row_and_the_same_price_is_none():
    model = make_model(price=None)
    rates = {"input": Decimal("3"), "output": Decimal("15"), "cache_read": Decimal("0.3")}
    assert set_price(model=model, rates=rates)
    assert not set_price(model=model, rates=rates)
    assert set_price(model=model, rates={**rates, "output": Decimal("14.999999999")})
    assert [price.output for price in model.prices.order_by("effective_from")] == [Decimal(15), Decimal("14.999999999")]
    with pytest.raises(ConfigError, match="past"):
        set_price(model=model, rates=rates, effective_from=timezone.now() - timedelta(seconds=1))
    with pytest.raises(ValidationError):
        set_price(model=model, rates={"input": Decimal("-1"), "output": Decimal(1)})


def test_two_prices_cannot_begin_at_one_moment():
    model = make_model()
    with pytest.raises(IntegrityError), transaction.atomic():
        make_price(model, "1", "1")


def test_a_profile_is_the_platforms_or_an_organisations_or_a_keys():
    organization = Organization.objects.create(name="Acme")
    key = ApiKey.objects.create(organization=organization, name="k", digest="d" * 64, last_four="abcd")
    RouterProfile.objects.create(scope="platform")
    RouterProfile.objects.create(scope="organization", organization=organization)
    RouterProfile.objects.create(scope="key", api_key=key)
    for wrong in (
        {"scope": "platform"},
        {"scope": "platform", "organization": organization},
        {"scope": "organization"},
        {"scope": "organization", "organization": organization},
        {"scope": "key", "organization": organization, "api_key": key},
        {"scope": "key", "api_key": key},
    ):
        with pytest.raises(IntegrityError), transaction.atomic():
            RouterProfile.objects.create(**wrong)


@pytest.mark.parametrize(
    ("values", "column"),
    [
        ({"name": "a/b", "kind": "openai"}, "name"),
        ({"name": "a,b", "kind": "openai"}, "name"),
        ({"name": " a", "kind": "openai"}, "name"),
        ({"name": "naïve", "kind": "openai"}, "name"),
        ({"name": "OPENAI", "kind": "openai"}, "__all__"),
        ({"name": "x", "kind": "nonsense"}, "kind"),
        ({"name": "x", "kind": "openai-compatible"}, "base_url"),
        ({"name": "x", "kind": "openai", "base_url": "ftp://host"}, "base_url"),
        ({"name": "x", "kind": "openai", "base_url": "https://user:secret@host/v1"}, "base_url"),
        ({"name": "x", "kind": "openai", "wire": "morse"}, "wire"),
        ({"name": "x", "kind": "openai", "idle_timeout": 0}, "idle_timeout"),
    ],
)
def test_a_provider_that_cannot_work_is_refused(values, column):
    make_provider()
    with pytest.raises(ValidationError) as caught:
        Provider(**values).full_clean()
    assert set(caught.value.message_dict) == {column}


def test_a_trailing_slash_is_dropped():
    provider = Provider(name="x", kind="openai", base_url="http://localhost:8080/v1/")
    provider.full_clean()
    assert provider.base_url == "http://localhost:8080/v1"


@pytest.mark.parametrize(
    ("tiers", "words"),
    [
        ([{"above": 1000, "input": "0.9", "output": "10"}], "0.9 for input above 1000 tokens is less than the 1.25"),
        ([{"above": 5, "input": "2", "output": "10"}, {"above": 9, "input": "1.5", "output": "10"}], "is less than"),
        ([{"above": 9, "input": "2", "output": "10"}, {"above": 9, "input": "3", "output": "10"}], "Tiers rise"),
        ([{"above": 0, "input": "2", "output": "10"}], "above a whole number"),
        ([{"above": 9, "input": "2"}], "needs a price for output"),
        ([{"above": 9, "input": "-2", "output": "10"}], "must be a number from 0"),
        ([{"above": 9, "input": "2.0000000001", "output": "10"}], "more than 9 decimals"),
        ([{"above": 9, "input": "2", "output": "10", "web_search": "1"}], "has no 'web_search'"),
        ([{"above": n, "input": "2", "output": "10"} for n in range(1, 10)], "at most 8 tiers"),
        ([{"above": 9, "input": "2.0", "output": "10"}], "one form only"),
        ("9: input 2", "are a list"),
    ],
)
def test_tiers_that_cannot_be_meant_are_refused_in_words(tiers, words):
    price = ModelPrice(model=make_model(price=None), input=Decimal("1.25"), output=Decimal(10), tiers=tiers)
    with pytest.raises(ValidationError) as caught:
        price.full_clean()
    assert words in str(caught.value.message_dict["tiers"])


def test_an_effective_row_is_not_changed_by_a_bulk_update_either():
    model = make_model()
    with pytest.raises(ConfigError, match="cannot be changed"):
        ModelPrice.objects.filter(model=model).update(input=Decimal(9))
    make_price(model, "1", "1", at=timezone.now() + timedelta(days=1))
    ModelPrice.objects.filter(effective_from__gt=timezone.now()).update(input=Decimal(9))


def test_a_pattern_that_does_not_compile_is_refused():
    with pytest.raises(ValidationError, match="regular expression"):
        RouterProfile(scope="platform", auto_map_regex="(").full_clean()
