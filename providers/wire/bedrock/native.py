"""Claude models on Bedrock: Anthropic's requests and answers, in Amazon's frames."""

from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import msgspec

from providers.types import Model, Target, UpstreamFailure
from providers.wire.anthropic import AnthropicWire
from providers.wire.anthropic_stream import (
    DELTA,
    MESSAGE_STOP,
    NEXT_DELTA,
    UNREADABLE,
    AnthropicStreamDecoder,
    BlockDelta,
    chars_of,
)
from providers.wire.base import OutboundRequest
from providers.wire.bedrock.claude import body_of
from providers.wire.bedrock.counting import COUNTING_TOKENS, counting, decoded_count
from providers.wire.bedrock.errors import failure_in_stream, failure_of_answer
from providers.wire.bedrock.families import model_id
from providers.wire.bedrock.frames import BrokenFrame, FrameReader
from providers.wire.bedrock.urls import outbound
from providers.wire.errors import broken_answer, error_parts
from providers.wire.request import MessagesRequest
from providers.wire.sse import render

PLAIN_DELTA = b'{"type":"content_block_delta",'
TYPE = b'{"type":"'
END = b"\n\n"


class _Part(msgspec.Struct, gc=False):
    data: bytes = msgspec.field(name="bytes", default=b"")


class _Typed(msgspec.Struct):
    type: str = ""


class _TypedDelta(BlockDelta, gc=False):
    type: Literal["content_block_delta"]


_part = msgspec.json.Decoder(_Part)
_parts = msgspec.json.Decoder(list[_Part])
_typed = msgspec.json.Decoder(_Typed)
_deltas = msgspec.json.Decoder(list[_TypedDelta])


class NativeWire(AnthropicWire):
    name = "bedrock"

    def encode(
        self,
        request: MessagesRequest,
        *,
        target: Target,
        model: Model,  # noqa: ARG002  the model speaks Anthropic's format and judges for itself
        max_tokens: int,
        client_headers: Mapping[str, str],
    ) -> OutboundRequest:
        name = model_id(target.actual_model)
        betas = client_headers.get("anthropic-beta", "")
        body = body_of(request, model_id=name, max_tokens=max_tokens, betas=betas)
        action = "invoke-with-response-stream" if request.stream else "invoke"
        return outbound(target, name, action, body, streamed=request.stream)

    def encode_count(
        self,
        request: MessagesRequest,
        *,
        target: Target,
        model: Model,  # noqa: ARG002  as above
        client_headers: Mapping[str, str],
    ) -> OutboundRequest:
        name = model_id(target.actual_model)
        asked = request.with_fields(max_tokens=COUNTING_TOKENS)
        betas = client_headers.get("anthropic-beta", "")
        return counting(
            target, {"invokeModel": {"body": body_of(asked, model_id=name, max_tokens=COUNTING_TOKENS, betas=betas)}}
        )

    def decode_count(self, body: bytes, *, target: Target) -> int:
        return decoded_count(body, target)

    def stream_decoder(
        self,
        *,
        request: MessagesRequest,  # noqa: ARG002  the answer is Anthropic's already
        target: Target,
        model: Model,
    ) -> "NativeStreamDecoder":
        return NativeStreamDecoder(target=target, model_name=model.name)

    def decode_error(self, status: int, headers: Mapping[str, str], body: bytes, *, target: Target) -> UpstreamFailure:
        return failure_of_answer(status, headers, body, target=target)


class NativeStreamDecoder(AnthropicStreamDecoder):
    """Takes Anthropic's events out of the frames' `bytes`."""

    def __init__(self, *, target: Target, model_name: str) -> None:
        super().__init__(target=target, model_name=model_name)
        self._where = target
        self._frames = FrameReader()

    def feed(self, data: bytes) -> bytes:
        if self._is_over():
            return b""
        failure: UpstreamFailure | None = None
        payloads: list[bytes] = []
        try:
            frames = self._frames.feed(data)
        except BrokenFrame:
            frames, failure = [], broken_answer(self._where, "sent a broken event stream")
        for (kind, name, message), told_by in frames:
            if kind != "event":
                failure = failure_in_stream(name, message or error_parts(told_by[0])[1], target=self._where)
                break
            if name == "chunk":
                payloads += told_by
        events, unread = _events_in(payloads)
        passed: list[bytes] = []
        for part in _parted(events):
            if whole := self._only_deltas(part):
                passed.append(whole)
                continue
            told, unknown = _until_broken(_as_sse, part)
            passed.append(super().feed(b"".join(told)))
            unread = unread or unknown
            if unknown or self._is_over():
                break
        if unread:
            failure = broken_answer(self._where, "sent an event that cannot be read")
        if failure is not None and not self._is_over():
            self.failure = failure
        return b"".join(passed)

    def _only_deltas(self, events: list[bytes]) -> bytes:
        """What is passed on for nothing but deltas, which are then counted; b"" for others."""
        if self._renumbers or not _is_delta(events[0]):
            return b""
        joined = b",".join(events)
        if b"\n" in joined:
            return b""
        try:
            told = _deltas.decode(b"[%b]" % joined)
        except UNREADABLE:
            return b""
        if len(told) != len(events):
            return b""
        self.output_chars += chars_of(told)
        return DELTA + NEXT_DELTA.join(events) + END


def _parted(events: list[bytes]) -> list[list[bytes]]:
    """`events` in turn: what is before the first delta, what is after the last, and what is between; none empty."""
    start, end = 0, len(events)
    while start < end and not _is_delta(events[start]):
        start += 1
    while start < end and not _is_delta(events[end - 1]):
        end -= 1
    return [part for part in (events[:start], events[start:end], events[end:]) if part]


def _is_delta(event: bytes) -> bool:
    return event.startswith(PLAIN_DELTA)


def _events_in(payloads: list[bytes]) -> tuple[list[bytes], bool]:
    """The event in each payload, up to the first that cannot be read; and whether there is one."""
    try:
        return [part.data for part in _parts.decode(b"[" + b",".join(payloads) + b"]")], False
    except UNREADABLE:
        return _until_broken(lambda payload: _part.decode(payload).data, payloads)


def _until_broken(read: Callable[[bytes], bytes], given: Iterable[bytes]) -> tuple[list[bytes], bool]:
    done: list[bytes] = []
    try:
        done.extend(map(read, given))  # keeps what was read before the broken one
    except UNREADABLE:
        return done, True
    return done, False


def _as_sse(data: bytes) -> bytes:
    """An event as it is sent over SSE, in one line. Amazon adds its own measurements to the last one."""
    if b"\n" in data or b"\r" in data:
        data = msgspec.json.format(data, indent=-1)
    name = data[len(TYPE) :].partition(b'"')[0].decode() if data.startswith(TYPE) else _typed.decode(data).type
    return MESSAGE_STOP if name == "message_stop" else render(name, data)
