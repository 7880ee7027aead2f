"""Responses streams become Anthropic's events. Numbers in names are those of translation.md, section 5."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.types import RetryClass, Usage
from providers.wire.openai_responses.events import decode_event
from providers.wire.openai_responses.stream import PASSED_OVER
from providers.wire.stops import StopSequences
from tests.providers.openai_chat_support import BASH, model, request, text, tool
from tests.providers.openai_responses_support import (
    SEARCH,
    WIRE,
    added,
    argues,
    decoded,
    done,
    ends,
    event,
    feed,
    items_of,
    says,
    target,
    whole,
)


def summary(index: int, *texts: str) -> list[bytes]:
    kind = "response.reasoning_summary_text.delta"
    return [event(kind, output_index=index, summary_index=n, delta=told) for n, told in enumerate(texts)]


def call(index: int, *pieces: str, name: str = "Bash") -> list[bytes]:
    arguments = "".join(pieces)
    return [
        added(index, "function_call", name=name, call_id=f"call_{index}", arguments=""),
        *argues(index, *pieces),
        done(index, "function_call", name=name, call_id=f"call_{index}", arguments=arguments),
    ]


def test_text_and_usage() -> None:
    answer = whole(feed([added(0, "message"), *says(0, "Good ", "day."), done(0, "message"), ends()]))
    assert answer.content == [text("Good day.")]
    assert answer.decoder.usage == Usage(50, 30, 20, None, 9, 4)
    assert answer.decoder.stop_reason == "end_turn"
    assert answer.message["usage"]["input_tokens"] == 50


@pytest.mark.parametrize("where", ["delta", "done", "item", "response"])
def test_bug_001_014_arguments_are_found_wherever_they_are_told(where: str) -> None:
    arguments = '{"command":"ls"}'
    item = {"type": "function_call", "name": "Bash", "call_id": "c", "arguments": arguments}
    events = {
        "delta": [*call(0, '{"command"', ':"ls"}'), ends()],
        "done": [added(0, "function_call", name="Bash"), done(0, "function_call", arguments=arguments), ends()],
        "item": [done(0, "function_call", name="Bash", arguments=arguments), ends()],
        "response": [ends(output=[item])],
    }[where]
    answer = whole(feed(events))
    assert answer.content == [tool("Bash", command="ls")]
    assert answer.decoder.stop_reason == "tool_use"


def test_bug_002_015_parallel_calls_keep_apart() -> None:
    events = [*call(0, '{"n":', "0}"), *call(1, '{"n":', "1}"), *call(2, '{"n":', "2}"), ends()]
    assert whole(feed(events)).content == [tool("Bash", n=n) for n in range(3)]


def test_bug_003_interleaved_calls_keep_apart() -> None:
    events = [added(n, "function_call", name="Bash") for n in (0, 1)]
    events += [*argues(0, '{"n"'), *argues(1, '{"n"'), *argues(0, ":0}"), *argues(1, ":1}")]
    events += [done(n, "function_call", name="Bash") for n in (1, 0)]
    assert whole(feed([*events, ends()])).content == [tool("Bash", n=0), tool("Bash", n=1)]


def test_bug_006_a_call_starts_before_its_arguments_are_whole() -> None:
    decoder = WIRE.stream_decoder(request=request(tools=[BASH], stream=True), target=target(), model=model())
    decoder.feed(added(0, "function_call", name="Bash"))
    assert b"tool_use" in decoder.feed(argues(0, '{"command"')[0])


def test_bug_012_what_is_told_twice_counts_once() -> None:
    twice = [event_ for told in call(0, "{}") for event_ in (told, told)]
    assert whole(feed([*twice, *says(1, "a"), done(1, "message"), done(1, "message"), ends()])).content == [
        tool("Bash"),
        text("a"),
    ]


def test_bug_013_item_ids_may_change_between_events() -> None:
    events = [
        event("response.output_item.added", output_index=0, item={"type": "message", "id": "a"}),
        event("response.output_text.delta", output_index=0, content_index=0, item_id="b", delta="Hi"),
        event("response.output_text.delta", output_index=0, content_index=0, item_id="c", delta=" you"),
        event("response.output_item.done", output_index=0, item={"type": "message", "id": "d"}),
    ]
    assert whole(feed([*events, ends()])).content == [text("Hi you")]


def test_bug_016_one_thinking_block_for_a_reasoning_item_signed_by_its_end() -> None:
    events = [
        added(0, "reasoning", encrypted_content="unfinished"),
        *summary(0, "First.", "Second."),
        done(0, "reasoning", encrypted_content="sealed", summary=[]),
        *call(1, "{}"),
        ends(),
    ]
    thought, called = whole(feed(events)).content
    assert called == tool("Bash")
    assert thought["thinking"] == "First.\n\nSecond."
    assert "sealed" in thought["signature"]
    assert "unfinished" not in thought["signature"]


def test_bug_044_a_failed_response_is_an_error() -> None:
    failed = ends("failed", error={"code": "server_error", "message": "Oops."})
    answer = feed([*says(0, "Half"), failed])
    assert answer.decoder.failure is not None
    assert answer.decoder.failure.type == "api_error"
    assert b"message_stop" not in answer.bytes


@pytest.mark.parametrize(
    ("told", "status", "kind"),
    [
        (
            {"error": {"type": "server_error", "code": "rate_limit_exceeded", "message": "Slow."}},
            429,
            "rate_limit_error",
        ),
        ({"code": "rate_limit_exceeded", "message": "Slow."}, 429, "rate_limit_error"),
        ({"code": "server_is_overloaded", "message": "Busy."}, 529, "overloaded_error"),
        (
            {"code": "context_length_exceeded", "message": "Your input exceeds the context window of this model."},
            400,
            "i",
        ),
        ({"code": "invalid_prompt", "message": "No."}, 400, "invalid_request_error"),
        ({"message": "Broken."}, 500, "api_error"),
    ],
)
def test_bug_036_037_an_error_event_says_what_it_means(told: dict[str, Any], status: int, kind: str) -> None:
    failure = feed([event("error", **told)]).decoder.failure
    assert failure is not None
    assert failure.status == status
    assert failure.type.startswith(kind)
    assert status != 400 or failure.retry is RetryClass.NEVER
    assert "context_length" not in str(told) or failure.message.startswith("prompt is too long")


def test_bug_019_020_an_end_that_never_comes_is_a_failure() -> None:
    for events in ([], [*says(0, "Hi")], [*says(0, "Hi"), b"data: [DONE]\n\n"], [*call(0, "{}")]):
        answer = feed(events)
        assert answer.decoder.failure is not None
        assert not answer.decoder.finished


@pytest.mark.parametrize(
    ("details", "reason"),
    [({"reason": "max_output_tokens"}, "max_tokens"), ({"reason": "content_filter"}, "refusal"), (None, "max_tokens")],
)
def test_bug_104_an_incomplete_answer_says_why(details: Any, reason: str) -> None:
    answer = whole(feed([*says(0, "Half"), ends("incomplete", incomplete_details=details)]))
    assert (answer.content, answer.decoder.stop_reason) == ([text("Half")], reason)


def test_an_incomplete_answer_is_charged_what_it_used() -> None:
    usage = {"input_tokens": 5, "output_tokens": 7}
    answer = whole(feed([*says(0, "Half"), ends("incomplete", incomplete_details=None, usage=usage)]))
    assert (answer.decoder.usage.input_tokens, answer.decoder.usage.output_tokens) == (5, 7)


def test_a_refusal_is_text_and_a_stop_reason() -> None:
    refused = event("response.refusal.delta", output_index=0, content_index=0, delta="I will not.")
    answer = whole(feed([added(0, "message"), refused, done(0, "message"), ends()]))
    assert (answer.content, answer.decoder.stop_reason) == ([text("I will not.")], "refusal")


def test_bug_051_null_details_of_usage() -> None:
    usage = {"input_tokens": 5, "input_tokens_details": None, "output_tokens": 2, "output_tokens_details": None}
    answer = whole(feed([*says(0, "Hi"), ends(usage=usage)]))
    assert answer.decoder.usage == Usage(5, 0, 0, None, 2, None)


def test_bug_095_long_names_come_back() -> None:
    long = "mcp__" + "x" * 80
    asked = request(tools=[{"name": long, "input_schema": {"type": "object"}}], stream=True)
    from tests.providers.openai_responses_support import encoded

    (sent,) = encoded(asked)["tools"]
    assert len(sent["name"]) == 64
    assert whole(feed([*call(0, "{}", name=sent["name"]), ends()], asked=asked)).content == [tool(long)]


def test_the_wrapper_of_parallel_calls_is_opened() -> None:
    uses = [{"recipient_name": "functions.Bash", "parameters": {"n": n}} for n in (1, 2)]
    arguments = json.dumps({"tool_uses": uses})
    events = [*call(0, arguments[:20], arguments[20:], name="multi_tool_use.parallel"), ends()]
    assert whole(feed(events)).content == [tool("Bash", n=1), tool("Bash", n=2)]


def test_a_phase_travels_with_the_message() -> None:
    events = [
        *[added(0, "message", phase="commentary"), *says(0, "Looking."), done(0, "message", phase="commentary")],
        *call(1, "{}"),
        ends(),
    ]
    content = whole(feed(events)).content
    assert [block["type"] for block in content] == ["redacted_thinking", "text", "tool_use"]
    use = {**content[2], "id": "toolu_1"}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "ok"}
    sent = items_of(("user", "hi"), ("assistant", [*content[:2], use]), ("user", [result]))
    assert sent[1]["phase"] == "commentary"
    assert [item["type"] for item in sent] == ["message", "message", "function_call", "function_call_output"]


# -- stop sequences


@given(
    st.lists(st.text(alphabet="ab ", max_size=4), max_size=12),
    st.lists(st.text(alphabet="ab", min_size=1, max_size=3), min_size=1, max_size=3),
)
def test_text_is_cut_where_the_first_stop_sequence_begins(pieces: list[str], stops: list[str]) -> None:
    cut = StopSequences(stops)
    out = "".join(cut.feed(piece) for piece in pieces)
    told = "".join(pieces)
    places = [place for stop in stops if (place := told.find(stop)) >= 0]
    if cut.hit is None:
        assert not places
        assert out + cut.rest() == told
    else:
        # Which of several that overlap is found first may depend on the pieces; none is ever let through.
        assert told.startswith(out + cut.hit)
        assert not any(stop in out for stop in stops)


def test_a_stop_sequence_ends_the_answer_and_usage_stays_exact() -> None:
    asked = request(tools=[BASH], stop_sequences=["END"], stream=True)
    events = [*says(0, "Go E", "ND now"), done(0, "message"), *call(1, "{}"), ends()]
    answer = whole(feed(events, asked=asked))
    assert answer.content == [text("Go ")]
    assert (answer.message["stop_reason"], answer.message["stop_sequence"]) == ("stop_sequence", "END")
    assert answer.decoder.usage.output_tokens == 9
    assert whole(feed([*says(0, "Go E"), done(0, "message"), ends()], asked=asked)).content == [text("Go E")]


# -- web search

CITED = {"type": "url_citation", "url": "https://a.example/x", "title": "A", "start_index": 0, "end_index": 5}


def searched(*sources: str) -> list[bytes]:
    action: dict[str, Any] = {"type": "search", "query": "q", "sources": [{"type": "url", "url": s} for s in sources]}
    note = event("response.output_text.annotation.added", output_index=2, content_index=0, annotation=CITED)
    opened = {"type": "open_page", "url": "https://b.example/"}
    return [
        done(0, "web_search_call", action=action),
        done(1, "web_search_call", action=opened),
        *says(2, "Found", " it."),
        note,
        done(2, "message"),
        ends(),
    ]


def test_a_search_of_its_own_has_titles_and_citations() -> None:
    asked = request(tools=[SEARCH], stream=True)
    answer = whole(feed(searched("https://a.example/x"), asked=asked))
    use, found, said = answer.content
    assert (use["type"], use["name"], use["input"]) == ("server_tool_use", "web_search", {"query": "q"})
    assert [(r["url"], r["title"]) for r in found["content"]] == [
        ("https://a.example/x", "A"),
        ("https://b.example/", "b.example"),
    ]
    assert said["citations"][0]["cited_text"] == "Found"
    assert answer.decoder.usage.web_searches == 1
    assert answer.message["usage"]["server_tool_use"]["web_search_requests"] == 1
    assert answer.decoder.stop_reason == "end_turn"


def test_bug_101_a_search_among_tools_is_shown_and_streams_live() -> None:
    asked = request(tools=[BASH, SEARCH], stream=True)
    answer = whole(feed(searched("https://a.example/x"), asked=asked))
    assert [block["type"] for block in answer.content] == ["server_tool_use", "web_search_tool_result", "text"]
    decoder = WIRE.stream_decoder(request=asked, target=target(), model=model())
    assert b"Found" in b"".join(decoder.feed(piece) for piece in searched("https://a.example/x")[:3])


def test_blocked_domains_are_left_out_of_the_results() -> None:
    asked = request(tools=[{**SEARCH, "blocked_domains": ["b.example", "c.example"]}], stream=True)
    found = whole(feed(searched("https://a.example/x", "https://www.c.example/y"), asked=asked)).content[1]
    assert [result["url"] for result in found["content"]] == ["https://a.example/x"]


# -- whole and streamed, and any cut


EVERYTHING = [
    added(0, "reasoning"),
    *summary(0, "Überlegung.", "Zweite."),
    done(0, "reasoning", encrypted_content="sealed"),
    added(1, "message", phase="commentary"),
    *says(1, "Grüße, ", '"quoted" ', "\u2028", "plain ", "text ", "goes ", "on."),
    done(1, "message", phase="commentary"),
    *call(2, '{"a":', "1}"),
    *call(3),
    ends(),
]


@given(st.lists(st.integers(0, len(b"".join(EVERYTHING))), max_size=12))
def test_bug_025_026_any_cut_of_the_bytes_gives_the_same(cuts: list[int]) -> None:
    stream = b"".join(EVERYTHING)
    at_once = feed(EVERYTHING)
    edges = [0, *sorted(cuts), len(stream)]
    cut = whole(feed(stream[a:b] for a, b in pairwise(edges)))
    assert cut.message == at_once.message
    assert cut.decoder.usage == at_once.decoder.usage
    assert cut.decoder.output_chars == at_once.decoder.output_chars


PROGRESS = [
    *(f"response.{name}" for name in ("created", "in_progress", "queued", "refusal.done", "reasoning_text.done")),
    *(f"response.reasoning_summary_{name}" for name in ("part.added", "part.done", "text.done")),
    *(f"response.{name}" for name in ("content_part.added", "content_part.done", "output_text.done")),
    *(f"response.{name}" for name in ("function_call_arguments.done", "custom_tool_call_input.done")),
]


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")], ids=["as OpenAI writes", "with spaces"])
def test_progress_and_what_repeats_deltas_is_passed_over(separators: tuple[str, str]) -> None:
    """With or without being decoded: the first two repeat the request with all its tools."""
    told = {"output_index": 0, "content_index": 0, "delta": "x", "text": "x", "arguments": "{}", "error": None}
    told |= {"response": {"status": "in_progress", "tools": [{"name": "Bash"}], "output": []}, "item": None}
    between = [
        f"event: {name}\ndata: {json.dumps({'type': name, **told}, separators=separators)}\n\n".encode()
        for name in PROGRESS
    ]
    answer = whole(feed([piece for event in EVERYTHING for piece in (*between, event)]))
    expected = feed(EVERYTHING)
    assert answer.message == expected.message
    assert answer.decoder.usage == expected.decoder.usage
    assert len(PASSED_OVER) == len(PROGRESS)


def test_streamed_and_whole_give_the_same() -> None:
    streamed = whole(feed(EVERYTHING)).message
    output = [
        {
            "type": "reasoning",
            "summary": [{"type": "summary_text", "text": told} for told in ("Überlegung.", "Zweite.")],
            "encrypted_content": "sealed",
        },
        {
            "type": "message",
            "phase": "commentary",
            "content": [{"type": "output_text", "text": 'Grüße, "quoted" \u2028plain text goes on.'}],
        },
        {"type": "function_call", "name": "Bash", "arguments": '{"a":1}'},
        {"type": "function_call", "name": "Bash", "arguments": ""},
    ]
    finished = json.loads(ends(output=output).split(b"data: ", 1)[1])["response"]
    assert decoded(finished) == streamed


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"output":3}', b"not json"])
def test_what_is_no_stream_is_a_failure(body: bytes) -> None:
    assert feed([body]).decoder.failure is not None


def test_most_of_a_plain_stream_takes_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    from providers.wire.openai_responses import stream as module

    read = 0
    decode = decode_event

    def counted(data: bytes) -> Any:
        nonlocal read
        read += 1
        return decode(data)

    monkeypatch.setattr(module, "decode_event", counted)
    kind = "response.output_text.delta"
    texts = [
        event(kind, sequence_number=n, output_index=0, content_index=0, delta=f"w{n} ", obfuscation="x" * (n % 7))
        for n in range(100)
    ]
    assert whole(feed([*texts, ends()])).content == [text("".join(f"w{n} " for n in range(100)))]
    assert read <= 4
