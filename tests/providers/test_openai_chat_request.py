"""Anthropic requests as Chat Completions requests: everything but the conversation."""

import hashlib
import json
from typing import Any

import pytest

from tests.providers.openai_chat_support import (
    BASH,
    WIRE,
    encoded,
    model,
    request,
    result,
    target,
    use,
)


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


# -- the frame


def test_it_goes_to_chat_completions_with_no_header_of_the_client() -> None:
    outbound = WIRE.encode(
        request(stream=True), target=target(), model=model(), max_tokens=9, client_headers={"anthropic-beta": "x"}
    )
    assert outbound.url == "https://api.example/v1/chat/completions"
    assert set(outbound.headers) == {"content-type", "accept", "user-agent"}
    assert outbound.headers["accept"] == "text/event-stream"


def test_a_minimal_request() -> None:
    assert encoded(request()) == {"model": "gpt-4.1", "messages": [user("hi")], "max_completion_tokens": 1000}


def test_a_stream_asks_for_usage() -> None:
    sent = encoded(request(stream=True))
    assert sent["stream"] is True
    assert sent["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize(
    ("kind", "actual_model", "name"),
    [
        ("openai", "gpt-4.1", "max_completion_tokens"),
        ("groq", "x", "max_completion_tokens"),
        ("cerebras", "x", "max_completion_tokens"),
        ("openai-compatible", "o3", "max_completion_tokens"),
        ("openai-compatible", "azure/gpt-5.1", "max_completion_tokens"),
        ("openai-compatible", "gpt-5-chat-latest", "max_tokens"),
        ("openai-compatible", "qwen3", "max_tokens"),
        ("mistral", "x", "max_tokens"),
    ],
)
def test_max_tokens_by_kind(kind: str, actual_model: str, name: str) -> None:
    sent = encoded(request(), to=target(kind, actual_model), max_tokens=77)
    assert {key: value for key, value in sent.items() if key.startswith("max_")} == {name: 77}


def test_max_tokens_stay_within_the_model() -> None:
    assert encoded(request(), served=model(max_output=50))["max_completion_tokens"] == 50


def test_nothing_unknown_or_private_is_forwarded() -> None:
    private = {
        "safeguards": [{"type": "dangerous_tool_use", "context": {"cwd": "/home/me/secret"}}],
        "context_management": {"edits": []},
        "container": "c",
        "speed": "fast",
        "x_unknown": "/home/me/secret",
        "service_tier": "auto",
    }
    sent = encoded(request(**private, metadata={"user_id": "me@secret.example"}))
    assert set(sent) == {"model", "messages", "max_completion_tokens", "user"}
    assert "secret" not in json.dumps(sent)


def test_sampling_and_stop() -> None:
    asked = request(temperature=0.5, top_p=0.9, top_k=3, stop_sequences=["a", "b", "c", "d", "e"])
    sent = encoded(asked)
    assert (sent["temperature"], sent["top_p"], sent["stop"]) == (0.5, 0.9, ["a", "b", "c", "d"])
    assert "top_k" not in sent
    assert encoded(asked, to=target("together"))["top_k"] == 3


@pytest.mark.parametrize(("kind", "actual_model"), [("openai", "gpt-5.1"), ("openai", "o3"), ("moonshot", "kimi-k2")])
def test_thinking_models_with_fixed_sampling_get_none(kind: str, actual_model: str) -> None:
    assert "temperature" not in encoded(request(temperature=0.5), to=target(kind, actual_model))


def test_the_user_is_hashed_and_the_session_shares_a_cache() -> None:
    user_id = json.dumps({"device_id": "d", "session_id": "7c3b"})
    sent = encoded(request(metadata={"user_id": user_id}))
    assert sent["user"] == hashlib.sha256(user_id.encode()).hexdigest()
    assert sent["prompt_cache_key"] == "7c3b"
    old = encoded(request(metadata={"user_id": "user_ab_account__session_7c3b"}))
    assert old["prompt_cache_key"] == "7c3b"
    assert not {"user", "prompt_cache_key"} & set(encoded(request(metadata={"user_id": user_id}), to=target("groq")))


def test_a_long_session_id_is_hashed() -> None:
    sent = encoded(request(metadata={"user_id": json.dumps({"session_id": "x" * 80})}))
    assert len(sent["prompt_cache_key"]) == 64


# -- reasoning


