"""Customers make and revoke API keys on their own pages; nobody else's."""

import re
from collections.abc import Callable

import pytest
from django.test import Client
from django.urls import reverse

from accounts import keys
from accounts.models import ApiKey, Membership, Organization, User
from accounts.roles import Role
from accounts.selectors import principal_by_digest

pytestmark = pytest.mark.django_db
SignedIn = Callable[[User], Client]
SECRET = re.compile(r"sk-ccm-[0-9A-Za-z]{43}")


def create(client: Client, organization: Organization, name: str = "laptop"):
    return client.post(reverse("key-create"), {"organization": organization.pk, "name": name})


def revoke(client: Client, key: ApiKey):
    return client.post(reverse("key-revoke", args=[key.pk]))


def test_a_new_key_is_shown_once_and_works(customer: User, organization: Organization, signed_in: SignedIn):
    client = signed_in(customer)
    answer = create(client, organization)
    shown = set(SECRET.findall(answer.content.decode()))
    assert len(shown) == 1
    assert "no-store" in answer["Cache-Control"]
    secret = shown.pop()
    principal = principal_by_digest(keys.digest(secret))
    assert principal is not None
    assert principal.organization_id == organization.pk
    assert f"export ANTHROPIC_AUTH_TOKEN={secret}" in answer.content.decode()

    again = client.get(reverse("keys")).content.decode()
    assert "laptop" in again
    assert not SECRET.search(again)
    assert secret not in str(client.cookies) + str(dict(client.session.items()))


@pytest.mark.parametrize("name", ["", "   ", "x" * 81])
def test_a_key_needs_a_name(customer: User, organization: Organization, signed_in: SignedIn, name: str):
    answer = create(signed_in(customer), organization, name)
    assert answer.status_code == 400
    assert "API keys" in answer.content.decode()
    assert not ApiKey.objects.exists()


def test_an_admin_of_an_organisation_manages_its_keys(member: User, organization: Organization, signed_in: SignedIn):
    Membership.objects.filter(user=member).update(role=Role.ADMIN)
    client = signed_in(member)
    assert create(client, organization).status_code == 200
    assert revoke(client, ApiKey.objects.get()).status_code == 302
    assert not ApiKey.objects.get().is_active


def test_a_developer_makes_keys_and_revokes_only_their_own(
    member: User, organization: Organization, key: ApiKey, signed_in: SignedIn
):
    client = signed_in(member)
    assert create(client, organization, "mine").status_code == 200
    own = ApiKey.objects.get(name="mine")
    page = client.get(reverse("keys")).content.decode()
    assert key.masked in page
    assert reverse("key-revoke", args=[key.pk]) not in page
    assert reverse("key-revoke", args=[own.pk]) in page
    assert revoke(client, key).status_code == 403
    assert revoke(client, own).status_code == 302
    key.refresh_from_db()
    own.refresh_from_db()
    assert (key.is_active, own.is_active) == (True, False)


def test_billing_has_no_keys(member: User, organization: Organization, key: ApiKey, signed_in: SignedIn):
    Membership.objects.filter(user=member).update(role=Role.BILLING)
    client = signed_in(member)
    assert reverse("keys") not in client.get("/").content.decode()
    assert client.get(reverse("keys")).status_code == 403
    assert create(client, organization).status_code == 403
    assert revoke(client, key).status_code == 403
    assert ApiKey.objects.get().is_active


def test_another_tenants_organisation_and_key_are_not_there(
    stranger: User, organization: Organization, key: ApiKey, signed_in: SignedIn
):
    client = signed_in(stranger)
    assert create(client, organization).status_code == 404
    assert revoke(client, key).status_code == 404
    key.refresh_from_db()
    assert key.is_active
    assert ApiKey.objects.count() == 1


def test_revoking_takes_effect_at_once_and_is_shown(customer: User, key: ApiKey, signed_in: SignedIn):
    page = signed_in(customer).post(reverse("key-revoke", args=[key.pk]), follow=True).content.decode()
    assert principal_by_digest(key.digest) is None
    assert "is revoked" in page
    assert reverse("key-revoke", args=[key.pk]) not in page


def test_visitors_are_sent_to_sign_in(client: Client, organization: Organization, key: ApiKey):
    for answer in (create(client, organization), revoke(client, key)):
        assert answer.status_code == 302
        assert answer["Location"].startswith(reverse("sign-in"))
    assert ApiKey.objects.get().is_active


def test_changes_take_a_post_with_a_csrf_token(customer: User, organization: Organization, key: ApiKey):
    client = Client(enforce_csrf_checks=True)
    client.force_login(customer)
    assert client.get(reverse("key-create")).status_code == 405
    assert client.get(reverse("key-revoke", args=[key.pk])).status_code == 405
    assert create(client, organization).status_code == 403
    assert revoke(client, key).status_code == 403
    assert ApiKey.objects.get().is_active
