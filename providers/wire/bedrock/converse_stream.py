"""ConverseStream's frames, read into Anthropic's events."""

import re
from typing import Any

import msgspec

from providers.types import Model, Target
from providers.wire.bedrock.converse_answer import Answer, Content, Counts, ToolUse, text_alone, update_usage
from providers.wire.bedrock.converse_response import add_whole
from providers.wire.bedrock.errors import failure_in_stream
from providers.wire.bedrock.frames import BrokenFrame, FrameReader, Head
from providers.wire.bedrock.signatures import prefix
from providers.wire.blocks import TOOL
from providers.wire.decoder import UNREADABLE, AnswerDecoder
from providers.wire.emitters import SseEmitter
from providers.wire.errors import error_parts
from providers.wire.request import MessagesRequest
from providers.wire.runs import TextRuns

DELTA = "contentBlockDelta"
END = b"\n"
"""Between frames that are looked at together: no JSON text holds it."""
MAX_WHOLE = 64 * 1024 * 1024
PADDING = re.compile(rb'"p": ?"([A-Za-z0-9]*)')
"""The padding by which Amazon hides how long a token is."""


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


class ConverseStreamDecoder(AnswerDecoder):
    """Bytes may be cut anywhere. `metadata`, with the usage, comes after the stop: the answer ends with it,
    or with the stream. A model that cannot stream sends JSON instead of frames, which is one answer."""

    def __init__(self, *, request: MessagesRequest, target: Target, model: Model) -> None:
        emitter = SseEmitter(model_name=model.name, signature=prefix(model))
        self._answer = Answer(emitter, request=request, target=target, model=model)
        self._frames = FrameReader()
        self._whole: list[bytes] | None = None
        """The pieces of an answer that is not streamed."""
        self._size = 0
        self._has_usage = False
        super().__init__(self._answer, emitter=emitter, request=request, target=target, runs=TextRuns(PADDING))

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
            for head, payloads in self._frames.feed(data):
                self._take(head, payloads)
        except BrokenFrame:
            self._break("sent a broken event stream")
        except UNREADABLE:
            self._break("sent an event that cannot be read")
        return self._taken()

    def close(self) -> bytes:
        if self._is_over():
            return b""
        if self._whole is not None:
            self.failure = add_whole(self._answer, b"".join(self._whole), self._target)
        if self.failure is None and self._answer.stopped:
            self._end(*self._answer.end())
        elif self.failure is None:
            self._break("cut its answer off before the end")
        return self._taken()

    def _keep(self, data: bytes) -> None:
        assert self._whole is not None
        self._whole.append(data)
        if self._size > MAX_WHOLE:
            self._break("sent an answer of more than 64 MiB")

    def _take(self, head: Head, payloads: list[bytes]) -> None:
        """Frames with the same headers."""
        start, decode_until = 0, 0
        while start < len(payloads) and not self._is_over():
            payload = payloads[start]
            if start >= decode_until and head.name == DELTA and self._is_known(payload):
                known = END.join(payloads[start:]) + END
                passed = len(self._pass_on(known).texts)
                if passed:
                    start += passed
                    continue
                decode_until = len(payloads)
            kind, name, message = head
            if kind == "event":
                self._event(name, payload)
            else:
                said = message or error_parts(payload)[1]
                self.failure = failure_in_stream(name, said, target=self._target)
            start += 1

    def _event(self, name: str, payload: bytes) -> None:
        match name:
            case _ if name == DELTA:
                delta = _delta.decode(payload)
                self._answer.add(delta.content_block_index, delta.delta)
                if text := text_alone(delta.delta):
                    self._runs.learn(payload + END, text, self._answer.place)
            case "contentBlockStart":
                started = _start.decode(payload)
                if started.start.tool_use is not None:
                    self._answer.sequence.start(started.content_block_index, TOOL, started.start.tool_use.name)
            case "contentBlockStop":
                self._answer.sequence.stop(_event.decode(payload).content_block_index)
            case "messageStop":
                stop = _stop.decode(payload)
                self.failure = self._answer.stop(stop.stop_reason, stop.additional_model_response_fields)
            case "metadata":
                told = _metadata.decode(payload).usage
                if told is not None:
                    update_usage(self.usage, told)
                self._has_usage = True
        if self._has_usage and self._answer.stopped:
            self._end(*self._answer.end())
