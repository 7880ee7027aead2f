"""What a fake provider can be told to do with a request, in no wire's terms."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import count
from typing import Any

SIGNATURE_PREFIX = "fake-signature-"
"""The fake Anthropic server takes thinking back only with a signature of its own, as the real one does."""

_numbers = count(1)


def unique(prefix: str) -> str:
    """An id that no other answer of this process has."""
    return f"{prefix}{next(_numbers):06d}"


@dataclass(frozen=True)
class Text:
    text: str
    pieces: int = 0
    """Streamed in so many deltas; 0: a word each."""


@dataclass(frozen=True)
class Thinking:
    text: str
    signature: str = field(default_factory=lambda: unique(SIGNATURE_PREFIX))


@dataclass(frozen=True)
class ToolUse:
    name: str
    input: Mapping[str, Any]
    id: str = ""
    """Empty: a new one."""


@dataclass(frozen=True)
class WebSearch:
    """A search that the provider has done itself (Anthropic's server tool), with (title, url) results."""

    query: str
    results: Sequence[tuple[str, str]]


Block = Text | Thinking | ToolUse | WebSearch


@dataclass(frozen=True)
class Tokens:
    """The usage to report, in disjoint classes. The OpenAI wire adds the cached ones to the input."""

    input: int = 100
    output: int = 20
    cache_read: int = 0
    cache_write: int = 0
    cache_write_1h: int = 0
    reasoning: int = 0

    @property
    def prompt(self) -> int:
        return self.input + self.cache_read + self.cache_write + self.cache_write_1h


class End(StrEnum):
    REGULAR = "regular"
    EOF = "eof"
    """A clean end of the body without the wire's own end."""
    RESET = "reset"
    """The connection is reset."""
    STALL = "stall"
    """Nothing more is sent until `resume` of the server is set or the client leaves."""
    ERROR = "error"
    """An error inside the stream whose status was 200."""
    TWICE = "twice"
    """A regular end whose last two events are sent once more."""


@dataclass(frozen=True)
class Reply:
    """An answer with content. Times are seconds.

    `events` cuts the stream after so many events, and `end` says how; a STALL goes on with the
    rest of the answer once it is resumed."""

    blocks: Sequence[Block] = (Text("Hello from the fake provider."),)
    tokens: Tokens | None = Tokens()
    """None: no usage is reported."""
    stop: str = ""
    """Anthropic's stop reason; empty: what the blocks call for."""
    first_byte_after: float = 0.0
    between: float = 0.0
    events: int | None = None
    end: End = End.REGULAR
    error: "Failure | None" = None
    """What an END of ERROR says; None: the wire's overload error."""

    @property
    def stop_reason(self) -> str:
        if self.stop:
            return self.stop
        return "tool_use" if any(isinstance(block, ToolUse) for block in self.blocks) else "end_turn"


@dataclass(frozen=True)
class Failure:
    """An answer that is an error. A text `body` goes out as it is; None: the wire's usual envelope."""

    status: int
    message: str = "The fake provider was told to fail."
    type: str = ""
    body: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"


@dataclass(frozen=True)
class Reset:
    """The connection is reset: before any answer, or, with `after_headers`, right after the status line
    of a streamed answer."""

    after_headers: bool = False


@dataclass(frozen=True)
class Silence:
    """The request is taken and never answered, until the client leaves or the server resumes."""


Answer = Reply | Failure | Reset | Silence


def html(status: int = 200) -> Failure:
    """What a proxy in front of a provider, or a wrong base URL, answers."""
    page = f"<!DOCTYPE html><html><head><title>{status}</title></head><body><h1>Welcome to nginx!</h1></body></html>"
    return Failure(status, body=page, content_type="text/html; charset=utf-8")


def many_deltas(pieces: int = 200, **options: Any) -> Reply:
    """One text in `pieces` deltas of six characters each."""
    text = "".join(f"w{n:04d} " for n in range(pieces))
    return Reply(blocks=[Text(text, pieces=pieces)], **options)


def split(text: str, pieces: int) -> list[str]:
    """`text` in `pieces` parts of about one length, or in words."""
    if pieces <= 0:
        words = text.split(" ")
        return [word + " " for word in words[:-1]] + words[-1:]
    size = max(1, -(-len(text) // pieces))
    return [text[start : start + size] for start in range(0, len(text), size)] or [""]
