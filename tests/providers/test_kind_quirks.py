"""Every kind's own ways, row by row: where it is called, how its key is sent, what its requests look like.

A kind that is missing from a table below has no ways of its own (translation.md, section 2)."""

import asyncio
import json
from typing import Any

import pytest

from providers.kinds import KINDS
from providers.transport import Transport
from providers.types import CredentialSecret
from providers.wire.registry import WIRES
from tests.fakes.brain import saying
from tests.fakes.openai import fake_openai
from tests.providers.anthropic_support import MODEL
from tests.providers.anthropic_support import target as anthropic_target
from tests.providers.openai_chat_support import BASH, encoded, model, request, target

KEY_FREE = {"demo"}
HEADERS = {
    "x-api-key": {"anthropic", "z.ai", "kimi", "minimax", "zenmux", "anthropic-compatible"},
    "api-key": {"azure"},
    "aws": {"bedrock"},
}
PATHS = {
    "anthropic": "/v1/messages",
    "z.ai": "/api/anthropic/v1/messages",
    "kimi": "/coding/v1/messages",
    "minimax": "/anthropic/v1/messages",
    "zenmux": "/api/anthropic/v1/messages",
    "litellm": "/v1/messages",
    "deepseek": "/v1/chat/completions",
    "moonshot": "/v1/chat/completions",
    "groq": "/openai/v1/chat/completions",
    "together": "/v1/chat/completions",
    "fireworks": "/inference/v1/chat/completions",
    "mistral": "/v1/chat/completions",
    "xai": "/v1/chat/completions",
    "cerebras": "/v1/chat/completions",
    "deepinfra": "/v1/openai/chat/completions",
    "novita": "/v3/openai/chat/completions",
    "nebius": "/v1/chat/completions",
    "baseten": "/v1/chat/completions",
    "ollama": "/v1/chat/completions",
    "vllm": "/v1/chat/completions",
    "openrouter": "/api/v1/chat/completions",
    "openai": "/v1/chat/completions",
    "cohere": "/v2/chat",
    "bedrock": "/model/m/converse",
}


@pytest.mark.parametrize("name", PATHS)
def test_where_a_kind_is_called(name: str) -> None:
    kind = KINDS[name]
    where = anthropic_target(kind=name, wire=kind.wire, base_url=kind.base_url, actual_model="m")
    outbound = WIRES[kind.wire].encode(request(), target=where, model=MODEL, max_tokens=9, client_headers={})
    assert outbound.url.partition("//")[2].partition("/")[2] == PATHS[name][1:]


@pytest.mark.parametrize("name", sorted(set(KINDS) - KEY_FREE))
def test_how_a_kind_s_key_is_sent(name: str) -> None:
    """Over a socket: exactly one header holds the key."""
    kind = KINDS[name]
    scheme = next((scheme for scheme, names in HEADERS.items() if name in names), kind.auth)
    assert kind.auth == scheme
    if scheme not in {"x-api-key", "api-key", "bearer", "aws"}:
        pytest.skip(f"{scheme} has tests of its own")

    async def call(url: str) -> None:
        transport = Transport(allow_private=True)
        where = target(name, base_url=url)
        outbound = WIRES["openai_chat"].encode(request(), target=where, model=model(), max_tokens=9, client_headers={})
        key = CredentialSecret(id=1, weight=1, secret="the-key")
        response = await transport.open(outbound, target=where, credential=key, messages=request())
        await response.read()
        await transport.close()

    with fake_openai(saying("Hi.")) as fake:
        asyncio.run(call(fake.base_url))
        (received,) = fake.received
    holding = {header: value for header, value in received.headers.items() if "the-key" in value}
    bearer = {"authorization": "Bearer the-key"}
    assert holding == (bearer if scheme in {"bearer", "aws"} else {scheme: "the-key"})


# -- Chat Completions: what differs from the row without ways of its own

PLAIN = {
    "max_tokens": 8000,
    "stop": ["X"],
    "tool_choice": {"type": "function", "function": {"name": "Bash"}},
    "response_format": True,
    "stream_options": True,
}
WAYS: list[tuple[str, str, dict[str, Any]]] = [
    ("openai-compatible", "m", {}),
    ("deepinfra", "m", {}),
    ("novita", "m", {}),
    ("nebius", "m", {}),
    ("baseten", "m", {}),
    ("vllm", "m", {}),
    ("azure", "gpt-4.1", {"max_tokens": None, "max_completion_tokens": 8000}),
    ("azure", "gpt-5.1", {"max_tokens": None, "max_completion_tokens": 8000, "stop": None, "reasoning_effort": "low"}),
    ("groq", "llama", {"max_tokens": None, "max_completion_tokens": 8000, "response_format": None}),
    (
        "groq",
        "qwen/qwen3-32b",
        {"max_tokens": None, "max_completion_tokens": 8000, "response_format": None, "reasoning_format": "parsed"},
    ),
    ("cerebras", "m", {"max_tokens": None, "max_completion_tokens": 8000}),
    ("cerebras", "gpt-oss-120b", {"max_tokens": None, "max_completion_tokens": 8000, "reasoning_effort": "low"}),
    ("fireworks", "m", {"response_format": None}),
    ("together", "m", {}),
    ("mistral", "m", {"tool_choice": "any", "stream_options": None}),
    ("xai", "grok-3", {}),
    ("xai", "grok-4", {"stop": None}),
    ("xai", "grok-3-mini", {"stop": None, "reasoning_effort": "low"}),
    ("ollama", "m", {"tool_choice": None}),
    ("deepseek", "m", {"response_format": None, "thinking": {"type": "enabled"}}),
    (
        "z.ai",
        "glm",
        {"response_format": None, "thinking": {"type": "enabled", "clear_thinking": False}, "tool_stream": True},
    ),
    ("moonshot", "kimi-k2", {"response_format": None}),
]


