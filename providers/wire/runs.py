"""The short way for what most of a stream is made of: events that differ in their text alone.

Two of them differ in the text, and in what says nothing (sequence numbers, counts that only grow, padding
against eavesdroppers); all the rest is the same bytes. Once one has been decoded, the next are known by
those bytes, and their texts, which are JSON already, are passed on without decoding an event. Anything that
differs elsewhere is decoded.
"""

import functools
import re
from typing import NamedTuple

import msgspec

_MOST_LESSONS = 8
"""A provider whose events always differ elsewhere too is not worth more."""
_NO_NOISE = re.compile(rb"(?!)()")
_ID = re.compile(rb'"([A-Za-z_.:/-]*+[0-9][\w.:/-]*+)"|[:,] ?([0-9]{6,}+)\b')
"""What differs from stream to stream, and so would make patterns that serve one stream only."""
_TEXT, _SAME, _NUMBER, _PADDING = range(4)
"""The kinds of values: the text, what is the same in the whole stream, and what says nothing."""
_GROUPS = (rb'([^"\\\x00-\x1f]*+(?:\\.[^"\\\x00-\x1f]*+)*+)', rb"([\w.:/-]+)", rb"[0-9]++", rb"[A-Za-z0-9]*+")
_string = msgspec.json.Decoder(str)
Shape = tuple[bytes | int, ...]
"""What stands around an event's values, and of which kind each is, in turns."""


class Run(NamedTuple):
    texts: list[bytes]
    """Of each event, as the inside of a JSON string; none for events that have to be decoded after all."""
    chars: int
    """Of all texts together."""
    end: int
    """Where the first event begins that is none of the run."""


class TextRuns:
    """Knows the events of one stream. `noise` finds the values that say nothing, as its group 1: numbers and
    padding. `place` is where the texts of the known events go: the short way is open while more text may go
    there as it is."""

    __slots__ = ("_first", "_lessons", "_noise", "_pattern", "_same", "_shape", "_text", "place")

    def __init__(self, noise: re.Pattern[bytes] = _NO_NOISE) -> None:
        self._noise = noise
        self._shape: Shape = ()
        self._first = b""
        self._same: list[bytes] = []
        self._text = 0
        """Before how many of those values the text stands."""
        self._pattern = _NO_NOISE
        self._lessons = _MOST_LESSONS
        self.place: object = None

    def learn(self, event: bytes, text: str, place: object) -> None:
        """Remember what stands around `text` in `event`, which says nothing else."""
        quoted = b'"%b"' % text.encode()
        if place is None or not text or b"\\" in event or event.count(quoted) != 1:
            return
        shape, same, before = _shape_of(event, event.index(quoted) + 1, len(quoted) - 2, self._noise)
        if (shape, same) != (self._shape, self._same):
            self.place = None
            if not self._lessons:
                return
            self._lessons -= 1
            self._shape, self._same, self._text = shape, same, before
            self._first = event[: event.index(b'"') + 1]
            self._pattern = _pattern(shape)
        self.place = place

    def knows(self, events: bytes, start: int = 0) -> bool:
        """Whether a known event may begin at `start`."""
        return events.startswith(self._first, start)

    def run(self, events: bytes, start: int = 0) -> Run:
        """The known events that begin at `start`."""
        # What lies between the events, each followed by the next one's values: nothing, but for what comes after all.
        parts = self._pattern.split(events[start:] if start else events)
        values = len(self._same) + 1
        between = parts[:: values + 1]
        end = len(events) - len(between.pop())
        if any(between):  # something else, and known ones after it
            end = self._end_of_first(events, start)
            parts = self._pattern.split(events[start:end])
            between = parts[: -1 : values + 1]
        if not between:
            return Run([], 0, start)
        columns = [parts[number :: values + 1] for number in range(1, values + 1)]
        texts = columns.pop(self._text)
        if b"" in texts or any(
            column.count(it) != len(between) for column, it in zip(columns, self._same, strict=True)
        ):
            return Run([], 0, end)
        try:
            # The spaces keep one text's escapes from the next text; any quote ends the string too early.
            chars = len(_string.decode(b'"%b"' % b" ".join(texts))) - len(texts) + 1
        except (msgspec.DecodeError, UnicodeDecodeError):
            return Run([], 0, end)
        return Run(texts, chars, end)

    def _end_of_first(self, events: bytes, start: int) -> int:
        """Where the known events end that begin at `start`."""
        match, end = self._pattern.match, start
        while (found := match(events, end)) is not None:
            end = found.end()
        return end


def _shape_of(event: bytes, begin: int, size: int, noise: re.Pattern[bytes]) -> tuple[Shape, list[bytes], int]:
    """The shape of an event whose text begins at `begin`; the values that are the same in the whole stream,
    and before how many of them the text stands."""
    values = {begin: (begin + size, _TEXT)}
    for found in noise.finditer(event):
        start, end = found.span(1)
        values.setdefault(start, (end, _PADDING if event[start - 1 : start] == b'"' else _NUMBER))
    for found in _ID.finditer(event):
        group = found.lastindex or 0
        values.setdefault(found.start(group), (found.end(group), _SAME))
    shape: list[bytes | int] = []
    same: list[bytes] = []
    at = before = 0
    for start, (end, kind) in sorted(values.items()):
        if start < at:
            continue  # a part of the text that looks like one of the others
        shape += [event[at:start], kind]
        if kind == _SAME:
            same.append(event[start:end])
        elif kind == _TEXT:
            before = len(same)
        at = end
    return (*shape, event[at:]), same, before


@functools.lru_cache(maxsize=256)
def _pattern(shape: Shape) -> re.Pattern[bytes]:
    """Shapes are few: a provider has one for all its streams."""
    return re.compile(b"".join(re.escape(part) if isinstance(part, bytes) else _GROUPS[part] for part in shape))
