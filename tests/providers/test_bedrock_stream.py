"""Bedrock's streams and whole answers as Anthropic's: Converse, and Claude in Anthropic's own format."""

import base64
import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.errors import UpstreamError
from providers.types import RetryClass, Usage
from tests.fakes.bedrock import chunk, event, exception
from tests.providers import anthropic_support as anthropic
from tests.providers.bedrock_support import (
    CLAUDE,
    GPT_OSS,
    LLAMA,
    START,
    WIRE,
    call,
    delta,
    end,
    feed,
    folded,
    stop_block,
    target,
    texts,
    thinking,
    whole,
)
from tests.providers.openai_chat_support import BASH, model, problem_of_events, request, tool, without_ids, words

SIGNED = "ccm1:bedrock:public-model|"
SECRET = base64.b64encode(b"secret").decode()


def thought(text: str, kept: str = "") -> dict[str, Any]:
    return {"type": "thinking", "thinking": text, "signature": SIGNED + kept}


ANSWERS: dict[str, tuple[list[bytes], list[Any], str]] = {
    "text": ([*texts("Hel", "lo"), *end()], [words("Hello")], "end_turn"),
    "signed thinking": (
        [*thinking("Hm", "m.", signature="abc"), *texts("Yes", index=1), *end()],
        [thought("Hmm.", "sabc"), words("Yes")],
        "end_turn",
    ),
    "unsigned thinking": ([*thinking("Hm"), *texts("Yes", index=1), *end()], [thought("Hm"), words("Yes")], "end_turn"),
    "secret thinking": (
        [delta(reasoningContent={"redactedContent": SECRET}), stop_block(), *texts("Yes", index=1), *end()],
        [thought("", "r" + SECRET), words("Yes")],
        "end_turn",
    ),
    "two thoughts": (
        [*thinking("a", signature="1"), *thinking("b", signature="2", index=1), *texts("c", index=2), *end()],
        [thought("a", "s1"), thought("b", "s2"), words("c")],
        "end_turn",
    ),
    "text and calls": (
        [*texts("I run."), *call("Bash", '{"a"', ":1}", index=1), *call("Bash", index=2), *end("tool_use")],
        [words("I run."), tool(a=1), tool()],
        "tool_use",
    ),
    "calls, ended like a text": ([*call("Bash", "{}"), *end("end_turn")], [tool()], "tool_use"),
    "blank text": ([*texts("\n"), *call("Bash", "{}", index=1), *end("tool_use")], [tool()], "tool_use"),
    "limit": ([*texts("Hel"), *end("max_tokens")], [words("Hel")], "max_tokens"),
    "window": ([*texts("Hel"), *end("model_context_window_exceeded")], [words("Hel")], "model_context_window_exceeded"),
    "guardrail": ([*texts("Sorry."), *end("guardrail_intervened")], [words("Sorry.")], "refusal"),
    "filter": ([*end("content_filtered")], [], "refusal"),
    "nothing": ([*end()], [], "end_turn"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_streamed_and_whole(name: str) -> None:
    frames, expected, stop_reason = ANSWERS[name]
    streamed = feed([START, *frames])
    assert streamed.decoder.failure is None
    assert streamed.decoder.finished
    assert problem_of_events(streamed.events) is None
    assert streamed.content == expected
    assert streamed.decoder.stop_reason == streamed.message["stop_reason"] == stop_reason
    # translation.md 5, item 52: the input leaves out what came from the cache already.
    assert streamed.decoder.usage == Usage(60, 40, 0, 0, 7)
    assert without_ids(whole(folded(frames))) == streamed.message


def test_an_answer_that_was_not_streamed_after_all() -> None:
    """Models that cannot stream while they have tools are asked for a whole answer."""
    frames = ANSWERS["text and calls"][0]
    body = json.dumps(folded(frames)).encode()
    streamed = feed([body[:10], body[10:]], actual_model=LLAMA)
    assert problem_of_events(streamed.events) is None
    assert streamed.message == feed(frames).message
    failure = feed([b'{"message":"Internal failure"}'], actual_model=LLAMA).decoder.failure
    assert failure is not None
    assert "Internal failure" in failure.message


def test_content_leaves_as_it_comes() -> None:
    """translation.md 5, item 6."""
    decoder = WIRE.stream_decoder(request=request(tools=[BASH], stream=True), target=target(), model=model())
    assert decoder.feed(START) == b""
    assert not decoder.has_content
    assert b"one" in decoder.feed(delta(text="one"))
    assert decoder.has_content
    decoder.feed(stop_block())
    assert b'"tool_use"' in decoder.feed(call("Bash", index=1)[0])
    assert b"partial_json" in decoder.feed(delta(1, toolUse={"input": '{"a'}))


def test_interleaved_blocks_come_one_after_the_other() -> None:
    """translation.md 5, items 2 and 3."""
    first, second = call("Bash", index=0), call("Read", index=1)
    between = [delta(0, toolUse={"input": '{"a":'}), delta(1, toolUse={"input": '{"b":2}'})]
    last = delta(0, toolUse={"input": "1}"})
    streamed = feed([first[0], second[0], *between, last, second[-1], first[-1], *end("tool_use")])
    assert problem_of_events(streamed.events) is None
    assert streamed.content == [tool(a=1), tool("Read", b=2)]


def test_the_block_that_thinks_is_known_while_it_is_open() -> None:
    decoder = WIRE.stream_decoder(request=request(stream=True), target=target(), model=model())
    opened, *_, stopped = thinking("Hm", signature="x")
    decoder.feed(opened)
    assert decoder.open_thinking_index == 0
    decoder.feed(stopped)
    assert decoder.open_thinking_index is None


@pytest.mark.parametrize(
    ("fields", "stops", "matched"),
    [
        (None, ["X"], "X"),
        (None, ["X", "Y"], None),
        ({"stop_sequence": "Y"}, ["X", "Y"], "Y"),
        ({"delta": {"stop_sequence": "Y"}}, ["X", "Y"], "Y"),
    ],
)
def test_a_stop_sequence(fields: Any, stops: list[str], matched: str | None) -> None:
    streamed = feed([*texts("a"), *end("stop_sequence", fields)], asked=request(stop_sequences=stops))
    assert (streamed.message["stop_reason"], streamed.message["stop_sequence"]) == ("stop_sequence", matched)


def test_one_call_for_a_client_that_wants_one_at_a_time() -> None:
    """translation.md 5, item 96."""
    asked = request(tools=[BASH], tool_choice={"type": "auto", "disable_parallel_tool_use": True}, stream=True)
    frames = [*call("Bash", '{"a":1}'), *call("Bash", '{"a":2}', index=1), *end("tool_use")]
    assert feed(frames, asked=asked).content == [tool(a=1)]
    assert without_ids(whole(folded(frames), asked=asked))["content"] == [tool(a=1)]


def test_what_is_written_to_the_cache_for_an_hour_is_counted_apart() -> None:
    """translation.md 5, items 45 to 47."""
    details = [{"ttl": "1h", "inputTokens": 30}, {"ttl": "5m", "inputTokens": 5}]
    usage = feed([*texts("a"), *end(cacheWriteInputTokens=35, cacheDetails=details)]).decoder.usage
    assert usage == Usage(60, 40, 5, 30, 7)


LOCATIONS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (
        {"documentChar": {"documentIndex": 1, "start": 2, "end": 5}},
        {"type": "char_location", "document_index": 1, "start_char_index": 2, "end_char_index": 5},
    ),
    (
        {"documentPage": {"documentIndex": 0, "start": 1, "end": 2}},
        {"type": "page_location", "document_index": 0, "start_page_number": 1, "end_page_number": 2},
    ),
    (
        {"documentChunk": {"documentIndex": 0, "start": 0, "end": 1}},
        {"type": "content_block_location", "document_index": 0, "start_block_index": 0, "end_block_index": 1},
    ),
    (
        {"searchResultLocation": {"searchResultIndex": 3, "start": 0, "end": 1}},
        {"type": "search_result_location", "search_result_index": 3, "start_block_index": 0, "source": "S"},
    ),
    ({"web": {"url": "https://w", "domain": "w"}}, {"type": "web_search_result_location", "url": "https://w"}),
]


@pytest.mark.parametrize(("location", "expected"), LOCATIONS, ids=lambda each: next(iter(each)))
def test_citations(location: dict[str, Any], expected: dict[str, Any]) -> None:
    told = {"title": "T", "source": "S", "sourceContent": [{"text": "cited"}], "location": location}
    streamed = feed([delta(text="So."), delta(citation=told), stop_block(), *end()])
    ((citation,),) = [block["citations"] for block in streamed.content]
    assert {name: citation[name] for name in expected} == expected
    assert citation["cited_text"] == "cited"
    content = [{"citationsContent": {"content": [{"text": "So."}], "citations": [told, {"title": "nowhere"}]}}]
    body = {"output": {"message": {"content": content}}, "stopReason": "end_turn"}
    assert without_ids(whole(body))["content"][0]["citations"] == [citation]


# -- failures


FAILURES: list[tuple[str, str, int, RetryClass]] = [
    ("throttlingException", "Too many tokens, please wait before trying again.", 429, RetryClass.NEXT_TARGET),
    ("serviceUnavailableException", "Bedrock is unable to process your request.", 529, RetryClass.NEXT_TARGET),
    ("internalServerException", "oops", 500, RetryClass.NEXT_TARGET),
    ("modelStreamErrorException", "The model failed", 500, RetryClass.SAME_TARGET),
    ("modelTimeoutException", "Model took too long", 504, RetryClass.NEXT_TARGET),
    ("validationException", "messages.0: bad", 400, RetryClass.NEVER),
]


@pytest.mark.parametrize(("name", "said", "status", "retry"), FAILURES)
@pytest.mark.parametrize("actual_model", [GPT_OSS, CLAUDE])
def test_exceptions_inside_a_stream(name: str, said: str, status: int, retry: RetryClass, actual_model: str) -> None:
    """translation.md 5, items 35, 36 and 41."""
    streamed = feed([exception(name, said)], actual_model=actual_model)
    failure = streamed.decoder.failure
    assert failure is not None
    assert (failure.status, failure.retry) == (status, retry)
    assert streamed.bytes == b""
    content = [START, delta(text="a")] if actual_model == GPT_OSS else claude_frames()[:3]
    cut = feed([b"".join([*content, exception(name, said)])], actual_model=actual_model)
    assert cut.decoder.failure == failure
    assert cut.decoder.has_content
    assert b"content_block_start" in cut.bytes
    assert b"message_stop" not in cut.bytes


@pytest.mark.parametrize("actual_model", [GPT_OSS, CLAUDE])
def test_an_overflow_is_said_in_anthropic_s_words(actual_model: str) -> None:
    """translation.md 5, items 37 to 39."""
    said = "Input is too long for requested model."
    for failure in (
        feed([exception("validationException", said)], actual_model=actual_model).decoder.failure,
        error(400, "ValidationException", said, actual_model),
    ):
        assert failure is not None
        assert (failure.status, failure.type) == (400, "invalid_request_error")
        assert failure.message.startswith("prompt is too long")
    failure = error(400, "ValidationException", "prompt is too long: 210118 tokens > 200000 maximum", actual_model)
    assert failure.message == "prompt is too long: 210118 tokens > 200000 maximum"


def error(status: int, name: str, said: str, actual_model: str = GPT_OSS) -> Any:
    headers = {"x-amzn-errortype": f"{name}:http://internal.amazon.com/coral/"}
    body = json.dumps({"message": said}).encode()
    return WIRE.decode_error(status, headers, body, target=target(actual_model))


ERRORS: list[tuple[int, str, str, int, RetryClass, bool | None]] = [
    (400, "ValidationException", "messages.0: bad", 400, RetryClass.NEVER, None),
    (400, "ValidationException", "The provided model identifier is invalid.", 500, RetryClass.NEXT_TARGET, False),
    (400, "ValidationException", "… with on-demand throughput isn’t supported.", 500, RetryClass.NEXT_TARGET, False),
    (400, "ServiceQuotaExceededException", "quota", 429, RetryClass.NEXT_TARGET, False),
    (403, "AccessDeniedException", "arn:aws:iam::123456789012:user/x", 500, RetryClass.NEXT_TARGET, False),
    (403, "ExpiredTokenException", "expired", 500, RetryClass.NEXT_TARGET, False),
    (404, "ResourceNotFoundException", "no model", 500, RetryClass.NEXT_TARGET, False),
    (408, "ModelTimeoutException", "slow", 504, RetryClass.NEXT_TARGET, None),
    (424, "ModelErrorException", "model", 500, RetryClass.SAME_TARGET, None),
    (429, "ModelNotReadyException", "loading", 529, RetryClass.SAME_TARGET, None),
    (429, "ThrottlingException", "Too many requests", 429, RetryClass.NEXT_TARGET, None),
    (429, "ThrottlingException", "Too many tokens per day", 429, RetryClass.NEXT_TARGET, False),
    (500, "InternalServerException", "oops", 500, RetryClass.NEXT_TARGET, None),
    (503, "ServiceUnavailableException", "busy", 529, RetryClass.NEXT_TARGET, None),
]


@pytest.mark.parametrize(("status", "name", "said", "shown", "retry", "again"), ERRORS)
def test_error_answers(status: int, name: str, said: str, shown: int, retry: RetryClass, again: bool | None) -> None:
    failure = error(status, name, said)
    assert (failure.status, failure.retry, failure.should_retry) == (shown, retry, again)
    assert failure.upstream_status == status
    assert "123456789012" not in failure.message


def test_an_error_is_known_by_its_body_too() -> None:
    body = b'{"__type":"com.amazon.coral.availability#ThrottlingException","Message":"slow"}'
    assert WIRE.decode_error(400, {}, body, target=target()).status == 429


@pytest.mark.parametrize("reason", ["malformed_model_output", "malformed_tool_use"])
def test_a_malformed_answer_is_asked_for_once_more(reason: str) -> None:
    failure = feed([*end(reason)]).decoder.failure
    assert failure is not None
    assert failure.retry is RetryClass.SAME_TARGET
    with pytest.raises(UpstreamError):
        whole(folded(end(reason)))


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "cut its answer off"),
        (START, "cut its answer off"),
        (START + delta(text="a")[:-1], "cut its answer off"),
        (START + delta(text="a")[:-1] + b"\0" * 30, "broken event stream"),
        (event("contentBlockDelta", delta=[]), "cannot be read"),
        (event("messageStop"), "without a reason"),
        (b"<html>", "not a Converse answer"),
    ],
)
def test_what_is_no_answer(raw: bytes, said: str) -> None:
    streamed = feed([raw])
    assert streamed.decoder.failure is not None
    assert said in streamed.decoder.failure.message
    assert not streamed.decoder.finished


