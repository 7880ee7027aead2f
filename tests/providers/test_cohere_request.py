"""Anthropic requests as Cohere's. Every body here is one that the fake's rules take."""

import json
from typing import Any

import pytest

from providers.errors import InvalidRequest
from tests.providers.cohere_support import WIRE, encoded, target
from tests.providers.openai_chat_support import BASH, model, request, result, text, use
from tests.providers.test_cohere_stream import DOCUMENT, FOUND

PIXEL = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBO"}}
STRICT = {
    "name": "Strict",
    "strict": True,
    "input_schema": {
        "type": "object",
        "properties": {"a": {"type": "string"}},
        "required": ["a"],
        "additionalProperties": False,
    },
}
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
FORMAT = {"format": {"type": "json_schema", "schema": SCHEMA}}


def test_where_it_goes_and_with_what() -> None:
    outbound = WIRE.encode(request(), target=target(), model=model(), max_tokens=9, client_headers={"x-app": "cli"})
    assert outbound.url == "https://api.cohere.com/v2/chat"
    assert set(outbound.headers) == {"content-type", "accept", "user-agent"}
    for base in ("https://a.example/", "https://a.example/v2", "https://a.example/v2/chat"):
        moved = WIRE.encode(request(), target=target(base_url=base), model=model(), max_tokens=9, client_headers={})
        assert moved.url == "https://a.example/v2/chat"


def test_a_minimal_request() -> None:
    assert encoded(request()) == {
        "model": "command-a-03-2025",
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 1000,
        "stream": False,
    }


FIELDS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"temperature": 0.3, "top_p": 1.0, "top_k": 900}, {"temperature": 0.3, "p": 0.99, "k": 500}),
    ({"top_p": 0}, {"p": 0.01}),
    ({"stop_sequences": ["a", "b"]}, {"stop_sequences": ["a", "b"]}),
    ({"thinking": {"type": "disabled"}}, {"thinking": {"type": "disabled"}}),
    (
        {"thinking": {"type": "enabled", "budget_tokens": 500}},
        {"thinking": {"type": "enabled", "token_budget": 500}},
    ),
    (
        {"thinking": {"type": "enabled", "budget_tokens": 5000}},
        {"thinking": {"type": "enabled", "token_budget": 999}},
    ),
    ({"thinking": {"type": "adaptive"}}, {}),
    (
        {"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}},
        {"thinking": {"type": "enabled"}},
    ),
    ({"output_config": FORMAT}, {"response_format": {"type": "json_object", "json_schema": SCHEMA}}),
    ({"metadata": {"user_id": "u"}, "service_tier": "auto", "safeguards": [{"cwd": "/home/me"}]}, {}),
]


@pytest.mark.parametrize(("fields", "expected"), FIELDS, ids=lambda value: json.dumps(value)[:40])
def test_fields(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    sent = encoded(request(**fields))
    assert {name: value for name, value in sent.items() if name not in encoded(request())} == expected


def test_thinking_is_not_asked_of_a_model_without_it() -> None:
    assert "thinking" not in encoded(request(thinking={"type": "disabled"}), served=model(thinking=False))


def test_mcp_servers_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="mcp_servers"):
        encoded(request(mcp_servers=[{"url": "https://a.example"}]))


def test_more_stop_sequences_than_cohere_has_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="at most 5"):
        encoded(request(stop_sequences=list("abcdef")))


CHOICES: list[tuple[dict[str, Any] | None, str | None, list[str]]] = [
    (None, None, ["Bash", "Read"]),
    ({"type": "auto"}, None, ["Bash", "Read"]),
    ({"type": "any"}, "REQUIRED", ["Bash", "Read"]),
    ({"type": "none"}, "NONE", ["Bash", "Read"]),
    ({"type": "tool", "name": "Read"}, "REQUIRED", ["Read"]),
]


@pytest.mark.parametrize(("choice", "expected", "names"), CHOICES)
def test_tool_choice(choice: Any, expected: str | None, names: list[str]) -> None:
    fields = {} if choice is None else {"tool_choice": choice}
    sent = encoded(request(tools=[BASH, {**BASH, "name": "Read"}], **fields))
    assert sent.get("tool_choice") == expected
    assert [tool["function"]["name"] for tool in sent["tools"]] == names


def test_tools_are_strict_all_or_none() -> None:
    assert encoded(request(tools=[STRICT]))["strict_tools"] is True
    assert "strict_tools" not in encoded(request(tools=[STRICT, BASH]))
    nothing_required = {**STRICT, "input_schema": {"type": "object", "properties": {"a": {"type": "string"}}}}
    assert "strict_tools" not in encoded(request(tools=[nothing_required]))


def test_no_field_of_anthropic_s_tools_leaks() -> None:
    """translation.md 5, items 91, 92 and 97."""
    tool = {**BASH, "type": "custom", "defer_loading": True, "eager_input_streaming": True, "cache_control": {}}
    (sent,) = encoded(request(tools=[tool]))["tools"]
    assert set(sent["function"]) == {"name", "description", "parameters"}
    search = {"type": "web_search_20250305", "name": "web_search"}
    without = encoded(request(tools=[search], tool_choice={"type": "any"}))
    assert "tools" not in without
    assert "tool_choice" not in without


def test_a_schema_beside_tools_is_asked_for_in_words() -> None:
    sent = encoded(request(tools=[BASH], output_config=FORMAT, system="Be brief."))
    assert "response_format" not in sent
    system = sent["messages"][0]["content"]
    assert system.startswith("Be brief.")
    assert '"required":["a"]' in system


# -- the conversation


def messages(*told: Any, **fields: Any) -> list[Any]:
    sent: list[Any] = encoded(request(*told, **fields))["messages"]
    return sent


