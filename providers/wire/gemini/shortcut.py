"""The short way for what most of a stream is made of: chunks that differ in their text and their counts.

Once a chunk has been decoded, what stands around its text is known. A later one with the same around
it, but for digits, says nothing else, so its text, which is JSON already, is passed on without
decoding the chunk. Counts are cumulative: those of the last chunk that went this way are read when
something else comes.
"""

import re

import msgspec

from providers.wire.gemini.chunks import Candidate, Chunk, Content, Part

_TEXT = re.compile(rb'"text"\s*:\s*"((?:[^"\\]|\\.)*)"')
_REST_OF_TEXT = re.compile(rb'[^"\\\r\n]*(?:\\.[^"\\\r\n]*)*')
_DIGITS = b"0123456789"
_MOST_LESSONS = 32
"""A provider whose chunks always differ elsewhere too is not worth more."""
_string = msgspec.json.Decoder(str)


class TextShortcut:
    __slots__ = ("_after", "_before", "_lessons")

    def __init__(self) -> None:
        self._before = b""
        self._after = b""
        self._lessons = _MOST_LESSONS

    @property
    def is_known(self) -> bool:
        return bool(self._before)

    def learn(self, payload: bytes, chunk: Chunk) -> None:
        """Remember what is around the text of a chunk that holds text and nothing else."""
        if not self._lessons or not _is_text_alone(chunk):
            return
        self._lessons -= 1
        found = list(_TEXT.finditer(payload))
        if len(found) == 1 and payload.count(b'"text"') == 1 and b"\n" not in payload:
            self._before = b"data: " + payload[: found[0].start(1)]
            self._after = payload[found[0].end(1) :].translate(None, _DIGITS)

    def text(self, event: bytes) -> tuple[bytes, int] | None:
        """The text of an event in the known frame, as the inside of a JSON string, and its characters.
        None for any other event."""
        if not event.startswith(self._before):
            return None
        found = _REST_OF_TEXT.match(event, len(self._before))
        if found is None or event[found.end() :].translate(None, _DIGITS) != self._after:
            return None
        text = found[0]
        if not text:
            return None
        if text.isascii() and b"\\" not in text:
            return text, len(text)
        try:
            return text, len(_string.decode(b'"%b"' % text))
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None


def _is_text_alone(chunk: Chunk) -> bool:
    candidate = chunk.candidates[0] if chunk.candidates and len(chunk.candidates) == 1 else None
    parts = candidate.content.parts if candidate is not None and candidate.content is not None else None
    if candidate is None or not parts or len(parts) != 1 or not parts[0].text or candidate.index:
        return False
    alone = Candidate(content=Content(parts=[Part(text=parts[0].text)]), index=candidate.index)
    return chunk == Chunk(candidates=[alone], usage_metadata=chunk.usage_metadata)
