"""What other wires leave in a conversation does not reach Anthropic's servers."""

import json
from typing import Any

import pytest

from providers.wire.anthropic import AnthropicWire
from tests.providers.anthropic_support import MODEL, TARGET
from tests.providers.openai_chat_support import request, result, text, use

WIRE = AnthropicWire()
OURS = {"type": "thinking", "thinking": "Gemini's", "signature": "ccm1:gemini:m;call.00000000=YQ=="}
NATIVE = {"type": "thinking", "thinking": "Claude's", "signature": "EqQB"}
SEARCH = [
    {"type": "server_tool_use", "id": "srvtoolu_ccm1", "name": "web_search", "input": {"query": "q"}},
    {
        "type": "web_search_tool_result",
        "tool_use_id": "srvtoolu_ccm1",
        "content": [{"type": "web_search_result", "title": "T", "url": "https://t", "encrypted_content": ""}],
    },
]


def sent(*messages: Any, **fields: Any) -> dict[str, Any]:
    asked = request(*messages, **fields)
    outbound = WIRE.encode(asked, target=TARGET, model=MODEL, max_tokens=1000, client_headers={})
    body: dict[str, Any] = json.loads(outbound.body)
    return body


def test_bug_077_thinking_that_anthropic_did_not_sign_is_left_out() -> None:
    hidden = {"type": "redacted_thinking", "data": "ccm1:openai:m;opaque"}
    body = sent(("user", "x"), ("assistant", [OURS, hidden, NATIVE, text("a")]), ("assistant", [OURS]), ("user", "y"))
    assert body["messages"] == [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": [NATIVE, text("a")]},
        {"role": "user", "content": "y"},
    ]


def test_searches_of_others_become_text_and_native_ones_stay() -> None:
    signed = json.dumps(SEARCH).replace('"encrypted_content": ""', '"encrypted_content": "Eqgf"')
    native = json.loads(signed.replace("srvtoolu_ccm1", "srvtoolu_01"))
    cited = {**text("c"), "citations": [{"type": "web_search_result_location", "url": "u", "encrypted_index": ""}]}
    kept = {**text("c"), "citations": [{"type": "web_search_result_location", "url": "u", "encrypted_index": "E"}]}
    body = sent(("user", "x"), ("assistant", [*SEARCH, cited, *native, kept]))
    assert body["messages"][1]["content"] == [text("[Searched the web for 'q']\nT https://t"), text("c"), *native, kept]


@pytest.mark.parametrize(
    ("thinking", "later", "expected"),
    [
        ({"type": "enabled", "budget_tokens": 2000}, [], {"type": "disabled"}),
        ({"type": "adaptive"}, [], {"type": "adaptive"}),
        (
            {"type": "enabled", "budget_tokens": 2000},
            [("assistant", "done"), ("user", "next")],
            {"type": "enabled", "budget_tokens": 2000},
        ),
    ],
)
def test_bug_078_no_thinking_in_a_turn_whose_call_has_lost_its_own(thinking: Any, later: Any, expected: Any) -> None:
    turns = [("user", "x"), ("assistant", [OURS, use("a")]), ("user", [result("a")]), *later]
    assert sent(*turns, thinking=thinking)["thinking"] == expected


def test_bug_079_all_other_conversations_pass_byte_for_byte() -> None:
    messages = b'[ {"role":"user","content":"ccm1: is a word , srvtoolu_ccm too"},{"role":"assistant","content":[%s]}]'
    raw = messages % json.dumps(NATIVE).encode()
    asked = request(("user", "x"))
    from msgspec import Raw

    outbound = WIRE.encode(
        asked.with_fields(messages=Raw(raw)), target=TARGET, model=MODEL, max_tokens=1000, client_headers={}
    )
    assert raw in outbound.body
