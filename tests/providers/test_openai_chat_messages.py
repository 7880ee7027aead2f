"""Anthropic conversations as Chat Completions messages."""

import json
import re
from typing import Any

import pytest

from providers.errors import InvalidRequest
from tests.providers.openai_chat_support import (
    messages_of,
    model,
    order_problem,
    result,
    text,
    use,
)

PNG = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBOR"}}
PDF = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBER"}}


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


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
    assert sent[2]["content"] == "ok"
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
