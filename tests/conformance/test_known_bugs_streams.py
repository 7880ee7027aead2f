"""Bugs of other gateways in streams (translation.md, section 5 A), looked for in this one.

A test is named after its items; what other tests prove stands in the register."""

import json
from itertools import zip_longest
from typing import Any

import pytest

from tests.conformance.wires import BY_NAME, SPEAKERS, TRANSLATING, Speaker
from tests.fakes.answers import Reply, Text, ToolUse
from tests.providers.openai_chat_support import (
    DONE,
    STOP,
    Streamed,
    call,
    chunk,
    problem_of_events,
    says,
    stream,
    tool,
    usage_chunk,
    whole,
    words,
)

CALLS = [ToolUse("Bash", {"command": f"echo {number}"}) for number in range(3)]
USED = [tool("Bash", command=f"echo {number}") for number in range(3)]
every_wire = pytest.mark.parametrize("speaker", SPEAKERS, ids=str)
every_translation = pytest.mark.parametrize("speaker", TRANSLATING, ids=str)


@every_wire
def test_b002_three_parallel_calls_stay_three(speaker: Speaker) -> None:
    streamed = speaker.streamed(Reply(CALLS))
    assert problem_of_events(streamed.events) is None
    assert [block for block in streamed.content if block["type"] == "tool_use"] == USED
    whole_calls = [block for block in speaker.whole(Reply(CALLS))["content"] if block["type"] == "tool_use"]
    assert [(block["name"], block["input"]) for block in whole_calls] == [
        (used["name"], used["input"]) for used in USED
    ]


@pytest.mark.parametrize("finish", ["stop", "tool_calls", "", None])
def test_b004_005_ollama_s_calls_end_in_tool_use_without_a_blank_block(finish: str | None) -> None:
    """Ollama says `stop` after calls, and begins with an empty text."""
    ending = chunk({}, finish) if finish is not None else b""
    answer = stream(*says("", "\n"), call(0, "c", "Bash", '{"a":1}'), ending, kind="ollama")
    assert answer.decoder.failure is None
    assert answer.content == [tool("Bash", a=1)]
    assert answer.message["stop_reason"] == "tool_use"


@every_wire
def test_b009_two_streams_at_once_share_nothing(speaker: Speaker) -> None:
    replies = [Reply([Text("One two three."), ToolUse("Bash", {"n": 1})]), Reply([ToolUse("Bash", {"n": 2})])]
    alone = [speaker.streamed(reply).content for reply in replies]
    events = [speaker.events(reply) for reply in replies]
    decoders = [speaker.decoder() for _ in replies]
    written = [b"", b""]
    for pair in zip_longest(*events, fillvalue=b""):
        for number, piece in enumerate(pair):
            written[number] += decoders[number].feed(piece)
    together = [
        Streamed(decoder, out + decoder.close()).content for decoder, out in zip(decoders, written, strict=True)
    ]
    assert _unsigned(together) == _unsigned(alone)


def _unsigned(contents: list[Any]) -> Any:
    return [[{k: v for k, v in block.items() if k != "signature"} for block in content] for content in contents]


@every_wire
def test_b017_022_one_message_delta_which_holds_the_stop_reason(speaker: Speaker) -> None:
    streamed = speaker.streamed(Reply([Text("Yes."), CALLS[0]]))
    (delta,) = [event for event in streamed.events if event.type == "message_delta"]
    assert delta.delta.stop_reason == "tool_use"
    assert "stop_reason" not in delta.to_dict(), "the reason stands in `delta`"


def test_b017_usage_that_is_told_in_every_chunk_makes_one_message_delta() -> None:
    counted = [usage_chunk(output=count) for count in (1, 2, 3)]
    answer = whole(stream(*says("a"), counted[0], *says("b"), counted[1], STOP, counted[2]))
    assert [event.type for event in answer.events].count("message_delta") == 1
    assert answer.decoder.usage.output_tokens == 3


@every_wire
@pytest.mark.parametrize("body", [b"", b"\n\n", b": comment\n\n"])
def test_b020_an_empty_stream_is_a_failure_and_no_message(speaker: Speaker, body: bytes) -> None:
    if speaker.name.startswith("bedrock") and body:
        pytest.skip("frames have no blank lines")
    answer = speaker.fed([body])
    assert answer.decoder.failure is not None
    assert not answer.decoder.has_content
    assert b"message_stop" not in answer.bytes


