"""The tool calls of an answer in Anthropic's form, streamed or whole, and putting results into it. Pure."""

from dataclasses import dataclass
from typing import Any

import msgspec

from providers.wire.sse import render

MAX_INPUT_CHARS = 1_000_000


@dataclass(frozen=True, slots=True)
class ToolCall:
    """`input` is JSON."""

    id: str
    name: str
    input: str


class _Block(msgspec.Struct):
    type: str = ""
    id: str = ""
    name: str = ""
    input: Any = None


class _Delta(msgspec.Struct):
    type: str = ""
    partial_json: str = ""


class _Event(msgspec.Struct):
    type: str
    index: int = -1
    content_block: _Block | None = None
    delta: _Delta | None = None


_event = msgspec.json.Decoder(_Event)
_anything = msgspec.json.Decoder()


class CallCollector:
    """Reads the events of one answer as they are sent on; `feed` takes whole events."""

    def __init__(self) -> None:
        self._open: dict[int, tuple[_Block, list[str]]] = {}
        self._held: list[bytes] = []
        self._holding = False

    def feed(self, data: bytes) -> tuple[bytes, list[ToolCall]]:
        """What may be sent on now, and the calls that `data` completes. From `message_delta` on
        everything is held back: the results belong into it."""
        if not data:
            return b"", []
        calls: list[ToolCall] = []
        passed: list[bytes] = []
        for part in data.split(b"\n\n"):
            if not part:
                continue
            self._holding = self._holding or (b'"message_delta"' in part and _type(part) == "message_delta")
            if self._holding:
                self._held.append(part)
                continue
            passed.append(part)
            call = self._read(part)
            if call is not None:
                calls.append(call)
        return b"".join(part + b"\n\n" for part in passed), calls

    def release(self, results: Any) -> bytes:
        """What was held back, with `results` in its `message_delta`."""
        held, self._held = self._held, []
        return b"".join(_with_results(part, results) for part in held)

    def _read(self, part: bytes) -> ToolCall | None:
        # Only these three concern a call; a text delta that quotes one of the words is decoded in vain.
        if b"tool_use" not in part and b"input_json_delta" not in part and b"content_block_stop" not in part:
            return None
        event = _decoded(part)
        if event is None:
            return None
        if event.type == "content_block_start" and event.content_block and event.content_block.type == "tool_use":
            self._open[event.index] = (event.content_block, [])
        elif event.type == "content_block_delta" and event.delta and event.index in self._open:
            self._open[event.index][1].append(event.delta.partial_json)
        elif event.type == "content_block_stop" and event.index in self._open:
            block, pieces = self._open.pop(event.index)
            streamed = "".join(pieces)
            return ToolCall(block.id, block.name, streamed or msgspec.json.encode(block.input or {}).decode())
        return None


def calls_of_message(message: dict[str, Any]) -> list[ToolCall]:
    """The tool calls of a whole answer."""
    return [
        ToolCall(str(block.get("id", "")), str(block.get("name", "")), msgspec.json.encode(block.get("input")).decode())
        for block in message.get("content") or ()
        if isinstance(block, dict) and block.get("type") == "tool_use"
    ]


def message_with_results(body: bytes, results: Any) -> bytes:
    message = _anything.decode(body)
    message["safeguard_results"] = results
    return msgspec.json.encode(message)


def _data(part: bytes) -> bytes:
    return b"\n".join(line[5:].strip() for line in part.split(b"\n") if line.startswith(b"data:"))


def _decoded(part: bytes) -> _Event | None:
    try:
        return _event.decode(_data(part))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _type(part: bytes) -> str:
    event = _decoded(part)
    return event.type if event else ""


def _with_results(part: bytes, results: Any) -> bytes:
    if b'"message_delta"' in part and _type(part) == "message_delta":
        data = _anything.decode(_data(part))
        data["delta"]["safeguard_results"] = results
        return render("message_delta", msgspec.json.encode(data))
    return part + b"\n\n"
