"""Chat Completions streams as Anthropic's: the events, their order, their end, and failures."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.types import RetryClass, Usage
from tests.providers.openai_chat_support import (
    DONE,
    STOP,
    TOOL_CALLS,
    Streamed,
    call,
    chunk,
    data,
    feed,
    problem_of_events,
    request,
    says,
    stream,
    thinking,
    tool,
    usage_chunk,
    whole,
    words,
)

# -- text, reasoning, usage


def test_text() -> None:
    answer = whole(stream(chunk({"role": "assistant", "content": ""}), *says("Hel", "lo"), STOP, usage_chunk()))
    assert answer.message == {
        "type": "message",
        "role": "assistant",
        "model": "public-model",
        "content": [words("Hello")],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 60,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 40,
            "output_tokens": 7,
            "output_tokens_details": {"thinking_tokens": 0},
        },
    }
    assert answer.decoder.usage == Usage(60, 40, 0, None, 7, 0)
    assert answer.decoder.output_chars == 5


def test_message_ids_are_ours_and_unique() -> None:
    ids = {whole(stream(*says("a"), STOP)).events[0].message.id for _ in range(5)}
    assert len(ids) == 5
    assert all(message_id.startswith("msg_") for message_id in ids)


def test_nothing_leaves_before_content() -> None:
    opening = [b": OPENROUTER PROCESSING\n\n", chunk({"role": "assistant", "content": ""}), *says("\n")]
    silent = feed(opening, close=False)
    assert silent.bytes == b""
    assert not silent.decoder.has_content
    spoken = feed([*opening, *says("Hi")], close=False)
    assert spoken.decoder.has_content
    assert [event.type for event in spoken.events] == ["message_start", "content_block_start", "content_block_delta"]
    assert spoken.events[2].delta.text == "\nHi"


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_reasoning_becomes_signed_thinking(field: str) -> None:
    answer = whole(stream(chunk({field: "h"}), chunk({field: "m"}), *says("a"), STOP, kind="deepseek"))
    assert answer.content == [thinking("hm", "deepseek"), words("a")]
    deltas = [event.delta.type for event in answer.events if event.type == "content_block_delta"]
    assert deltas == ["thinking_delta", "thinking_delta", "signature_delta", "text_delta"]


def test_reasoning_told_twice_counts_once() -> None:
    details = [{"type": "reasoning.text", "text": "hm", "index": 0}, {"type": "reasoning.encrypted", "data": "x"}]
    answer = whole(stream(chunk({"reasoning": "hm", "reasoning_details": details}), *says("a"), STOP))
    assert answer.content == [thinking("hm"), words("a")]


def test_reasoning_comes_before_text_of_the_same_chunk() -> None:
    answer = whole(stream(chunk({"content": "a", "reasoning": "hm"}), STOP))
    assert answer.content == [thinking("hm"), words("a")]


def test_content_in_parts() -> None:
    thoughts = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]
    answer = whole(stream(chunk({"content": thoughts}), chunk({"content": [{"type": "text", "text": "a"}]}), STOP))
    assert answer.content == [thinking("hm"), words("a")]


def test_the_open_thinking_block_is_known() -> None:
    thought = feed([chunk({"reasoning": "hm"})], close=False)
    assert thought.decoder.open_thinking_index == 0
    assert feed([chunk({"reasoning": "hm"}), *says("a")], close=False).decoder.open_thinking_index is None
    again = feed([*says("a"), chunk({"reasoning": "hm"})], close=False)
    assert again.decoder.open_thinking_index == 1


def test_blank_text_opens_no_block() -> None:
    answer = whole(stream(*says("\n", "\n"), call(0, "c", "Bash", "{}"), TOOL_CALLS))
    assert answer.content == [tool()]


USAGES: list[tuple[dict[str, Any], str, Usage]] = [
    ({"prompt_tokens": 10, "completion_tokens": 2}, "openai", Usage(10, 0, 0, None, 2)),
    (
        {"prompt_tokens": 10, "completion_tokens": 2, "prompt_cache_hit_tokens": 8, "prompt_cache_miss_tokens": 2},
        "deepseek",
        Usage(2, 8, 0, None, 2),
    ),
    ({"prompt_tokens": 10, "completion_tokens": 2, "cached_tokens": 4}, "moonshot", Usage(6, 4, 0, None, 2)),
    (
        {
            "prompt_tokens": 10,
            "completion_tokens": 2,
            "prompt_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 5},
        },
        "openai",
        Usage(2, 3, 5, None, 2),
    ),
    (
        {"prompt_tokens": 10, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 30}},
        "openai",
        Usage(0, 10, 0, None, 2),
    ),
    (
        {
            "prompt_tokens": 12,
            "completion_tokens": 1,
            "total_tokens": 303,
            "completion_tokens_details": {"reasoning_tokens": 290},
        },
        "xai",
        Usage(12, 0, 0, None, 291, 290),
    ),
    ({"prompt_tokens": 35, "completion_tokens": 12, "total_tokens": 109}, "gemini", Usage(35, 0, 0, None, 74)),
    (
        {
            "prompt_tokens": 5,
            "completion_tokens": 9,
            "total_tokens": 14,
            "prompt_tokens_details": None,
            "completion_tokens_details": {"reasoning_tokens": None},
        },
        "openai",
        Usage(5, 0, 0, None, 9),
    ),
    ({"prompt_tokens": "many", "completion_tokens": -1}, "openai", Usage()),
    ({"prompt_tokens": 5.0, "completion_tokens": True}, "openai", Usage(5, 0, 0)),
    ({}, "openai", Usage()),
]


@pytest.mark.parametrize(("told", "kind", "usage"), USAGES)
def test_usage(told: dict[str, Any], kind: str, usage: Usage) -> None:
    answer = whole(stream(*says("a"), STOP, data({"choices": [], "usage": told}), kind=kind))
    assert answer.decoder.usage == usage


def test_usage_in_other_places_and_the_last_one_counts() -> None:
    first = {"prompt_tokens": 1, "completion_tokens": 1}
    last = {"prompt_tokens": 10, "completion_tokens": 2}
    zeros = {"prompt_tokens": 0, "completion_tokens": 0}
    groq = whole(stream(*says("a"), chunk({}, "stop", x_groq={"usage": last})))
    before = whole(stream(chunk({"content": "a"}, usage=first), chunk({}, "stop", usage=last), chunk({}, usage=zeros)))
    assert groq.decoder.usage == before.decoder.usage == Usage(10, 0, 0, None, 2)


# -- the end


@pytest.mark.parametrize(
    ("finish", "stop_reason"),
    [
        ("stop", "end_turn"),
        ("length", "max_tokens"),
        ("content_filter", "refusal"),
        ("sensitive", "refusal"),
        ("model_length", "model_context_window_exceeded"),
        ("tool_calls", "end_turn"),
        ("eos", "end_turn"),
        ("who knows", "end_turn"),
    ],
)
def test_stop_reasons_of_text(finish: str, stop_reason: str) -> None:
    answer = whole(stream(*says("a"), chunk({}, finish)))
    assert answer.decoder.stop_reason == answer.message["stop_reason"] == stop_reason


@pytest.mark.parametrize(
    ("finish", "stop_reason"),
    [("stop", "tool_use"), ("tool_calls", "tool_use"), ("function_call", "tool_use"), ("length", "max_tokens")],
)
def test_stop_reasons_of_calls(finish: str, stop_reason: str) -> None:
    assert whole(stream(call(0, "c", "Bash", "{}"), chunk({}, finish))).message["stop_reason"] == stop_reason


def test_a_refusal() -> None:
    answer = whole(stream(chunk({"refusal": "I will not."}), STOP))
    assert (answer.content, answer.message["stop_reason"]) == ([words("I will not.")], "refusal")


def test_a_stop_sequence_that_the_server_names() -> None:
    choice = {"index": 0, "delta": {}, "finish_reason": "stop", "stop_reason": "</x>"}
    asked = request(stop_sequences=["</x>"])
    answer = whole(stream(*says("a"), data({"choices": [choice]}), asked=asked))
    assert (answer.message["stop_reason"], answer.message["stop_sequence"]) == ("stop_sequence", "</x>")


def test_everything_in_one_chunk() -> None:
    told = {"prompt_tokens": 3, "completion_tokens": 1}
    answer = whole(stream(chunk({"role": "assistant", "content": "a"}, "stop", usage=told)))
    assert (answer.content, answer.decoder.usage.output_tokens) == ([words("a")], 1)


def test_an_empty_answer_is_a_regular_end() -> None:
    answer = whole(stream(STOP))
    assert answer.decoder.has_content
    assert answer.content == []


def test_the_end_without_done() -> None:
    assert whole(stream(*says("a"), STOP, done=False)).content == [words("a")]


def test_done_without_a_finish_reason_ends_whole_answers_only() -> None:
    assert whole(stream(*says("a"))).message["stop_reason"] == "end_turn"
    assert whole(stream(call(0, "c", "Bash", '{"a":1}'))).message["stop_reason"] == "tool_use"
    assert stream(call(0, "c", "Bash", '{"a":')).decoder.failure is not None
    assert stream(chunk({"role": "assistant"})).decoder.failure is not None


def test_what_follows_done_is_ignored() -> None:
    answer = whole(stream(*says("a"), STOP, DONE, *says("b"), data({"error": "late"})))
    assert answer.content == [words("a")]


def test_other_choices_are_ignored() -> None:
    second = data({"choices": [{"index": 1, "delta": {"content": "b"}}]})
    assert whole(stream(*says("a"), second, STOP)).content == [words("a")]


# -- failures


@pytest.mark.parametrize("before", [[], says("a"), [call(0, "c", "Bash", '{"n":')]])
def test_a_cut_stream_never_ends_regularly(before: list[bytes]) -> None:
    answer = stream(chunk({"role": "assistant"}), *before, done=False)
    assert answer.decoder.failure is not None
    assert answer.decoder.failure.type == "api_error"
    assert answer.decoder.failure.retry is RetryClass.NEXT_TARGET
    assert not answer.decoder.finished
    assert b"message_stop" not in answer.bytes
    assert b"message_delta" not in answer.bytes
    assert answer.decoder.has_content is bool(before)


def test_an_event_cut_in_half_is_a_cut() -> None:
    answer = feed([*says("a"), chunk({"content": "b"})[:-20]])
    assert "cut its answer off" in str(answer.decoder.failure)


@pytest.mark.parametrize(
    ("event", "status", "kind"),
    [
        (data({"error": {"message": "boom", "type": "server_error", "code": None}}), 500, "api_error"),
        (data({"error": {"message": "Rate limit reached", "type": "rate_limit_error"}}), 429, "rate_limit_error"),
        (data({"error": {"message": "slow down", "code": 429}}), 429, "rate_limit_error"),
        (data({"error": {"message": "overloaded", "code": 503}, "choices": []}), 529, "overloaded_error"),
        (data({"error": "out of memory"}), 500, "api_error"),
        (data("out of memory"), 500, "api_error"),
        (data({"object": "error", "message": "boom", "code": 500}), 500, "api_error"),
        (b'event: error\ndata: {"message": "boom"}\n\n', 500, "api_error"),
        (
            data({"error": {"message": "This model's maximum context length is 10 tokens. However, you requested 20"}}),
            400,
            "invalid_request_error",
        ),
        (chunk({}, "error"), 500, "api_error"),
        (b"data: {not json\n\n", 500, "api_error"),
    ],
)
def test_an_error_inside_the_stream(event: bytes, status: int, kind: str) -> None:
    answer = stream(*says("a"), event, *says("b"), STOP)
    assert answer.decoder.failure is not None
    assert (answer.decoder.failure.status, answer.decoder.failure.type) == (status, kind)
    assert "acme" in answer.decoder.failure.message or status == 400
    types = [event.type for event in answer.events]
    assert types == ["message_start", "content_block_start", "content_block_delta"]


@pytest.mark.parametrize("event", [b"data: null\n\n", b"data:\n\n", b"event: ping\n\n", b": keep-alive\n\n", data({})])
def test_events_that_say_nothing(event: bytes) -> None:
    assert whole(stream(event, *says("a"), event, STOP)).content == [words("a")]


def test_null_and_missing_fields() -> None:
    nothing = {"content": None, "tool_calls": None, "refusal": None, "reasoning": None, "function_call": None}
    odd = data({"choices": [{"delta": None, "finish_reason": None}], "usage": None, "error": None, "extra": {"a": 1}})
    wrong = data({"choices": [{"index": "0", "delta": {"content": "b", "reasoning": 5}, "finish_reason": ""}, 7]})
    answer = whole(stream(chunk(nothing), odd, *says("a"), data({"choices": None}), wrong, STOP))
    assert answer.content == [words("ab")]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"<html><body>502 Bad Gateway</body></html>", "not an event stream"),
        (b'{"error": {"message": "no such thing", "type": "server_error"}}', "no such thing"),
        (b"", "cut its answer off"),
    ],
)
def test_a_200_without_events(body: bytes, expected: str) -> None:
    answer = feed([body[:10], body[10:]])
    assert expected in str(answer.decoder.failure)
    assert answer.bytes == b""


def test_a_whole_answer_where_a_stream_was_asked_for() -> None:
    body = {"choices": [{"message": {"role": "assistant", "content": "a"}, "finish_reason": "stop"}]}
    assert whole(feed([json.dumps(body, indent=1).encode()])).content == [words("a")]


# -- bytes


EVERYTHING = b"".join(
    [
        b": keep-alive\r\n\r\n",
        chunk({"reasoning": "größer 思"}),
        *says("naïve ", "日本語 🎉"),
        call(0, "a", "Bash", ""),
        call(1, "b", "Bash", '{"ü":'),
        call(0, arguments='{"é":'),
        call(0, arguments='"🎉"}'),
        call(1, arguments="2}"),
        TOOL_CALLS,
        usage_chunk(),
        DONE,
    ]
)


EVENTS_LF = EVERYTHING.replace(b"\r\n", b"\n")


def steady(streamed: Streamed) -> tuple[Any, ...]:
    decoder = streamed.decoder
    return streamed.message, len(streamed.events), decoder.usage, decoder.output_chars, decoder.finished


@settings(deadline=None, max_examples=150)
@given(cuts=st.lists(st.integers(0, len(EVERYTHING)), max_size=12), crlf=st.booleans())
def test_cuts_change_nothing(cuts: list[int], crlf: bool) -> None:
    raw = EVERYTHING.replace(b"\n", b"\r\n") if crlf else EVERYTHING
    offsets = [0, *sorted(cuts), len(raw)]
    pieces = [raw[start:end] for start, end in pairwise(offsets)]
    assert steady(whole(feed(pieces))) == steady(whole(feed([EVERYTHING])))


@pytest.mark.parametrize("more", [b"\n", b"\n\n", b"\n\n\n", b"\r\n"])
def test_more_blank_lines_than_needed_change_nothing(more: bytes) -> None:
    ends = [place + 2 for place in range(len(EVENTS_LF)) if EVENTS_LF.startswith(b"\n\n", place)]
    pieces = [EVENTS_LF[start:end] + more for start, end in pairwise([0, *ends])]
    assert steady(whole(feed(pieces))) == steady(whole(feed([EVERYTHING])))


def test_byte_by_byte() -> None:
    single = [EVERYTHING[i : i + 1] for i in range(len(EVERYTHING))]
    assert steady(whole(feed(single))) == steady(whole(feed([EVERYTHING])))


FRAGMENTS = st.sampled_from(
    [
        *says("a", " ", "\n"),
        chunk({"reasoning": "r"}),
        call(0, "x", "Bash", ""),
        call(0, arguments='{"n":1}'),
        call(1, "y", "Bash", '{"m"'),
        call(1, arguments=":2}"),
        call(None, None, "Bash", "{}"),
        chunk({"content": "c", "reasoning": "d", "refusal": None}),
        chunk({"function_call": {"name": "Bash", "arguments": "{}"}}),
        b"data: null\n\n",
    ]
)


@settings(deadline=None, max_examples=300)
@given(fragments=st.lists(FRAGMENTS, max_size=12), finish=st.sampled_from(["stop", "tool_calls", "length"]))
def test_any_order_of_deltas_makes_a_sound_stream(fragments: list[bytes], finish: str) -> None:
    answer = stream(*fragments, chunk({}, finish))
    assert answer.decoder.finished
    assert problem_of_events(answer.events) is None
    kinds = {event.content_block.type for event in answer.events if event.type == "content_block_start"}
    assert (answer.decoder.stop_reason == "tool_use") is ("tool_use" in kinds and finish != "length")