def test_a_conversation_with_tools() -> None:
    """translation.md 5, items 55, 57, 58 and 60: results first, in the order of the calls, the last one wins."""
    sent = messages(
        ("user", "go"),
        ("assistant", [text("I run "), text("two."), use("toolu_1", a=1), use("toolu_2", "Read")]),
        ("user", [text("by the way"), result("toolu_2", "two"), result("toolu_1", [text("x"), text("y")])]),
        system="Be brief.",
        tools=[BASH],
    )
    assert sent == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "go"},
        {
            "role": "assistant",
            "tool_plan": "I run two.",
            "tool_calls": [
                {"id": "toolu_1", "type": "function", "function": {"name": "Bash", "arguments": '{"a":1}'}},
                {"id": "toolu_2", "type": "function", "function": {"name": "Read", "arguments": "{}"}},
            ],
        },
        {"role": "tool", "tool_call_id": "toolu_1", "content": document({"output": "x\ny"})},
        {"role": "tool", "tool_call_id": "toolu_2", "content": document({"output": "two"})},
        {"role": "user", "content": "by the way"},
    ]


def document(data: dict[str, str]) -> list[Any]:
    return [{"type": "document", "document": {"data": data}}]


def test_failed_missing_and_empty_results() -> None:
    sent = messages(
        ("user", "go"),
        ("assistant", [use("1"), use("2"), use("3")]),
        ("user", [result("1", "no such file", is_error=True), result("3", "")]),
        tools=[BASH],
    )
    data = [message["content"] for message in sent if message["role"] == "tool"]
    assert data == [
        document({"error": "no such file"}),
        document({"error": "[tool call interrupted]"}),
        document({"output": "(no output)"}),
    ]


def test_images_of_results_come_after_them() -> None:
    sent = messages(("user", "go"), ("assistant", [use("1")]), ("user", [result("1", [PIXEL])]), tools=[BASH])
    assert sent[-1]["role"] == "user"
    assert {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}} in sent[-1]["content"]
    blind = encoded(request(("user", [PIXEL])), served=model(vision=False))["messages"]
    assert blind == [{"role": "user", "content": "[image omitted: this model cannot see images]"}]


def test_own_thinking_goes_back_and_no_other() -> None:
    """translation.md 5, items 77 and 82."""

    def thought(said: str, signature: str) -> dict[str, Any]:
        return {"type": "thinking", "thinking": said, "signature": signature}

    foreign = [thought("theirs", "ErcB"), thought("another's", "ccm1:openai:public-model")]
    own = thought("mine", "ccm1:cohere:public-model")
    redacted = {"type": "redacted_thinking", "data": "x"}
    sent = messages(("user", "a"), ("assistant", [*foreign, redacted, own, text("b")]), ("user", "c"))
    assert sent[1] == {
        "role": "assistant",
        "content": [{"type": "thinking", "thinking": "mine"}, {"type": "text", "text": "b"}],
    }
    called = messages(("user", "a"), ("assistant", [own, use("1")]), ("user", [result("1")]), tools=[BASH])
    assert called[1]["content"] == [{"type": "thinking", "thinking": "mine"}]
    assert "tool_plan" not in called[1]


def test_an_unfinished_answer_is_continued_by_request() -> None:
    sent = messages(("user", "a"), ("assistant", "The answer is"))
    assert sent[-1]["role"] == "user"
    assert "exactly where it ends" in sent[-1]["content"]


def test_system_messages_stay_in_place_behind_results() -> None:
    """translation.md 5, items 67 to 69."""
    sent = messages(
        ("user", "go"),
        ("assistant", [use("1")]),
        ("system", "<total_tokens>5</total_tokens>"),
        ("user", [result("1")]),
        tools=[BASH],
    )
    assert [message["role"] for message in sent] == ["user", "assistant", "tool", "system"]


def test_blank_content_is_never_sent() -> None:
    """translation.md 5, items 65 and 66."""
    assert messages(("user", " "), ("assistant", ""), ("user", "x")) == [
        {"role": "user", "content": "(no content)"},
        {"role": "assistant", "content": "(no content)"},
        {"role": "user", "content": "x"},
    ]


def test_the_messages_of_a_turn_are_the_beginning_of_the_next_turn_s() -> None:
    """translation.md 1.1: prompt caches need it."""
    turns = [("user", "a"), ("assistant", [text("b"), use("1")]), ("user", [result("1"), text("c")])]
    longer = [*turns, ("assistant", "d"), ("user", "e")]
    short = messages(*turns, tools=[BASH])
    assert messages(*longer, tools=[BASH])[: len(short)] == short


# -- documents


def test_documents_to_cite_go_apart() -> None:
    sent = encoded(request(("user", [DOCUMENT, FOUND, text("Who sleeps?")])))
    assert sent["messages"] == [{"role": "user", "content": "Who sleeps?"}]
    ids = [document["id"] for document in sent["documents"]]
    assert ids == [f"doc:{number}" for number in range(len(ids))]
    passages = [document["data"]["text"] for document in sent["documents"][:-1]]
    assert len(passages) > 1
    assert "".join(passages) == DOCUMENT["source"]["data"]  # type: ignore[index]
    assert sent["documents"][-1]["data"] == {"title": "A", "source": "https://a.example", "text": "Dogs bark."}


def test_documents_not_to_cite_or_beside_tools_are_text() -> None:
    plain = {**DOCUMENT, "citations": {"enabled": False}}
    for sent in (
        encoded(request(("user", [plain, text("?")]))),
        encoded(request(("user", [DOCUMENT, text("?")]), tools=[BASH])),
    ):
        assert "documents" not in sent
        assert sent["messages"][0]["content"].startswith('<document title="Notes">\nCats sleep. ')
