"""What stands behind a model's reasoning at OpenRouter, and the pages that answers cite, there and at
Perplexity: none of it is lost, and the reasoning goes back as it was."""

import json
from typing import Any

import pytest

from tests.providers.openai_chat_support import (
    STOP,
    WIRE,
    Streamed,
    call,
    chunk,
    data,
    messages_of,
    model,
    request,
    result,
    says,
    stream,
    target,
    tool,
    whole,
    words,
)

TEXT = {"type": "reasoning.text", "index": 0, "format": "anthropic-claude-v1", "id": None}
ENCRYPTED = {"type": "reasoning.encrypted", "index": 1, "data": "gAAA", "id": "rs_1", "format": "openai-responses-v1"}
MODEL = "openai/gpt-5-mini"


def told(*details: dict[str, Any], **delta: Any) -> bytes:
    return chunk({"reasoning_details": list(details), **delta})


def asked_again(content: list[Any], name: str = MODEL) -> list[Any]:
    """The messages that go back with `content` as the assistant's turn."""
    blocks = [{**block, "id": "toolu_1"} if block["type"] == "tool_use" else block for block in content]
    turns = [("user", "x"), ("assistant", blocks)]
    if any(block["type"] == "tool_use" for block in blocks):
        turns.append(("user", [result("toolu_1")]))
    body = WIRE.encode(
        request(*turns), target=target("openrouter", name), model=model(), max_tokens=1000, client_headers={}
    ).body
    messages: list[Any] = json.loads(body)["messages"]
    return messages


def answered(*chunks: bytes, name: str = MODEL) -> Streamed:
    return whole(stream(*chunks, kind="openrouter", name=name))


def test_signed_thinking_in_pieces_goes_back_as_one() -> None:
    pieces = [told({**TEXT, "text": "Hm, "}), told({**TEXT, "text": "hm."}), told({**TEXT, "signature": "EqQB"})]
    answer = answered(*pieces, call(0, "c", "Bash", "{}"), STOP)
    thinking, used = answer.content
    assert (thinking["thinking"], used) == ("Hm, hm.", tool("Bash"))
    (assistant,) = [m for m in asked_again(answer.content) if m["role"] == "assistant"]
    assert assistant["reasoning_details"] == [{**TEXT, "text": "Hm, hm.", "signature": "EqQB"}]


@pytest.mark.parametrize("late", [False, True])
def test_encrypted_reasoning_goes_back_however_late_it_is_told(late: bool) -> None:
    """OpenAI's comes with the end of the answer, Google's with the call."""
    before, behind = ([], [told(ENCRYPTED)]) if late else ([told(ENCRYPTED)], [])
    answer = answered(*before, *says("Now."), call(0, "c", "Bash", "{}"), *behind, STOP)
    assert [block["type"] for block in answer.content if block["type"] != "thinking"] == ["text", "tool_use"]
    (assistant,) = [m for m in asked_again(answer.content) if m["role"] == "assistant"]
    assert assistant["reasoning_details"] == [ENCRYPTED]


def test_another_model_gets_none_of_it() -> None:
    answer = answered(told({**TEXT, "text": "Hm."}), told(ENCRYPTED), *says("Yes."), STOP)
    assert "gAAA" in json.dumps(answer.content)
    assert "reasoning_details" not in json.dumps(asked_again(answer.content, "openai/gpt-5"))
    assert "gAAA" not in json.dumps(messages_of(("user", "x"), ("assistant", answer.content), ("user", "y")))


def test_a_made_up_signature_is_no_detail() -> None:
    for signature in (
        "ccm1:openrouter:public-model:{",
        'ccm1:openrouter:public-model:{"model":1}',
        "ccm1:openrouter:x",
    ):
        content = [{"type": "thinking", "thinking": "x", "signature": signature}, words("y")]
        assert "reasoning_details" not in json.dumps(asked_again(content))


def test_other_servers_details_are_text_alone() -> None:
    answer = whole(stream(told({**TEXT, "text": "Hm."}), told(ENCRYPTED), *says("Yes."), STOP, kind="vllm"))
    assert [block["type"] for block in answer.content] == ["thinking", "text"]


# -- citations

NOTE = {
    "type": "url_citation",
    "url_citation": {"url": "https://a", "title": "A", "content": "said " * 50, "start_index": 0, "end_index": 3},
}
CITED = {"type": "web_search_result_location", "encrypted_index": ""}


def test_annotations_cite_the_text_that_they_come_after() -> None:
    answer = whole(stream(*says("Yes."), chunk({"annotations": [NOTE]}), STOP))
    (block,) = answer.content
    assert block["citations"] == [{**CITED, "url": "https://a", "title": "A", "cited_text": ("said " * 50)[:150]}]
    cut = whole(stream(*says("Yes."), chunk({"annotations": [NOTE]}), call(0, "c", "Bash", "{}"), STOP))
    assert [len(block.get("citations") or []) for block in cut.content] == [1, 0]


def test_addresses_beside_the_choices_are_cited_once() -> None:
    lists = {
        "citations": ["https://a", "https://b"],
        "search_results": [{"url": "https://a", "title": "A"}, {"url": "https://b", "title": "B"}, "odd"],
    }
    pieces = [data({"choices": [{"index": 0, "delta": {"content": text}}], **lists}) for text in ("Yes", "[1]", ".")]
    (block,) = whole(stream(*pieces, STOP)).content
    assert block["text"] == "Yes[1]."
    assert [(citation["url"], citation["title"]) for citation in block["citations"]] == [
        ("https://a", "A"),
        ("https://b", "B"),
    ]


@pytest.mark.parametrize("odd", ["x", {"a": 1}, [1, None, {}], [{"type": "url_citation", "url_citation": "x"}]])
def test_odd_lists_cite_nothing(odd: Any) -> None:
    chunks = [data({"choices": [{"index": 0, "delta": {"content": "a", "annotations": odd}}], "citations": odd})]
    answer = whole(stream(*chunks, STOP))
    assert [block["text"] for block in answer.content] == ["a"]
