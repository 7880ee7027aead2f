"""The short way for what most of a stream is made of: chunks that differ in their text alone.

Once a chunk has been decoded, the bytes before and after its text are known. A later event with
the same bytes around it says nothing else, so its text, which is JSON already, is passed on
without decoding the chunk.
"""

import re

from providers.wire.openai_chat.chunks import Chunk, Delta

_CONTENT = re.compile(rb'"content"\s*:\s*"((?:[^"\\]|\\.)*)"')
_MOST_LESSONS = 32
"""A provider whose chunks always differ elsewhere too is not worth more."""


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
        """Remember the bytes around the text of a chunk that holds text and nothing else."""
        if not self._lessons or not _is_text_alone(chunk):
            return
        self._lessons -= 1
        found = list(_CONTENT.finditer(payload))
        if len(found) == 1 and payload.count(b'"content"') == 1 and b"\n" not in payload:
            self._before = b"data: " + payload[: found[0].start(1)]
            self._after = payload[found[0].end(1) :]

    def text(self, event: bytes) -> bytes | None:
        """The text of an event in the known frame, as the inside of a JSON string. None for any other
        event, and for text with escapes, whose end is not certain without decoding."""
        if not event.startswith(self._before) or not event.endswith(self._after):
            return None
        text = event[len(self._before) : len(event) - len(self._after)]
        return text if text and b'"' not in text and b"\\" not in text else None


def _is_text_alone(chunk: Chunk) -> bool:
    if not chunk.choices or len(chunk.choices) != 1 or chunk.usage is not None or chunk.x_groq is not None:
        return False
    (choice,) = chunk.choices
    delta = choice.delta
    if delta is None or choice.finish_reason is not None or choice.message is not None or choice.index:
        return False
    return delta == Delta(content=delta.content) and bool(delta.content)
