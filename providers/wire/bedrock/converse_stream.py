"""ConverseStream's frames, read into Anthropic's events."""

from typing import Any

import msgspec

from providers.types import Model, Target, UpstreamFailure
from providers.wire.bedrock.converse_answer import Answer, Content, Counts, ToolUse, update_usage
from providers.wire.bedrock.converse_response import add_whole
from providers.wire.bedrock.errors import broken_answer, failure_in_stream
from providers.wire.bedrock.frames import BrokenFrame, Frame, FrameReader
from providers.wire.bedrock.signatures import prefix
from providers.wire.errors import error_parts
from providers.wire.request import MessagesRequest
from providers.wire.sequence import BlockSseEmitter

MAX_WHOLE = 64 * 1024 * 1024
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class _Event(msgspec.Struct, rename="camel"):
    content_block_index: int = 0


class _Delta(_Event):
    delta: Content = msgspec.field(default_factory=Content)


class _Started(msgspec.Struct, rename="camel"):
    tool_use: ToolUse | None = None


class _Start(_Event):
    start: _Started = msgspec.field(default_factory=_Started)


class _Stop(msgspec.Struct, rename="camel"):
    stop_reason: str = ""
    additional_model_response_fields: Any = None


class _Metadata(msgspec.Struct):
    usage: Counts | None = None


_event = msgspec.json.Decoder(_Event)
_delta = msgspec.json.Decoder(_Delta)
_start = msgspec.json.Decoder(_Start)
_stop = msgspec.json.Decoder(_Stop)
_metadata = msgspec.json.Decoder(_Metadata)


class ConverseStreamDecoder:
    """See `StreamDecoder`. Bytes may be cut anywhere.

    `metadata`, with the usage, comes after the stop: the answer ends with it, or with the stream. A model
    that cannot stream sends JSON instead of frames, which is one answer."""

    def __init__(self, *, request: MessagesRequest, target: Target, model: Model) -> None:
        self._target = target
        self._frames = FrameReader()
        self._emitter = BlockSseEmitter(model_name=model.name, signature=prefix(model))
        self._answer = Answer(self._emitter, request=request, target=target, model=model)
        self._blocks = self._answer.blocks
        self._whole: list[bytes] | None = None
        """The pieces of an answer that is not streamed."""
        self._size = 0
        self._has_usage = False
        self.usage = self._answer.usage
        self.has_content = False
        self.finished = False
        self.failure: UpstreamFailure | None = None
        self.stop_reason: str | None = None
        self.output_chars = 0
        self.open_thinking_index: int | None = None

    def feed(self, data: bytes) -> bytes:
        if self._is_over() or not data:
            return b""
        if self._size == 0 and data[:1] in {b"{", b"<", b" ", b"\n"}:
            # The length of a first frame never begins like that.
            self._whole = []
        self._size += len(data)
        if self._whole is not None:
            self._keep(data)
            return b""
        try:
            for frame in self._frames.feed(data):
                self._take(frame)
                if self._is_over():
                    break
        except BrokenFrame:
            self.failure = broken_answer(self._target, "sent a broken event stream")
        except UNREADABLE:
            self.failure = broken_answer(self._target, "sent an event that cannot be read")
        return self._taken()

    def close(self) -> bytes:
        if self._is_over():
            return b""
        if self._whole is not None:
            self.failure = add_whole(self._answer, b"".join(self._whole), self._target)
        if self.failure is None and self._answer.stopped:
            self._end()
        elif self.failure is None:
            self.failure = broken_answer(self._target, "cut its answer off before the end")
        return self._taken()

    def _keep(self, data: bytes) -> None:
        assert self._whole is not None
        self._whole.append(data)
        if self._size > MAX_WHOLE:
            self.failure = broken_answer(self._target, "sent an answer of more than 64 MiB")

    def _is_over(self) -> bool:
        return self.failure is not None or self.finished

    def _take(self, frame: Frame) -> None:
        if frame.kind != "event":
            said = frame.message or error_parts(frame.payload)[1]
            self.failure = failure_in_stream(frame.name, said, target=self._target)
            return
        match frame.name:
            case "contentBlockDelta":
                delta = _delta.decode(frame.payload)
                self._answer.add(delta.content_block_index, delta.delta)
            case "contentBlockStart":
                started = _start.decode(frame.payload)
                if started.start.tool_use is not None:
                    self._blocks.start(started.content_block_index, "tool", started.start.tool_use.name)
            case "contentBlockStop":
                self._blocks.stop(_event.decode(frame.payload).content_block_index)
            case "messageStop":
                stop = _stop.decode(frame.payload)
                self.failure = self._answer.stop(stop.stop_reason, stop.additional_model_response_fields)
            case "metadata":
                told = _metadata.decode(frame.payload).usage
                if told is not None:
                    update_usage(self.usage, told)
                self._has_usage = True
        if self._has_usage and self._answer.stopped:
            self._end()

    def _end(self) -> None:
        self.stop_reason, stop_sequence = self._answer.end()
        self._emitter.stop(self.stop_reason, stop_sequence, self.usage)
        self.finished = True

    def _taken(self) -> bytes:
        self.has_content = self._emitter.started or self.finished
        self.output_chars = self._blocks.chars
        self.open_thinking_index = self._emitter.index if self._blocks.open == "thinking" else None
        return self._emitter.take()
