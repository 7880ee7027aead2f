"""Claude models on Bedrock: Anthropic's requests and answers, in Amazon's frames."""

from collections.abc import Mapping

import msgspec

from providers.types import Model, Target, UpstreamFailure
from providers.wire.anthropic import AnthropicWire
from providers.wire.anthropic_stream import DELTA, MESSAGE_STOP, AnthropicStreamDecoder
from providers.wire.base import OutboundRequest
from providers.wire.bedrock.claude import body_of
from providers.wire.bedrock.counting import COUNTING_TOKENS, counting, decoded_count
from providers.wire.bedrock.errors import failure_in_stream, failure_of_answer
from providers.wire.bedrock.families import model_id
from providers.wire.bedrock.frames import BrokenFrame, Frame, FrameReader
from providers.wire.bedrock.urls import outbound
from providers.wire.errors import broken_answer, error_parts
from providers.wire.request import MessagesRequest
from providers.wire.sse import render

PLAIN_DELTA = b'{"type":"content_block_delta",'
TYPE = b'{"type":"'


class _Part(msgspec.Struct):
    data: bytes = msgspec.field(name="bytes", default=b"")


class _Typed(msgspec.Struct):
    type: str = ""


_part = msgspec.json.Decoder(_Part)
_typed = msgspec.json.Decoder(_Typed)
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


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
        events: list[bytes] = []
        failure: UpstreamFailure | None = None
        try:
            for frame in self._frames.feed(data):
                if frame.kind != "event":
                    said = frame.message or error_parts(frame.payload)[1]
                    failure = failure_in_stream(frame.name, said, target=self._where)
                    break
                if frame.name == "chunk":
                    events.append(_event(frame))
        except BrokenFrame:
            failure = broken_answer(self._where, "sent a broken event stream")
        except UNREADABLE:
            failure = broken_answer(self._where, "sent an event that cannot be read")
        passed = super().feed(b"".join(events)) if events else b""
        if failure is not None and not self._is_over():
            self.failure = failure
        return passed


def _event(frame: Frame) -> bytes:
    """The frame's event as SSE. Amazon adds its own measurements to the last one."""
    data = _part.decode(frame.payload).data
    if data.startswith(PLAIN_DELTA):
        return DELTA + data + b"\n\n"
    name = data[len(TYPE) :].partition(b'"')[0].decode() if data.startswith(TYPE) else _typed.decode(data).type
    return MESSAGE_STOP if name == "message_stop" else render(name, data)