def test_a_stop_without_usage_is_an_end() -> None:
    """translation.md 5, item 19."""
    streamed = feed([*texts("a"), end()[0]])
    assert streamed.decoder.finished
    assert streamed.decoder.usage == Usage()


def test_what_comes_after_the_end_is_not_read() -> None:
    """translation.md 5, items 17 and 18."""
    streamed = feed([*texts("a"), *end(), *end(), *texts("b", index=1)])
    assert streamed.content == [words("a")]
    assert streamed.bytes.count(b"event: message_stop") == 1


pieces_of = st.sampled_from(["a", " é", "🦀", '"', "\\", "\n"])


@given(st.lists(pieces_of, min_size=1, max_size=12), st.data())
def test_bytes_cut_anywhere_give_the_same(pieces: list[str], draws: st.DataObject) -> None:
    """translation.md 5, items 25 to 27."""
    frames = [*thinking(*pieces, signature="s"), *texts(*pieces, index=1), *call("Bash", "{}", index=2), *end()]
    raw = b"".join([START, *frames])
    cuts = sorted(draws.draw(st.lists(st.integers(0, len(raw)), max_size=8)))
    cut = feed([raw[a:b] for a, b in pairwise([0, *cuts, len(raw)])])
    assert cut.message == feed([raw]).message
    assert cut.decoder.failure is None


