"""Health probes: who is asked, when, for what, and what is written down of the answer."""

import json
import socket
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import User
from providers import tasks
from providers.health_probes import KEPT, forget_old, probe_due
from providers.models import CatalogueVersion, HealthProbe, Mapping, Provider
from providers.selectors import Probe, latest_probes, probes_of
from tests.providers.catalogue_support import SECRET, make_mapping, make_model, make_provider
from tests.providers.test_connection import Upstream, upstream

pytestmark = pytest.mark.django_db

__all__ = ["upstream"]

NOW = timezone.now().replace(microsecond=0)
MINUTE = timedelta(minutes=1)


def probed(name: str = "acme", kind: str = "anthropic", **values: Any) -> Provider:
    provider = make_provider(name, kind=kind, **{"probe_every": 5, **values})
    make_mapping(make_model(f"model-of-{name}"), provider, actual_model="cheap", cost_input=1, cost_output=5)
    return provider


def error(kind: str) -> bytes:
    return json.dumps({"type": "error", "error": {"type": kind, "message": "no"}}).encode()


@pytest.mark.parametrize(
    ("kind", "wire", "path", "header"),
    [
        ("anthropic", "", "/v1/models?limit=1", "x-api-key"),
        ("openai", "", "/models", "authorization"),
        ("openai", "openai_responses", "/models", "authorization"),
        ("openai-compatible", "", "/models", "authorization"),
        ("openrouter", "", "/key", "authorization"),
        ("azure", "", "/models", "api-key"),
        ("gemini", "", "/models?pageSize=1", "x-goog-api-key"),
        ("gemini", "openai_chat", "/models", "authorization"),
        ("cohere", "", "/v1/models?page_size=1", "authorization"),
        ("litellm", "", "/v1/models?limit=1", "authorization"),
    ],
)
def test_a_list_of_models_is_asked_for_where_there_is_one(upstream: Upstream, kind, wire, path, header):
    provider = probed(kind=kind, wire=wire, base_url=upstream.url)
    assert probe_due(NOW) == 1
    [(asked, headers)] = upstream.asked
    assert asked == path
    assert headers[header].removeprefix("Bearer ") == SECRET
    assert upstream.requests == []
    found = HealthProbe.objects.get()
    assert (found.provider, found.at, found.ok, found.status, found.error, found.free) == (
        provider, NOW, True, 200, "", True,
    )  # fmt: skip


def test_a_provider_without_a_model_can_be_asked_for_its_list(upstream: Upstream):
    make_provider("bare", kind="openai", base_url=upstream.url, probe_every=1)
    probe_due(NOW)
    assert HealthProbe.objects.get().ok


@pytest.mark.parametrize("kind", ["anthropic-compatible", "z.ai"])
def test_elsewhere_the_tiny_request_is_made(upstream: Upstream, kind):
    probed(kind=kind, base_url=upstream.url)
    probe_due(NOW)
    assert upstream.asked == []
    [(_, body)] = upstream.requests
    assert (body["model"], body["max_tokens"]) == ("cheap", 16)
    found = HealthProbe.objects.get()
    assert (found.ok, found.free, found.status) == (True, False, 200)


def test_a_server_that_lists_nothing_gets_the_tiny_request_after_all(upstream: Upstream):
    upstream.list_status = 404
    provider = probed(base_url=upstream.url)
    probe_due(NOW)
    assert len(upstream.asked) == len(upstream.requests) == 1
    assert not HealthProbe.objects.get().free
    Mapping.objects.all().delete()
    probe_due(NOW + 5 * MINUTE)
    assert len(upstream.requests) == 1
    assert probes_of(provider.pk)[0].status == 404


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, "api_error"), (429, "rate_limit_error"), (500, "api_error"), (529, "overloaded_error")],
)
def test_the_class_of_an_error_is_kept_and_not_its_words(upstream: Upstream, status, kind):
    upstream.list_status, upstream.list_body = status, error(kind)
    probed(base_url=upstream.url)
    probe_due(NOW)
    found = HealthProbe.objects.get()
    assert (found.ok, found.status, found.error) == (False, status, kind)


