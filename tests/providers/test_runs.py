"""The short way gives what decoding every event gives: on every wire, whatever the texts and the cuts."""

import base64
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.types import Target
from providers.wire.base import StreamDecoder
from providers.wire.registry import WIRES
from providers.wire.runs import TextRuns, _pattern
from tests.fakes.bedrock import event as frame
from tests.providers import bedrock_support, cohere_support, gemini_support, openai_responses_support
from tests.providers.openai_chat_support import BASH, model, request
from tests.providers.openai_chat_support import target as chat_target

words = st.lists(
    st.text(alphabet=st.sampled_from('ab "\\\n\r\té🦀{}[]:,1'), min_size=1, max_size=6)
    | st.sampled_from(['"content":"x"', "data: [DONE]", '"}}]}', "\n\ndata: ", "\\", '\\"', "\u2028", '","p":"a']),
    min_size=1,
    max_size=24,
)


def data(told: Any, ascii_only: bool = False, blank: str = "\n\n") -> bytes:
    return f"data: {json.dumps(told, ensure_ascii=ascii_only, separators=(',', ':'))}{blank}".encode()


def named(told: dict[str, Any]) -> bytes:
    return f"event: {told['type']}\n".encode() + data(told)


def chat(kind: str, text: str, number: int) -> bytes:
    choice = {"index": 0, "delta": {{"text": "content", "thinking": "reasoning_content"}[kind]: text}}
    told = {"created": number // 3, "choices": [{**choice, "finish_reason": None}], "obfuscation": "x" * (number % 5)}
    return data(told, ascii_only=number % 7 == 6)


def responses(kind: str, text: str, number: int) -> bytes:
    name = {"text": "output_text", "thinking": "reasoning_summary_text"}[kind]
    place = {"output_index": 1 if kind == "text" else 0, "content_index": 0, "summary_index": 0}
    told = {"type": f"response.{name}.delta", "sequence_number": number, **place, "delta": text}
    return named({**told, "obfuscation": "aZ9"[: 1 + number % 3]})


def gemini(kind: str, text: str, number: int) -> bytes:
    part: dict[str, Any] = {"text": text} if kind == "text" else {"text": text, "thought": True}
    usage = {"promptTokenCount": 12, "candidatesTokenCount": number + 1}
    told = {"candidates": [{"content": {"parts": [part]}, "index": 0}], "usageMetadata": usage}
    return data(told, blank="\r\n\r\n")


def cohere(kind: str, text: str, number: int) -> bytes:
    return named(
        {"type": "content-delta", "index": int(kind == "text"), "delta": {"message": {"content": {kind: text}}}}
    )


def converse(kind: str, text: str, number: int) -> bytes:
    part = {"text": text} if kind == "text" else {"reasoningContent": {"text": text}}
    return frame("contentBlockDelta", contentBlockIndex=int(kind == "text"), delta=part, q="abc"[: number % 3])


def anthropic(told: dict[str, Any]) -> bytes:
    return frame("chunk", bytes=base64.b64encode(json.dumps(told).encode()).decode())


@dataclass(frozen=True)
class Way:
    """`says` is the event of a text or a thought; `thought` ends the thoughts, `ends` the answer."""

    target: Target
    says: Callable[[str, str, int], bytes]
    ends: list[bytes]
    thought: list[bytes]


REASONED = {"type": "response.output_item.done", "output_index": 0, "item": {"type": "reasoning", "summary": []}}
STOPPED = {"candidates": [{"content": {"parts": [{"text": ""}]}, "finishReason": "STOP"}]}
WAYS = {
    "openai_chat": Way(
        chat_target(),
        chat,
        [data({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}), b"data: [DONE]\n\n"],
        [],
    ),
    "openai_responses": Way(
        openai_responses_support.target(),
        responses,
        [named({"type": "response.completed", "response": {"status": "completed"}})],
        [named(REASONED)],
    ),
    "gemini": Way(gemini_support.target(), gemini, [data(STOPPED)], []),
    "cohere": Way(
        cohere_support.target(),
        cohere,
        [named({"type": "message-end", "delta": {"finish_reason": "COMPLETE"}})],
        [named({"type": "content-end", "index": 0})],
    ),
    "converse": Way(
        bedrock_support.target(),
        converse,
        [frame("contentBlockStop", contentBlockIndex=1), frame("messageStop", stopReason="end_turn")],
        [frame("contentBlockStop", contentBlockIndex=0)],
    ),
}


def decoder_of(way: Way) -> StreamDecoder:
    asked = request(stream=True, tools=[BASH])
    return WIRES[way.target.wire].stream_decoder(request=asked, target=way.target, model=model())


def decoded(way: Way, pieces: list[bytes]) -> tuple[bytes, Any, Any]:
    """What the client gets, as its message reads (where a text is cut does not matter), and the counts."""
    decoder = decoder_of(way)
    out = b"".join(decoder.feed(piece) for piece in pieces) + decoder.close()
    assert decoder.failure is None
    assert decoder.finished
    start = out.index(b'"id":"msg_') + 10
    return out[:start] + out[start + 24 :], decoder.output_chars, decoder.usage


@pytest.mark.parametrize("name", WAYS)
@settings(deadline=None, max_examples=25)
@given(thoughts=words, texts=words, draws=st.data())
def test_the_short_way_and_decoding_agree(name: str, thoughts: list[str], texts: list[str], draws: Any) -> None:
    way = WAYS[name]
    said = [way.says("thinking", text, number) for number, text in enumerate(thoughts)]
    said += [*way.thought, *(way.says("text", text, number) for number, text in enumerate(["a", *texts]))]
    stream = b"".join([*said, *way.ends])
    cuts = sorted(draws.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[a:b] for a, b in pairwise([0, *cuts, len(stream)])]
    with mock.patch.object(TextRuns, "knows", return_value=False):
        expected = decoded(way, pieces)
    assert unescaped(decoded(way, pieces)) == unescaped(expected)


def unescaped(outcome: tuple[bytes, Any, Any]) -> tuple[list[Any], Any, Any]:
    """Events as data: a provider may write an escape where we would not."""
    events = [json.loads(part.partition(b"data: ")[2]) for part in outcome[0].split(b"\n\n") if part]
    return events, outcome[1], outcome[2]


@pytest.mark.parametrize("name", WAYS)
def test_most_of_a_plain_stream_takes_the_short_way(name: str) -> None:
    way = WAYS[name]
    taken: list[int] = []
    run = TextRuns.run

    def counted(runs: TextRuns, events: bytes, start: int = 0) -> Any:
        found = run(runs, events, start)
        taken.append(len(found.texts))
        return found

    kinds = ("thinking", "text")
    said = [[way.says(kind, f"word{number} ", 6) for number in range(50)] for kind in kinds]
    with mock.patch.object(TextRuns, "run", counted):
        decoded(way, [*said[0], *way.thought, b"".join([*said[1], *way.ends])])
    assert sum(taken) == 49 + 49


@pytest.mark.parametrize("broken", [b'b"c', b"b\\", b"\\x", b"\\ud83d", b"\xff", b"a\x01", b""])
def test_a_text_that_is_no_json_does_not_pass(broken: bytes) -> None:
    runs = TextRuns()
    event = b'{"x":"word"}\n'
    runs.learn(event, "word", "here")
    assert runs.run(event * 2).texts == [b"word"] * 2
    assert runs.run(event.replace(b"word", broken)).texts == []
    run = runs.run(event + event.replace(b"word", broken) + event)
    assert (run.texts, run.end) == ([b"word"], len(event)) or not run.texts


LONG = b'{"id":"x1","t":"%b","then":"what is the same in all of them","n":%d,"more":"and this too, to the very end"}\n'


def knowing(event: bytes, text: str) -> TextRuns:
    runs = TextRuns(re.compile(rb'"n":([0-9]+)'))
    runs.learn(event, text, "here")
    assert runs.place is not None
    return runs


@settings(deadline=None, max_examples=300)
@given(
    numbers=st.lists(st.integers(0, 2000), min_size=1, max_size=5),
    changes=st.lists(st.tuples(st.integers(0, 500), st.binary(max_size=2)), max_size=2),
)
def test_what_is_the_same_is_known_as_surely_by_its_length_as_byte_by_byte(
    numbers: list[int], changes: list[tuple[int, bytes]]
) -> None:
    events = b"".join(LONG % (b"word%d" % number, number) for number in numbers)
    for place, changed in changes:  # most leave the length as it is
        events = events[:place] + changed + events[place + len(changed) :]
    by_length = knowing(LONG % (b"a", 1), "a").run(events)
    with mock.patch("providers.wire.runs.COMPARED_BYTES", 10**6):
        _pattern.cache_clear()
        byte_by_byte = knowing(LONG % (b"a", 1), "a").run(events)
    _pattern.cache_clear()
    assert by_length == byte_by_byte


@pytest.mark.parametrize("changed", [b"whAt is", b"the very eND", b'"thEn":'])
def test_an_event_that_differs_where_others_are_the_same_is_none_of_them(changed: bytes) -> None:
    known = LONG % (b"a", 1)
    other = re.sub(re.escape(changed), changed, known, flags=re.IGNORECASE)
    assert other != known
    runs = knowing(known, "a")
    assert runs.run(other).texts == []
    run = runs.run(known + known + other + known)
    assert (run.texts, run.end) == ([b"a", b"a"], 2 * len(known))


def test_a_run_ends_where_another_event_begins() -> None:
    runs = TextRuns()
    runs.learn(b'data: {"t":"a"}\n\n', "a", "here")
    run = runs.run(b'data: {"t":"b"}\n\ndata: {"t":"c"}\n\ndata: {"u":"d"}\n\ndata: {"t":"e"}\n\n')
    assert (run.texts, run.chars, run.end) == ([b"b", b"c"], 2, 34)


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (b'{"t":"a","u":"a"}\n', "a"),  # which of them is the text?
        (b'{"t":"\\u0061","u":"a"}\n', "a"),
        (b'{"t":""}\n', ""),
    ],
)
def test_an_event_whose_text_is_not_certain_teaches_nothing(event: bytes, text: str) -> None:
    runs = TextRuns()
    runs.learn(event, text, "here")
    assert runs.place is None


