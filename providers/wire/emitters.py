"""Where an answer's blocks go: into Anthropic's event stream, or into a whole Message.

An emitter gets blocks one after the other (translation.md 1.8, rule 2 of the ten): open, any
number of pieces, close. It numbers them densely from 0.
"""

import secrets
from typing import Any, Protocol

import msgspec

from providers.types import Usage

_encode = msgspec.json.encode
BLOCK_STOP = b'event: content_block_stop\ndata: {"type":"content_block_stop","index":%d}\n\n'
BLOCK_START = b'event: content_block_start\ndata: {"type":"content_block_start","index":%d,"content_block":%b}\n\n'
DELTA = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":{"type":"%b","%b":'
DELTA_END = b"}}\n\n"
TEXT = b'{"type":"text","text":""}'
THINKING = b'{"type":"thinking","thinking":"","signature":""}'
MESSAGE_STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'


def new_message_id() -> str:
    return "msg_" + secrets.token_hex(12)


def new_tool_id() -> str:
    """Always our own: clients need ids that are unique in the whole session."""
    return "toolu_" + secrets.token_hex(12)


class Emitter(Protocol):
    def open_text(self) -> None: ...

    def open_thinking(self) -> None: ...

    def open_tool(self, name: str) -> None: ...

    def open_server_tool(self, tool_id: str, name: str) -> None: ...

    def piece(self, text: str) -> None:
        """The next piece of the open block: text, thinking, or a tool's input as JSON text."""

    def sign(self, signature: str) -> None:
        """What the open thinking block is signed with, instead of the usual signature."""

    def cite(self, citation: dict[str, Any]) -> None:
        """A citation of the open text block."""

    def block(self, block: dict[str, Any]) -> None:
        """A block that has no pieces, whole."""

    def close(self) -> None: ...


class SseEmitter:
    """Writes events. `index` is the open block's, -1 before the first; `take` hands them out.
    `signature` is what thinking blocks are signed with unless they are signed otherwise."""

    def __init__(self, *, model_name: str, signature: str) -> None:
        self._model_name = model_name
        self._usual_signature = signature
        self._signature = signature
        self._events: list[bytes] = []
        self._delta = b""
        self._thinking = False
        self.index = -1

    @property
    def started(self) -> bool:
        return self.index >= 0

    def take(self) -> bytes:
        if not self._events:
            return b""
        events, self._events = b"".join(self._events), []
        return events

    def open_text(self) -> None:
        self._open(TEXT, b"text_delta", b"text")

    def open_thinking(self) -> None:
        self._open(THINKING, b"thinking_delta", b"thinking")
        self._signature = self._usual_signature
        self._thinking = True

    def open_tool(self, name: str) -> None:
        block = {"type": "tool_use", "id": new_tool_id(), "name": name, "input": {}}
        self._open(_encode(block), b"input_json_delta", b"partial_json")

    def open_server_tool(self, tool_id: str, name: str) -> None:
        block = {"type": "server_tool_use", "id": tool_id, "name": name, "input": {}}
        self._open(_encode(block), b"input_json_delta", b"partial_json")

    def _open(self, block: bytes, delta: bytes, field: bytes) -> None:
        if not self.started:
            self.start()
        self.index += 1
        self._events.append(BLOCK_START % (self.index, block))
        self._delta = DELTA % (self.index, delta, field)
        self._thinking = False

    def piece(self, text: str) -> None:
        self._events.append(self._delta + _encode(text) + DELTA_END)

    def pass_on(self, texts: list[bytes]) -> None:
        """`piece` for each of `texts`, which are the insides of JSON strings already."""
        start, end = self._delta + b'"', b'"' + DELTA_END
        self._events.append(start + (end + start).join(texts) + end)

    def sign(self, signature: str) -> None:
        self._signature = signature

    def cite(self, citation: dict[str, Any]) -> None:
        delta = DELTA % (self.index, b"citations_delta", b"citation")
        self._events.append(delta + _encode(citation) + DELTA_END)

    def block(self, block: dict[str, Any]) -> None:
        self._open(_encode(block), b"", b"")
        self.close()

    def close(self) -> None:
        if self._thinking:
            signature = DELTA % (self.index, b"signature_delta", b"signature")
            self._events.append(signature + _encode(self._signature) + DELTA_END)
        self._events.append(BLOCK_STOP % self.index)

    def start(self) -> None:
        message = message_object(new_message_id(), self._model_name)
        self._event("message_start", {"type": "message_start", "message": message})

    def stop(self, stop_reason: str, stop_sequence: str | None, usage: Usage, **details: Any) -> None:
        """The stream's regular end. `details` are what belongs to the reason."""
        if not self.started:
            self.start()
        delta = {"stop_reason": stop_reason, "stop_sequence": stop_sequence, **details}
        self._event("message_delta", {"type": "message_delta", "delta": delta, "usage": usage_object(usage)})
        self._events.append(MESSAGE_STOP)

    def _event(self, name: str, data: dict[str, Any]) -> None:
        self._events.append(b"event: %b\ndata: %b\n\n" % (name.encode(), _encode(data)))


