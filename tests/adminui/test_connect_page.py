"""The page that connects Claude Code: a key and models of one's choice, and the check that turns green."""

from collections.abc import Callable

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import ApiKey, Organization, User
from accounts.services import create_key, revoke_key
from credits.models import UsageRecord

pytestmark = pytest.mark.django_db
SignedIn = Callable[[User], Client]


def check(client: Client, key: int, since: int = 0):
    return client.get(reverse("connect-check"), {"key": key, "since": since})


def test_the_lines_are_for_the_key_and_the_models_that_were_picked(
    customer: User, key: ApiKey, demo_model: str, signed_in: SignedIn
):
    page = signed_in(customer).get(reverse("connect"), {"key": str(key.pk), "opus": demo_model}).content.decode()
    assert f"export ANTHROPIC_DEFAULT_OPUS_MODEL={demo_model}" in page
    assert "export CLAUDE_CODE_AUTO_COMPACT_WINDOW=160000" in page
    assert f"{key.name} ({key.masked})" in page
    assert "million tokens" in page


def test_without_a_key_it_says_what_comes_first(customer: User, signed_in: SignedIn):
    page = signed_in(customer).get(reverse("connect")).content.decode()
    assert "First, an API key" in page
    assert "export ANTHROPIC" not in page


def test_the_check_waits_until_a_request_arrives_and_then_asks_no_more(
    customer: User, organization: Organization, usage: Callable[..., None], signed_in: SignedIn
):
    usage(organization, model="demo-sonnet", charge=1_500_000_000)
    record = UsageRecord.objects.get()
    client = signed_in(customer)
    later = int(timezone.now().timestamp()) + 60
    waiting = check(client, record.api_key_id, later)
    assert waiting.status_code == 200
    assert "Waiting for your first request" in waiting.content.decode()
    assert 'hx-trigger="every' in waiting.content.decode()
    arrived = check(client, record.api_key_id)
    assert arrived.status_code == 286
    assert "demo-sonnet" in arrived.content.decode()
    assert "$1.50" in arrived.content.decode()
    assert "hx-get" not in arrived.content.decode()


def test_a_key_that_has_served_is_green_from_the_start(
    customer: User, organization: Organization, usage: Callable[..., None], signed_in: SignedIn
):
    usage(organization, model="demo-sonnet", charge=1)
    used = UsageRecord.objects.get().api_key_id
    assert "Connected." in signed_in(customer).get(reverse("connect"), {"key": used}).content.decode()


def test_another_tenants_key_is_not_there(customer: User, stranger: User, signed_in: SignedIn):
    theirs = create_key(organization=stranger.personal_organization, name="theirs", created_by=stranger).id
    client = signed_in(customer)
    assert client.get(reverse("connect"), {"key": theirs}).status_code == 404
    assert check(client, theirs).status_code == 404


@pytest.mark.parametrize("asked", [{"key": "x", "since": "0"}, {"key": "1", "since": "-1"}, {"key": "1"}, {}])
def test_what_is_no_question_is_not_there(customer: User, signed_in: SignedIn, asked: dict[str, str]):
    assert signed_in(customer).get(reverse("connect-check"), asked).status_code == 404


def test_a_revoked_key_is_not_offered(customer: User, key: ApiKey, signed_in: SignedIn):
    revoke_key(key=key)
    assert key.masked not in signed_in(customer).get(reverse("connect")).content.decode()
