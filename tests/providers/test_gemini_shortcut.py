"""The short way for plain text gives what decoding every chunk gives."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.wire.gemini.chunks import decode_chunk
from providers.wire.gemini.shortcut import TextShortcut
from tests.providers.gemini_support import STOP, USAGE, call, chunk, data, response, stream, thought, whole


def usage(output: int) -> dict[str, Any]:
    return {**USAGE, "candidatesTokenCount": output}


def learnt() -> TextShortcut:
    payload = chunk({"text": "a"}, usage=usage(1))[6:-4]
    shortcut = TextShortcut()
    shortcut.learn(payload, decode_chunk(payload))
    return shortcut


@pytest.mark.parametrize("text", ["b", "line\n", 'say "x" \\ ', "wörld", "\U0001f600", "1 2 3"])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_text_in_a_known_frame_is_passed_on_as_it_is(text: str, ascii_only: bool) -> None:
    payload = json.dumps(response({"text": text}, usage=usage(27)), ensure_ascii=ascii_only).encode()
    found = learnt().text(b"data: " + payload)
    assert found is not None
    assert json.loads(b'"' + found[0] + b'"') == text
    assert found[1] == len(text)


@pytest.mark.parametrize(
    "other",
    [
        response({"text": "b"}, finish="STOP", usage=usage(2)),
        response({"text": "b", "thoughtSignature": "YQ=="}, usage=usage(2)),
        response(thought("b"), usage=usage(2)),
        response({"text": ""}, usage=usage(2)),
        response({"text": "b"}, {"text": "c"}, usage=usage(2)),
        response({"text": "b"}, usage={**usage(2), "thoughtsTokenCount": 3}),
        response(call(), usage=usage(2)),
        response({"text": "b"}),
        {"error": {"code": 500}},
    ],
)
def test_anything_else_is_decoded(other: Any) -> None:
    assert learnt().text(b"data: " + json.dumps(other).encode()) is None


def test_a_chunk_with_more_than_text_teaches_nothing() -> None:
    for other in (response({"text": "b"}, finish="STOP"), response(thought("b")), response({"text": "b"}, index=1)):
        payload = json.dumps(other).encode()
        shortcut = TextShortcut()
        shortcut.learn(payload, decode_chunk(payload))
        assert not shortcut.is_known


def test_a_lone_half_of_a_surrogate_pair_does_not_pass() -> None:
    payload = chunk({"text": "a"}, usage=usage(1))[6:-4].replace(b'"a"', b'"\\ud83d"')
    assert learnt().text(b"data: " + payload) is None


def test_the_counts_of_skipped_chunks_count() -> None:
    pieces = [chunk({"text": "word"}, usage=usage(n)) for n in range(1, 9)]
    finished = whole(stream(*pieces, chunk({"text": ""}, finish="STOP")))
    assert finished.decoder.usage.output_tokens == 8
    cut = stream(*pieces)
    assert cut.decoder.failure is not None
    assert cut.decoder.usage.output_tokens == 8


@settings(deadline=None)
@given(texts=st.lists(st.text(max_size=9), min_size=1, max_size=9))
def test_a_stream_is_the_same_either_way(texts: list[str]) -> None:
    short = stream(*(chunk({"text": text}, usage=usage(n)) for n, text in enumerate(texts, 1)), STOP)
    # Frames that always differ are never known.
    odd = [data({f"x{'y' * n}": 1, **response({"text": text}, usage=usage(n))}) for n, text in enumerate(texts, 1)]
    long = stream(*odd, STOP)
    assert short.decoder.failure == long.decoder.failure
    if short.decoder.failure is None:
        assert whole(short).message == whole(long).message
        assert short.decoder.output_chars == long.decoder.output_chars
        assert short.decoder.usage == long.decoder.usage