class MessageEmitter:
    """Collects the content of a whole Message."""

    def __init__(self, *, signature: str) -> None:
        self._signature = signature
        self._block: dict[str, Any] = {}
        self._pieces: list[str] = []
        self.content: list[dict[str, Any]] = []

    def open_text(self) -> None:
        self._open({"type": "text", "text": ""})

    def open_thinking(self) -> None:
        self._open({"type": "thinking", "thinking": "", "signature": self._signature})

    def open_tool(self, name: str) -> None:
        self._open({"type": "tool_use", "id": new_tool_id(), "name": name, "input": {}})

    def open_server_tool(self, tool_id: str, name: str) -> None:
        self._open({"type": "server_tool_use", "id": tool_id, "name": name, "input": {}})

    def _open(self, block: dict[str, Any]) -> None:
        self._block, self._pieces = block, []
        self.content.append(block)

    def piece(self, text: str) -> None:
        self._pieces.append(text)

    def sign(self, signature: str) -> None:
        self._block["signature"] = signature

    def cite(self, citation: dict[str, Any]) -> None:
        self._block.setdefault("citations", []).append(citation)

    def block(self, block: dict[str, Any]) -> None:
        self.content.append(block)

    def close(self) -> None:
        kind, text = self._block["type"], "".join(self._pieces)
        if kind in {"tool_use", "server_tool_use"}:
            self._block["input"] = tool_input(text)
        else:
            self._block[kind] = text


def tool_input(text: str) -> dict[str, Any]:
    """The input that a tool's JSON `text` describes. Broken JSON reaches the client under a key
    that no tool has, so that it tells the model instead of running the tool with less input
    (the way that Anthropic's documentation recommends)."""
    try:
        told = msgspec.json.decode(text) if text else {}
    except (msgspec.DecodeError, RecursionError):
        told = None
    return told if isinstance(told, dict) else {"INVALID_JSON": text}


def message_object(
    message_id: str,
    model_name: str,
    *,
    content: list[dict[str, Any]] | None = None,
    stop_reason: str | None = None,
    stop_sequence: str | None = None,
    usage: Usage | None = None,
) -> dict[str, Any]:
    return {
        "id": message_id,
        "type": "message",
        "role": "assistant",
        "model": model_name,
        "content": content or [],
        "stop_reason": stop_reason,
        "stop_sequence": stop_sequence,
        "usage": usage_object(usage or Usage()),
    }


def usage_object(usage: Usage) -> dict[str, Any]:
    """Anthropic's `usage`. What the provider has not told is zero."""
    told: dict[str, Any] = {
        "input_tokens": usage.input_tokens or 0,
        "cache_creation_input_tokens": usage.cache_write_tokens or 0,
        "cache_read_input_tokens": usage.cache_read_tokens or 0,
        "output_tokens": usage.output_tokens or 0,
    }
    if usage.reasoning_tokens is not None:
        told["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    if usage.web_searches:
        told["server_tool_use"] = {"web_search_requests": usage.web_searches, "web_fetch_requests": 0}
    return told