def test_a_server_that_is_not_there_does_not_keep_the_others_from_being_probed(upstream: Upstream):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        gone = probed("gone", base_url=f"http://127.0.0.1:{free.getsockname()[1]}")
        called = probed("called", kind="z.ai", base_url=gone.base_url)
        there = probed("there", base_url=upstream.url)
        keyless = probed("keyless", secret=None, base_url="https://llm.example")
        assert probe_due(NOW) == 4
    latest = latest_probes()
    assert latest[there.pk].ok
    assert (latest[gone.pk].ok, latest[gone.pk].status, latest[gone.pk].error) == (False, None, "unreachable")
    assert (latest[called.pk].ok, latest[called.pk].status, latest[called.pk].free) == (False, None, False)
    assert latest[keyless.pk].error == "not_callable"


def test_private_addresses_are_refused_where_they_are_not_allowed(upstream: Upstream, settings: Any):
    settings.ALLOW_PRIVATE_UPSTREAMS = False
    probed(base_url=upstream.url)
    probe_due(NOW)
    assert HealthProbe.objects.get().error == "unreachable"
    assert upstream.asked == []


def test_only_enabled_providers_that_were_chosen_are_probed_and_only_when_due(upstream: Upstream):
    probed("off", base_url=upstream.url, probe_every=0)
    probed("disabled", base_url=upstream.url, enabled=False)
    provider = probed(base_url=upstream.url)
    version = CatalogueVersion.current()
    assert [probe_due(NOW + minutes * MINUTE) for minutes in (0, 1, 4, 5, 6, 9, 10)] == [1, 0, 0, 1, 0, 0, 1]
    assert CatalogueVersion.current() == version, "a probe is no change of the catalogue"
    Provider.objects.filter(pk=provider.pk).update(probe_every=60)
    assert probe_due(NOW + 15 * MINUTE) == 1
    Provider.objects.filter(pk=provider.pk).update(probe_every=2)
    assert [probe_due(NOW + minutes * MINUTE) for minutes in (16, 18)] == [0, 1]


def test_of_two_that_run_at_once_one_probes(upstream: Upstream, monkeypatch):
    """The second begins while the first has its answer yet to come."""
    probed(base_url=upstream.url)
    inner: list[int] = []
    from providers import health_probes

    first = health_probes._probing

    def in_between(provider: Provider) -> Any:
        monkeypatch.setattr(health_probes, "_probing", first)
        inner.append(probe_due(NOW))
        return first(provider)

    monkeypatch.setattr(health_probes, "_probing", in_between)
    assert (probe_due(NOW), inner) == (1, [0])
    assert HealthProbe.objects.count() == 1


def test_results_are_read_newest_first_and_forgotten_with_time(upstream: Upstream):
    provider = probed(base_url=upstream.url)
    probe_due(NOW - KEPT - MINUTE)
    upstream.list_status = 500
    probe_due(NOW)
    assert [probe.ok for probe in probes_of(provider.pk)] == [False, True]
    assert isinstance(latest_probes()[provider.pk], Probe)
    assert forget_old(NOW) == 1
    assert [probe.ok for probe in probes_of(provider.pk)] == [False]
    assert latest_probes() == {provider.pk: probes_of(provider.pk)[0]}


def test_the_tasks_do_it(upstream: Upstream):
    probed(base_url=upstream.url)
    tasks.probe()
    tasks.clean_up()
    assert HealthProbe.objects.count() == 1
    assert {"providers.probe", "providers.clean_up"} <= set(tasks.BEAT_SCHEDULE)


def test_operators_see_the_last_probe(client: Client, upstream: Upstream):
    user = User.objects.create_user("operator@example.com", "a long password", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_provider"))
    client.force_login(user)
    listed = reverse("admin:providers_provider_changelist")
    provider = probed(base_url=upstream.url)
    assert "not yet" in client.get(listed).content.decode()
    upstream.list_status, upstream.list_body = 429, error("rate_limit_error")
    probe_due(NOW)
    assert "rate limit error (HTTP 429)" in client.get(listed).content.decode()
    page = client.get(reverse("admin:providers_provider_change", args=(provider.pk,))).content.decode()
    assert "rate limit error" in page