@pytest.mark.parametrize(("kind", "name", "ways"), WAYS, ids=lambda value: value if isinstance(value, str) else "")
def test_what_a_kind_s_requests_look_like(kind: str, name: str, ways: dict[str, Any]) -> None:
    schema = {"format": {"type": "json_schema", "schema": {"type": "object"}}}
    asked = request(
        stream=True,
        tools=[BASH],
        tool_choice={"type": "tool", "name": "Bash"},
        stop_sequences=["X"],
        thinking={"type": "enabled", "budget_tokens": 2000},
        output_config=schema,
    )
    sent = encoded(asked, to=target(kind, name), max_tokens=8000)
    looks = {
        key: True if key in {"response_format", "stream_options"} else value
        for key, value in sent.items()
        if key not in {"model", "messages", "tools", "stream"}
    }
    assert looks == {key: value for key, value in {**PLAIN, **ways}.items() if value is not None}


def test_fireworks_writes_at_most_4096_tokens_unstreamed() -> None:
    assert encoded(request(), to=target("fireworks"), max_tokens=9000)["max_tokens"] == 4096
    assert encoded(request(stream=True), to=target("fireworks"), max_tokens=9000)["max_tokens"] == 9000


# -- servers in Anthropic's format

BILLING = {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1.330.d01; cc_entrypoint=cli;"}
SEARCH = {"type": "web_search_20250305", "name": "web_search"}
CUSTOM = {**BASH, "type": "custom"}
CLIENTS = {
    "system": [BILLING, {"type": "text", "text": "s"}],
    "tools": [CUSTOM, SEARCH],
    "thinking": {"type": "adaptive"},
    "context_management": {"edits": []},
    "max_tokens": 20000,
}


def passed_on(kind: str) -> dict[str, Any]:
    where = anthropic_target(kind=kind, base_url="https://api.example")
    sent = WIRES["anthropic"].encode(request(**CLIENTS), target=where, model=MODEL, max_tokens=20000, client_headers={})
    body: dict[str, Any] = json.loads(sent.body)
    return body


def test_anthropic_gets_everything() -> None:
    assert {name: value for name, value in passed_on("anthropic").items() if name in CLIENTS} == CLIENTS


@pytest.mark.parametrize("kind", ["zenmux", "litellm", "anthropic-compatible"])
def test_a_relay_gets_everything_but_the_billing_block(kind: str) -> None:
    sent = passed_on(kind)
    assert sent["system"] == [{"type": "text", "text": "s"}]
    assert {name: sent[name] for name in ("tools", "thinking", "context_management")} == {
        name: CLIENTS[name] for name in ("tools", "thinking", "context_management")
    }


@pytest.mark.parametrize("kind", ["z.ai", "kimi", "minimax", "deepseek", "moonshot"])
def test_a_server_with_models_of_its_own(kind: str) -> None:
    """translation.md 1.5 and 5, item 85."""
    sent = passed_on(kind)
    assert sent["system"] == [{"type": "text", "text": "s"}]
    assert sent["tools"] == [BASH if kind == "deepseek" else CUSTOM]
    assert sent["thinking"] == {"type": "enabled", "budget_tokens": 24000} | {"budget_tokens": 19999}
    assert "context_management" not in sent


def test_a_budget_stays_below_what_the_customer_can_pay() -> None:
    where = anthropic_target(kind="kimi", base_url="https://api.example")
    asked = request(**CLIENTS)
    for limit, expected in ((2000, {"type": "enabled", "budget_tokens": 1999}), (500, {"type": "disabled"})):
        sent = WIRES["anthropic"].encode(asked, target=where, model=MODEL, max_tokens=limit, client_headers={})
        assert json.loads(sent.body).get("thinking") == expected


@pytest.mark.parametrize("kind", ["kimi", "minimax"])
@pytest.mark.parametrize("system", [None, "Be brief.", [{"type": "text", "text": "Be brief."}, BILLING]])
def test_a_schema_is_told_in_words_to_who_holds_to_none(kind: str, system: Any) -> None:
    wanted = {"effort": "high", "format": {"type": "json_schema", "schema": {"type": "object"}}}
    asked = request(output_config=wanted, **({} if system is None else {"system": system}))
    where = anthropic_target(kind=kind, base_url="https://api.example")
    sent = json.loads(WIRES["anthropic"].encode(asked, target=where, model=MODEL, max_tokens=9, client_headers={}).body)
    *before, told = sent["system"]
    assert [block["text"] for block in before] == ([] if system is None else ["Be brief."])
    assert told["text"].endswith('{"type":"object"}')
    assert sent["output_config"] == {"effort": "high"}


def test_a_relay_and_anthropic_hold_to_schemas_themselves() -> None:
    wanted = {"format": {"type": "json_schema", "schema": {"type": "object"}}}
    for kind in ("anthropic", "zenmux"):
        where = anthropic_target(kind=kind, base_url="https://api.example")
        asked = request(output_config=wanted)
        sent = WIRES["anthropic"].encode(asked, target=where, model=MODEL, max_tokens=9, client_headers={})
        assert json.loads(sent.body)["output_config"] == wanted