def test_b020_done_alone_is_no_answer() -> None:
    answer = stream(done=True)
    assert answer.decoder.failure is not None
    assert answer.bytes == b""


@every_wire
def test_b023_message_start_has_a_whole_usage(speaker: Speaker) -> None:
    start = speaker.streamed(Reply([Text("Hi.")])).events[0]
    told = start.message.usage.to_dict()
    assert {"input_tokens", "output_tokens"} <= set(told)
    if not speaker.is_native:
        assert {"cache_creation_input_tokens", "cache_read_input_tokens"} <= set(told)


@every_wire
def test_b027_a_line_of_many_megabytes_is_read(speaker: Speaker) -> None:
    text = "x" * 5_000_000
    whole_stream = b"".join(speaker.events(Reply([Text("", 1), ToolUse("Bash", {"text": text})])))
    pieces = [whole_stream[at : at + 500_000] for at in range(0, len(whole_stream), 500_000)]
    answer = speaker.fed(pieces)
    assert answer.decoder.failure is None
    deltas = [json.loads(line[6:]) for line in answer.bytes.splitlines() if line.startswith(b"data: ")]
    said = "".join(each["delta"].get("partial_json", "") for each in deltas if each["type"] == "content_block_delta")
    assert json.loads(said) == {"text": text}


@every_translation
def test_b034_no_empty_blocks_and_no_empty_deltas(speaker: Speaker) -> None:
    streamed = speaker.streamed(Reply([Text("", 1), ToolUse("Bash", {"a": 1}), Text("Done.")]))
    deltas = [event.delta.to_dict() for event in streamed.events if event.type == "content_block_delta"]
    empty = [delta for delta in deltas if "" in (delta.get("text"), delta.get("partial_json"), delta.get("thinking"))]
    assert empty == []
    assert all(block.get("text") != "" for block in streamed.content)


def test_b034_chatter_of_empty_deltas_is_left_out() -> None:
    answer = whole(
        stream(*says("", ""), call(0, "c", "Bash", ""), call(0, arguments=""), call(0, arguments="{}"), STOP)
    )
    assert answer.content == [tool("Bash")]
    assert answer.bytes.count(b"content_block_delta") // 2 <= 1


def test_b018_the_words_after_done_change_nothing() -> None:
    answer = whole(stream(*says("a"), STOP, DONE, *says("b"), done=False))
    assert answer.content == [words("a")]


NULL_DELTA = b"""event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":null},"usage":{"output_tokens":3}}

"""


@pytest.mark.parametrize("ending", [NULL_DELTA, b""], ids=["null", "none"])
def test_b022_a_clone_s_missing_stop_reason_is_supplied(ending: bytes) -> None:
    """Servers that imitate Anthropic's end a stream with `stop_reason: null`: nobody would run the call."""
    speaker = BY_NAME["anthropic"]
    *events, delta, stop = speaker.events(Reply([CALLS[0]]))
    assert b"message_delta" in delta
    answer = speaker.fed([*events, ending, stop])
    assert answer.decoder.failure is None
    assert answer.message["stop_reason"] == answer.decoder.stop_reason == "tool_use"


def test_b008_a_second_message_in_the_stream_does_not_start_anew() -> None:
    """A proxy that splices the beginning of another answer into the stream."""
    speaker = BY_NAME["anthropic"]
    events = speaker.events(Reply([Text("Hello there.")]))
    answer = speaker.fed([events[0], *events[1:3], events[0], *events[3:]])
    assert problem_of_events(answer.events) is None
    assert answer.content == [words("Hello there.")]


def test_b008_blocks_that_a_clone_numbers_with_gaps_are_numbered_densely() -> None:
    speaker = BY_NAME["anthropic"]
    raw = b"".join(speaker.events(Reply([Text("Hello."), CALLS[1]]))).replace(b'"index": 1', b'"index": 7')
    answer = speaker.fed([raw.replace(b'"index":1', b'"index":7')])
    assert answer.content == [words("Hello."), USED[1]]
