"""The customers' pages of routes, models and provider keys."""

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import ApiKey, AuditEntry, Membership, Organization, User
from accounts.roles import Role
from credits.models import TargetRollup
from credits.usage.models import TargetPeriod
from providers.connection import ConnectionResult
from providers.models import Credential, Mapping, Model, ModelPrice, Provider, RouterProfile

pytestmark = pytest.mark.django_db
SignedIn = Callable[[User], Client]


@pytest.fixture
def client(customer: User, signed_in: SignedIn) -> Client:
    return signed_in(customer)


@pytest.fixture
def closed(db: None) -> Provider:
    """A provider that needs a key, which CCM has not: only an organisation's own opens its model."""
    provider = Provider.objects.create(name="closed", kind="anthropic-compatible", base_url="http://127.0.0.1:9")
    model = Model.objects.create(name="closed-model", context_window=100_000)
    ModelPrice.objects.create(model=model, input=Decimal(3), output=Decimal(15))
    Mapping.objects.create(model=model, provider=provider, actual_model="closed-actual")
    Credential.objects.create(provider=provider, label="ours", enabled=False, sealed="", masked="")
    return provider


def log() -> list[str]:
    return [entry.action for entry in AuditEntry.objects.order_by("pk")]


# -- routes


def save(client: Client, **fields: Any) -> Any:
    return client.post(reverse("routing"), {"version": "0", **fields})


def test_routes_are_set_and_gone_back_to(client: Client, demo_model: str, organization: Organization):
    assert save(client, think=demo_model, background="-", long_context_threshold="70000").status_code == 302
    row = RouterProfile.objects.get(organization=organization)
    assert (row.think, row.background, row.default, row.long_context_threshold) == (demo_model, "", None, 70_000)
    assert save(client, version="1", image=demo_model, pin_explicit_model="yes").status_code == 302
    row.refresh_from_db()
    assert (row.think, row.image, row.pin_explicit_model) == (None, demo_model, True)
    page = client.get(reverse("routing")).content.decode()
    assert "Go back to 1" in page
    assert "the page Routing" in page
    client.post(reverse("routing-revert"), {"version": "1"})
    row.refresh_from_db()
    assert (row.think, row.image) == (demo_model, None)
    assert log() == ["changed the routes of"] * 3
    assert client.post(reverse("routing-revert"), {"version": "77"}).status_code == 404


def test_a_keys_routes_are_its_own(client: Client, demo_model: str, key: ApiKey):
    assert save(client, key=key.pk, think=demo_model).status_code == 302
    assert RouterProfile.objects.get().api_key == key
    page = client.get(reverse("routing"), {"key": key.pk}).content.decode()
    assert "this key" in page


def test_who_read_an_older_version_changes_nothing(client: Client, demo_model: str):
    save(client, think=demo_model)
    answer = save(client, version="0", image=demo_model)
    assert answer.status_code == 400
    assert "Somebody else has changed" in answer.content.decode()
    assert RouterProfile.objects.get().image is None


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("think", "nothing", "not one of the available choices"),
        ("auto_map_regex", "(", "auto"),
        ("think_efforts", "VERY HARD", "effort names"),
        ("long_context_threshold", "many", "whole number"),
    ],
)
def test_a_route_that_cannot_be_is_said_at_its_field(client: Client, demo_model: str, field: str, value: str, why: str):
    answer = save(client, **{field: value})
    assert answer.status_code == 400
    assert why in answer.content.decode()
    assert not RouterProfile.objects.exists()


def test_a_draft_is_priced_and_not_saved(
    client: Client, demo_model: str, organization: Organization, usage: Callable[..., None]
):
    usage(organization, model=demo_model, charge=5_000_000)
    answer = save(client, think=demo_model, price="1")
    assert answer.status_code == 200
    assert "1 requests were charged $0.005" in answer.content.decode()
    assert not RouterProfile.objects.exists()


def test_savings_against_one_model(
    client: Client, demo_model: str, organization: Organization, usage: Callable[..., None]
):
    dear = Model.objects.create(name="dear")
    begun = timezone.now() - timedelta(days=60)
    ModelPrice.objects.create(model=dear, input=Decimal(1000), output=Decimal(1000), effective_from=begun)
    Mapping.objects.create(model=dear, provider=Provider.objects.get(), actual_model="dear")
    usage(organization, model=demo_model, charge=5_000_000, asked="claude-x")
    page = client.get(reverse("routing-savings"), {"model": "dear"}).content.decode()
    # 1234 input tokens at $1000 a million, less what they were charged
    assert "$1.234" in page
    assert "$1.229" in page
    assert client.get(reverse("routing-savings"), {"model": "nothing"}).status_code == 200


def test_a_developer_sees_routes_and_changes_none(
    member: User, organization: Organization, demo_model: str, signed_in: SignedIn
):
    theirs = signed_in(member)
    page = theirs.get(reverse("routing"))
    assert page.status_code == 200
    assert "<h2>Change</h2>" not in page.content.decode()
    assert save(theirs, think=demo_model).status_code == 403
    assert not RouterProfile.objects.exists()


# -- models


