"""The short way gives what decoding gives, whatever the texts and however the bytes are cut."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.wire.openai_chat.chunks import decode_chunk
from providers.wire.openai_chat.shortcut import TextShortcut
from providers.wire.openai_chat.stream import OpenAIChatStreamDecoder
from tests.providers.openai_chat_support import call, chunk, model, request, target, usage_chunk

texts = st.lists(
    st.text(alphabet=st.sampled_from('ab "\\\n\r\té🦀{}[]:,'), min_size=1, max_size=6)
    | st.sampled_from(['"content":"x"', "data: [DONE]", '"}}]}', "\n\ndata: ", "\\", '\\"', "\u2028"]),
    min_size=1,
    max_size=30,
)


def said(word: str) -> bytes:
    """A chunk with its text as UTF-8, as most providers send it (the support module's escapes)."""
    choice = {"index": 0, "delta": {"content": word}, "finish_reason": None}
    return b"data: " + msgspec.json.encode({"id": "chatcmpl-1", "choices": [choice]}) + b"\n\n"


def decoded(pieces: list[bytes]) -> tuple[bytes, int, int | None]:
    decoder = OpenAIChatStreamDecoder(request=request(), target=target(), model=model())
    out = b"".join(decoder.feed(piece) for piece in pieces) + decoder.close()
    assert decoder.failure is None
    return without_message_id(out), decoder.output_chars, decoder.usage.output_tokens


def without_message_id(out: bytes) -> bytes:
    start = out.index(b'"id":"msg_') + 6
    return out[:start] + out[out.index(b'"', start) :]


def without_shortcut(monkeypatch: pytest.MonkeyPatch, pieces: list[bytes]) -> tuple[bytes, int, int | None]:
    with monkeypatch.context() as patch:
        patch.setattr(TextShortcut, "is_known", property(lambda shortcut: False))
        return decoded(pieces)


@given(texts, st.data())
def test_the_short_way_and_decoding_agree(words: list[str], draws: st.DataObject) -> None:
    stream = b"".join([*(said(word) for word in words), chunk({}, "stop"), usage_chunk()])
    cuts = sorted(draws.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    with pytest.MonkeyPatch.context() as monkeypatch:
        expected = without_shortcut(monkeypatch, pieces)
    assert decoded(pieces) == expected


def test_most_of_a_plain_stream_takes_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = 0
    text = TextShortcut.text

    def counted(shortcut: TextShortcut, event: bytes) -> bytes | None:
        nonlocal taken
        found = text(shortcut, event)
        taken += found is not None
        return found

    monkeypatch.setattr(TextShortcut, "text", counted)
    decoded([chunk({"content": f"word{n} "}) for n in range(100)] + [chunk({}, "stop")])
    assert taken >= 98


def test_a_tool_call_after_text_is_not_mistaken_for_text() -> None:
    calls = [call(0, "call_1", "Bash", '{"command":'), call(0, arguments='"ls"}')]
    out, _, _ = decoded([chunk({"content": "a"}), chunk({"content": "b"}), *calls, chunk({}, "tool_calls")])
    assert out.count(b"content_block_start") == 4  # two blocks: the event's name and its type
    assert b'"stop_reason":"tool_use"' in out


@pytest.mark.parametrize(
    "payload",
    [
        b'{"choices":[{"index":0,"delta":{"content":"a","reasoning_content":"b"}}]}',
        b'{"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"}]}',
        b'{"choices":[{"index":1,"delta":{"content":"a"}}]}',
        b'{"choices":[{"index":0,"delta":{"content":"a"}}],"usage":{"completion_tokens":1}}',
        b'{"choices":[{"index":0,"delta":{"content":"a"}}],"note":{"content":"b"}}',
    ],
)
def test_a_chunk_with_more_than_text_teaches_nothing(payload: bytes) -> None:
    shortcut = TextShortcut()
    chunk_read = decode_chunk(payload)
    assert chunk_read is not None
    shortcut.learn(payload, chunk_read)
    assert not shortcut.is_known
