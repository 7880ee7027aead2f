"""Vertex AI: Gemini and Claude behind one provider; access tokens from a service account's key."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import aiohttp
import pytest

from providers.errors import UpstreamError
from providers.google_tokens import GoogleTokens
from providers.transport import Transport
from providers.types import CredentialSecret, Target
from providers.wire.base import CountsTokens
from providers.wire.vertex import VertexWire
from tests.fakes.answers import Failure, Reply, Text, Tokens
from tests.fakes.brain import InOrder, always
from tests.fakes.google import VertexClaudeFront, VertexFront
from tests.fakes.server import FakeProvider
from tests.providers import gemini_support as gemini
from tests.providers.anthropic_support import STOP as MESSAGE_STOP
from tests.providers.anthropic_support import message_delta, message_start, text_block
from tests.providers.gemini_support import SEARCH, model
from tests.providers.openai_chat_support import request

WIRE = VertexWire()
CLAUDE = "claude-sonnet-4-5@20250929"
BASE = "https://aiplatform.googleapis.com/v1/projects/p/locations/global"


def target(actual_model: str = CLAUDE, **changes: Any) -> Target:
    return gemini.target(actual_model, kind="vertex", **changes)


def body_of(asked: Any, headers: dict[str, str] | None = None, **changes: Any) -> tuple[str, dict[str, Any], Any]:
    outbound = WIRE.encode(asked, target=target(**changes), model=model(), max_tokens=500, client_headers=headers or {})
    return outbound.url, json.loads(outbound.body), outbound.headers


def test_the_model_s_name_tells_the_format() -> None:
    url, body, _ = body_of(request(), actual_model="gemini-3-pro-preview")
    assert url == f"{BASE}/publishers/google/models/gemini-3-pro-preview:generateContent"
    assert "contents" in body
    for name in (CLAUDE, f"anthropic/{CLAUDE}", f"publishers/anthropic/models/{CLAUDE}"):
        url, body, _ = body_of(request(stream=True), actual_model=name)
        assert url == f"{BASE}/publishers/anthropic/models/{CLAUDE}:streamRawPredict"
        assert "messages" in body


def test_claude_s_body_has_the_version_and_no_model() -> None:
    asked = request(("user", "hi"), stream=True, safeguards=[{"x": "/home"}], system="s", thinking={"type": "adaptive"})
    _, body, headers = body_of(asked, {"anthropic-beta": "a,b", "x-app": "cli", "authorization": "secret"})
    assert body == {
        "max_tokens": 500,
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
        "system": "s",
        "anthropic_version": "vertex-2023-10-16",
    }
    assert headers["anthropic-beta"] == "a,b"
    assert not {"x-app", "authorization", "anthropic-version"} & set(headers)
    assert body_of(request())[0].endswith(":rawPredict")


def test_vertex_has_the_first_web_search_tool_only() -> None:
    tools = [{**SEARCH, "type": "web_search_20260318"}, {"name": "web_search_20260318", "input_schema": {}}]
    _, body, _ = body_of(request(tools=tools))
    assert body["tools"] == [SEARCH, tools[1]]


def test_bug_077_claude_on_vertex_gets_no_foreign_thinking() -> None:
    block = {"type": "thinking", "thinking": "x", "signature": "ccm1:vertex:public-model"}
    _, body, _ = body_of(request(("user", "a"), ("assistant", [block, {"type": "text", "text": "b"}])))
    assert body["messages"][1]["content"] == [{"type": "text", "text": "b"}]


def test_answers_of_both_are_read_each_by_its_own_rules() -> None:
    raw = message_start() + text_block(0, "Hi") + message_delta() + MESSAGE_STOP
    claude = WIRE.stream_decoder(request=request(stream=True), target=target(), model=model())
    out = claude.feed(raw) + claude.close()
    assert b'"model":"public-model"' in out
    assert claude.finished
    google = WIRE.stream_decoder(request=request(stream=True), target=target("gemini-2.5-pro"), model=model())
    assert b'"text":"Hi"' in google.feed(gemini.chunk({"text": "Hi"}))
    message = {"type": "message", "model": "m", "content": [], "usage": {"input_tokens": 3, "output_tokens": 1}}
    answer = WIRE.decode_response(json.dumps(message).encode(), request=request(), target=target(), model=model())
    assert answer.usage.input_tokens == 3
    whole = gemini.response({"text": "Hi"}, finish="STOP")
    answer = WIRE.decode_response(
        json.dumps(whole).encode(), request=request(), target=target("gemini-2.5-pro"), model=model()
    )
    assert answer.stop_reason == "end_turn"


def test_google_s_refusals_of_claude_are_google_s() -> None:
    said = {"error": {"code": 404, "message": "Publisher Model `x` was not found", "status": "NOT_FOUND"}}
    told = WIRE.decode_error(404, {}, json.dumps([said]).encode(), target=target())
    assert (told.status, told.should_retry) == (500, False)
    own = {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": "prompt is too long: 5 tokens > 4 maximum"},
    }
    told = WIRE.decode_error(400, {}, json.dumps(own).encode(), target=target())
    assert (told.status, told.message) == (400, "prompt is too long: 5 tokens > 4 maximum")


def test_bug_115_tokens_are_counted_for_both() -> None:
    assert isinstance(WIRE, CountsTokens)
    asked = request(system="s", metadata={"user_id": "x"}, stream=True)
    outbound = WIRE.encode_count(asked, target=target(), model=model(), client_headers={})
    assert outbound.url == f"{BASE}/publishers/anthropic/models/count-tokens:rawPredict"
    body = json.loads(outbound.body)
    assert body["model"] == CLAUDE
    assert set(body) == {"anthropic_version", "model", "messages", "system"}
    assert WIRE.decode_count(b'{"input_tokens": 12}', target=target()) == 12
    with pytest.raises(UpstreamError):
        WIRE.decode_count(b"{}", target=target())
    google = WIRE.encode_count(asked, target=target("gemini-3-pro"), model=model(), client_headers={})
    assert google.url.endswith("gemini-3-pro:countTokens")
    with pytest.raises(UpstreamError):
        WIRE.decode_count(b"{}", target=target("gemini-3-pro"))


# -- access tokens, over real sockets


@contextmanager
def served(front: VertexFront | VertexClaudeFront) -> Iterator[tuple[FakeProvider, CredentialSecret]]:
    with FakeProvider(front) as server:
        yield server, CredentialSecret(id=1, weight=1, secret=front.service_account(server.origin))


async def ask(
    transport: Transport, to: Target, credential: CredentialSecret, *, stream: bool = False
) -> tuple[int, bytes]:
    asked = request(stream=stream)
    outbound = WIRE.encode(asked, target=to, model=model(), max_tokens=100, client_headers={})
    response = await transport.open(outbound, target=to, credential=credential, messages=asked)
    return response.status, await response.read()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("front", "name"), [(VertexFront, "gemini-3-pro-preview"), (VertexClaudeFront, CLAUDE)])
@pytest.mark.asyncio
async def test_a_service_account_is_exchanged_for_a_token(front: Any, name: str, stream: bool) -> None:
    with served(front()) as (server, credential):
        transport = Transport(allow_private=True)
        try:
            status, body = await ask(transport, target(name, base_url=server.base_url), credential, stream=stream)
        finally:
            await transport.close()
        assert (status, server.violations) == (200, [])
        assert b"Hello" in body
        (sent,) = server.requests
        assert sent.headers["authorization"] == "Bearer ya29.fake-token-1"
        assert "private_key" not in str(sent.headers) + sent.raw.decode()


@pytest.mark.asyncio
async def test_one_token_serves_many_requests_at_once() -> None:
    front = VertexFront()
    with served(front) as (server, credential):
        to = target("gemini-3-pro-preview", base_url=server.base_url)
        transport = Transport(allow_private=True)
        try:
            answers = await asyncio.gather(*(ask(transport, to, credential) for _ in range(8)))
            assert {status for status, _ in answers} == {200}
            await ask(transport, to, credential)
        finally:
            await transport.close()
        assert len(front.claims) == 1
        assert front.claims[0]["iss"] == "ccm@p.iam.example.com"
        assert front.claims[0]["scope"] == "https://www.googleapis.com/auth/cloud-platform"


@pytest.mark.asyncio
async def test_a_client_that_leaves_does_not_end_the_fetch_for_the_others() -> None:
    front = VertexFront()
    with served(front) as (server, credential):
        tokens, to = GoogleTokens(), target(base_url=server.base_url)
        async with aiohttp.ClientSession() as session:
            first = asyncio.create_task(tokens.token(session, credential, to))
            second = asyncio.create_task(tokens.token(session, credential, to))
            await asyncio.sleep(0)
            first.cancel()
            assert await second == "ya29.fake-token-1"
            assert first.cancelled() or first.cancelling()
    assert len(front.claims) == 1


@pytest.mark.asyncio
async def test_a_token_is_renewed_before_its_end_and_after_a_refusal() -> None:
    front = VertexFront()
    moment = 1000.0
    with served(front) as (server, credential):
        tokens, to = GoogleTokens(now=lambda: moment), target(base_url=server.base_url)
        async with aiohttp.ClientSession() as session:
            assert await tokens.token(session, credential, to) == "ya29.fake-token-1"
            moment += 3599 - 121
            assert await tokens.token(session, credential, to) == "ya29.fake-token-1"
            moment += 2
            assert await tokens.token(session, credential, to) == "ya29.fake-token-2"
            tokens.forget(credential)
            assert await tokens.token(session, credential, to) == "ya29.fake-token-3"


@pytest.mark.asyncio
async def test_a_token_that_google_does_not_take_is_forgotten() -> None:
    front = VertexFront()
    with served(front) as (server, credential):
        server.brain = InOrder(Failure(401, type="UNAUTHENTICATED"), Reply())
        to = target("gemini-3-pro-preview", base_url=server.base_url)
        transport = Transport(allow_private=True)
        try:
            assert (await ask(transport, to, credential))[0] == 401
            assert (await ask(transport, to, credential))[0] == 200
        finally:
            await transport.close()
        assert len(front.claims) == 2


@pytest.mark.parametrize(
    ("secret", "refusal", "words"),
    [
        (None, "invalid_grant", "did not take CCM's service account (invalid_grant, HTTP 400)"),
        ('{"type": "service_account"}', "", "no service account's key"),
        ('{"type": "authorized_user", "refresh_token": "x"}', "", "no service account's key"),
        ("{cut", "", "no service account's key"),
        ('{"type": "service_account", "token_uri": "http://example.com/token"}', "", "no service account's key"),
    ],
)
@pytest.mark.asyncio
async def test_what_is_wrong_with_a_credential_is_said_without_telling_it(
    secret: Any, refusal: str, words: str
) -> None:
    front = VertexFront()
    front.refusal = refusal
    with served(front) as (server, known):
        credential = replace(known, secret=secret or known.secret)
        transport = Transport(allow_private=True)
        try:
            with pytest.raises(UpstreamError) as raised:
                await ask(transport, target("gemini-3-pro-preview", base_url=server.base_url), credential)
        finally:
            await transport.close()
    failure = raised.value.failure
    assert words in failure.message
    assert failure.should_retry is False
    assert "PRIVATE KEY" not in repr(raised.value) + repr(credential)
    assert server.requests == []


@pytest.mark.asyncio
async def test_a_token_server_that_is_away_is_a_failure_of_the_provider() -> None:
    with served(VertexFront()) as (server, credential):
        pass
    transport = Transport(allow_private=True)
    try:
        with pytest.raises(UpstreamError, match="token server that could not be reached"):
            await ask(transport, target("gemini-3-pro-preview", base_url=server.base_url), credential)
    finally:
        await transport.close()


@pytest.mark.asyncio
async def test_token_servers_in_private_networks_are_refused_where_those_are() -> None:
    front = VertexFront()
    with served(front) as (server, credential):
        transport = Transport(allow_private=False)
        try:
            with pytest.raises(UpstreamError, match="could not be reached"):
                await ask(transport, target("gemini-3-pro-preview", base_url=server.base_url), credential)
        finally:
            await transport.close()
    assert front.claims == []


@pytest.mark.parametrize(
    ("kind", "wire", "header"),
    [
        ("gemini", "gemini", ("x-goog-api-key", "AIza-key")),
        ("vertex", "vertex", ("x-goog-api-key", "AIza-key")),
        ("gemini", "openai_chat", ("authorization", "Bearer AIza-key")),
    ],
)
@pytest.mark.asyncio
async def test_an_api_key_goes_out_in_the_header_that_takes_it(kind: str, wire: str, header: tuple[str, str]) -> None:
    with FakeProvider(VertexFront(), always(Reply([Text("x")], tokens=Tokens()))) as server:
        to = replace(target("gemini-3-pro-preview", base_url=server.base_url), kind=kind, wire=wire)
        transport = Transport(allow_private=True)
        try:
            await ask(transport, to, CredentialSecret(id=1, weight=1, secret="AIza-key"))
        finally:
            await transport.close()
        (sent,) = server.requests
        assert sent.headers[header[0]] == header[1]
        assert len({"x-goog-api-key", "authorization", "x-api-key"} & set(sent.headers)) == 1