def test_the_models_with_what_they_cost_and_can(client: Client, demo_model: str):
    page = client.get(reverse("models")).content.decode()
    assert "$1.25" in page
    assert "200,000" in page
    assert demo_model not in client.get(reverse("models"), {"q": "other"}).content.decode()
    assert demo_model in client.get(reverse("models"), {"q": "SONNET", "tools": "1"}).content.decode()
    assert demo_model not in client.get(reverse("models"), {"thinking": "1"}).content.decode()
    assert demo_model in Client().get(reverse("models")).content.decode()


def test_uptime_is_the_share_of_answered_attempts(client: Client, demo_model: str):
    hour = timezone.now().replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
    for outcome, count in (("ok", 3), ("overloaded_error 529", 1), ("invalid_request_error 400", 5)):
        TargetRollup.objects.create(
            period=TargetPeriod.HOUR, starts_at=hour, provider="demo", model="demo-sonnet", outcome=outcome,
            attempts=count, output_tokens=0, stream_ms=0,
        )  # fmt: skip
    assert "75.00&nbsp;%" in client.get(reverse("models")).content.decode()


# -- provider keys


def add(client: Client, provider: Provider, secret: str = "sk-own-secret-1234", label: str = "team") -> Any:
    return client.post(reverse("own-keys"), {"provider": provider.pk, "label": label, "secret": secret})


def test_an_own_key_is_stored_masked_and_opens_its_models(client: Client, closed: Provider, organization: Organization):
    assert "closed-model" not in client.get(reverse("models")).content.decode()
    assert add(client, closed).status_code == 302
    row = Credential.objects.get(organization=organization)
    assert row.open_secret() == "sk-own-secret-1234"
    assert "sk-own-secret" not in row.sealed
    page = client.get(reverse("own-keys")).content.decode()
    assert row.masked in page
    assert "sk-own-secret" not in page
    assert "closed-model" in client.get(reverse("models")).content.decode()
    assert "closed-model" not in Client().get(reverse("models")).content.decode()
    client.post(reverse("own-key-switch", args=[row.pk]), {"enabled": "0"})
    assert "closed-model" not in client.get(reverse("models")).content.decode()
    client.post(reverse("own-key-replace", args=[row.pk]), {"secret": "sk-another"})
    row.refresh_from_db()
    assert (row.open_secret(), row.enabled) == ("sk-another", False)
    client.post(reverse("own-key-delete", args=[row.pk]))
    assert not Credential.objects.filter(organization=organization).exists()
    assert log() == [
        "added the provider key", "disabled the provider key", "replaced the secret of the provider key",
        "deleted the provider key",
    ]  # fmt: skip
    assert "sk-" not in str(list(AuditEntry.objects.values("subject", "details")))


@pytest.mark.parametrize(
    ("secret", "label", "why"),
    [
        ("two words", "team", "no spaces"),
        ("{broken", "team", "cut or damaged"),
        ('{"token_uri": "http://10.0.0.1/"}', "team", "token_uri must be"),
        ("sk-1", "", "required"),
    ],
)
def test_a_secret_that_is_none_is_refused_and_not_shown(
    client: Client, closed: Provider, secret: str, label: str, why: str
):
    answer = add(client, closed, secret, label)
    assert answer.status_code == 400
    assert why in answer.content.decode()
    assert f'value="{secret}"' not in answer.content.decode()
    assert not Credential.objects.exclude(organization=None).exists()


def test_two_tenants_may_use_the_same_label_and_one_may_not_twice(
    client: Client, closed: Provider, stranger: User, signed_in: SignedIn, organization: Organization
):
    assert add(client, closed).status_code == 302
    assert add(client, closed).status_code == 400
    assert add(signed_in(stranger), closed).status_code == 302
    assert add(client, closed, label="ours").status_code == 302
    with pytest.raises(IntegrityError), transaction.atomic():
        Credential.objects.create(provider=closed, label="ours", sealed="", masked="")


def test_a_test_of_the_connection_uses_that_key_and_is_bounded(
    client: Client, closed: Provider, organization: Organization, monkeypatch: pytest.MonkeyPatch
):
    asked: list[str] = []

    def check(_provider: Provider, credential: Credential) -> ConnectionResult:
        asked.append(credential.open_secret())
        return ConnectionResult(False, "The key is wrong.", 401, 12, "authentication_error")

    monkeypatch.setattr("providers.connection.check_own", check)
    add(client, closed)
    address = reverse("own-key-test", args=[Credential.objects.get(organization=organization).pk])
    assert "The key is wrong. (12 ms)" in client.post(address, follow=True).content.decode()
    for _ in range(10):
        client.post(address)
    assert asked == ["sk-own-secret-1234"] * 10
    assert "wait a minute" in client.post(address, follow=True).content.decode()


def test_only_own_keys(client: Client, organization: Organization, member: User, signed_in: SignedIn):
    client.post(reverse("own-keys-only"), {"only": "1"})
    organization.refresh_from_db()
    assert organization.own_keys_only
    Membership.objects.filter(user=member).update(role=Role.DEVELOPER)
    assert signed_in(member).post(reverse("own-keys-only"), {}).status_code == 403
    client.post(reverse("own-keys-only"), {})
    organization.refresh_from_db()
    assert not organization.own_keys_only
    assert log() == ["changed which provider keys are used"] * 2
