"""The short way for what most of a stream is made of: events that differ in their text alone.

Two of them differ in the text, and in what says nothing (sequence numbers, counts that only grow, padding
against eavesdroppers); all the rest is the same bytes. Once one has been decoded, the next are known by
those bytes, and their texts, which are JSON already, are passed on without decoding an event. Anything that
differs elsewhere is decoded.
"""

import re
from typing import NamedTuple

import msgspec

_MOST_LESSONS = 32
"""A provider whose events always differ elsewhere too is not worth more."""
_string = msgspec.json.Decoder(str)
_no_noise = re.compile(rb"(?!)()")


class Run(NamedTuple):
    texts: list[bytes]
    """Of each event, as the inside of a JSON string."""
    chars: int
    """Of all texts together."""
    end: int
    """Where the first event begins that is none of the run."""


class TextRuns:
    """Knows the events of one stream. `noise` finds the values that say nothing, as its group 1: numbers and
    padding. `place` is where the texts of the known events go: the short way is open while more text may go
    there as it is."""

    __slots__ = ("_lessons", "_noise", "_parts", "_text", "place")

    def __init__(self, noise: re.Pattern[bytes] = _no_noise) -> None:
        self._noise = noise
        self._parts: list[bytes] = []
        """What stands around the values, in the event's order."""
        self._text = 0
        """Which of the values is the text."""
        self._lessons = _MOST_LESSONS
        self.place: object = None

    def learn(self, event: bytes, text: str, place: object) -> None:
        """Remember what stands around `text` in `event`, which says nothing else."""
        told = text.encode()
        if place is None or not text or b"\\" in event or event.count(b'"%b"' % told) != 1:
            return
        begin = event.index(b'"%b"' % told) + 1
        values = sorted([(begin, begin + len(told)), *(found.span(1) for found in self._noise.finditer(event))])
        ends = [0, *(end for _, end in values)]
        parts = [event[a:b] for a, b in zip(ends, [*(start for start, _ in values), len(event)], strict=True)]
        if parts != self._parts:
            if not self._lessons:
                self.place = None
                return
            self._lessons -= 1
        self._parts, self._text, self.place = parts, values.index((begin, begin + len(told))), place

    def run(self, events: bytes) -> Run | None:
        """The known events at the beginning of `events`; None when there are none."""
        first, *others = self._parts
        find, width = events.find, len(others)
        values: list[bytes] = []
        end = 0
        while events.startswith(first, end):
            at = end + len(first)
            for part in others:
                found = find(part, at)
                if found < 0:
                    break
                values.append(events[at:found])
                at = found + len(part)
            else:
                end = at
                continue
            break
        del values[len(values) - len(values) % width :]
        texts = values[self._text :: width]
        del values[self._text :: width]
        if not texts or b"" in texts or not (width == 1 or b"".join(values).isalnum()):
            return None
        try:
            # The spaces keep one text's escapes from the next text; any quote ends the string too early.
            chars = len(_string.decode(b'"%b"' % b" ".join(texts))) - len(texts) + 1
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        return Run(texts, chars, end)
