"""One answer out of several steps of a model. Pure.

The client sees a single Message: one message_start, blocks numbered densely from 0, one
message_delta with the usage of all steps. What a step says before its first tool call passes
at once; from that call on its blocks wait, so that searches can stand before the client's calls.
"""

from dataclasses import dataclass, field
from typing import Any

import msgspec

from gateway.websearch.blocks import Block, events_of
from providers.wire.sse import render

_encode = msgspec.json.encode
MESSAGE_STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
TOOL_CALL = "tool_use"


@dataclass(slots=True)
class Step:
    """What the model said in one step. `waiting` are the blocks the client has not got yet."""

    blocks: list[Block] = field(default_factory=list)
    waiting: list[Block] = field(default_factory=list)
    ending: dict[str, Any] = field(default_factory=dict)
    """Of message_delta's `delta`, or the same fields of a whole Message."""
    usage: dict[str, Any] = field(default_factory=dict)

    @property
    def stop_reason(self) -> str:
        return str(self.ending.get("stop_reason") or "")


class Weaver:
    def __init__(self) -> None:
        self.content: list[dict[str, Any]] = []
        self.usage: dict[str, Any] = {}
        self.searches = 0
        self.step = Step()
        self._message: dict[str, Any] = {}
        self._open: dict[int, tuple[Block, int | None]] = {}

    def begin_step(self) -> None:
        self.step = Step()
        self._open = {}

    # -- a streamed step

    def feed(self, events: bytes) -> bytes:
        """What of a step's `events`, which are whole, the client gets now."""
        return b"".join(self._event(part) for part in events.split(b"\n\n") if part)

    def _event(self, part: bytes) -> bytes:
        name, data = _read(part)
        match name:
            case "message_start":
                return self._start(data)
            case "content_block_start":
                return self._block_start(data)
            case "content_block_delta":
                return self._block_delta(part, data)
            case "content_block_stop":
                return self._block_stop(data)
            case "message_delta":
                self.step.ending = data.get("delta") or {}
                self.step.usage = _updated(self.step.usage, _told(data.get("usage")))
                return b""
            case "message_stop":
                return b""
        return part + b"\n\n"

    def _start(self, data: dict[str, Any]) -> bytes:
        message = data.get("message") or {}
        self.step.usage = _told(message.get("usage"))
        if self._message:
            return b""
        self._message = message
        return _event("message_start", data)

    def _block_start(self, data: dict[str, Any]) -> bytes:
        block = Block(dict(data.get("content_block") or {}))
        self.step.blocks.append(block)
        if self.step.waiting or block.type == TOOL_CALL:
            self.step.waiting.append(block)
            self._open[data["index"]] = (block, None)
            return b""
        index = len(self.content)
        self.content.append(block.value)
        self._open[data["index"]] = (block, index)
        return _event("content_block_start", data | {"index": index})

    def _block_delta(self, part: bytes, data: dict[str, Any]) -> bytes:
        block, index = self._open.get(data["index"], (None, None))
        if block is None:
            return b""
        block.add(data.get("delta") or {})
        if index is None:
            return b""
        return part + b"\n\n" if index == data["index"] else _event("content_block_delta", data | {"index": index})

    def _block_stop(self, data: dict[str, Any]) -> bytes:
        block, index = self._open.pop(data["index"], (None, None))
        if block is None:
            return b""
        block.finish()
        return b"" if index is None else _event("content_block_stop", data | {"index": index})

    # -- a whole step

    def take(self, message: dict[str, Any]) -> None:
        """A step that was not streamed."""
        self._message = self._message or {key: value for key, value in message.items() if key != "content"}
        self.step.usage = _told(message.get("usage"))
        self.step.ending = {
            key: message[key] for key in ("stop_reason", "stop_sequence", "safeguard_results") if key in message
        }
        for value in message.get("content") or ():
            block = Block(value)
            self.step.blocks.append(block)
            if self.step.waiting or block.type == TOOL_CALL:
                self.step.waiting.append(block)
            else:
                self.content.append(value)

    # -- what CCM says itself

    def emit(self, block: Block) -> bytes:
        """`block` as the next one of the answer, as a stream's events."""
        self.content.append(block.value)
        return events_of(block, len(self.content) - 1)

    def end_step(self) -> None:
        """Add up the step's usage."""
        self.usage = _sum(self.usage, self.step.usage)

    def ending(self, stop_reason: str) -> bytes:
        """The stream's last events."""
        delta = {"stop_sequence": None} | self.step.ending | {"stop_reason": stop_reason}
        return _event("message_delta", {"delta": delta, "usage": self._whole_usage()}) + MESSAGE_STOP

    def whole(self, stop_reason: str) -> bytes:
        """The whole Message."""
        message = self._message | {"content": self.content} | self.step.ending
        return _encode(message | {"stop_reason": stop_reason, "usage": self._whole_usage()})

    def _whole_usage(self) -> dict[str, Any]:
        return self.usage | {"server_tool_use": {"web_search_requests": self.searches, "web_fetch_requests": 0}}


def _event(name: str, data: dict[str, Any]) -> bytes:
    return render(name, _encode({"type": name} | data))


def _read(part: bytes) -> tuple[str, dict[str, Any]]:
    """An event's type and data; the decoders of the wires have made sure of its form, and what
    they have only passed on has the type ""."""
    data = b"\n".join(line[5:].strip() for line in part.split(b"\n") if line.startswith(b"data:"))
    try:
        told = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "", {}
    if not isinstance(told, dict):
        return "", {}
    name = str(told.get("type", ""))
    return ("" if name.startswith("content_block") and not isinstance(told.get("index"), int) else name), told


def _told(usage: Any) -> dict[str, Any]:
    return {key: value for key, value in usage.items() if value is not None} if isinstance(usage, dict) else {}


def _updated(known: dict[str, Any], told: dict[str, Any]) -> dict[str, Any]:
    """A later event's zero replaces no earlier number: some servers repeat them as zeros."""
    return known | {key: value for key, value in told.items() if value or not known.get(key)}


def _sum(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Counts are added, in nested objects too; anything else is the later one's."""
    total = dict(one)
    for key, value in other.items():
        known = total.get(key)
        if isinstance(value, dict) and isinstance(known, dict):
            total[key] = _sum(known, value)
        elif isinstance(value, int) and isinstance(known, int):
            total[key] = known + value
        else:
            total[key] = value
    return total
