"""What a request of the Responses API is made of. Numbers in names are those of translation.md, section 5."""

import json
from typing import Any

import pytest
from openai.types.responses.response_create_params import ResponseCreateParamsStreaming
from pydantic import TypeAdapter

from providers.wire.openai_responses.reasoning import Envelope, opened, sealed
from tests.providers.openai_chat_support import BASH, model, request, result, text, use
from tests.providers.openai_responses_support import SEARCH, WIRE, encoded, items_of, target

PARAMS: TypeAdapter[Any] = TypeAdapter(ResponseCreateParamsStreaming)
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
PDF = {"type": "document", "title": "a", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"}}


def thinking(told: str, kind: str = "openai", actual: str = "gpt-5.2", **envelope: Any) -> dict[str, Any]:
    signature = sealed(Envelope(encrypted="E", **envelope), target(kind, actual), model())
    return {"type": "thinking", "thinking": told, "signature": signature}


def test_a_whole_request_by_the_official_types() -> None:
    asked = request(
        ("user", [text("See"), IMAGE, PDF]),
        ("assistant", [thinking("Why", summary=[3]), text("Ok"), use("toolu_1", command="ls")]),
        ("user", [result("toolu_1", [text("out"), IMAGE]), text("next")]),
        system=[text("x-anthropic-billing-header: abc"), text("Be brief.")],
        tools=[BASH, SEARCH],
        tool_choice={"type": "auto", "disable_parallel_tool_use": True},
        thinking={"type": "adaptive"},
        output_config={"effort": "max", "format": {"type": "json_schema", "schema": {"type": "object"}}},
        metadata={"user_id": json.dumps({"session_id": "s-1", "device_id": "d"})},
        temperature=0.3,
        stream=True,
    )
    body = encoded(asked)
    # The types ask for an id in reasoning; the server refuses ids of what it has not stored.
    PARAMS.validate_python(
        body | {"input": [{"id": "rs_1", **item} if item["type"] == "reasoning" else item for item in body["input"]]}
    )
    assert body["instructions"] == "Be brief."
    assert [item["type"] for item in body["input"]] == [
        "message", "reasoning", "message", "function_call", "function_call_output", "message",
    ]  # fmt: skip
    assert body["reasoning"] == {"effort": "xhigh", "summary": "auto"}
    assert body["include"] == ["reasoning.encrypted_content", "web_search_call.action.sources"]
    assert (body["store"], body["stream"], body["parallel_tool_calls"]) == (False, True, False)
    assert body["text"]["format"]["schema"] == {"type": "object"}
    assert body["prompt_cache_key"] == "s-1"
    assert len(body["safety_identifier"]) == 64
    assert "temperature" not in body
    assert "d" not in body["safety_identifier"] or "device_id" not in json.dumps(body)


def test_bug_060_062_064_images_and_files_in_turns_and_results() -> None:
    user, called, output = items_of(
        ("user", [IMAGE, PDF]), ("assistant", [use("toolu_1")]), ("user", [result("toolu_1", [text("a"), IMAGE, PDF])])
    )
    image = {"type": "input_image", "image_url": "data:image/png;base64,aGk=", "detail": "auto"}
    file = {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBE"}
    assert user["content"] == [image, file]
    assert called["arguments"] == "{}"
    assert output["output"] == [{"type": "input_text", "text": "a"}, image, file]


def test_an_error_says_so_and_an_empty_result_is_not_empty() -> None:
    items = items_of(
        ("user", "x"),
        ("assistant", [use("toolu_1"), use("toolu_2"), use("toolu_3")]),
        ("user", [result("toolu_1", "no such file", is_error=True), result("toolu_2", [])]),
    )
    outputs = [item["output"] for item in items if item["type"] == "function_call_output"]
    assert outputs == ["Error: no such file", "(no output)", "[tool call interrupted]"]


def test_bug_055_057_results_come_first_once_and_in_the_order_of_the_calls() -> None:
    items = items_of(
        ("user", "x"),
        ("assistant", [use("toolu_1"), use("toolu_2")]),
        ("user", [text("also"), result("toolu_2", "b"), result("toolu_1", "a"), result("toolu_9", "orphan")]),
    )
    assert [item["type"] for item in items[3:]] == ["function_call_output", "function_call_output", "message"]
    assert [item["output"] for item in items[3:5]] == ["a", "b"]


def test_bug_067_a_late_system_message_stays_in_its_place_and_the_prefix_stable() -> None:
    turns: list[Any] = [("user", "a"), ("assistant", "b"), ("system", "<total_tokens>9"), ("user", "c")]
    first = items_of(*turns)
    assert first[2]["role"] == "developer"
    assert items_of(*turns, ("assistant", "d"), ("user", "e"))[: len(first)] == first


def test_bug_070_long_call_ids_are_shortened_on_both_sides() -> None:
    items = items_of(("user", "x"), ("assistant", [use("toolu_" + "a" * 90)]), ("user", [result("toolu_" + "a" * 90)]))
    assert items[1]["call_id"] == items[2]["call_id"]
    assert len(items[1]["call_id"]) <= 64


@pytest.mark.parametrize(
    "block",
    [
        {"type": "thinking", "thinking": "t", "signature": "from-anthropic"},
        {"type": "thinking", "thinking": "t", "signature": "ccm1:openai:public-model"},
        thinking("t", actual="gpt-5.1"),
        thinking("t", kind="xai"),
        {"type": "redacted_thinking", "data": "anthropic's"},
    ],
)
def test_bug_077_082_foreign_reasoning_is_never_replayed(block: dict[str, Any]) -> None:
    items = items_of(("user", "x"), ("assistant", [block, text("y")]), ("user", "z"))
    assert [item["type"] for item in items] == ["message"] * 3


def test_bug_079_reasoning_returns_as_it_was_in_its_place() -> None:
    block = thinking("One.\n\nTwo.", summary=[4, 4])
    _, reasoning, called, _ = items_of(
        ("user", "x"), ("assistant", [block, use("toolu_1")]), ("user", [result("toolu_1")])
    )
    summary = [{"type": "summary_text", "text": told} for told in ("One.", "Two.")]
    assert reasoning == {"type": "reasoning", "summary": summary, "encrypted_content": "E"}
    assert called["type"] == "function_call"


def test_reasoning_that_led_to_nothing_is_left_out() -> None:
    items = items_of(("user", "x"), ("assistant", [text("a"), thinking("t", summary=[1])]), ("user", "y"))
    assert [item["type"] for item in items] == ["message"] * 3


def test_an_envelope_is_opened_by_its_owner_alone() -> None:
    envelope = Envelope(encrypted='a:{"b"}', phase="final_answer")
    signature = sealed(envelope, target(), model())
    assert opened(signature, target()) == envelope
    assert opened(signature, target(provider="other")) is None
    assert opened("ccm1:openai:x:{broken", target()) is None


@pytest.mark.parametrize(
    ("kind", "name", "wanted", "level"),
    [
        ("openai", "gpt-5.2", "max", "xhigh"),
        ("openai", "gpt-5.1", "xhigh", "high"),
        ("openai", "gpt-5.1-codex-max", "xhigh", "xhigh"),
        ("openai", "gpt-5-pro", "low", "high"),
        ("openai", "o4-mini", "medium", "medium"),
        ("azure", "my-deployment", "high", "high"),
        ("xai", "grok-3-mini", "medium", "low"),
        ("xai", "grok-4", "high", None),
        ("openai", "gpt-4.1", "high", None),
    ],
)
def test_effort(kind: str, name: str, wanted: str, level: str | None) -> None:
    body = encoded(request(output_config={"effort": wanted}), to=target(kind, name))
    assert body.get("reasoning", {}).get("effort") == level


@pytest.mark.parametrize(
    ("name", "level"), [("gpt-5.2", "none"), ("gpt-5", "minimal"), ("gpt-5.1-codex", "low"), ("o3", "low")]
)
def test_thinking_switched_off(name: str, level: str) -> None:
    reasoning = encoded(request(thinking={"type": "disabled"}), to=target(actual_model=name))["reasoning"]
    assert reasoning["effort"] == level


def test_omitted_thinking_asks_for_no_summary() -> None:
    asked = request(thinking={"type": "adaptive", "display": "omitted"}, output_config={"effort": "low"})
    assert encoded(asked)["reasoning"] == {"effort": "low"}


def test_sampling_only_where_it_is_taken() -> None:
    asked = request(temperature=0.3, top_p=0.9, top_k=5)
    assert "temperature" not in encoded(asked)
    body = encoded(asked, to=target(actual_model="gpt-4.1"))
    assert (body["temperature"], body["top_p"]) == (0.3, 0.9)
    assert "top_k" not in body


def test_strict_is_always_told() -> None:
    closed = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
    tools = [BASH, {"name": "Strict", "strict": True, "input_schema": closed}]
    assert [tool["strict"] for tool in encoded(request(tools=tools))["tools"]] == [False, True]


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ({"type": "any"}, "required"),
        ({"type": "none"}, "none"),
        ({"type": "tool", "name": "Bash"}, {"type": "function", "name": "Bash"}),
        ({"type": "tool", "name": "web_search"}, {"type": "web_search"}),
    ],
)
def test_the_choice_among_tools(choice: dict[str, Any], sent: Any) -> None:
    assert encoded(request(tools=[BASH, SEARCH], tool_choice=choice))["tool_choice"] == sent


