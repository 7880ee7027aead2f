"""What operators see of a provider that is not well."""

import time

import msgspec
import pytest
import redis
from django.test import Client
from pytest_django import Settings

from accounts.models import User
from gateway.resilience.changes import CredentialCools, TargetOpened
from gateway.resilience.shared import STORE, place
from tests.plugin.valkey import ValkeyServer
from tests.providers.catalogue_support import make_mapping, make_model, make_provider

pytestmark = pytest.mark.django_db


@pytest.fixture
def operator(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("operator@example.com", "a long password"))
    return client


def tell(url: str, *changes: TargetOpened | CredentialCools) -> None:
    with redis.Redis.from_url(url) as client:
        for change in changes:
            client.hset(STORE, place(change), msgspec.json.encode(change))


def test_the_provider_s_page_says_what_is_not_well_and_why(
    operator: Client, private_valkey: ValkeyServer, settings: Settings
) -> None:
    settings.REDIS_URL = private_valkey.url  # the shared one hears of other processes' targets of the same number
    provider = make_provider()
    mapping = make_mapping(make_model(), provider)
    credential = provider.credentials.get()
    page = f"/admin/providers/provider/{provider.pk}/change/"
    assert "All targets and credentials are well." in operator.get(page).content.decode()
    now = time.time()
    tell(
        private_valkey.url,
        TargetOpened(mapping.pk, now + 30, 2, now - 60, "The provider openai failed (HTTP 500)."),
        CredentialCools(credential.pk, 0, now + 60, 1, True, now, "The provider openai refused CCM's credentials."),
    )
    shown = operator.get(page).content.decode()
    assert "passed over until" in shown
    assert "The provider openai failed (HTTP 500)." in shown
    assert "credential OPENAI_API_KEY: refused at" in shown
    assert "sk-upstream" not in shown
    overview = operator.get("/admin/").content.decode()
    assert "Credentials that their providers refuse: openai OPENAI_API_KEY." in overview


def test_a_new_provider_s_page_has_nothing_to_say(operator: Client) -> None:
    assert "what is not well" not in operator.get("/admin/providers/provider/add/").content.decode().lower()
