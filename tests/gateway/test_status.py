"""The status of providers and targets: what the page and the API are told is what happened."""

import json
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import User
from credits.usage.target_status import NOTHING, Window
from credits.usage.targets import roll_up
from gateway.status import platform_status
from providers.models import HealthProbe
from tests.credits.support import Tenant, customer
from tests.credits.usage.support import NOW
from tests.credits.usage.test_targets import attempt
from tests.credits.usage.test_targets import served as served_before
from tests.fakes.answers import End, Failure, Reply, Text, Tokens
from tests.fakes.brain import InOrder
from tests.providers.catalogue_support import make_mapping, make_model, make_provider
from tests.world import World

__all__ = ["customer"]

LATER = NOW + timedelta(minutes=2)
PAGE = "admin:credits_targetrollup_changelist"


@pytest.fixture
def operator(client: Client) -> Client:
    user = User.objects.create_user("operator@example.com", "a long password", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_targetrollup"))
    client.force_login(user)
    return client


@pytest.mark.django_db
def test_each_provider_has_its_targets_probe_and_breakers(customer: Tenant):
    provider = make_provider("p")
    idle = make_provider("idle", enabled=False)
    mapping = make_mapping(make_model("m"), provider, actual_model="a")
    other = make_mapping(make_model("n"), provider, actual_model="a")
    quiet = make_mapping(make_model("q"), provider, actual_model="quiet")
    HealthProbe.objects.create(provider=provider, at=NOW, ok=True, milliseconds=12, free=True)
    served_before(customer, 0, attempt(100, "api_error", provider="gone", model="x"), attempt(900), first_token_ms=300)
    roll_up(LATER)
    states: dict[int, str] = {mapping.pk: "closed", other.pk: "half_open"}
    status = platform_status(Window.HOUR, LATER, states.get)
    assert [(each.name, each.id, each.enabled) for each in status.providers] == [
        ("idle", idle.pk, False), ("p", provider.pk, True), ("gone", None, False),
    ]  # fmt: skip
    silent, found, gone = status.providers
    assert (silent.answering, silent.targets, silent.probe) == (NOTHING, (), None)
    assert found.probe is not None
    assert found.probe.milliseconds == 12
    busy, unused = found.targets
    assert (busy.model, busy.models, busy.mapping_ids, busy.breaker) == (
        "a",
        ("m", "n"),
        (mapping.pk, other.pk),
        "half_open",
    )
    assert (busy.answering.ok, busy.answering.uptime) == (1, 1.0)
    assert (unused.mapping_ids, unused.answering, unused.breaker) == ((quiet.pk,), NOTHING, None)
    assert (gone.answering.failed, gone.targets[0].models) == (1, ())
    states[mapping.pk] = "open"
    assert platform_status(Window.HOUR, LATER, states.get).providers[1].targets[0].breaker == "open"


@pytest.mark.django_db
def test_the_page_shows_the_figures_of_the_window(customer: Tenant, operator: Client):
    make_mapping(make_model("m"), make_provider("p"), actual_model="a")
    now = timezone.now()
    minutes = int((NOW - now).total_seconds() // 60) + 10  # ten minutes before now
    for error in ("", "", "", "overloaded_error"):
        served_before(customer, minutes, attempt(2000, error), first_token_ms=None if error else 500, tokens=30)
    roll_up()
    text = operator.get(reverse(PAGE), {"window": "24h"}).content.decode()
    for words in ("75.00%", "0.50 / 0.50 / 0.50", "2.00 / 2.00 / 2.00", "20.0", "1 overloaded error"):
        assert words in text, words
    assert operator.get(reverse(PAGE), {"window": "nonsense"}).status_code == 200


@pytest.mark.django_db
def test_the_page_says_when_nothing_is_known(operator: Client):
    text = operator.get(reverse(PAGE)).content.decode()
    assert "There is no provider yet." in text
    assert "Nothing has been added up yet" in text
    make_mapping(make_model("m"), make_provider("p"), actual_model="a")
    roll_up()
    text = operator.get(reverse(PAGE)).content.decode()
    assert "No request has gone to this provider in this time" in text
    assert "100.00%" not in text


@pytest.mark.django_db
def test_the_page_is_for_operators_with_the_right_to_it(client: Client):
    user = User.objects.create_user("operator@example.com", "a long password", is_staff=True)
    client.force_login(user)
    assert client.get(reverse(PAGE)).status_code == 403


ROLL_UP = """
import json
from dataclasses import asdict
from datetime import timedelta
from django.utils import timezone
from credits.usage.targets import roll_up
from credits.usage.target_status import Window
from gateway.status import platform_status
roll_up(timezone.now() + timedelta(minutes=2))
found = {each.name: each for each in platform_status(Window.HOUR).providers}
print(json.dumps({name: {"ok": each.answering.ok, "unfinished": each.answering.unfinished,
    "errors": dict(each.answering.errors), "first": each.answering.first_token is not None,
    "tokens": each.answering.output_tokens, "uptime": each.answering.uptime,
    "targets": [target.model for target in each.targets if target.answering.attempts]}
    for name, each in found.items()}))
"""


def test_a_brown_out_is_told_as_it_was(private_world: World):
    """A provider answers, is overloaded, cuts a stream and answers again; the figures are the fake's own."""
    world = private_world
    key = world.ccm.create_key("brown-out@example.com")
    body: dict[str, Any] = {
        "model": "anthropic-model", "max_tokens": 100, "messages": [{"role": "user", "content": "hello"}],
    }  # fmt: skip
    good = Reply(blocks=[Text("All is well here.")], tokens=Tokens(input=10, output=8))
    cut = Reply(blocks=[Text("This will be cut short, sadly.")], end=End.ERROR, events=5)
    world.anthropic.brain = InOrder(good, good, Failure(529), Failure(529), Failure(500), cut, Failure(400), good)
    world.anthropic.clear()
    for _ in range(8):  # some are tried again, and breakers may keep some from the provider
        world.post(key, body | {"stream": True})
    happened = [request.answer for request in world.anthropic.requests]
    told = json.loads(world.ccm.python(ROLL_UP))["anthropic"]
    overloaded = happened.count(Failure(529)) + happened.count(cut)  # which says so in the stream
    refused = happened.count(Failure(400))
    failed = len(happened) - happened.count(good) - refused
    assert told["ok"] == happened.count(good) >= 2
    assert overloaded >= 1
    assert told["errors"].get("overloaded_error 529", 0) == overloaded
    assert told["errors"].get("invalid_request_error 400", 0) == refused
    assert sum(told["errors"].values()) == failed + refused
    assert told["unfinished"] == 0
    assert told["uptime"] == told["ok"] / (told["ok"] + failed)
    assert told["first"]
    assert told["tokens"] <= 8 * told["ok"]
    assert told["targets"] == ["anthropic-actual"]
