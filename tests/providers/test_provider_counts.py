"""Exact counts from providers: over real sockets, and never worth an error."""

import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import botocore.session
import pytest
import pytest_asyncio
from botocore.serialize import create_serializer

from providers import provider_counts
from providers.provider_counts import ProviderCounts
from providers.transport import Transport
from providers.types import Target
from providers.wire.base import CountsTokens
from providers.wire.bedrock import BedrockWire
from providers.wire.registry import WIRES
from providers.wire.request import MessagesRequest
from tests.fakes.answers import Failure
from tests.fakes.anthropic import AnthropicFront
from tests.fakes.server import FakeProvider, gone
from tests.providers import bedrock_support as bedrock
from tests.providers.anthropic_support import MODEL, request, target

PROMPT = request("count me")


class CountingFront(AnthropicFront):
    def __init__(self) -> None:
        self.failure: Failure | None = None

    def other(self, method: str, path: str, body: Any) -> dict[str, Any] | Failure | None:
        return self.failure or super().other(method, path, body)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest_asyncio.fixture
async def transport() -> AsyncIterator[Transport]:
    made = Transport(allow_private=True)
    yield made
    await made.close()


async def ask(counts: ProviderCounts, of: Target, asked: MessagesRequest = PROMPT) -> int | None:
    return await counts.count(asked, target=of, credential=None, model=MODEL, client_headers={})


@pytest.mark.asyncio
async def test_a_count_is_asked_for_once(transport: Transport) -> None:
    with FakeProvider(CountingFront()) as fake:
        counts = ProviderCounts(transport)
        where = target(base_url=fake.base_url, counts_tokens=True)
        first = await ask(counts, where)
        assert first is not None
        assert first > 0
        assert await ask(counts, where) == first
        assert len(fake.received) == 1
        assert await ask(counts, target(base_url=fake.base_url)) is None, "it may not be asked"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("failure", "pause"),
    [
        (Failure(500), provider_counts.PAUSE_SECONDS),
        (Failure(429), provider_counts.PAUSE_SECONDS),
        (Failure(404), provider_counts.LONG_PAUSE_SECONDS),
        (Failure(403), provider_counts.LONG_PAUSE_SECONDS),
        (Failure(200, body="<html>"), provider_counts.PAUSE_SECONDS),
        (Failure(200, body='{"input_tokens": "many"}'), provider_counts.PAUSE_SECONDS),
        (Failure(200, body="x" * provider_counts.MOST_BYTES * 2), provider_counts.PAUSE_SECONDS),
        (Failure(400), 0.0),
        (Failure(413), 0.0),
    ],
    ids=lambda told: f"{told.status} {(told.body or '')[:8]}" if isinstance(told, Failure) else "",
)
async def test_a_provider_that_fails_is_left_alone_for_a_while(
    transport: Transport, failure: Failure, pause: float
) -> None:
    front, clock = CountingFront(), Clock()
    with FakeProvider(front) as fake:
        counts = ProviderCounts(transport, monotonic=clock)
        where = target(base_url=fake.base_url, counts_tokens=True)
        front.failure = failure
        assert await ask(counts, where) is None
        front.failure = None
        if pause:
            assert await ask(counts, where) is None
            assert len(fake.received) == 1
        clock.now += pause
        assert await ask(counts, where) is not None


@pytest.mark.asyncio
async def test_a_provider_that_is_down_does_not_hurt(transport: Transport) -> None:
    with FakeProvider(CountingFront()) as fake, gone(fake) as url:
        assert await ask(ProviderCounts(transport), target(base_url=url, counts_tokens=True)) is None


@pytest.mark.asyncio
async def test_no_more_than_so_many_are_asked_at_once(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provider_counts, "MOST_AT_ONCE", 0)
    with FakeProvider(CountingFront()) as fake:
        assert await ask(ProviderCounts(transport), target(base_url=fake.base_url, counts_tokens=True)) is None
        assert fake.received == []


def test_every_wire_whose_providers_count_says_so() -> None:
    counting = {name for name, wire in WIRES.items() if isinstance(wire, CountsTokens)}
    assert counting == {"anthropic", "gemini", "vertex", "bedrock", "openai_responses"}


@pytest.mark.parametrize("name", [bedrock.CLAUDE, bedrock.NOVA])
def test_bedrock_is_asked_as_amazon_s_own_client_asks(name: str) -> None:
    """The address and the body are what botocore makes of the same input."""
    asked = request("count me", system="Be brief.", tools=[{"name": "Bash", "input_schema": {"type": "object"}}])
    sent = BedrockWire().encode_count(asked, target=bedrock.target(name), model=MODEL, client_headers={})
    body = json.loads(sent.body)
    told = body["input"]
    if "invokeModel" in told:
        raw = base64.b64decode(told["invokeModel"]["body"])
        inner = json.loads(raw)
        assert inner["anthropic_version"] == "bedrock-2023-05-31"
        assert inner["max_tokens"] >= 1
        told = {"invokeModel": {"body": raw}}
    model_id = name.removeprefix("us.").removeprefix("eu.")
    operation = botocore.session.get_session().get_service_model("bedrock-runtime").operation_model("CountTokens")
    made = create_serializer("rest-json").serialize_to_request({"modelId": model_id, "input": told}, operation)
    assert json.loads(made["body"]) == body
    assert sent.url.removeprefix(bedrock.URL).replace("%3A", ":") == made["url_path"].replace("%3A", ":")
    assert BedrockWire().decode_count(b'{"inputTokens": 12}', target=bedrock.target(name)) == 12


def test_the_responses_api_is_asked_for_the_input_alone() -> None:
    wire = WIRES["openai_responses"]
    assert isinstance(wire, CountsTokens)
    where = target(kind="openai", wire="openai_responses", base_url="https://api.openai.com/v1", actual_model="gpt-5.1")
    sent = wire.encode_count(request("hi", system="s", stream=True), target=where, model=MODEL, client_headers={})
    assert sent.url == "https://api.openai.com/v1/responses/input_tokens"
    assert set(json.loads(sent.body)) == {"model", "instructions", "input", "reasoning"}
    assert wire.decode_count(b'{"object": "response.input_tokens", "input_tokens": 11}', target=where) == 11
