"""`/v1/messages/count_tokens`, and what answers teach about a model's tokenizer, through the whole gateway."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from providers import tokens
from providers.wire.request import MessagesRequest
from tests.fakes.answers import Failure, Reply, Text, Tokens
from tests.fakes.anthropic import AnthropicFront
from tests.fakes.brain import always
from tests.fakes.google import fake_gemini
from tests.fakes.server import FakeProvider
from tests.processes import NewDatabase
from tests.world import World

pytestmark = pytest.mark.one_database

CONFIG = """
[[providers]]
name = "{name}"
kind = "{kind}"
base_url = "{url}"
api_key = "secret-of-{name}"
{more}
[[models]]
name = "{name}-model"
context_window = 200000
max_output = 32000
input = "3"
output = "15"
[[models.mappings]]
provider = "{name}"
actual_model = "{actual}"
cost = {{ input = "1", output = "5" }}
"""
WORDS = "The quick brown fox jumps over the lazy dog and writes a parser. "


class ReluctantFront(AnthropicFront):
    """Counts tokens when it is told to answer, and then as it is told to."""

    def __init__(self) -> None:
        self.answer = threading.Event()
        self.answer.set()
        self.failure: Failure | None = None

    def other(self, method: str, path: str, body: Any) -> dict[str, Any] | Failure | None:
        if path == "/v1/messages/count_tokens":
            self.answer.wait(30)
        return self.failure or super().other(method, path, body)


@dataclass
class Fakes:
    asked: FakeProvider
    unasked: FakeProvider
    gemini: FakeProvider
    slow: FakeProvider
    failing: FakeProvider
    slow_front: ReluctantFront
    failing_front: ReluctantFront


@pytest.fixture(scope="module")
def learning_world(new_database: NewDatabase) -> Iterator[World]:
    with new_database() as url, World(database_url=url, settings={"CCM_CALIBRATION_SECONDS": "1"}) as made:
        yield made


@pytest.fixture(scope="module")
def fakes(learning_world: World) -> Iterator[Fakes]:
    slow, failing = ReluctantFront(), ReluctantFront()
    with ExitStack() as stack:
        servers = {
            "asked": stack.enter_context(FakeProvider(AnthropicFront())),
            "unasked": stack.enter_context(FakeProvider(AnthropicFront())),
            "gemini": stack.enter_context(fake_gemini()),
            "slow": stack.enter_context(FakeProvider(slow)),
            "failing": stack.enter_context(FakeProvider(failing)),
        }
        kinds = {"gemini": ("gemini", "gemini-2.5-pro")}
        text = ""
        for name, server in servers.items():
            kind, actual = kinds.get(name, ("anthropic", "claude-sonnet-4-5"))
            more = "count_tokens = false" if name == "unasked" else ""
            text += CONFIG.format(name=name, kind=kind, url=server.base_url, actual=actual, more=more)
        learning_world.ccm.import_config(text)
        yield Fakes(**servers, slow_front=slow, failing_front=failing)


@pytest.fixture
def key(learning_world: World, fakes: Fakes, email: str) -> str:
    key = learning_world.ccm.create_key(email)
    learning_world.await_model(key, "failing-model")
    return key


def body(model: str, text: str = WORDS, **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], "system": "Be brief.", **fields}


def counted(world: World, key: str, told: dict[str, Any], path: str = "/v1/messages/count_tokens") -> int:
    headers = {"x-api-key": key, "anthropic-beta": "token-counting-2024-11-01"}
    response = httpx.post(world.ccm.url + path, json=told, headers=headers, timeout=60, trust_env=False)
    assert response.status_code == 200, response.text
    assert list(response.json()) == ["input_tokens"]
    return int(response.json()["input_tokens"])


def counted_here(told: dict[str, Any], factor: float) -> int:
    from providers.families import family_of

    request = MessagesRequest.parse(json.dumps(told).encode(), counting=True)
    return tokens.count(request, family_of("claude-sonnet-4-5")).scaled(factor)


def counts_of(fake: FakeProvider) -> list[Any]:
    return [entry for entry in fake.received if "count" in entry.path]


def test_the_provider_s_own_count_is_the_answer(learning_world: World, fakes: Fakes, key: str) -> None:
    told = body("asked-model", metadata={"user_id": "me"}, max_tokens=50, temperature=0.5)
    number = counted(learning_world, key, told, "/v1/messages/count_tokens?beta=true")
    (entry,) = counts_of(fakes.asked)
    assert entry.path == "/v1/messages/count_tokens?beta=true"
    assert set(entry.body) == {"model", "messages", "system"}
    assert entry.body["model"] == "claude-sonnet-4-5"
    assert number == len(json.dumps(entry.body)) // 4
    assert counted(learning_world, key, told) == number
    again = body("gemini-model")
    assert counted(learning_world, key, again) > 0
    assert [entry.path for entry in counts_of(fakes.gemini)] == ["/v1beta/models/gemini-2.5-pro:countTokens"]
    assert learning_world.ccm.usage_records() == [], "counting is free and leaves no record"


def test_a_provider_that_may_not_be_asked_is_not(learning_world: World, fakes: Fakes, key: str) -> None:
    told = body("unasked-model")
    assert counted(learning_world, key, told) == counted_here(told, 1.2)
    assert counts_of(fakes.unasked) == []


def test_a_failing_count_is_made_up_for_here(learning_world: World, fakes: Fakes, key: str) -> None:
    fakes.failing_front.failure = Failure(500)
    told = body("failing-model")
    assert counted(learning_world, key, told) == counted_here(told, 1.2)
    assert len(counts_of(fakes.failing)) == 1


def test_a_slow_count_is_made_up_for_here_and_not_asked_for_again_at_once(
    learning_world: World, fakes: Fakes, key: str
) -> None:
    fakes.slow_front.answer.clear()
    try:
        told = body("slow-model")
        assert counted(learning_world, key, told) == counted_here(told, 1.2)
        assert counted(learning_world, key, told) == counted_here(told, 1.2)
    finally:
        fakes.slow_front.answer.set()
    assert len(counts_of(fakes.slow)) == 1


@pytest.mark.parametrize("model", ["nobody-s-model", "claude-opus-5"])
def test_what_no_provider_counts_is_counted_here(learning_world: World, key: str, model: str) -> None:
    assert counted(learning_world, key, body(model)) > 10


def test_the_factor_of_a_model_is_learnt_from_what_its_provider_reports(
    learning_world: World, fakes: Fakes, key: str
) -> None:
    """The fake's tokenizer makes 1.9 tokens of each of o200k; a third of them it reads from its cache."""
    told = body("unasked-model", WORDS * 400, max_tokens=100)
    text_tokens = counted_here(told, 1.0)
    reported = round(text_tokens * 1.9)
    fakes.unasked.brain = always(
        Reply(blocks=[Text("Yes.")], tokens=Tokens(input=reported // 3, cache_read=reported - reported // 3, output=2))
    )
    before = counted(learning_world, key, told)
    assert before == counted_here(told, 1.2)
    learnt = (
        "from providers.models import TokenFactor; "
        "row = TokenFactor.objects.filter(model__name='unasked-model').first(); "
        "print('' if row is None else f'{row.estimated_samples} {row.estimated}')"
    )
    for _ in range(12):
        assert learning_world.post(key, told).status_code == 200
    deadline = time.monotonic() + 60
    while not (shown := learning_world.ccm.python(learnt)).startswith("12 "):
        assert time.monotonic() < deadline, shown
    estimate = tokens.estimate(MessagesRequest.parse(json.dumps(told).encode()), len(json.dumps(told).encode()))
    assert float(shown.split()[1]) == pytest.approx(reported / estimate, rel=0.01)
    # Of these answers one was counted here to learn from it: the others would teach the same.
    share = "from providers.models import TokenFactor; print(TokenFactor.objects.update(counted_samples=20))"
    learning_world.ccm.python(share)
    from_the_model = "from providers.models import CatalogueVersion; CatalogueVersion.bump()"
    learning_world.ccm.python(from_the_model)
    while counted(learning_world, key, told) == before:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert counted(learning_world, key, told) == pytest.approx(reported, rel=0.01)


def test_a_hold_counts_in_the_model_s_tokens(learning_world: World, fakes: Fakes, key: str) -> None:
    """What was learnt about `unasked-model` above raises its holds; see the test before."""
    told = body("asked-model", WORDS * 400, max_tokens=100)
    fakes.asked.brain = always(Reply(blocks=[Text("Yes.")], tokens=Tokens(input=5, output=2)))
    poor = learning_world.ccm.create_key("poor-counting@example.com", usd="0.01")
    refused = learning_world.post(poor, told)
    assert refused.status_code == 402
    needed = float(refused.json()["error"]["message"].split("needs $")[1].split(" ")[0])
    told["model"] = "unasked-model"
    needed_more = float(learning_world.post(poor, told).json()["error"]["message"].split("needs $")[1].split(" ")[0])
    assert needed_more > needed * 1.2
