"""The short way for what most of a stream is made of: events that differ in their text alone.

Two of them differ in the text, and in what says nothing (sequence numbers, counts that only grow, padding
against eavesdroppers); all the rest is the same bytes. Once one has been decoded, the next are known by
those bytes, and their texts, which are JSON already, are passed on without decoding an event. Anything that
differs elsewhere is decoded.
"""

import functools
import itertools
import re
from typing import NamedTuple

import msgspec

COMPARED_BYTES = 24
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


class _Known(NamedTuple):
    """Events that differ in their values alone."""

    pattern: re.Pattern[bytes]
    values: list[bytes | None]
    """What its groups have to be; None: the text."""

    def split(self, events: bytes) -> tuple[list[bytes], int] | None:
        """The texts of the known events at the beginning, and where they end. None if others are among them."""
        # What lies between the events, each followed by the next one's values: nothing, but for what comes after all.
        parts = self.pattern.split(events)
        step = len(self.values) + 1
        between = parts[::step]
        end = len(events) - len(between.pop())
        if not between or any(between):
            return None
        texts: list[bytes] = []
        for number, value in enumerate(self.values, 1):
            column = parts[number::step]
            if value is None:
                texts = column
            elif column.count(value) != len(between):
                return None
        return texts, end


class TextRuns:
    """Knows the events of one stream. `noise` finds the values that say nothing, as its group 1: numbers and
    padding. `place` is where the texts of the known events go: the short way is open while more text may go
    there as it is."""

    __slots__ = ("_first", "_lessons", "_noise", "_quick", "_same", "_shape", "_strict", "place")

    def __init__(self, noise: re.Pattern[bytes] = _NO_NOISE) -> None:
        self._noise = noise
        self._shape: Shape = ()
        self._first = b""
        self._same: list[bytes] = []
        self._strict = self._quick = _Known(_NO_NOISE, [])
        self._lessons = _MOST_LESSONS
        self.place: object = None

    def learn(self, event: bytes, text: str, place: object) -> None:
        """Remember what stands around `text` in `event`, which says nothing else."""
        quoted = b'"%b"' % text.encode()
        if place is None or not text or b"\\" in event or event.count(quoted) != 1:
            return
        shape, same = _shape_of(event, event.index(quoted) + 1, len(quoted) - 2, self._noise)
        if (shape, same) != (self._shape, self._same):
            self.place = None
            if not self._lessons:
                return
            self._lessons -= 1
            self._shape, self._same = shape, same
            self._first = event[: event.index(b'"') + 1]
            self._strict = _Known(_pattern(shape), _values(shape, same))
            self._quick = _Known(_pattern(shape, compared=True), _values(shape, same, compared=True))
        self.place = place

    def knows(self, events: bytes, start: int = 0) -> bool:
        """Whether a known event may begin at `start`."""
        return events.startswith(self._first, start)

    def run(self, events: bytes, start: int = 0) -> Run:
        """The known events that begin at `start`."""
        rest = events[start:] if start else events
        found = self._quick.split(rest)
        if found is None:  # something else is among them, or nothing is known
            found = self._strict.split(rest)
        if found is None:
            found = self._strict.split(events[start : self._end_of_first(events, start)])
        if found is None:
            return Run([], 0, self._end_of_first(events, start))
        texts, size = found
        chars = _chars(texts)
        return Run(texts if chars else [], chars, start + size)

    def _end_of_first(self, events: bytes, start: int) -> int:
        """Where the known events end that begin at `start`."""
        match, end = self._strict.pattern.match, start
        while (found := match(events, end)) is not None:
            end = found.end()
        return end


def _chars(texts: list[bytes]) -> int:
    """Of all of them together; 0 if one is empty, or not the inside of a JSON string."""
    if b"" in texts:
        return 0
    try:
        # The spaces keep one text's escapes from the next text; any quote ends the string too early.
        return len(_string.decode(b'"%b"' % b" ".join(texts))) - len(texts) + 1
    except (msgspec.DecodeError, UnicodeDecodeError):
        return 0


def _shape_of(event: bytes, begin: int, size: int, noise: re.Pattern[bytes]) -> tuple[Shape, list[bytes]]:
    """The shape of an event whose text begins at `begin`, and the values that are the same in the whole stream."""
    values = {begin: (begin + size, _TEXT)}
    for found in noise.finditer(event):
        start, end = found.span(1)
        values.setdefault(start, (end, _PADDING if event[start - 1 : start] == b'"' else _NUMBER))
    for found in _ID.finditer(event):
        group = found.lastindex or 0
        values.setdefault(found.start(group), (found.end(group), _SAME))
    shape: list[bytes | int] = []
    same: list[bytes] = []
    at = 0
    for start, (end, kind) in sorted(values.items()):
        if start < at:
            continue  # a part of the text that looks like one of the others
        shape += [event[at:start], kind]
        if kind == _SAME:
            same.append(event[start:end])
        at = end
    return (*shape, event[at:]), same


def _is_compared(place: int, part: bytes) -> bool:
    """Whether the part of a shape is taken out by its length alone and compared: a pattern looks at its bytes one by
    one, but for those that it begins with."""
    return place > 0 and len(part) >= COMPARED_BYTES


def _values(shape: Shape, same: list[bytes], *, compared: bool = False) -> list[bytes | None]:
    """What the groups of the shape's pattern have to be."""
    values: list[bytes | None] = []
    left = iter(same)
    for place, part in enumerate(shape):
        if isinstance(part, bytes):
            if compared and _is_compared(place, part):
                values.append(part)
        elif part in {_TEXT, _SAME}:
            values.append(None if part == _TEXT else next(left))
    return values


@functools.lru_cache(maxsize=256)
def _pattern(shape: Shape, *, compared: bool = False) -> re.Pattern[bytes]:
    """Shapes are few: a provider has one for all its streams. `compared`: long parts are groups of their lengths."""

    def piece(place: int, part: bytes | int) -> bytes:
        if not isinstance(part, bytes):
            return _GROUPS[part]
        return b"(?s:(.{%d}))" % len(part) if compared and _is_compared(place, part) else re.escape(part)

    return re.compile(b"".join(itertools.starmap(piece, enumerate(shape))))
