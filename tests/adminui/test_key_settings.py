"""What customers set of their keys: budgets, limits, models, routes, expiry; rotation and rest."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts import keys
from accounts.models import ApiKey, AuditEntry, Membership, Organization, User
from accounts.roles import Role
from accounts.selectors import principal_by_digest
from accounts.types import Limits
from credits.models import KeyBudget
from providers.models import RouterProfile
from providers.profiles import Author, Owner, set_profile
from providers.types import Profile
from tests.adminui.test_keys import SECRET

pytestmark = pytest.mark.django_db
SignedIn = Callable[[User], Client]


@pytest.fixture
def client(customer: User, signed_in: SignedIn) -> Client:
    return signed_in(customer)


def secret_of(answer: Any) -> str:
    assert answer.status_code == 200, answer.content.decode()
    (secret,) = set(SECRET.findall(answer.content.decode()))
    return str(secret)


def log() -> list[str]:
    return [f"{entry.action} {entry.subject}" for entry in AuditEntry.objects.order_by("pk")]


def test_a_key_is_made_with_all_that_it_may(client: Client, demo_model: str, key: ApiKey, customer: User):
    set_profile(owner=Owner.key(key.pk), profile=Profile(think=demo_model), by=Author(customer.pk, "a test"))
    tomorrow = (timezone.now() + timedelta(days=1)).date()
    fields = {
        "name": "robot", "budget_day": "2.50", "budget_total": "100", "limit_requests": "30", "limit_concurrency": "2",
        "allowed_models": [demo_model], "expires_on": str(tomorrow), "routes_from": str(key.pk),
    }  # fmt: skip
    secret = secret_of(client.post(reverse("key-create"), fields))
    made = ApiKey.objects.get(name="robot")
    budget = KeyBudget.objects.get(api_key=made)
    assert (budget.limit_day, budget.limit_week, budget.limit_total) == (2_500_000_000, None, 100 * 10**9)
    principal = principal_by_digest(keys.digest(secret))
    assert principal is not None
    assert principal.limits == Limits(requests=30, concurrency=2)
    assert principal.allowed_models == {demo_model}
    assert made.expires_at is not None
    assert made.expires_at.isoformat() == f"{tomorrow + timedelta(days=1)}T00:00:00+00:00"
    assert RouterProfile.objects.get(api_key=made).think == demo_model
    assert {"made the API key robot", "changed the routes of the API key robot"} <= set(log())
    shown = client.get(reverse("key-one", args=[made.pk])).content.decode()
    assert 'value="2.50"' in shown
    assert "$0.00 of $100.00 in all" in shown


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("budget_day", "much", "is not an amount"),
        ("budget_week", "-1", "0 or more"),
        ("limit_requests", "0", "greater than or equal to 1"),
        ("limit_tokens", "99999", "At most 5,000"),
        ("allowed_models", "nothing", "not one of the available choices"),
        ("expires_on", "2020-01-01", "not over yet"),
        ("routes_from", "999", "not one of the available choices"),
    ],
)
def test_what_cannot_be_is_said_at_its_field(client: Client, settings: Any, field: str, value: str, why: str):
    settings.KEY_LIMITS = Limits(tokens=5000)
    answer = client.post(reverse("key-create"), {"name": "robot", field: value})
    assert answer.status_code == 400
    assert why in answer.content.decode()
    assert not ApiKey.objects.exists()


def test_a_key_is_changed_and_what_is_not_named_stays(client: Client, key: ApiKey):
    address = reverse("key-one", args=[key.pk])
    assert client.post(address, {"name": "desktop", "budget_month": "7"}).status_code == 302
    key.refresh_from_db()
    assert key.name == "desktop"
    assert key.updated_at is not None
    assert KeyBudget.objects.get(api_key=key).limit_month == 7 * 10**9
    assert log()[-2:] == ["changed the API key laptop", "changed the budget of the API key desktop"]
    before = AuditEntry.objects.count()
    client.post(address, {"name": "desktop", "budget_month": "7"})
    assert AuditEntry.objects.count() == before, "what changes nothing is no line in the log"
    client.post(address, {"name": "desktop"})
    assert KeyBudget.objects.get(api_key=key).limit_month is None


def test_a_rotated_keys_old_secret_is_good_as_long_as_was_said(client: Client, organization: Organization):
    old = secret_of(client.post(reverse("key-create"), {"name": "robot"}))
    key = ApiKey.objects.get()
    new = secret_of(client.post(reverse("key-rotate", args=[key.pk]), {"grace": "60"}))
    for secret in (old, new):
        principal = principal_by_digest(keys.digest(secret))
        assert principal is not None
        assert principal.api_key_id == key.pk
    assert principal_by_digest(keys.digest(new)).expires_at is None  # type: ignore[union-attr]
    until = principal_by_digest(keys.digest(old)).expires_at  # type: ignore[union-attr]
    assert until is not None
    assert timedelta(minutes=59) < until - timezone.now() <= timedelta(hours=1)
    ApiKey.objects.update(previous_until=timezone.now())
    assert principal_by_digest(keys.digest(old)) is None
    newest = secret_of(client.post(reverse("key-rotate", args=[key.pk]), {"grace": "0"}))
    assert principal_by_digest(keys.digest(new)) is None
    assert principal_by_digest(keys.digest(newest)) is not None
    assert ApiKey.objects.count() == 1
    assert log()[-1] == "rotated the API key robot"


def test_a_disabled_key_is_refused_until_it_is_enabled(client: Client, key: ApiKey):
    page = client.post(reverse("key-disable", args=[key.pk]), follow=True).content.decode()
    assert principal_by_digest(key.digest) is None
    assert "is disabled" in page
    client.post(reverse("key-enable", args=[key.pk]))
    assert principal_by_digest(key.digest) is not None
    assert log()[-2:] == ["disabled the API key laptop", "enabled the API key laptop"]


def test_a_change_reaches_the_running_processes(
    client: Client, key: ApiKey, monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Any
):
    told: list[str] = []
    monkeypatch.setattr("accounts.changes._publish", told.append)
    for name, fields in (
        ("key-disable", {}),
        ("key-enable", {}),
        ("key-one", {"name": "new"}),
        ("key-rotate", {"grace": "60"}),
        ("key-revoke", {}),
    ):
        told.clear()
        digest = ApiKey.objects.get().digest
        with django_capture_on_commit_callbacks(execute=True):
            client.post(reverse(name, args=[key.pk]), fields)
        assert f"key {digest}" in told, name


def test_a_revoked_key_cannot_be_changed(client: Client, key: ApiKey):
    client.post(reverse("key-revoke", args=[key.pk]))
    for name, fields in (("key-enable", {}), ("key-rotate", {"grace": "0"})):
        page = client.post(reverse(name, args=[key.pk]), fields, follow=True).content.decode()
        assert "revoked, for good" in page
    assert client.post(reverse("key-one", args=[key.pk]), {"name": "x"}).status_code == 400
    key.refresh_from_db()
    assert (key.name, key.state) == ("laptop", "revoked")


def test_only_who_manages_keys_makes_management_keys(
    client: Client, member: User, signed_in: SignedIn, organization: Organization
):
    page = client.post(reverse("key-create"), {"name": "manager", "management": "on"}).content.decode()
    assert "cannot send requests to models" in page
    assert ApiKey.objects.get(name="manager").management
    assert Membership.objects.get(user=member).role == Role.DEVELOPER
    theirs = signed_in(member)
    theirs.post(reverse("key-create"), {"organization": organization.pk, "name": "trick", "management": "on"})
    assert not ApiKey.objects.get(name="trick").management


def test_the_dashboard_warns_of_what_needs_somebody(client: Client, key: ApiKey, organization: Organization):
    assert "There are no credits left" in client.get("/").content.decode()
    client.post(reverse("key-one", args=[key.pk]), {"name": "laptop", "budget_month": "10"})
    assert "used up its" not in client.get("/").content.decode()
    KeyBudget.objects.update(spent_month=9 * 10**9)
    assert "has nearly used up its month’s budget of $10.00" in client.get("/").content.decode()
    KeyBudget.objects.update(spent_month=10 * 10**9)
    assert "has used up its month’s budget" in client.get("/").content.decode()
    ApiKey.objects.update(expires_at=timezone.now() + timedelta(days=2))
    assert "expires on" in client.get("/").content.decode()