# -- Claude in Anthropic's own format


def claude_frames() -> list[bytes]:
    events = [
        anthropic.message_start(input_tokens=9, cache_read_input_tokens=4, output_tokens=1),
        *(anthropic.text_block(0, "Hello ", "world").split(b"\n\n")),
        anthropic.message_delta(),
        anthropic.event("message_stop", **{"amazon-bedrock-invocationMetrics": {"inputTokenCount": 9}}),
    ]
    return [chunk(each.partition(b"data: ")[2].strip()) for each in events if each.strip()]


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_a_claude_stream_passes_through(size: int) -> None:
    raw = b"".join(claude_frames())
    streamed = feed([raw[at : at + size] for at in range(0, len(raw), size)], actual_model=CLAUDE)
    assert streamed.decoder.failure is None
    assert problem_of_events(streamed.events) is None
    assert streamed.content == [words("Hello world")]
    assert streamed.message["model"] == "public-model"
    assert streamed.decoder.usage == Usage(9, 4, None, None, 7)
    assert b"amazon" not in streamed.bytes


DELTA = '{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"%s"}}'


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize(
    ("unusual", "text"),
    [
        (DELTA.replace(",", ",\n\n  ").replace('":', '" : ') % "b", "abc"),
        (DELTA.replace(",", ",\r\n\r\n") % "b", "abc"),
        ('{"index":0,"delta":{"text":"b","type":"text_delta"},"type":"content_block_delta"}', "abc"),
        (DELTA % "b\\n", "ab\nc"),
    ],
)
def test_deltas_of_another_form_among_the_usual_ones(unusual: str, text: str, together: bool) -> None:
    frames = claude_frames()
    told = [chunk(each.encode()) for each in (DELTA % "a", unusual, DELTA % "c")]
    told = [b"".join(told)] if together else told
    streamed = feed([*frames[:2], *told, *frames[-3:]], actual_model=CLAUDE)
    assert streamed.decoder.failure is None
    assert problem_of_events(streamed.events) is None
    assert streamed.content == [words(text)]
    assert streamed.decoder.output_chars == len(text)


def test_a_whole_claude_answer_passes_through() -> None:
    body = {
        "id": "msg_bdrk_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-4-6",
        "content": [{"type": "text", "text": "Hi", "novel": 1}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 9, "output_tokens": 2},
    }
    assert whole(body, actual_model=CLAUDE) == body | {"model": "public-model"}


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (claude_frames()[0], "cut its answer off"),
        (event("chunk", bytes="!"), "cannot be read"),
        (event("chunk", bytes=base64.b64encode(b'{"type":"unended').decode()), "cut its answer off"),
        (event("chunk", bytes=base64.b64encode(b"{").decode()), "cannot be read"),
        (claude_frames()[0][:-1] + b"\0" * 20, "broken event stream"),
    ],
)
def test_what_is_no_claude_stream(raw: bytes, said: str) -> None:
    streamed = feed([raw], actual_model=CLAUDE)
    assert streamed.decoder.failure is not None
    assert said in streamed.decoder.failure.message
