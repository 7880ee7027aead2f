"""What becomes of web searches in a conversation: text for Anthropic's servers and for everybody else."""

import base64
import gzip
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.wire.openai_chat.history import Block
from providers.wire.openai_chat.server_blocks import text_of_server_block
from providers.wire.request import MessagesRequest
from providers.wire.searches import (
    MAX_TEXT_BYTES,
    TAG,
    new_search_id,
    pack,
    unpack,
    with_foreign_searches_as_text,
)

OWN = "srvtoolu_ccm0123456789"
THEIRS = "srvtoolu_01ABC"


def use(id_: str) -> dict[str, Any]:
    return {"type": "server_tool_use", "id": id_, "name": "web_search", "input": {"query": "almonds"}}


def result(id_: str, sealed: str) -> dict[str, Any]:
    page = {"type": "web_search_result", "title": "T", "url": "https://t.example", "encrypted_content": sealed}
    return {"type": "web_search_tool_result", "tool_use_id": id_, "content": [page]}


def request(*blocks: dict[str, Any]) -> MessagesRequest:
    messages = [{"role": "user", "content": "q"}, {"role": "assistant", "content": list(blocks)}]
    return MessagesRequest.parse(json.dumps({"model": "m", "max_tokens": 9, "messages": messages}, indent=1).encode())


def sent(made: MessagesRequest) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = json.loads(with_foreign_searches_as_text(made).encode())["messages"][1]["content"]
    return blocks


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_what_is_packed_is_unpacked(text: str) -> None:
    assert unpack(pack(text)) == text


def test_ids_are_anthropic_s_and_ours() -> None:
    ids = {new_search_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(id_.startswith("srvtoolu_ccm") and id_.isascii() and id_.replace("_", "").isalnum() for id_ in ids)


def test_a_bomb_is_unpacked_no_further_than_the_limit() -> None:
    bomb = TAG + base64.b64encode(gzip.compress(b"x" * 10_000_000)).decode()
    text = unpack(bomb)
    assert text is not None
    assert len(text) == MAX_TEXT_BYTES


@pytest.mark.parametrize("content", [None, 7, "", "EqgfCioIARgB", TAG, TAG + "%%%", TAG + "AAAA", TAG + "A" * 100_000])
def test_what_is_not_ours_is_not_unpacked(content: object) -> None:
    assert not unpack(content)


def test_our_search_is_a_text_to_anthropic() -> None:
    blocks = sent(
        request({"type": "text", "text": "Hm."}, use(OWN), result(OWN, pack("sweet")), {"type": "text", "text": "So."})
    )
    assert [block["type"] for block in blocks] == ["text"] * 3
    assert blocks[1]["text"] == "[Searched the web for 'almonds']\nT https://t.example\nsweet"


def test_another_provider_s_search_is_one_too() -> None:
    cited = {
        "type": "text",
        "text": "Yes.",
        "citations": [
            {"type": "web_search_result_location", "url": "u", "title": "t", "encrypted_index": "", "cited_text": "c"}
        ],
    }
    blocks = sent(request(use(THEIRS), result(THEIRS, ""), cited))
    assert blocks == [
        {"type": "text", "text": "[Searched the web for 'almonds']\nT https://t.example"},
        {"type": "text", "text": "Yes."},
    ]


def test_a_search_that_failed_or_was_cut_off() -> None:
    failed = {
        "type": "web_search_tool_result",
        "tool_use_id": OWN,
        "content": {"type": "web_search_tool_result_error", "error_code": "unavailable"},
    }
    assert [b["text"] for b in sent(request(use(OWN), failed))] == [
        "[Searched the web for 'almonds']\nThe web search failed: unavailable."
    ]
    assert [b["text"] for b in sent(request(use(OWN)))] == ["[Searched the web for 'almonds']"]


def test_anthropic_s_own_searches_stay_byte_for_byte() -> None:
    made = request(use(THEIRS), result(THEIRS, "EqgfCioIARgB"))
    assert with_foreign_searches_as_text(made) is made
    quoted = request({"type": "text", "text": 'a "web_search_tool_result" with srvtoolu_ccm in it'})
    assert with_foreign_searches_as_text(quoted) is quoted


def test_other_blocks_beside_ours_stay_as_they_are() -> None:
    thinking = {"type": "thinking", "thinking": "…", "signature": "s", "unknown": {"b": 1.50, "a": None}}
    blocks = sent(request(thinking, use(OWN), result(OWN, pack("x")), use(THEIRS), result(THEIRS, "Eqgf")))
    assert blocks[0] == thinking
    assert blocks[2:] == [use(THEIRS), result(THEIRS, "Eqgf")]


def test_other_models_read_what_we_found() -> None:
    block = json.dumps(result(OWN, pack("sweet"))["content"]).encode()
    text = text_of_server_block(Block(type="web_search_tool_result", content=msgspec.Raw(block)))
    assert text == "T https://t.example\nsweet"
