"""Conversations as Google's contents: order, results, media, signatures."""

import base64
import json
from dataclasses import replace
from typing import Any

import pytest

from providers.errors import InvalidRequest
from providers.wire.gemini.thinking import DUMMY_SIGNATURE, Carried, carried, carrying, packed
from providers.wire.openai_chat.messages import IMAGE_OMITTED
from tests.providers.gemini_support import NEWER, OLDER, contents_of, encoded, model, target
from tests.providers.openai_chat_support import request, result, text, use

PIXEL = base64.b64encode(b"\x89PNG fake").decode()
PNG = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
PDF = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERg=="}}
INLINE_PNG = {"inlineData": {"mimeType": "image/png", "data": PIXEL}}


def signed(what: Any, payload: str, **to: Any) -> dict[str, Any]:
    signature = carrying(what, payload, target=target(**to), model=model())
    return {"type": "thinking", "thinking": "", "signature": signature}


def answer(call_id: str, output: str, name: str = "Bash", **fields: Any) -> dict[str, Any]:
    return {"functionResponse": {"id": call_id, "name": name, "response": {"output": output}, **fields}}


def test_roles_alternate_and_the_user_begins() -> None:
    sent = contents_of(("assistant", "a"), ("assistant", "b"), ("user", "c"), ("user", "d"))
    assert [(c["role"], [p["text"] for p in c["parts"]]) for c in sent] == [
        ("user", ["(no content)"]),
        ("model", ["a", "b"]),
        ("user", ["c", "d"]),
    ]


def test_bug_065_empty_texts_are_left_out() -> None:
    sent = contents_of(("user", [text(""), text("x"), text(" \n")]), ("assistant", [text("")]), ("user", ""))
    assert [[p["text"] for p in c["parts"]] for c in sent] == [["x"], ["(no content)"], ["(no content)"]]


def test_bug_068_a_conversation_of_system_text_alone_gets_a_user_turn() -> None:
    body = encoded(request(("system", "be brief"), system="s"))
    assert body["contents"] == [{"role": "user", "parts": [text_of("<system-reminder>\nbe brief\n</system-reminder>")]}]


def text_of(value: str) -> dict[str, Any]:
    return {"text": value}


def test_calls_and_results_in_any_order() -> None:
    """Bugs 55, 57 and 58: results come first, in the order of the calls, one for each."""
    sent = contents_of(
        ("user", "go"),
        ("assistant", [text("two calls"), use("a", x=1), use("b", name="Read")]),
        ("user", [text("and this"), result("b", "B"), result("zzz", "orphan"), result("a", "old"), result("a", "A")]),
        to=target(OLDER),
    )
    assert sent[1] == {
        "role": "model",
        "parts": [
            {"text": "two calls"},
            {"functionCall": {"id": "a", "name": "Bash", "args": {"x": 1}}},
            {"functionCall": {"id": "b", "name": "Read", "args": {}}},
        ],
    }
    assert sent[2] == {"role": "user", "parts": [answer("a", "A"), answer("b", "B", "Read"), {"text": "and this"}]}


def test_a_call_without_a_result_was_interrupted() -> None:
    sent = contents_of(("user", "go"), ("assistant", [use("a")]), ("user", "stop"), to=target(OLDER))
    told = sent[2]["parts"][0]["functionResponse"]["response"]
    assert told == {"error": "[tool call interrupted]"}
    assert sent[2]["parts"][1] == {"text": "stop"}
    assert contents_of(("user", "go"), ("assistant", [use("a")]))[-1]["role"] == "user"


def test_bugs_060_064_what_results_hold() -> None:
    sent = contents_of(
        ("user", "go"),
        ("assistant", [use("a"), use("b"), use("c"), use("d")]),
        (
            "user",
            [
                result("a", [text("one"), text("two")]),
                result("b", "no such file", is_error=True),
                result("c", []),
                result("d", [{"type": "tool_reference", "tool_name": "CronList"}]),
            ],
        ),
    )
    told = [part["functionResponse"]["response"] for part in sent[2]["parts"]]
    assert told == [
        {"output": "one\ntwo"},
        {"error": "no such file"},
        {"output": "(no output)"},
        {"output": "Loaded tools: CronList. You can call them now."},
    ]


def test_json_in_a_result_stays_a_text() -> None:
    """A "$ref" in an object would be read as a reference to a part."""
    sent = contents_of(("user", "go"), ("assistant", [use("a")]), ("user", [result("a", '{"$ref":"#/x"}')]))
    assert sent[2]["parts"][0]["functionResponse"]["response"] == {"output": '{"$ref":"#/x"}'}


