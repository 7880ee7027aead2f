"""Anthropic requests as Chat Completions requests."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from providers.errors import InvalidRequest
from providers.wire.openai_chat.quirks import QUIRKS
from providers.wire.request import MessagesRequest
from tests.fakes.openai import OpenAIFront
from tests.providers.openai_chat_support import (
    BASH,
    WIRE,
    encoded,
    messages_of,
    model,
    order_problem,
    request,
    result,
    target,
    text,
    use,
)

PNG = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBOR"}}
PDF = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBER"}}
KINDS = ("openai", "openai-compatible", *(kind for kind in QUIRKS if kind != "openai"))


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


# -- system


def test_the_system_prompt_loses_the_billing_header() -> None:
    system = [text("x-anthropic-billing-header: cc_version=2.1;"), text(""), text("You are."), text("Do.")]
    assert messages_of(system=system) == [{"role": "system", "content": "You are.\n\nDo."}, user("hi")]
    assert messages_of(system="x-anthropic-billing-header: a;\nYou are.")[0]["content"] == "You are."
    assert messages_of(system="You are.")[0]["content"] == "You are."


def test_mid_conversation_system_messages() -> None:
    conversation = [("user", "one"), ("system", "Mind."), ("assistant", "two"), ("user", "three"), ("system", [])]
    assert messages_of(*conversation) == [
        user("one"),
        {"role": "system", "content": "Mind."},
        {"role": "assistant", "content": "two"},
        user("three"),
    ]
    assert messages_of(*conversation, kind="vllm") == [
        user("one\n\n<system-reminder>\nMind.\n</system-reminder>"),
        {"role": "assistant", "content": "two"},
        user("three"),
    ]


@pytest.mark.parametrize("kind", ["openai", "vllm"])
def test_a_system_message_never_parts_calls_from_results(kind: str) -> None:
    sent = messages_of(
        ("user", "go"), ("assistant", [use("a")]), ("system", "Mind."), ("user", [result("a"), text("more")]), kind=kind
    )
    assert [message["role"] for message in sent[:3]] == ["user", "assistant", "tool"]
    assert order_problem(sent) is None
    assert "Mind." in json.dumps(sent[3:])


def test_system_blocks_of_unknown_types_do_no_harm() -> None:
    odd = [{"type": "tool_removal", "tool": {"type": "tool_reference", "name": "x"}}, text("Mind.")]
    assert messages_of(("user", "one"), ("system", odd))[1] == {"role": "system", "content": "Mind."}


# -- user content


def test_text_is_a_string_and_neighbours_merge() -> None:
    assert messages_of(("user", [text("a"), text(""), text("b")]), ("user", "c")) == [user("a\n\nb\n\nc")]
    assert messages_of(("assistant", "a"), ("assistant", "b"), ("user", "c"))[0]["content"] == "ab"


@pytest.mark.parametrize("content", ["", [], [text("")], [text(" \n")]])
def test_empty_content(content: Any) -> None:
    assert messages_of(("user", content)) == [user("(no content)")]
    sent = messages_of(("user", "a"), ("assistant", content), ("user", "b"))
    assert sent[1] == {"role": "assistant", "content": "(no content)"}


def test_images() -> None:
    linked = {"type": "image", "source": {"type": "url", "url": "https://x/i.png"}}
    assert messages_of(("user", [text("see"), PNG, linked])) == [
        user(
            [
                text("see"),
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBOR"}},
                {"type": "image_url", "image_url": {"url": "https://x/i.png"}},
            ]
        )
    ]


def test_a_model_without_vision_reads_a_note() -> None:
    sent = messages_of(("user", [text("see"), PNG]), served=model(vision=False))
    assert sent == [user("see\n\n[image omitted: this model cannot see images]")]


def test_documents() -> None:
    plain = {"type": "document", "title": "T", "source": {"type": "text", "media_type": "text/plain", "data": "body"}}
    blocks = {"type": "document", "source": {"type": "content", "content": [text("inner")]}}
    linked = {"type": "document", "source": {"type": "url", "url": "https://x/d.pdf"}}
    assert messages_of(("user", [plain, blocks, linked]))[0]["content"] == (
        '<document title="T">\nbody\n</document>\n\ninner\n\n[document at https://x/d.pdf]'
    )
    file = {"filename": "document.pdf", "file_data": "data:application/pdf;base64,JVBER"}
    assert messages_of(("user", [PDF]))[0]["content"] == [{"type": "file", "file": file}]
    assert "cannot read PDF" in messages_of(("user", [PDF]), kind="groq")[0]["content"]


def test_sources_of_no_known_form_become_notes() -> None:
    sent = messages_of(("user", [{"type": "image", "source": {"type": "file", "file_id": "f"}}, {"type": "image"}]))
    assert sent[0]["content"].count("[image omitted") == 2


# -- tool calls and results


def test_a_call_and_its_result() -> None:
    sent = messages_of(
        ("user", "go"), ("assistant", [text("now"), use("toolu_1", cmd="ls")]), ("user", [result("toolu_1")])
    )
    function = {"name": "Bash", "arguments": '{"cmd":"ls"}'}
    assert sent[1:] == [
        {
            "role": "assistant",
            "content": "now",
            "tool_calls": [{"id": "toolu_1", "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": "toolu_1", "content": "ok"},
    ]


def test_results_come_in_the_calls_order_and_text_after_them() -> None:
    sent = messages_of(
        ("user", "go"),
        ("assistant", [use("a"), use("b"), use("c")]),
        ("user", [text("by the way"), result("c", "3"), result("a", "1"), text("and"), result("b", "2")]),
    )
    assert [m["content"] for m in sent[2:]] == ["1", "2", "3", "by the way\n\nand"]
    assert "content" not in sent[1]
    assert order_problem(sent) is None


def test_missing_results_are_made_up_and_orphans_dropped() -> None:
    sent = messages_of(
        ("user", [result("ghost")]),
        ("assistant", [use("a"), use("b")]),
        ("user", [result("b"), result("b", "last"), result("ghost")]),
        ("assistant", [use("c")]),
    )
    assert order_problem(sent) is None
    results = {m["tool_call_id"]: m["content"] for m in sent if m["role"] == "tool"}
    assert results == {"a": "[tool call interrupted]", "b": "last", "c": "[tool call interrupted]"}


@pytest.mark.parametrize(
    ("content", "fields", "sent"),
    [
        ("boom", {"is_error": True}, "Error: boom"),
        ("fine", {"is_error": False}, "fine"),
        ("", {}, "(no output)"),
        ([], {}, "(no output)"),
        (None, {}, "(no output)"),
        ([text("a"), text("b")], {}, "a\nb"),
        ([{"type": "tool_reference", "tool_name": "X"}], {}, "Loaded tools: X. You can call them now."),
        (
            [{"type": "tool_reference", "tool_name": n} for n in ("X", "Y")],
            {},
            "Loaded tools: X, Y. You can call them now.",
        ),
    ],
)
def test_result_content(content: Any, fields: dict[str, Any], sent: str) -> None:
    told = messages_of(("user", "go"), ("assistant", [use("a")]), ("user", [result("a", content, **fields)]))
    assert told[2]["content"] == sent


def test_a_result_without_content() -> None:
    bare = {"type": "tool_result", "tool_use_id": "a"}
    assert messages_of(("assistant", [use("a")]), ("user", [bare]))[1]["content"] == "(no output)"


def test_images_in_results_follow_in_a_user_message() -> None:
    sent = messages_of(
        ("user", "go"),
        ("assistant", [use("a"), use("b")]),
        ("user", [result("b", [PNG]), result("a", [text("read"), PDF]), text("look")]),
    )
    assert [m["role"] for m in sent] == ["user", "assistant", "tool", "tool", "user"]
    assert sent[2]["content"] == "read\n[document attached in the next user message]"
    assert sent[3]["content"] == "[image attached in the next user message]"
    kinds = [part["type"] for part in sent[4]["content"]]
    assert kinds == ["text", "text", "file", "text", "image_url", "text"]
    assert sent[4]["content"][3]["text"] == "[result of the tool call b]"
    assert sent[4]["content"][5]["text"] == "look"


def test_a_result_image_without_vision_is_a_note_in_place() -> None:
    sent = messages_of(("assistant", [use("a")]), ("user", [result("a", [PNG])]), served=model(vision=False))
    assert sent[1]["content"] == "[image omitted: this model cannot see images]"
    assert len(sent) == 2


@pytest.mark.parametrize(
    ("kind", "pattern"),
    [
        ("openai", r"[a-zA-Z0-9_-]{1,40}"),
        ("mistral", r"[a-zA-Z0-9]{9}"),
        ("moonshot", r"functions\.Bash:\d+"),
    ],
)
def test_ids_that_the_provider_would_refuse(kind: str, pattern: str) -> None:
    ids = ["id with spaces/é|x", "toolu_" + "x" * 60, "functions.Bash:7", ""]
    conversation: list[tuple[str, Any]] = [("user", "go")]
    for call_id in ids:
        conversation += [("assistant", [use(call_id)]), ("user", [result(call_id)])]
    sent = messages_of(*conversation, kind=kind)
    assert order_problem(sent) is None
    used = [m["tool_call_id"] for m in sent if m["role"] == "tool"]
    assert len(set(used)) == len(ids)
    assert all(re.fullmatch(pattern, call_id) for call_id in used)
    assert messages_of(*conversation, kind=kind) == sent


@pytest.mark.parametrize(("tool_input", "arguments"), [({}, "{}"), (None, "{}"), ([1], '{"input":[1]}')])
def test_arguments_are_always_an_object(tool_input: Any, arguments: str) -> None:
    block = {"type": "tool_use", "id": "a", "name": "Bash", "input": tool_input}
    sent = messages_of(("assistant", [block]), ("user", [result("a")]))
    assert sent[0]["tool_calls"][0]["function"]["arguments"] == arguments


def test_a_broken_result_is_refused_by_name() -> None:
    with pytest.raises(InvalidRequest, match="tool_result"):
        messages_of(("assistant", [use("a")]), ("user", [result("a", 5)]))


# -- reasoning in the history


def thought(signature: str | None, words: str = "hm") -> dict[str, Any]:
    return {"type": "thinking", "thinking": words, "signature": signature}


def test_reasoning_is_dropped_where_it_is_not_wanted() -> None:
    sent = messages_of(
        ("assistant", [thought("ccm1:openai:m"), {"type": "redacted_thinking", "data": "x"}, text("a")]), ("user", "b")
    )
    assert sent[0] == {"role": "assistant", "content": "a"}


def test_a_providers_own_reasoning_goes_back_to_it() -> None:
    blocks = [thought("ccm1:deepseek:m", "mine"), thought("EqQB", "Anthropic's"), thought("", "nobody's"), text("a")]
    assert messages_of(("assistant", blocks), ("user", "b"), kind="deepseek")[0]["reasoning_content"] == "mine"
    assert "reasoning_content" not in messages_of(("assistant", blocks), ("user", "b"), kind="moonshot")[0]


def test_a_call_without_reasoning_gets_a_space_where_it_is_demanded() -> None:
    conversation = [("assistant", [use("a")]), ("user", [result("a")])]
    assert messages_of(*conversation, kind="deepseek")[0]["reasoning_content"] == " "
    assert "reasoning_content" not in messages_of(*conversation, kind="deepseek", thinking={"type": "disabled"})[0]


def test_blocks_of_anthropics_servers_leave_their_text() -> None:
    found = [{"type": "web_search_result", "title": "T", "url": "https://x", "encrypted_content": "e"}]
    blocks = [
        text("Searching."),
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
        {"type": "web_search_tool_result", "tool_use_id": "s", "content": found},
        {"type": "from_the_future", "content": {"a": 1}},
        text("Found"),
        text(" it."),
    ]
    assert messages_of(("assistant", blocks), ("user", "b"))[0]["content"] == "Searching.\n\nT https://x\n\nFound it."


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
    assert "tools" not in encoded(request(tools=[BASH]), served=model(tools=False))


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


# -- the client's own requests


def claude_code_requests(recordings: Path) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for folder in ("claude-code", "claude-code-2.1.330"):
        for path in sorted((recordings / folder).glob("*.json")):
            body = json.loads(path.read_text())["body"]
            if body and "max_tokens" in body:
                found.append((f"{folder}/{path.name}", body))
    assert len(found) > 70
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_every_request_of_claude_code_is_in_order(recordings: Path, kind: str) -> None:
    for name, body in claude_code_requests(recordings):
        sent = encoded(MessagesRequest.parse(json.dumps(body).encode()), to=target(kind))
        assert order_problem(sent["messages"]) is None, name
        told = json.dumps(sent)
        for word in ("x-anthropic-billing-header", "safeguards", "cache_control", "defer_loading"):
            assert word not in told, (name, word)
        assert "DeferredToolPlaceholder" not in json.dumps(sent.get("tools")), name


@pytest.mark.parametrize("vision", [True, False])
def test_every_request_of_claude_code_passes_openais_rules(recordings: Path, vision: bool) -> None:
    front = OpenAIFront()
    for name, body in claude_code_requests(recordings):
        sent = encoded(MessagesRequest.parse(json.dumps(body).encode()), served=model(vision=vision))
        assert front.violation(sent, {"authorization": "Bearer k"}) is None, name
        assert ("image_url" in json.dumps(sent["messages"])) <= vision


@pytest.mark.parametrize("kind", KINDS)
def test_each_turn_continues_the_last_ones_messages(recordings: Path, kind: str) -> None:
    compared = 0
    for name, body in claude_code_requests(recordings):
        messages = body["messages"]
        whole = encoded(MessagesRequest.parse(json.dumps(body).encode()), to=target(kind))["messages"]
        for index, message in enumerate(messages):
            if message["role"] != "assistant" or index == 0:
                continue
            earlier = body | {"messages": messages[:index]}
            sent = encoded(MessagesRequest.parse(json.dumps(earlier).encode()), to=target(kind))["messages"]
            assert whole[: len(sent)] == sent, (name, index)
            compared += 1
    assert compared > 60
