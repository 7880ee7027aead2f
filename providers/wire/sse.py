"""Server-sent events: bounded framing that survives any cut of the bytes, and rendering."""

import re

from providers.errors import ProvidersError

MAX_EVENT_BYTES = 16 * 1024 * 1024
SHORT_EVENT = 500
_LONE_CR = re.compile(rb"\r(?!\n)")


class EventTooLarge(ProvidersError):
    code = "event_too_large"


class SseParser:
    """Splits a byte stream into events. LF, CRLF and CR line ends; comments are skipped;
    several `data:` lines are joined with LF (WHATWG HTML, 9.2.6)."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> list[tuple[str, bytes]]:
        """The events that `data` completes, each as (name, data); the name is "" when unset.

        Raises EventTooLarge when one event grows beyond MAX_EVENT_BYTES."""
        return [event for part in self.whole(data)[:-2].split(b"\n\n") if (event := parsed(part)) is not None]

    def whole(self, data: bytes) -> bytes:
        """The bytes of the events that `data` completes, with LF line ends, each with its blank line.

        Raises EventTooLarge when one event grows beyond MAX_EVENT_BYTES."""
        buffer = self._buffer + data if self._buffer else data
        if b"\r" in buffer and _LONE_CR.search(buffer) is None:
            buffer = buffer.replace(b"\r", b"")  # of each line's end: faster than putting LF for CRLF
        elif b"\r" in buffer:
            # A CR at the very end may be the first half of CRLF: keep it for the next piece.
            held = b"\r" if buffer.endswith(b"\r") else b""
            body = buffer[: len(buffer) - len(held)].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
            if held and body.endswith(b"\n"):
                body, held = body + b"\n", b""
            buffer = body + held
        end = buffer.rfind(b"\n\n")
        if end < 0:
            if len(buffer) > MAX_EVENT_BYTES:
                raise EventTooLarge("The provider sent an event of more than 16 MiB.")
            self._buffer = buffer
            return b""
        self._buffer = buffer[end + 2 :]
        events = buffer[: end + 2]
        # An odd number of blank lines would leave a line that belongs to no event.
        return events.rstrip(b"\n") + b"\n\n" if events.endswith(b"\n\n\n") else events

    def rest(self) -> list[tuple[str, bytes]]:
        """At the stream's end: the last event, if the closing blank line never came."""
        part, self._buffer = self._buffer.rstrip(b"\r\n"), b""
        event = parsed(part) if part else None
        return [event] if event else []


def end_of_event(events: bytes, start: int) -> int:
    """Where the event at `start` ends, with its blank line; -1 if that is missing. The end of a long one is searched
    for line by line: for one byte the interpreter's search is twenty times as fast as for two."""
    end = events.find(b"\n\n", start, start + SHORT_EVENT)
    if end >= 0:
        return end + 2
    end = events.find(b"\n", start) + 1
    while end and not events.startswith(b"\n", end):
        end = events.find(b"\n", end) + 1
    return end + 1 if end else -1


def parsed(part: bytes) -> tuple[str, bytes] | None:
    """An event without its blank line as (name, data); None for one that says nothing."""
    name = ""
    data: list[bytes] = []
    for line in part.split(b"\n"):
        if line.startswith(b"data:"):
            data.append(line[6:] if line.startswith(b"data: ") else line[5:])
        elif line.startswith(b"event:"):
            name = line[6:].strip().decode("utf-8", "replace")
    if not data and not name:
        return None
    return name, b"\n".join(data)


def render(name: str, data: bytes) -> bytes:
    """One event as Anthropic's clients want it: the `event:` line is required."""
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"