def test_bug_097_no_choice_without_tools() -> None:
    body = encoded(request(tool_choice={"type": "any"}))
    assert not {"tools", "tool_choice", "parallel_tool_calls"} & set(body)


def test_web_search_by_kind() -> None:
    search = {**SEARCH, "allowed_domains": ["a.example"], "user_location": {"type": "approximate", "city": "Oslo"}}
    body = encoded(request(tools=[search]))
    assert body["tools"] == [
        {
            "type": "web_search",
            "filters": {"allowed_domains": ["a.example"]},
            "user_location": {"type": "approximate", "city": "Oslo"},
        }
    ]
    assert body["max_tool_calls"] == 8
    assert encoded(request(tools=[search]), to=target("azure"))["tools"][0]["type"] == "web_search_preview"
    blocked = {**SEARCH, "blocked_domains": ["b.example"]}
    (grok,) = encoded(request(tools=[blocked]), to=target("xai", "grok-4"))["tools"]
    assert grok["filters"] == {"excluded_domains": ["b.example"]}
    assert "tools" not in encoded(request(tools=[search]), to=target("openai-compatible"))


def test_limits() -> None:
    assert encoded(request(), max_tokens=4)["max_output_tokens"] == 16
    assert encoded(request(), max_tokens=10**6, max_output=5000)["max_output_tokens"] == 5000


