"""Cohere's streams and whole answers as Anthropic's."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.errors import UpstreamError
from providers.types import RetryClass, Usage
from tests.providers.cohere_support import WIRE, call, call_piece, content, end, event, feed, folded, target, whole
from tests.providers.openai_chat_support import BASH, model, problem_of_events, request, tool, without_ids, words

START = event("message-start", id="1", delta={"message": {"role": "assistant", "content": [], "tool_calls": []}})
PLAN = [event("tool-plan-delta", delta={"message": {"tool_plan": piece}}) for piece in ("I will ", "run it.")]


def thinking(text: str) -> dict[str, Any]:
    return {"type": "thinking", "thinking": text, "signature": "ccm1:cohere:public-model"}


ANSWERS: dict[str, tuple[list[bytes], list[Any], str]] = {
    "text": ([*content("text", "Hel", "lo"), end()], [words("Hello")], "end_turn"),
    "thinking, then text": (
        [*content("thinking", "Hm", "m."), *content("text", "Yes", index=1), end()],
        [thinking("Hmm."), words("Yes")],
        "end_turn",
    ),
    "a plan and a call": (
        [*PLAN, *call("Bash", '{"a"', ":1}"), end("TOOL_CALL")],
        [words("I will run it."), tool(a=1)],
        "tool_use",
    ),
    "two calls": (
        [*call("Bash", '{"a":1}'), *call("Bash", "{}", index=1), end("TOOL_CALL")],
        [tool(a=1), tool()],
        "tool_use",
    ),
    "a call without arguments": ([*call("Bash"), end("TOOL_CALL")], [tool()], "tool_use"),
    "null for arguments": ([*call("Bash", "nu", "ll"), end("TOOL_CALL")], [tool()], "tool_use"),
    "thinking and a call": (
        [*content("thinking", "Hm"), *call("Bash", "{}"), end("TOOL_CALL")],
        [thinking("Hm"), tool()],
        "tool_use",
    ),
    "cut by the limit": ([*content("text", "Hel"), end("MAX_TOKENS")], [words("Hel")], "max_tokens"),
    "refused": ([*content("text", "No"), end("ERROR_TOXIC")], [words("No")], "refusal"),
    "nothing": ([end()], [], "end_turn"),
    "blank text": ([*content("text", "\n\n"), *call("Bash", "{}"), end("TOOL_CALL")], [tool()], "tool_use"),
    "complete, with calls": ([*call("Bash", "{}"), end("COMPLETE")], [tool()], "tool_use"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_streamed_and_whole(name: str) -> None:
    events, expected, stop_reason = ANSWERS[name]
    streamed = feed([START, *events])
    assert streamed.decoder.failure is None
    assert streamed.decoder.finished
    assert problem_of_events(streamed.events) is None
    assert streamed.content == expected
    assert streamed.decoder.stop_reason == streamed.message["stop_reason"] == stop_reason
    assert streamed.decoder.usage == Usage(60, 40, 0, None, 7)
    assert without_ids(whole(folded(events))) == streamed.message


def test_content_leaves_as_it_comes() -> None:
    """translation.md 5, item 6: nothing waits for the answer's end."""
    decoder = WIRE.stream_decoder(request=request(tools=[BASH], stream=True), target=target(), model=model())
    assert decoder.feed(START) == b""
    assert not decoder.has_content
    told = [decoder.feed(piece) for piece in content("text", "one ", "two ")]
    assert b"one" in told[1]
    assert decoder.has_content
    started = decoder.feed(call("Bash")[0])
    assert b'"tool_use"' in started
    assert b'partial_json":"{\\"a\\"' in decoder.feed(call_piece('{"a"'))


def test_interleaved_calls_become_blocks_one_after_the_other() -> None:
    """translation.md 5, items 2 and 3."""
    first, second = call("Bash", index=0), call("Read", index=1)
    pieces = [first[0], second[0], call_piece('{"a":', 0), call_piece('{"b":', 1), call_piece("1}", 0)]
    streamed = feed([START, *pieces, call_piece("2}", 1), second[-1], first[-1], end("TOOL_CALL")])
    assert problem_of_events(streamed.events) is None
    assert streamed.content == [tool(a=1), tool("Read", b=2)]


