"""Google's answers, streamed and whole, as Anthropic's: blocks, usage, ends."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.errors import UpstreamError
from providers.types import RetryClass, Usage
from providers.wire.gemini.thinking import carrying
from providers.wire.gemini.tools import function_name
from tests.providers.gemini_support import (
    NEWER,
    OLDER,
    STOP,
    USAGE,
    Streamed,
    call,
    chunk,
    contents_of,
    data,
    decoded,
    feed,
    model,
    response,
    says,
    stream,
    target,
    thought,
    whole,
)
from tests.providers.openai_chat_support import BASH, request, result, tool, words

SIGNED = "c2lnbmVk"


def thinking(text: str = "", what: Any = "", payload: str = "") -> dict[str, Any]:
    plain = "ccm1:gemini:public-model"
    signature = carrying(what, payload, target=target(), model=model()) if what else plain
    return {"type": "thinking", "thinking": text, "signature": signature}


def test_text_in_pieces() -> None:
    answer = whole(stream(*says("Hello", ", wörld"), STOP))
    assert answer.content == [words("Hello, wörld")]
    assert answer.message["model"] == "public-model"
    assert answer.message["stop_reason"] == answer.decoder.stop_reason == "end_turn"
    assert answer.decoder.usage == Usage(100, 0, 0, None, 7, None)
    assert answer.decoder.output_chars == len("Hello, wörld")


def test_nothing_is_sent_before_there_is_content() -> None:
    answer = stream(data({"usageMetadata": {"trafficType": "ON_DEMAND"}}), chunk(), close=False)
    assert answer.bytes == b""
    assert not answer.decoder.has_content
    assert stream(chunk({"text": "x"}), close=False).decoder.has_content


def test_thoughts_before_text_and_a_call() -> None:
    answer = whole(
        stream(
            chunk(thought("Let me ")),
            chunk(thought("see.")),
            chunk({"text": "So:"}),
            chunk(call(signature=SIGNED, command="ls")),
            STOP,
        )
    )
    assert answer.content == [
        thinking("Let me see."),
        words("So:"),
        thinking("", "call", SIGNED),
        tool("Bash", command="ls"),
    ]
    assert answer.message["stop_reason"] == "tool_use"


def test_a_call_s_signature_rides_on_the_thoughts_right_before_it() -> None:
    answer = whole(stream(chunk(thought("Hm.")), chunk(call(signature=SIGNED)), STOP))
    assert answer.content == [thinking("Hm.", "call", SIGNED), tool("Bash")]


def test_a_text_s_signature_rides_on_the_thoughts_right_before_it() -> None:
    answer = whole(stream(chunk(thought("Hm.")), chunk({"text": "Yes", "thoughtSignature": SIGNED}), *says("."), STOP))
    assert answer.content == [thinking("Hm.", "text", SIGNED), words("Yes.")]


def test_a_signature_behind_a_text_waits_for_a_call_and_makes_no_block_of_its_own() -> None:
    end = {"text": "", "thoughtSignature": SIGNED}
    answer = whole(stream(*says("Hm."), chunk(end), chunk(call()), STOP))
    assert answer.content == [words("Hm."), thinking("", "text", SIGNED), tool("Bash")]
    assert whole(stream(*says("Done."), chunk(end), STOP)).content == [words("Done.")]


def test_bug_002_parallel_calls_are_calls_of_their_own() -> None:
    """Also bugs 9 and 21: no state is shared, and nothing goes by an index."""
    answer = whole(
        stream(
            chunk(call("Bash", SIGNED, n=1), call("Read", n=2)), chunk(call("Bash", n=3)), STOP, asked=asking("Read")
        )
    )
    assert answer.content[1:] == [tool("Bash", n=1), tool("Read", n=2), tool("Bash", n=3)]
    ids = [
        e.content_block.id
        for e in answer.events
        if e.type == "content_block_start" and e.content_block.type == "tool_use"
    ]
    assert len(set(ids)) == 3
    assert all(each.startswith("toolu_") for each in ids)


def asking(*names: str, **fields: Any) -> Any:
    return request(tools=[BASH, *({**BASH, "name": name} for name in names)], stream=True, **fields)


def test_bug_074_what_is_streamed_comes_back_to_google_as_it_was() -> None:
    parts = [thought("t"), {"text": "I look."}, call("Bash", SIGNED, command="ls"), call("Bash", command="pwd")]
    answer = whole(stream(*(chunk(part) for part in parts), STOP))
    content = [
        {**block, "id": f"toolu_{n}"} if block["type"] == "tool_use" else block
        for n, block in enumerate(answer.content)
    ]
    results = [result(block["id"]) for block in content if block["type"] == "tool_use"]
    sent = contents_of(("user", "go"), ("assistant", content), ("user", results))[1]["parts"]
    for part in sent:
        part.get("functionCall", {}).pop("id", None)
    assert sent == parts[1:]


def test_bug_096_one_call_where_the_client_takes_one() -> None:
    one = asking(tool_choice={"type": "auto", "disable_parallel_tool_use": True})
    answer = whole(stream(chunk(call(n=1), call(n=2)), STOP, asked=one))
    assert answer.content == [tool("Bash", n=1)]


def test_bug_095_a_tool_gets_its_own_name_back() -> None:
    name = "mcp__" + "x" * 90
    asked = asking(name)
    answer = whole(stream(chunk(call(function_name(name))), STOP, asked=asked))
    assert answer.content == [tool(name)]


def test_bug_010_a_call_without_a_name_is_not_lost_and_an_empty_one_is_no_call() -> None:
    answer = whole(stream(chunk({"functionCall": {"args": {"a": 1}}}), chunk({"functionCall": {}}), STOP))
    assert answer.content == [tool("unnamed_tool", a=1)]


def test_a_call_without_input() -> None:
    answer = whole(stream(chunk({"functionCall": {"name": "Bash"}}), STOP))
    assert answer.content == [tool("Bash")]


def test_blank_text_opens_no_block() -> None:
    answer = whole(stream(*says("\n"), chunk(call()), STOP))
    assert answer.content == [tool("Bash")]
    assert whole(stream(*says("\n", "\nx"), STOP)).content == [words("\n\nx")]


def partial(*args: dict[str, Any], more: bool = True, **fields: Any) -> bytes:
    told = {**fields, "partialArgs": list(args)} | ({"willContinue": True} if more else {})
    return chunk({"functionCall": told})


def test_input_that_vertex_streams_piece_by_piece() -> None:
    answer = whole(
        stream(
            chunk({"functionCall": {"name": "Bash", "willContinue": True}, "thoughtSignature": SIGNED}),
            partial({"jsonPath": "$.command", "stringValue": "ls ", "willContinue": True}),
            partial({"jsonPath": "$.command", "stringValue": "-l"}),
            partial({"jsonPath": "$.list[1].a['b c']", "numberValue": 2}),
            partial(
                {"jsonPath": '$.list[0]["x"]', "boolValue": False}, {"jsonPath": "$.none", "nullValue": "NULL_VALUE"}
            ),
            partial(
                {"jsonPath": "$.list[9999999999].x", "stringValue": "no"}, {"jsonPath": "[0]", "stringValue": "no"}
            ),
            partial({"jsonPath": "$.command.deeper", "stringValue": "no"}, {"jsonPath": "$.half", "numberValue": 0.5}),
            chunk({"functionCall": {}}),
            chunk(call("Bash", other=True)),
            STOP,
        )
    )
    streamed = {"command": "ls -l", "list": [{"x": False}, {"a": {"b c": 2}}], "none": None, "half": 0.5}
    assert answer.content[1:] == [tool("Bash", **streamed), tool("Bash", other=True)]


def test_a_streamed_call_ends_with_the_answer_at_the_latest() -> None:
    piece = partial({"jsonPath": "$.a", "stringValue": "b"}, name="Bash")
    assert whole(stream(piece, STOP)).content == [tool("Bash", a="b")]
    assert whole(stream(piece, chunk(finish="STOP"))).content == [tool("Bash", a="b")]


# -- ends


@pytest.mark.parametrize(
    ("reason", "stop"),
    [
        ("STOP", "end_turn"),
        ("MAX_TOKENS", "max_tokens"),
        ("CONTINUATION", "max_tokens"),
        ("SAFETY", "refusal"),
        ("RECITATION", "refusal"),
        ("BLOCKLIST", "refusal"),
        ("PROHIBITED_CONTENT", "refusal"),
        ("SPII", "refusal"),
        ("MODEL_ARMOR", "refusal"),
        ("IMAGE_SAFETY", "refusal"),
        ("OTHER", "end_turn"),
        ("LANGUAGE", "end_turn"),
        ("SOMETHING_NEW", "end_turn"),
    ],
)
def test_finish_reasons(reason: str, stop: str) -> None:
    answer = whole(stream(*says("Some text."), chunk(finish=reason, usage=USAGE)))
    assert answer.decoder.stop_reason == stop
    assert answer.content == [words("Some text.")]
    message, decoded_answer = decoded(response({"text": "Some text."}, finish=reason, usage=USAGE))
    assert (message, decoded_answer.stop_reason) == (answer.message, stop)


@pytest.mark.parametrize("reason", ["SAFETY", "PROHIBITED_CONTENT", "MAX_TOKENS"])
def test_a_refusal_or_a_length_needs_no_content(reason: str) -> None:
    answer = whole(stream(chunk(finish=reason, usage=USAGE, finishMessage="Because.")))
    assert answer.content == []
    delta = answer.events[-2].delta
    if reason != "MAX_TOKENS":
        assert (delta.stop_reason, delta.stop_details.type, delta.stop_details.explanation) == (
            "refusal",
            "refusal",
            "Because.",
        )


def test_a_blocked_prompt_is_a_refusal() -> None:
    blocked = {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": {"promptTokenCount": 8}}
    answer = whole(stream(data(blocked)))
    assert answer.decoder.stop_reason == "refusal"
    assert answer.decoder.usage.input_tokens == 8
    assert "PROHIBITED_CONTENT" in answer.events[-2].delta.stop_details.explanation
    message, _ = decoded(blocked)
    assert message["stop_reason"] == "refusal"


@pytest.mark.parametrize(
    "reason", ["MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "MALFORMED_RESPONSE", "MISSING_THOUGHT_SIGNATURE"]
)
def test_a_mishap_of_the_model_is_tried_again(reason: str) -> None:
    answer = stream(chunk(finish=reason, usage=USAGE))
    assert answer.bytes == b""
    assert answer.decoder.failure is not None
    assert answer.decoder.failure.retry is RetryClass.SAME_TARGET
    with pytest.raises(UpstreamError) as raised:
        decoded(response(finish=reason))
    assert raised.value.failure == answer.decoder.failure


def test_a_mishap_after_content_is_no_regular_end() -> None:
    answer = stream(*says("Hm."), chunk(finish="MALFORMED_FUNCTION_CALL"))
    assert answer.decoder.failure is not None
    assert b"message_stop" not in answer.bytes


@pytest.mark.parametrize(
    "chunks", [[STOP], [*says("\n"), STOP], [chunk({"text": "", "thoughtSignature": SIGNED}), STOP]]
)
def test_bug_020_an_empty_answer_is_tried_again(chunks: list[bytes]) -> None:
    answer = stream(*chunks)
    assert answer.decoder.failure is not None
    assert answer.decoder.failure.retry is RetryClass.SAME_TARGET
    assert not answer.decoder.has_content


@pytest.mark.parametrize("body", [{}, {"candidates": []}, {"candidates": [{"content": {}}]}])
def test_an_answer_without_candidates_is_a_failure(body: Any) -> None:
    with pytest.raises(UpstreamError, match="empty answer"):
        decoded(body)
    assert stream(data(body)).decoder.failure is not None


def test_bug_019_a_stream_without_a_finish_reason_was_cut() -> None:
    answer = stream(*says("Some"))
    assert answer.decoder.failure is not None
    assert "cut its answer off" in answer.decoder.failure.message
    assert b"message_stop" not in answer.bytes


def test_early_models_say_a_finish_reason_in_every_chunk() -> None:
    answer = whole(stream(chunk({"text": "a"}, finish="STOP"), chunk({"text": "b"}, finish="STOP")))
    assert answer.content == [words("ab")]


def test_bug_035_an_error_inside_the_stream() -> None:
    error = {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}
    answer = stream(*says("Some"), data(error))
    assert answer.decoder.failure is not None
    assert (answer.decoder.failure.status, answer.decoder.failure.type) == (529, "overloaded_error")
    assert b"message_stop" not in answer.bytes
    with pytest.raises(UpstreamError) as raised:
        decoded(error)
    assert raised.value.failure.status == 529


# -- other bodies under a 200


@pytest.mark.parametrize("make", [json.dumps, lambda body: json.dumps([body], indent=1)])
def test_a_body_that_is_no_event_stream_is_read_all_the_same(make: Any) -> None:
    raw = make(response({"text": "whole"}, finish="STOP", usage=USAGE)).encode()
    answer = whole(feed([raw[:20], raw[20:]]))
    assert answer.content == [words("whole")]
    assert decoded(raw)[0] == answer.message


@pytest.mark.parametrize(
    "raw", [b"<html>502</html>", b"data: {broken\n\n", b"data: [1]\n\n", b'[{"error":{"code":400}}]']
)
def test_what_is_no_answer_is_a_failure(raw: bytes) -> None:
    assert feed([raw]).decoder.failure is not None
    with pytest.raises(UpstreamError):
        decoded(raw)


# -- usage


def usage_after(*told: dict[str, Any]) -> Usage:
    return whole(stream(*says("x"), *(chunk(usage=each) for each in told), chunk(finish="STOP"))).decoder.usage


def test_usage_in_anthropic_s_classes() -> None:
    told = {
        "promptTokenCount": 1000,
        "cachedContentTokenCount": 600,
        "toolUsePromptTokenCount": 50,
        "candidatesTokenCount": 20,
        "thoughtsTokenCount": 80,
        "totalTokenCount": 1150,
    }
    answer = whole(stream(*says("x"), chunk(finish="STOP", usage=told)))
    assert answer.decoder.usage == Usage(450, 600, 0, None, 100, 80)
    shown = answer.message["usage"]
    assert (shown["input_tokens"], shown["cache_read_input_tokens"], shown["output_tokens"]) == (450, 600, 100)
    assert shown["output_tokens_details"] == {"thinking_tokens": 80}


def test_bugs_049_050_placeholders_and_gaps_replace_nothing() -> None:
    first = {
        "promptTokenCount": 90,
        "cachedContentTokenCount": 40,
        "thoughtsTokenCount": 30,
        "toolUsePromptTokenCount": 5,
    }
    assert usage_after(first, {"promptTokenCount": 0, "candidatesTokenCount": 0}, {"candidatesTokenCount": 4}) == Usage(
        55, 40, 0, None, 34, 30
    )
    assert (
        usage_after({"promptTokenCount": 9}, {"candidatesTokenCount": 1}, {"candidatesTokenCount": 3}).output_tokens
        == 3
    )


def test_bug_047_more_cached_than_read_is_not_negative() -> None:
    assert usage_after({"promptTokenCount": 5, "cachedContentTokenCount": 9}).input_tokens == 0


def test_usage_that_was_not_told_is_not_zero() -> None:
    assert whole(stream(*says("x"), chunk(finish="STOP"))).decoder.usage == Usage()
    assert usage_after({"trafficType": "ON_DEMAND"}) == Usage()


def test_counts_may_come_as_text() -> None:
    assert usage_after({"promptTokenCount": "12", "candidatesTokenCount": "3"}).input_tokens == 12


# -- a thing or two that Anthropic's answers do not have


def test_code_that_google_ran_and_files_that_it_made_are_shown_as_text() -> None:
    answer = whole(
        stream(
            chunk({"executableCode": {"language": "PYTHON", "code": "print(1)"}}),
            chunk({"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1"}}),
            chunk({"inlineData": {"mimeType": "image/png", "data": "AAAA"}}),
            STOP,
        )
    )
    (block,) = answer.content
    assert "```python\nprint(1)\n```" in block["text"]
    assert "```\n1\n```" in block["text"]
    assert "[image/png omitted" in block["text"]


def test_other_candidates_are_left_out() -> None:
    answer = whole(stream(chunk({"text": "no"}, index=1), *says("yes"), STOP))
    assert answer.content == [words("yes")]


# -- properties

PARTS: st.SearchStrategy[list[dict[str, Any]]] = st.lists(
    st.one_of(
        st.builds(lambda text: {"text": text}, st.text(max_size=12)),
        st.builds(thought, st.text(max_size=12)),
        st.builds(lambda text: {"text": text, "thoughtSignature": SIGNED}, st.text(max_size=4)),
        st.builds(lambda value, s: call("Bash", s, a=value), st.text(max_size=8), st.sampled_from(["", SIGNED])),
    ),
    min_size=1,
    max_size=8,
)


@settings(deadline=None)
@given(parts=PARTS, cuts=st.lists(st.integers(0, 4000), max_size=12), older=st.booleans())
def test_bugs_025_026_bytes_may_be_cut_anywhere_and_whole_answers_are_the_same(
    parts: list[dict[str, Any]], cuts: list[int], older: bool
) -> None:
    to = target(OLDER if older else NEWER)
    raw = b"".join([*(chunk(part) for part in parts), chunk(finish="STOP", usage=USAGE)])
    at_once = feed([raw], to=to)
    edges = [0, *sorted({cut for cut in cuts if cut < len(raw)}), len(raw)]
    cut = feed([raw[a:b] for a, b in pairwise(edges)], to=to)
    assert cut.decoder.failure == at_once.decoder.failure
    if at_once.decoder.failure is not None:
        with pytest.raises(UpstreamError):
            decoded(response(*parts, finish="STOP", usage=USAGE), to=to)
        return
    assert cut.message == whole(at_once).message
    assert decoded(response(*parts, finish="STOP", usage=USAGE), to=to)[0] == at_once.message
    _nothing_is_lost(parts, at_once)


def _nothing_is_lost(parts: list[dict[str, Any]], answer: Streamed) -> None:
    told = {kind: "".join(b[kind] for b in answer.content if b["type"] == kind) for kind in ("text", "thinking")}
    texts = "".join(part["text"] for part in parts if "text" in part and not part.get("thought"))
    assert "".join(told["text"].split()) == "".join(texts.split())
    assert told["thinking"] == "".join(part["text"] for part in parts if part.get("thought"))
    used = [block["input"] for block in answer.content if block["type"] == "tool_use"]
    assert used == [part["functionCall"]["args"] for part in parts if "functionCall" in part]
    signed = [part["thoughtSignature"] for part in parts if "functionCall" in part and "thoughtSignature" in part]
    carried = [b for b in answer.content if b["type"] == "thinking" and ";call." in b["signature"]]
    assert len(carried) == len(signed)