def test_images_in_results_stand_in_them_from_gemini_3_on_and_behind_all_of_them_before() -> None:
    turns = (
        ("user", "go"),
        ("assistant", [use("a"), use("b")]),
        ("user", [result("a", [text("see"), PNG]), result("b", [PNG]), text("well?")]),
    )
    newer = contents_of(*turns)[2]["parts"]
    assert newer[0] == answer("a", "see\n[image attached]", parts=[INLINE_PNG])
    assert newer[1] == answer("b", "[image attached]", parts=[INLINE_PNG])
    older = contents_of(*turns, to=target(OLDER))[2]["parts"]
    assert [next(iter(part)) for part in older] == [
        "functionResponse", "functionResponse", "text", "text", "inlineData", "text", "inlineData", "text",
    ]  # fmt: skip
    assert older[3] == {"text": "[result of the tool call a]"}
    assert older[-1] == {"text": "well?"}


def test_bug_061_input_that_is_no_object() -> None:
    calls = [{**use("a"), "input": None}, {**use("b"), "input": [1]}, {**use("c"), "input": {"n": 1.50}}]
    parts = contents_of(("user", "x"), ("assistant", calls), to=target(OLDER))[1]["parts"]
    assert [part["functionCall"]["args"] for part in parts] == [{}, {"input": [1]}, {"n": 1.5}]


# -- media


def test_images_and_documents() -> None:
    sent = contents_of(
        (
            "user",
            [
                PNG,
                PDF,
                {
                    "type": "document",
                    "title": "T",
                    "source": {"type": "text", "media_type": "text/plain", "data": "abc"},
                },
                {"type": "document", "source": {"type": "content", "content": [text("inner"), PNG]}},
                {"type": "search_result", "source": "s", "title": "Found", "content": [text("words")]},
            ],
        )
    )
    assert sent[0]["parts"] == [
        INLINE_PNG,
        {"inlineData": {"mimeType": "application/pdf", "data": "JVBERg=="}},
        {"text": '<document title="T">\nabc\n</document>'},
        {"text": "inner"},
        INLINE_PNG,
        {"text": "Found\nwords"},
    ]


def image_at(url: str) -> dict[str, Any]:
    return {"type": "image", "source": {"type": "url", "url": url}}


@pytest.mark.parametrize(
    ("to", "url", "kind"),
    [
        (target(), "https://example.com/a.webp?x=1", "image/webp"),
        (target(OLDER), "gs://bucket/a.png", "image/png"),
        (target(OLDER, kind="vertex"), "https://example.com/a", "image/jpeg"),
        (target(OLDER), "https://generativelanguage.googleapis.com/v1beta/files/x", "image/jpeg"),
    ],
)
def test_bug_063_addresses_that_google_reads(to: Any, url: str, kind: str) -> None:
    sent = contents_of(("user", [image_at(url)]), to=to)
    assert sent[0]["parts"] == [{"fileData": {"mimeType": kind, "fileUri": url}}]


def test_an_address_that_the_model_cannot_read_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="cannot fetch an image from an address"):
        contents_of(("user", [image_at("https://example.com/a.png")]), to=target(OLDER))


def test_what_the_model_cannot_see_is_said() -> None:
    gif = {"type": "image", "source": {"type": "base64", "media_type": "image/gif", "data": PIXEL}}
    file = {"type": "image", "source": {"type": "file", "file_id": "file_1"}}
    texts = [part["text"] for part in contents_of(("user", [gif, file]))[0]["parts"]]
    assert texts == [
        "[image omitted: this model cannot read image/gif]",
        "[image omitted: it lies on another provider's server]",
    ]
    blind = contents_of(("user", [PNG, PDF]), served=model(vision=False))[0]["parts"]
    assert blind[0] == {"text": IMAGE_OMITTED}
    assert "document omitted" in blind[1]["text"]


# -- system turns and cache


def test_bugs_067_069_system_turns_stay_in_their_place() -> None:
    turns: list[Any] = [
        ("user", "go"),
        ("assistant", [use("a")]),
        ("system", "<total_tokens>9</total_tokens>"),
        ("user", [result("a")]),
    ]
    sent = contents_of(*turns)
    reminder = {"text": "<system-reminder>\n<total_tokens>9</total_tokens>\n</system-reminder>"}
    assert sent[2]["parts"] == [answer("a", "ok"), reminder]
    longer = contents_of(*turns, ("assistant", "fine"), ("user", "next"))
    assert longer[: len(sent)] == sent, "a prompt cache needs every request to begin as the one before it"


