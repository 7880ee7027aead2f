"""Stop sequences where the provider does not look for them: OpenAI's reasoning models and some of xAI's
refuse `stop`, and nobody takes more than four. The answer is cut here instead."""

import pytest

from providers.types import Usage
from tests.providers.openai_chat_support import (
    BASH,
    STOP,
    WIRE,
    Streamed,
    call,
    chunk,
    encoded,
    model,
    request,
    says,
    stream,
    target,
    tool,
    usage_chunk,
    whole,
    words,
)

STOPS = ["END", "</done>"]
REFUSING = [("openai", "gpt-5.2"), ("azure", "o4-mini"), ("xai", "grok-4"), ("openai-compatible", "gpt-5-mini")]


def streamed(*chunks: bytes, stops: list[str] = STOPS, to: tuple[str, str] = ("openai", "gpt-5.2")) -> Streamed:
    kind, name = to
    return stream(*chunks, kind=kind, name=name, asked=request(stop_sequences=stops, stream=True, tools=[BASH]))


@pytest.mark.parametrize(("kind", "name"), REFUSING)
def test_a_model_that_refuses_stop_is_not_sent_any(kind: str, name: str) -> None:
    assert "stop" not in encoded(request(stop_sequences=STOPS), to=target(kind, name))


@pytest.mark.parametrize(("kind", "name"), REFUSING)
def test_its_answer_is_cut_where_the_first_one_begins(kind: str, name: str) -> None:
    answer = whole(streamed(*says("Once ", "upon E", "ND a time", "END"), STOP, usage_chunk(), to=(kind, name)))
    assert answer.content == [words("Once upon ")]
    assert (answer.message["stop_reason"], answer.message["stop_sequence"]) == ("stop_sequence", "END")
    assert answer.decoder.usage == Usage(60, 40, 0, None, 7, 0), "what was generated is paid for"


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_any_cut_of_the_text_gives_the_same(size: int) -> None:
    text = "A</do B</done>C END"
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    answer = whole(streamed(*says(*pieces), STOP))
    assert answer.content == [words("A</do B")]
    assert answer.message["stop_sequence"] == "</done>"


def test_what_only_began_like_one_is_text() -> None:
    answer = whole(streamed(*says("The EN"), call(0, "c", "Bash", "{}"), STOP))
    assert answer.content == [words("The EN"), tool("Bash")]
    assert answer.message["stop_reason"] == "tool_use"
    answer = whole(streamed(*says("The EN"), STOP))
    assert answer.content == [words("The EN")]
    assert answer.message["stop_reason"] == "end_turn"


def test_nothing_is_written_after_one() -> None:
    answer = whole(streamed(*says("a END b"), call(0, "c", "Bash", "{}"), *says("c"), chunk({}, "tool_calls")))
    assert answer.content == [words("a ")]
    assert answer.message["stop_reason"] == "stop_sequence"


def test_a_whole_answer_is_cut_alike() -> None:
    body = b'{"choices":[{"index":0,"message":{"content":"a END b"},"finish_reason":"stop"}],"usage":null}'
    asked = request(stop_sequences=STOPS)
    answer = WIRE.decode_response(body, request=asked, target=target("openai", "gpt-5.2"), model=model())
    assert answer.stop_reason == "stop_sequence"
    assert b'"text":"a "' in answer.body


def test_a_provider_gets_four_and_the_others_are_looked_for_here() -> None:
    six = ["S1", "S2", "S3", "S4", "S5", "S6"]
    assert encoded(request(stop_sequences=six), to=target("groq", "llama"))["stop"] == six[:4]
    answer = whole(streamed(*says("x y S6 z"), STOP, stops=six, to=("groq", "llama")))
    assert answer.content == [words("x y ")]
    assert answer.message["stop_sequence"] == "S6"


def test_without_stop_sequences_nothing_is_held_back() -> None:
    answer = stream(*says("a", "b"), STOP)
    texts = [event.delta.text for event in answer.events if event.type == "content_block_delta"]
    assert texts == ["a", "b"]
