"""Anthropic's events and Messages, as the pipeline sends them, typed for rendering."""

from collections.abc import Iterator
from typing import Any

import msgspec

from providers.wire.sse import SseParser


class Delta(msgspec.Struct):
    type: str = ""
    text: str = ""
    thinking: str = ""
    partial_json: str = ""
    signature: str = ""
    citation: dict[str, Any] | None = None
    stop_reason: str | None = None


class Event(msgspec.Struct):
    type: str = ""
    message: dict[str, Any] | None = None
    content_block: dict[str, Any] | None = None
    delta: Delta | None = None
    usage: dict[str, Any] | None = None
    error: dict[str, Any] | None = None


_event = msgspec.json.Decoder(Event)


def events_in(parser: SseParser, data: bytes) -> Iterator[Event]:
    """The events in `data`; what is none of Anthropic's, or none we know, is passed over."""
    for _, payload in parser.feed(data):
        try:
            yield _event.decode(payload)
        except (msgspec.DecodeError, RecursionError):
            continue


def events_of(message: dict[str, Any]) -> Iterator[Event]:
    """A whole Message as the events that a stream of it would have."""
    yield Event("message_start", message={**message, "content": []})
    for block in message.get("content") or []:
        yield Event("content_block_start", content_block=block)
        yield from (Event("content_block_delta", delta=delta) for delta in _deltas_of(block))
        yield Event("content_block_stop")
    yield Event("message_delta", delta=Delta(stop_reason=message.get("stop_reason")), usage=message.get("usage") or {})
    yield Event("message_stop")


def _deltas_of(block: dict[str, Any]) -> Iterator[Delta]:
    match block.get("type"):
        case "text":
            yield Delta("text_delta", text=block.get("text") or "")
            yield from (Delta("citations_delta", citation=citation) for citation in block.get("citations") or [])
        case "thinking":
            yield Delta("thinking_delta", thinking=block.get("thinking") or "")
            yield Delta("signature_delta", signature=block.get("signature") or "")
        case "tool_use" | "server_tool_use":
            yield Delta("input_json_delta", partial_json=msgspec.json.encode(block.get("input") or {}).decode())


class Tokens:
    """Usage as it is told: in the beginning, and again in the end."""

    def __init__(self) -> None:
        self._told: dict[str, Any] = {}

    def add(self, usage: dict[str, Any] | None) -> None:
        self._told |= {name: value for name, value in (usage or {}).items() if value is not None}

    def _count(self, name: str) -> int:
        value = self._told.get(name)
        return value if isinstance(value, int) else 0

    @property
    def cached(self) -> int:
        return self._count("cache_read_input_tokens")

    @property
    def written(self) -> int:
        return self._count("cache_creation_input_tokens")

    @property
    def prompt(self) -> int:
        """All input: OpenAI counts cached tokens in."""
        return self._count("input_tokens") + self.cached + self.written

    @property
    def output(self) -> int:
        return self._count("output_tokens")

    @property
    def reasoning(self) -> int:
        details = self._told.get("output_tokens_details")
        value = details.get("thinking_tokens") if isinstance(details, dict) else None
        return value if isinstance(value, int) else 0