def test_one_call_for_a_client_that_wants_one_at_a_time() -> None:
    """translation.md 5, item 96: Cohere cannot be told."""
    asked = request(tools=[BASH], tool_choice={"type": "auto", "disable_parallel_tool_use": True}, stream=True)
    events = [*call("Bash", '{"a":1}'), *call("Bash", '{"a":2}', index=1), end("TOOL_CALL")]
    assert feed([START, *events], asked=asked).content == [tool(a=1)]
    assert without_ids(whole(folded(events), asked=asked))["content"] == [tool(a=1)]


@pytest.mark.parametrize(("stops", "matched"), [(["X"], "X"), (["X", "Y"], None)])
def test_a_stop_sequence(stops: list[str], matched: str | None) -> None:
    streamed = feed([*content("text", "a"), end("STOP_SEQUENCE")], asked=request(stop_sequences=stops))
    assert (streamed.message["stop_reason"], streamed.message["stop_sequence"]) == ("stop_sequence", matched)


def test_original_tool_names_come_back() -> None:
    long = "mcp__server__" + "x" * 80
    asked = request(tools=[{**BASH, "name": long}])
    name = json.loads(WIRE.encode(asked, target=target(), model=model(), max_tokens=9, client_headers={}).body)
    (function,) = name["tools"]
    streamed = feed([*call(function["function"]["name"], "{}"), end("TOOL_CALL")], asked=asked)
    assert streamed.content == [tool(long)]


# -- citations

DOCUMENT = {
    "type": "document",
    "title": "Notes",
    "source": {"type": "text", "media_type": "text/plain", "data": "Cats sleep. " * 150},
    "citations": {"enabled": True},
}
FOUND = {
    "type": "search_result",
    "source": "https://a.example",
    "title": "A",
    "content": [{"type": "text", "text": "Dogs bark."}],
    "citations": {"enabled": True},
}


def citation(source: str, **fields: Any) -> bytes:
    told = {"start": 0, "end": 4, "text": "Cats", "sources": [{"type": "document", "id": source}], **fields}
    return event("citation-start", index=0, delta={"message": {"citations": told}})


@pytest.mark.parametrize("after_the_end", [False, True])
def test_citations_name_the_place_in_the_client_s_documents(after_the_end: bool) -> None:
    asked = request(("user", [DOCUMENT, FOUND, {"type": "text", "text": "Who sleeps?"}]), stream=True)
    first, *rest = content("text", "Cats sleep, dogs bark.")
    cited = [citation("doc:1"), citation("doc:2"), citation("doc:9"), citation("doc:0", type="PLAN")]
    events = [first, *rest, *cited, end()] if after_the_end else [first, rest[0], *cited, rest[1], end()]
    streamed = feed(events, asked=asked)
    (block,) = streamed.content
    in_text, in_result = block["citations"]
    data = str(DOCUMENT["source"]["data"])  # type: ignore[index]
    start, stop = in_text["start_char_index"], in_text["end_char_index"]
    assert 0 < start < stop <= len(data)
    assert in_text["cited_text"] == data[start:stop]
    assert (in_text["type"], in_text["document_index"], in_text["document_title"]) == ("char_location", 0, "Notes")
    assert (in_result["type"], in_result["source"], in_result["search_result_index"]) == (
        "search_result_location",
        "https://a.example",
        0,
    )
    assert without_ids(whole(folded(events), asked=asked)) == streamed.message


# -- failures


def test_an_error_at_the_end_is_no_end() -> None:
    streamed = feed([START, *content("text", "Hel"), end("ERROR", error="the model server failed")])
    failure = streamed.decoder.failure
    assert failure is not None
    assert "the model server failed" in failure.message
    assert not streamed.decoder.finished
    assert b"message_stop" not in streamed.bytes
    body = folded([*content("text", "Hel"), end("TIMEOUT")])
    with pytest.raises(UpstreamError, match="took too long"):
        whole(body)