def test_bug_111_nothing_of_the_client_s_leaks() -> None:
    asked = request(
        ("user", [{**text("x"), "cache_control": {"type": "ephemeral"}}]),
        tools=[{**BASH, "type": "custom", "defer_loading": True, "cache_control": {"type": "ephemeral"}}],
        safeguards={"paths": ["/home"]},
        context_management={"edits": []},
    )
    sent = json.dumps(encoded(asked))
    for leak in ("cache_control", "defer_loading", "safeguards", "context_management", '"custom"'):
        assert leak not in sent


def test_the_address_and_azure_s_header() -> None:
    outbound = WIRE.encode(
        request(), target=target("azure", base_url="https://r.example/openai/v1/"), model=model(), max_tokens=9,
        client_headers={"x-app": "cli"},
    )  # fmt: skip
    assert outbound.url == "https://r.example/openai/v1/responses"
    assert "x-app" not in outbound.headers


def test_a_refused_reasoning_asks_for_a_repetition_without_it() -> None:
    body = json.dumps({"error": {"message": "x", "code": "invalid_encrypted_content"}}).encode()
    assert WIRE.decode_error(400, {}, body, target=target()).drop_reasoning
    assert not WIRE.decode_error(400, {}, b'{"error":{"message":"x"}}', target=target()).drop_reasoning
    asked = request(("user", "x"), ("assistant", [thinking("t")]), ("assistant", [thinking("t"), text("y")]))
    assert [m["content"] for m in asked.without_thinking().value("messages")] == ["x", [text("y")]]
