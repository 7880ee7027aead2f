from collections.abc import Callable
from decimal import Decimal
from itertools import count
from secrets import token_hex
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import ApiKey, Membership, Organization, User
from accounts.roles import Role
from accounts.services import create_key, get_or_create_user
from credits.models import Hold, PriceSnapshot, UsageRecord
from credits.services import ensure_wallet
from providers.catalogue import LiveCatalogue
from providers.models import Mapping, Model, ModelPrice, Provider

PASSWORD = "a long enough password"


@pytest.fixture(autouse=True)
def _fresh_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test's database starts its catalogue versions anew."""
    monkeypatch.setattr("adminui.catalogue._live", LiveCatalogue())


@pytest.fixture(autouse=True)
def _own_cache(settings: Any) -> None:
    """What is counted in one test does not count in another."""
    cache = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": token_hex(8)}
    settings.CACHES = {"default": cache}


@pytest.fixture
def customer(db: None) -> User:
    user, _ = get_or_create_user(email="ada@example.com", password=PASSWORD)
    ensure_wallet(user.personal_organization.pk)
    return user


@pytest.fixture
def stranger(db: None) -> User:
    """Somebody of another tenant."""
    user, _ = get_or_create_user(email="eve@example.net", password=PASSWORD)
    ensure_wallet(user.personal_organization.pk)
    return user


@pytest.fixture
def operator(db: None) -> User:
    return User.objects.create_superuser("root@example.com", PASSWORD)


@pytest.fixture
def organization(customer: User) -> Organization:
    return customer.personal_organization


@pytest.fixture
def key(organization: Organization) -> ApiKey:
    return ApiKey.objects.get(pk=create_key(organization=organization, name="laptop", created_by=None).id)


@pytest.fixture
def signed_in() -> Callable[[User], Client]:
    def client_of(user: User) -> Client:
        client = Client()
        client.force_login(user)
        return client

    return client_of


@pytest.fixture
def member(organization: Organization, db: None) -> User:
    """A plain member of the customer's organisation, and of no other."""
    user = User.objects.create_user("tom@example.com", PASSWORD)
    Membership.objects.create(organization=organization, user=user, role=Role.DEVELOPER)
    return user


@pytest.fixture
def demo_model(db: None) -> str:
    """A model that can serve, on the demo provider: $1.25 in, $10 out, $0.125 for cached input."""
    model = Model.objects.create(name="demo-sonnet", context_window=200_000)
    price = {"input": "1.25", "output": "10", "cache_read": "0.125", "cache_write": "1.5625"}
    ModelPrice.objects.create(model=model, **{name: Decimal(usd) for name, usd in price.items()})
    provider = Provider.objects.create(name="demo", kind="demo")
    Mapping.objects.create(model=model, provider=provider, actual_model="demo-sonnet")
    return model.name


@pytest.fixture
def usage(db: None) -> Callable[..., None]:
    """Leaves what a served request leaves: a captured hold and its usage record."""
    numbers = count(1)

    def leave(organization: Organization, *, model: str, charge: int, cost: int = 0, asked: str = "") -> None:
        request_id = f"req_{next(numbers)}"
        made = create_key(organization=organization, name="usage", created_by=None)
        price, _ = PriceSnapshot.objects.get_or_create(
            input=1, output=1, cache_read=1, cache_write=1, cache_write_1h=1, web_search=0
        )
        Hold.objects.create(
            id=request_id,
            wallet_id=organization.pk,
            api_key_id=made.id,
            amount=charge,
            state="dispatched",
            price_snapshot=price,
            model=model,
            input_tokens=1,
            max_tokens=1,
            lease_until=timezone.now(),
        )
        Hold.objects.filter(pk=request_id).update(state="captured", captured=charge)
        UsageRecord.objects.create(
            request_id=request_id,
            organization=organization,
            api_key_id=made.id,
            model=model,
            requested_model=asked,
            route="background",
            status=200,
            usage_source="provider",
            price_snapshot=price,
            input_tokens=1234,
            charge=charge,
            cost=cost,
            margin=charge - cost,
        )

    return leave