def test_an_overflow_inside_a_stream_is_said_in_anthropic_s_words() -> None:
    """translation.md 5, items 37 to 39."""
    said = "too many tokens: total number of tokens in the prompt cannot exceed 128000 - received 130001."
    failure = feed([START, end("ERROR", error=said)]).decoder.failure
    assert failure is not None
    assert (failure.status, failure.type) == (400, "invalid_request_error")
    assert failure.message == "prompt is too long: 130001 tokens > 128000 maximum"


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "cut its answer off"),
        (b'{"id":"x","message":"model overloaded"}', "overloaded"),
        (b"<html>", "not an event stream"),
        (START + content("text", "a")[0], "cut its answer off"),
        (b'event: content-delta\ndata: {"type": 5}\n\n', "cannot be read"),
        (b'data: {"message":"internal failure"}\n\n', "internal failure"),
        (START + b"event: message-end\ndata: {", "cut its answer off"),
    ],
)
def test_what_is_no_answer(raw: bytes, said: str) -> None:
    streamed = feed([raw])
    assert streamed.decoder.failure is not None
    assert said in streamed.decoder.failure.message
    assert streamed.decoder.failure.retry is RetryClass.NEXT_TARGET
    assert streamed.bytes == b""


def test_what_comes_after_the_end_is_not_read() -> None:
    """translation.md 5, items 17 and 18."""
    streamed = feed([*content("text", "a"), end(), end(), *content("text", "b"), b"data: [DONE]\n\n"])
    assert streamed.content == [words("a")]
    assert streamed.bytes.count(b"event: message_delta") == streamed.bytes.count(b"event: message_stop") == 1


@pytest.mark.parametrize(
    ("status", "body", "shown", "retry"),
    [
        (400, b'{"id":"x","message":"invalid request: p must be"}', 400, RetryClass.NEVER),
        (401, b'{"id":"x","message":"invalid api token"}', 500, RetryClass.NEXT_TARGET),
        (498, b'{"id":"x","message":"blocked token"}', 500, RetryClass.NEXT_TARGET),
        (404, b'{"id":"x","message":"model not found"}', 500, RetryClass.NEXT_TARGET),
        (422, b'{"id":"x","message":"unprocessable"}', 400, RetryClass.NEVER),
        (429, b'{"id":"x","message":"too many requests"}', 429, RetryClass.NEXT_TARGET),
        (500, b'{"id":"x","message":"oops"}', 500, RetryClass.NEXT_TARGET),
        (503, b"", 529, RetryClass.NEXT_TARGET),
        (504, b"", 504, RetryClass.NEXT_TARGET),
    ],
)
def test_error_answers(status: int, body: bytes, shown: int, retry: RetryClass) -> None:
    failure = WIRE.decode_error(status, {}, body, target=target())
    assert (failure.status, failure.retry, failure.upstream_status) == (shown, retry, status)


def test_usage_of_billed_units_only_and_of_none() -> None:
    """translation.md 1.7: the billed units leave out what Cohere adds to the prompt."""
    usage: dict[str, Any] = {
        "tokens": None,
        "billed_units": {"input_tokens": 5.0, "output_tokens": 2.0},
        "cached_tokens": None,
    }
    assert feed([*content("text", "a"), end(**usage)]).decoder.usage == Usage(5, 0, 0, None, 2)
    assert feed([*content("text", "a"), event("message-end", delta={})]).decoder.usage == Usage()


def test_cached_tokens_are_never_more_than_the_input() -> None:
    assert feed([end(cached_tokens=1000)]).decoder.usage == Usage(0, 100, 0, None, 7)


# -- cuts

pieces_of = st.sampled_from(["a", " é", "🦀", '"', "\\", "\n", "{", "event: x\n\n"])


@given(st.lists(pieces_of, min_size=1, max_size=12), st.data())
def test_bytes_cut_anywhere_give_the_same(texts: list[str], draws: st.DataObject) -> None:
    """translation.md 5, items 25 to 27."""
    events = [START, *content("thinking", *texts), *content("text", *texts, index=1), *call("Bash", "{}"), end()]
    raw = b"".join(events)
    cuts = sorted(draws.draw(st.lists(st.integers(0, len(raw)), max_size=8)))
    cut = feed([raw[a:b] for a, b in pairwise([0, *cuts, len(raw)])])
    assert cut.message == feed([raw]).message
    assert cut.decoder.failure is None
    assert cut.decoder.usage == Usage(60, 40, 0, None, 7)
