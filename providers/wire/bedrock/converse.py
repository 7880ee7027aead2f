"""Bedrock's Converse operations, for every model that is not called in Anthropic's format."""

from collections.abc import Mapping

import msgspec
from msgspec import Raw

from providers.types import Model, Target, UpstreamFailure
from providers.wire.base import DecodedResponse, OutboundRequest
from providers.wire.bedrock.converse_request import body_of, streams
from providers.wire.bedrock.converse_response import decoded_response
from providers.wire.bedrock.converse_stream import ConverseStreamDecoder
from providers.wire.bedrock.counting import COUNTING_TOKENS, counting, decoded_count
from providers.wire.bedrock.errors import failure_of_answer
from providers.wire.bedrock.families import model_id
from providers.wire.bedrock.urls import outbound
from providers.wire.request import MessagesRequest

COUNTED = ("messages", "system", "toolConfig", "additionalModelRequestFields")


class ConverseWire:
    name = "bedrock"

    def encode(
        self,
        request: MessagesRequest,
        *,
        target: Target,
        model: Model,
        max_tokens: int,
        client_headers: Mapping[str, str],
    ) -> OutboundRequest:
        body = body_of(
            request,
            target=target,
            model=model,
            max_tokens=max_tokens,
            betas=client_headers.get("anthropic-beta", ""),
        )
        streamed = streams(request, target, model)
        action = "converse-stream" if streamed else "converse"
        return outbound(target, model_id(target.actual_model), action, body, streamed=streamed)

    def encode_count(
        self, request: MessagesRequest, *, target: Target, model: Model, client_headers: Mapping[str, str]
    ) -> OutboundRequest:
        betas = client_headers.get("anthropic-beta", "")
        told = msgspec.json.decode(
            body_of(request, target=target, model=model, max_tokens=COUNTING_TOKENS, betas=betas), type=dict[str, Raw]
        )
        counted = {name: told[name] for name in COUNTED if name in told}
        return counting(target, {"converse": counted})

    def decode_count(self, body: bytes, *, target: Target) -> int:
        return decoded_count(body, target)

    def stream_decoder(self, *, request: MessagesRequest, target: Target, model: Model) -> ConverseStreamDecoder:
        return ConverseStreamDecoder(request=request, target=target, model=model)

    def decode_response(
        self, body: bytes, *, request: MessagesRequest, target: Target, model: Model
    ) -> DecodedResponse:
        return decoded_response(body, request=request, target=target, model=model)

    def decode_error(self, status: int, headers: Mapping[str, str], body: bytes, *, target: Target) -> UpstreamFailure:
        return failure_of_answer(status, headers, body, target=target)