@pytest.mark.parametrize(
    ("kind", "actual_model", "asked", "sent"),
    [
        ("openai", "gpt-5.1", {"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}, "high"),
        ("openai", "gpt-5.1", {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}, "low"),
        ("openai", "gpt-5.1", {"thinking": {"type": "adaptive"}}, None),
        ("openai", "gpt-5.1", {"thinking": {"type": "adaptive"}, "output_config": {"effort": "silly"}}, None),
        ("openai", "gpt-5.1", {"thinking": {"type": "disabled"}}, "none"),
        ("openai", "gpt-5-mini", {"thinking": {"type": "disabled"}}, "minimal"),
        ("openai", "o3", {"thinking": {"type": "disabled"}}, "low"),
        ("openai", "o3", {"thinking": {"type": "enabled", "budget_tokens": 2000}}, "low"),
        ("openai", "o3", {"thinking": {"type": "enabled", "budget_tokens": 8000}}, "medium"),
        ("openai", "o3", {"thinking": {"type": "enabled", "budget_tokens": 31999}}, "high"),
        ("openai", "gpt-4.1", {"output_config": {"effort": "high"}}, None),
        ("groq", "openai/gpt-oss-120b", {"output_config": {"effort": "xhigh"}}, "high"),
        ("groq", "openai/gpt-oss-120b", {"thinking": {"type": "disabled"}}, "low"),
        ("groq", "qwen3-32b", {"output_config": {"effort": "high"}}, None),
        ("xai", "grok-3-mini", {"output_config": {"effort": "medium"}}, "low"),
        ("mistral", "magistral", {"output_config": {"effort": "high"}}, None),
    ],
)
def test_reasoning_effort(kind: str, actual_model: str, asked: dict[str, Any], sent: str | None) -> None:
    assert encoded(request(**asked), to=target(kind, actual_model)).get("reasoning_effort") == sent


def test_reasoning_in_other_forms() -> None:
    hard = request(output_config={"effort": "max"})
    off = request(thinking={"type": "disabled"})
    assert encoded(hard, to=target("openrouter"))["reasoning"] == {"effort": "xhigh"}
    assert encoded(off, to=target("openrouter"))["reasoning"] == {"enabled": False}
    assert encoded(hard, to=target("deepseek"))["thinking"] == {"type": "enabled"}
    assert encoded(off, to=target("z.ai"))["thinking"] == {"type": "disabled"}


def test_a_model_that_does_not_think_is_not_asked_to() -> None:
    sent = encoded(
        request(output_config={"effort": "high"}), to=target("openai", "gpt-5.1"), served=model(thinking=False)
    )
    assert "reasoning_effort" not in sent


def test_newest_openai_models_take_no_level_beside_functions() -> None:
    hard: dict[str, Any] = {"output_config": {"effort": "high"}}
    assert "reasoning_effort" not in encoded(request(tools=[BASH], **hard), to=target("openai", "gpt-5.4"))
    assert encoded(request(**hard), to=target("openai", "gpt-5.4"))["reasoning_effort"] == "high"
    assert encoded(request(tools=[BASH], **hard), to=target("openai", "gpt-5.1"))["reasoning_effort"] == "high"


# -- structured output


SCHEMA = {"type": "object", "properties": {"t": {"type": "string"}}, "required": ["t"], "additionalProperties": False}


def test_a_json_schema() -> None:
    asked = request(output_config={"format": {"type": "json_schema", "schema": SCHEMA}})
    described = {"name": "structured_output", "schema": SCHEMA, "strict": True}
    assert encoded(asked)["response_format"] == {"type": "json_schema", "json_schema": described}
    assert "strict" not in encoded(asked, to=target("groq"))["response_format"]["json_schema"]


def test_an_open_schema_is_not_strict() -> None:
    asked = request(output_config={"format": {"type": "json_schema", "schema": {"type": "object", "properties": {}}}})
    assert "strict" not in encoded(asked)["response_format"]["json_schema"]


def test_a_provider_without_schemas_is_told_in_words() -> None:
    asked = request(system="Be brief.", output_config={"format": {"type": "json_schema", "schema": SCHEMA}})
    sent = encoded(asked, to=target("deepseek"))
    assert "response_format" not in sent
    assert sent["messages"][0]["content"].startswith("Be brief.\n\nAnswer with nothing but JSON")


# -- tools


def test_tools_become_functions() -> None:
    tool = {**BASH, "type": "custom", "cache_control": {"type": "ephemeral"}, "eager_input_streaming": True}
    function = {"name": "Bash", "description": "Runs.", "parameters": {"type": "object", "properties": {}}}
    assert encoded(request(tools=[tool]))["tools"] == [{"type": "function", "function": function}]


def test_server_tools_and_the_placeholder_are_left_out() -> None:
    tools = [
        {"type": "web_search_20250305", "name": "web_search", "max_uses": 8},
        {"name": "DeferredToolPlaceholder", "input_schema": {"type": "object"}, "defer_loading": True},
    ]
    sent = encoded(request(tools=tools, tool_choice={"type": "auto", "disable_parallel_tool_use": True}))
    assert not {"tools", "tool_choice", "parallel_tool_calls"} & set(sent)
    assert "tools" not in encoded(request(tools=[]))
    assert "tools" not in encoded(request(tools=[BASH], tool_choice={"type": "none"}), served=model(tools=False))


def test_loaded_tools_come_last_in_the_order_of_loading() -> None:
    deferred = [{**BASH, "name": name, "defer_loading": True} for name in ("Alpha", "Beta", "Gamma")]
    tools = [deferred[0], BASH, deferred[1], deferred[2], {**BASH, "name": "Zed"}]
    references = [[{"type": "tool_reference", "tool_name": name}] for name in ("Gamma", "Alpha")]
    conversation: list[tuple[str, Any]] = [("user", "go")]
    for number, content in enumerate(references):
        conversation += [("assistant", [use(f"s{number}", "ToolSearch")]), ("user", [result(f"s{number}", content)])]
    sent = encoded(request(*conversation, tools=tools))["tools"]
    assert [tool["function"]["name"] for tool in sent] == ["Bash", "Zed", "Gamma", "Alpha", "Beta"]
    assert "defer_loading" not in json.dumps(sent)


@pytest.mark.parametrize(
    ("schema", "sent"),
    [
        (None, {"type": "object", "properties": {}}),
        ({}, {"type": "object", "properties": {}}),
        ({"type": "object"}, {"type": "object", "properties": {}}),
        ({"type": "object", "properties": {"a": {}}, "anyOf": [{}]}, {"type": "object", "properties": {"a": {}}}),
        ({"$schema": "s", "type": "object", "properties": {}}, {"$schema": "s", "type": "object", "properties": {}}),
    ],
)
def test_schema_roots(schema: Any, sent: Any) -> None:
    tool = {"name": "T", "input_schema": schema}
    assert encoded(request(tools=[tool]))["tools"][0]["function"]["parameters"] == sent


def test_keywords_that_a_provider_refuses_go_and_properties_of_that_name_stay() -> None:
    schema = {
        "$schema": "s",
        "type": "object",
        "properties": {"$id": {"type": "string", "$id": "x"}, "l": {"items": [{"additionalProperties": False}]}},
        "additionalProperties": False,
    }
    tool = {"name": "T", "input_schema": schema}
    sent = encoded(request(tools=[tool]), to=target("mistral"))["tools"][0]["function"]["parameters"]
    assert sent == {"type": "object", "properties": {"$id": {"type": "string"}, "l": {"items": [{}]}}}


def test_long_names_are_shortened_everywhere() -> None:
    name = "mcp__server__" + "x" * 80
    tools = [{**BASH, "name": name}]
    sent = encoded(
        request(
            ("assistant", [use("a", name)]),
            ("user", [result("a")]),
            tools=tools,
            tool_choice={"type": "tool", "name": name},
        )
    )
    short = sent["tools"][0]["function"]["name"]
    assert len(short) <= 64
    assert sent["messages"][0]["tool_calls"][0]["function"]["name"] == short
    assert sent["tool_choice"]["function"]["name"] == short


@pytest.mark.parametrize(
    ("choice", "kind", "sent"),
    [
        ({"type": "auto"}, "openai", None),
        ({"type": "any"}, "openai", "required"),
        ({"type": "any"}, "mistral", "any"),
        ({"type": "none"}, "openai", "none"),
        ({"type": "tool", "name": "Bash"}, "openai", {"type": "function", "function": {"name": "Bash"}}),
        ({"type": "tool", "name": "Bash"}, "mistral", "any"),
        ({"type": "tool", "name": "web_search"}, "openai", "required"),
    ],
)
def test_tool_choice(choice: dict[str, Any], kind: str, sent: Any) -> None:
    body = encoded(request(tools=[BASH], tool_choice=choice), to=target(kind))
    assert body.get("tool_choice") == sent
    assert "parallel_tool_calls" not in body


def test_parallel_calls_can_be_forbidden() -> None:
    body = encoded(request(tools=[BASH], tool_choice={"type": "auto", "disable_parallel_tool_use": True}))
    assert body["parallel_tool_calls"] is False
