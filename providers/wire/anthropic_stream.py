"""Watches an Anthropic event stream while its bytes pass through.

Events leave as they came, unknown ones included; only `message.model` is rewritten. What
other servers of this format get wrong is put right: missing `event:` lines, CR line ends,
a repeated message_start, blocks numbered with gaps, a missing stop reason, a missing
message_stop (translation.md 2.2).
"""

import re
from collections.abc import Sequence

import msgspec
from msgspec import Raw

from providers.types import Target, UpstreamFailure, Usage
from providers.wire.anthropic_errors import failure_in_stream
from providers.wire.anthropic_usage import NO_USAGE, update_usage
from providers.wire.errors import broken_answer, error_parts
from providers.wire.sse import MAX_EVENT_BYTES, render

MESSAGE_STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
DELTA = b"event: content_block_delta\ndata: "
DELTA_SIZE = len(DELTA)
NEXT_DELTA = b"\n\n" + DELTA
_DELTAS = re.compile(rb"(?:%b[^\n]*+\n\n)++" % re.escape(DELTA))
PING = b"event: ping\n"
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class _StartedMessage(msgspec.Struct):
    model: str = ""
    usage: Raw = NO_USAGE


class _MessageStart(msgspec.Struct):
    message: _StartedMessage


class _BlockType(msgspec.Struct):
    type: str = ""
    text: str | None = None


class _BlockStart(msgspec.Struct):
    index: int
    content_block: _BlockType


class _Delta(msgspec.Struct, gc=False):
    text: str = ""
    partial_json: str = ""
    thinking: str = ""


class BlockDelta(msgspec.Struct, gc=False):
    delta: _Delta


class _StopReason(msgspec.Struct):
    stop_reason: str | None = None


class _MessageDelta(msgspec.Struct):
    delta: _StopReason
    usage: Raw = NO_USAGE


class _Typed(msgspec.Struct):
    type: str = ""
    error: Raw = Raw(b"")


_message_start = msgspec.json.Decoder(_MessageStart)
_block_start = msgspec.json.Decoder(_BlockStart)
_block_delta = msgspec.json.Decoder(BlockDelta)
_block_deltas = msgspec.json.Decoder(list[BlockDelta])
_message_delta = msgspec.json.Decoder(_MessageDelta)
_typed = msgspec.json.Decoder(_Typed)
_fields = msgspec.json.Decoder(dict[str, Raw])


def renamed(message: bytes | Raw, model_name: str) -> bytes:
    """A Message (JSON) with another `model`, its other fields byte for byte."""
    fields = _fields.decode(message)
    fields["model"] = Raw(msgspec.json.encode(model_name))
    return msgspec.json.encode(fields)