# -- signatures


def test_bug_083_a_signature_comes_back_on_the_part_that_it_came_with() -> None:
    turns = [
        ("user", "go"),
        ("assistant", [signed("text", "VFhU"), text("hm"), signed("call", "Q0FMTA=="), use("a"), use("b")]),
        ("user", [result("a"), result("b")]),
    ]
    parts = contents_of(*turns)[1]["parts"]
    assert parts[0] == {"text": "hm", "thoughtSignature": "VFhU"}
    assert parts[1]["thoughtSignature"] == "Q0FMTA=="
    assert parts[1]["functionCall"]["id"] == "a"
    assert "thoughtSignature" not in parts[2], "bug 084: only the first of parallel calls is signed"
    assert len(parts) == 3, "bug 083: thoughts are not replayed as text"


def test_a_signature_at_a_text_s_end_comes_back_as_the_empty_part_that_it_was() -> None:
    parts = contents_of(("user", "go"), ("assistant", [text("hm"), signed("text", "RU5E"), use("a")]))[1]["parts"]
    assert parts[:2] == [{"text": "hm"}, {"text": "", "thoughtSignature": "RU5E"}]


def test_bug_084_a_missing_signature_is_replaced_on_the_first_call_of_a_step_alone() -> None:
    turns = [
        ("user", "go"),
        ("assistant", [use("a"), use("b")]),
        ("user", [result("a"), result("b")]),
        ("assistant", [use("c")]),
        ("user", [result("c")]),
    ]
    signatures = [
        part.get("thoughtSignature") for c in contents_of(*turns) for part in c["parts"] if "functionCall" in part
    ]
    assert signatures == [DUMMY_SIGNATURE, None, DUMMY_SIGNATURE]
    older = [p for c in contents_of(*turns, to=target(OLDER)) for p in c["parts"] if "functionCall" in p]
    assert not any("thoughtSignature" in part for part in older), "older models ask for none"


def test_bugs_077_082_nobody_else_s_reasoning_is_sent() -> None:
    foreign = [
        {"type": "thinking", "thinking": "Anthropic's", "signature": "EqQBCg"},
        {"type": "thinking", "thinking": "unsigned", "signature": ""},
        {"type": "redacted_thinking", "data": "xyz"},
        {"type": "thinking", "thinking": "DeepSeek's", "signature": "ccm1:deepseek:public-model"},
        signed("call", "T1RIRVI=", actual_model="gemini-3-flash-preview"),
        signed("call", "VkVSVEVY", kind="vertex"),
    ]
    sent = contents_of(("user", "go"), ("assistant", [*foreign, use("a")]))[1]["parts"]
    assert sent == [{"functionCall": {"id": "a", "name": "Bash", "args": {}}, "thoughtSignature": DUMMY_SIGNATURE}]


def test_steps_of_google_s_own_tools_come_back_as_they_were() -> None:
    part = {
        "toolCall": {"toolType": "GOOGLE_SEARCH_WEB", "args": {"queries": ["q"]}, "id": "1"},
        "thoughtSignature": "c2ln",
    }
    sent = contents_of(("user", "go"), ("assistant", [signed("part", packed(part)), text("found")]))
    assert sent[1]["parts"] == [part, {"text": "found"}]
    made_up = base64.b64encode(json.dumps({"fileData": {"fileUri": "gs://secret"}}).encode()).decode()
    sent = contents_of(("user", "go"), ("assistant", [signed("part", made_up), signed("part", "%%"), text("x")]))
    assert sent[1]["parts"] == [{"text": "x"}]


@pytest.mark.parametrize("name", ["plain", "vendor/model:free", "odd;call.00000000=x"])
def test_what_a_signature_carries_is_restored_exactly(name: str) -> None:
    served = replace(model(), name=name)
    cases: list[tuple[Carried, str]] = [("call", "a+b/c==;="), ("text", ""), ("part", "x;call.12345678=y")]
    for what, payload in cases:
        signature = carrying(what, payload, target=target(NEWER), model=served)
        assert carried(signature, target=target(NEWER), model=served) == (what, payload)
        assert carried(signature, target=target(OLDER), model=served) is None
        assert carried(signature, target=target(NEWER), model=replace(served, name="other")) is None