CHAT = {"index": 0, "delta": {"content": "a"}}


@pytest.mark.parametrize(
    "other",
    [
        {"choices": [{"index": 0, "delta": {"content": "a", "reasoning_content": "b"}}]},
        {"choices": [{**CHAT, "index": 1}]},
        {"choices": [CHAT], "usage": {"completion_tokens": 1}},
        {"choices": [{"index": 0, "delta": {"content": "a", "refusal": "b"}}]},
    ],
)
def test_a_chunk_with_more_than_text_teaches_nothing(other: dict[str, Any]) -> None:
    decoder = decoder_of(WAYS["openai_chat"])
    decoder.feed(data({"choices": [{"index": 0, "delta": {"content": "first\n"}}]}))
    decoder.feed(data(other))
    assert vars(decoder)["_runs"].place is None


def test_a_tool_call_after_text_is_not_mistaken_for_text() -> None:
    way = WAYS["openai_chat"]
    call = {"index": 0, "id": "c", "function": {"name": "Bash", "arguments": '{"command":"ls"}'}}
    called = data({"choices": [{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": "tool_calls"}]})
    out, _, _ = decoded(way, [*(chat("text", text, 6) for text in "abc"), called, way.ends[1]])
    assert out.count(b"event: content_block_start") == 2
    assert b'"stop_reason":"tool_use"' in out


def test_the_counts_of_googles_skipped_chunks_count() -> None:
    pieces = [gemini("text", "word", number) for number in range(8)]
    assert decoded(WAYS["gemini"], [b"".join(pieces), *WAYS["gemini"].ends])[2].output_tokens == 8
    cut = decoder_of(WAYS["gemini"])
    for piece in pieces:
        cut.feed(piece)
    cut.close()
    assert cut.failure is not None
    assert cut.usage.output_tokens == 8


def test_a_citation_of_openais_quotes_texts_that_went_the_short_way() -> None:
    way = WAYS["openai_responses"]
    note = {"type": "url_citation", "url": "https://a.example", "title": "A", "start_index": 0, "end_index": 8}
    place = {"output_index": 1, "content_index": 0, "annotation_index": 0}
    cited = named({"type": "response.output_text.annotation.added", **place, "annotation": note})
    out, _, _ = decoded(way, [*(responses("text", text, 6) for text in ("one ", "two ", "tre ")), cited, *way.ends])
    assert b'"cited_text":"one two "' in out