class AnthropicStreamDecoder:
    """See `StreamDecoder`. Bytes may be cut anywhere; an event passes on once it is complete."""

    def __init__(self, *, target: Target, model_name: str) -> None:
        self._target = target
        self._model_name = model_name
        self._buffer = b""
        self._started = False
        self.usage = Usage()
        self.has_content = False
        self.finished = False
        self.failure: UpstreamFailure | None = None
        self.stop_reason: str | None = None
        self.output_chars = 0
        self.open_thinking_index: int | None = None
        self._index = -1
        """The latest block's, counted."""
        self._renumbers = False
        """The server counts otherwise."""
        self._called = False
        self._without_reason = b""
        """A message_delta without a stop reason, as it came: another one may follow it."""

    def feed(self, data: bytes) -> bytes:
        if self._is_over():
            return b""
        buffer = self._buffer + data if self._buffer else data
        if b"\r" in buffer:
            buffer = _line_feeds(buffer)
        end = buffer.rfind(b"\n\n") + 2
        if end < 2:
            self._buffer = buffer
            if len(buffer) > MAX_EVENT_BYTES:
                self.failure = broken_answer(self._target, "sent an event of more than 16 MiB")
            return b""
        self._buffer, events = buffer[end:], buffer[:end]
        if self._counted(events):
            return events
        return self._events(events)

    def close(self) -> bytes:
        if self._is_over():
            return b""
        rest, self._buffer = self._buffer.strip(b"\r\n"), b""
        passed = self._events(rest) if rest and self._looks_like_event(rest) else b""
        if self._is_over():
            return passed
        if self.stop_reason is not None:
            self.finished = True
            return passed + MESSAGE_STOP
        self.failure = self._cut(rest)
        return passed

    def _is_over(self) -> bool:
        return self.failure is not None or self.finished

    def _looks_like_event(self, rest: bytes) -> bool:
        """Whether the unended last event is whole: its JSON must have arrived entirely."""
        _, found, data = rest.partition(b"data:")
        try:
            _typed.decode(data)
        except UNREADABLE:
            return False
        return bool(found)

    def _cut(self, rest: bytes) -> UpstreamFailure:
        if not self._started:
            kind, said = error_parts(rest)
            if said:
                return failure_in_stream(kind, said, target=self._target)
            if rest and not rest.startswith((b"event:", b"data:", b":")):
                return broken_answer(self._target, "answered with something that is not an event stream")
        return broken_answer(self._target, "cut its answer off before the end")

    def _counted(self, events: bytes) -> bool:
        """Whether whole `events` are nothing but deltas, as most are: then they are counted, and pass as they are."""
        if self._renumbers or not events.startswith(DELTA):
            return False
        try:  # what stands between two other events is no JSON
            told = _block_deltas.decode(b"[%b]" % events[DELTA_SIZE:-2].replace(NEXT_DELTA, b","))
        except UNREADABLE:
            return False
        self.output_chars += chars_of(told)
        return True

    def _events(self, events: bytes) -> bytes:
        """Whole events, and at the stream's end one without its blank line. Runs of deltas pass as they are."""
        passed: list[bytes] = []
        start, counted = 0, 0
        while start < len(events) and not self._is_over():
            if start >= counted and (run := _DELTAS.match(events, start)) is not None and not self._renumbers:
                counted = run.end()
                if self._counted(run[0]):
                    passed.append(run[0])
                    start = counted
                    continue
            end = events.find(b"\n\n", start)
            end = len(events) if end < 0 else end
            event, start = events[start:end], end + 2
            if event.startswith(DELTA) and not self._renumbers:
                self._count([event[DELTA_SIZE:]])
            elif not event.startswith(PING):
                event = self._event(event)
            if event and self.failure is None:
                passed += (event, b"\n\n")
        return b"".join(passed)

    def _count(self, deltas: list[bytes]) -> None:
        """Add the characters of `deltas`, each the JSON of a content_block_delta. One that is none counts nothing."""
        try:
            told = _block_deltas.decode(b"[" + b",".join(deltas) + b"]")
        except UNREADABLE:
            told = list(filter(None, map(_delta_of, deltas)))
        self.output_chars += chars_of(told)

    def _event(self, event: bytes) -> bytes:
        """What is to be passed on for `event`, which is no well-formed delta; b"" for nothing."""
        name, data = _name_and_data(event)
        if not data:
            return event
        if not name:
            name = _type_of(data)
            event = render(name, data)[:-2] if name else event
        try:
            return self._known_event(name, data, event)
        except msgspec.ValidationError:
            # JSON of another shape than we know: pass it on, and let the client judge.
            self.has_content = self.has_content or name in {"content_block_start", "message_delta"}
            return event
        except UNREADABLE:
            self.failure = broken_answer(self._target, f"sent a broken {name or 'event'}")
            return b""

    def _known_event(self, name: str, data: bytes, event: bytes) -> bytes:
        match name:
            case "message_start":
                return self._message_start(data, event)
            case "content_block_start":
                self._block_start(data)
                return self._numbered(name, data, event)
            case "content_block_delta":
                self._count([data])
                return self._numbered(name, data, event)
            case "content_block_stop":
                self.open_thinking_index = None
                return self._numbered(name, data, event)
            case "message_delta":
                return self._message_delta(data, event)
            case "message_stop":
                self.has_content = True
                self.finished = True
                return self._missing_reason() + event
            case "error":
                self._error(data)
            case "" if data == b"[DONE]":
                return b""
            case _ if b'"error"' in data and _is_error(data):
                self._error(data)
        return event

    def _message_start(self, data: bytes, event: bytes) -> bytes:
        message = _message_start.decode(data).message
        update_usage(self.usage, message.usage)
        if self._started:
            return b""
        self._started = True
        if message.model == self._model_name:
            return event
        fields = _fields.decode(data)
        fields["message"] = Raw(renamed(fields["message"], self._model_name))
        return b"event: message_start\ndata: " + msgspec.json.encode(fields)

    def _block_start(self, data: bytes) -> None:
        start = _block_start.decode(data)
        self._index += 1
        self._renumbers = self._renumbers or start.index != self._index
        self._called = self._called or start.content_block.type == "tool_use"
        self.has_content = True
        self.output_chars += len(start.content_block.text or "")
        self.open_thinking_index = self._index if start.content_block.type == "thinking" else None

    def _numbered(self, name: str, data: bytes, event: bytes) -> bytes:
        """`event` of the latest block, with the index that clients expect: they append blocks to a list."""
        if not self._renumbers:
            return event
        fields = _fields.decode(data)
        fields["index"] = Raw(b"%d" % self._index)
        return render(name, msgspec.json.encode(fields))[:-2]

    def _message_delta(self, data: bytes, event: bytes) -> bytes:
        told = _message_delta.decode(data)
        self.has_content = True
        self.stop_reason = told.delta.stop_reason or self.stop_reason
        update_usage(self.usage, told.usage)
        if told.delta.stop_reason is not None:
            return event
        earlier, self._without_reason = self._without_reason, data
        return render("message_delta", earlier)[:-2] if earlier else b""

    def _missing_reason(self) -> bytes:
        """The message_delta that no server may leave out: clients run a tool only if its reason says so."""
        data, self._without_reason = self._without_reason, b""
        if self.stop_reason is not None:
            return b""
        self.stop_reason = "tool_use" if self._called else "end_turn"
        fields = (
            _fields.decode(data) if data else {"type": Raw(b'"message_delta"'), "usage": Raw(b'{"output_tokens":0}')}
        )
        fields["delta"] = Raw(msgspec.json.encode({"stop_reason": self.stop_reason, "stop_sequence": None}))
        return render("message_delta", msgspec.json.encode(fields))

    def _error(self, data: bytes) -> None:
        kind, said = error_parts(data)
        self.failure = failure_in_stream(kind, said, target=self._target)


def chars_of(deltas: Sequence[BlockDelta]) -> int:
    """Characters of text, tool input or thinking in all of them."""
    chars = 0
    for each in deltas:
        delta = each.delta
        chars += len(delta.text or delta.partial_json or delta.thinking)
    return chars


def _delta_of(data: bytes) -> BlockDelta | None:
    try:
        return _block_delta.decode(data)
    except UNREADABLE:
        return None


def _line_feeds(buffer: bytes) -> bytes:
    """`buffer` with LF line ends. A CR at its very end stays: it may be half of a CRLF."""
    held = b"\r" if buffer.endswith(b"\r") else b""
    body = buffer[: len(buffer) - len(held)]
    return body.replace(b"\r\n", b"\n").replace(b"\r", b"\n") + held


def _name_and_data(event: bytes) -> tuple[str, bytes]:
    name = ""
    data: list[bytes] = []
    for line in event.split(b"\n"):
        if line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))
        elif line.startswith(b"event:"):
            name = line[6:].strip().decode("utf-8", "replace")
    return name, b"\n".join(data)


def _type_of(data: bytes) -> str:
    try:
        typed = _typed.decode(data)
    except UNREADABLE:
        return ""
    return typed.type or ("error" if bytes(typed.error) else "")


def _is_error(data: bytes) -> bool:
    """Whether an event of another name is an error: `error` at its top level, and not null."""
    try:
        return bytes(_typed.decode(data).error) not in (b"", b"null")
    except UNREADABLE:
        return False
