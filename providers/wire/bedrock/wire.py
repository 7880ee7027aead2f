"""The wire's face: see `providers.wire.base.Wire`. The mapping's model name tells which way a request goes."""

from collections.abc import Mapping

from providers.types import Model, Target, UpstreamFailure
from providers.wire.base import DecodedResponse, MediaKind, OutboundRequest, StreamDecoder
from providers.wire.bedrock.converse import ConverseWire
from providers.wire.bedrock.errors import failure_of_answer
from providers.wire.bedrock.families import is_native
from providers.wire.bedrock.native import NativeWire
from providers.wire.request import MessagesRequest


class BedrockWire:
    name = "bedrock"

    def __init__(self) -> None:
        self._native = NativeWire()
        self._converse = ConverseWire()

    def _way(self, target: Target) -> NativeWire | ConverseWire:
        return self._native if is_native(target.actual_model) else self._converse

    def encode(
        self,
        request: MessagesRequest,
        *,
        target: Target,
        model: Model,
        max_tokens: int,
        client_headers: Mapping[str, str],
    ) -> OutboundRequest:
        return self._way(target).encode(
            request, target=target, model=model, max_tokens=max_tokens, client_headers=client_headers
        )

    def reads_address(
        self,
        kind: MediaKind,  # noqa: ARG002  it fetches nothing
        url: str,  # noqa: ARG002
        *,
        target: Target,  # noqa: ARG002
        model: Model,
    ) -> bool:
        """See `providers.wire.base.ReadsAddresses`."""
        return not model.vision

    def encode_count(
        self, request: MessagesRequest, *, target: Target, model: Model, client_headers: Mapping[str, str]
    ) -> OutboundRequest:
        return self._way(target).encode_count(request, target=target, model=model, client_headers=client_headers)

    def decode_count(self, body: bytes, *, target: Target) -> int:
        return self._way(target).decode_count(body, target=target)

    def stream_decoder(self, *, request: MessagesRequest, target: Target, model: Model) -> StreamDecoder:
        return self._way(target).stream_decoder(request=request, target=target, model=model)

    def decode_response(
        self, body: bytes, *, request: MessagesRequest, target: Target, model: Model
    ) -> DecodedResponse:
        return self._way(target).decode_response(body, request=request, target=target, model=model)

    def decode_error(self, status: int, headers: Mapping[str, str], body: bytes, *, target: Target) -> UpstreamFailure:
        return failure_of_answer(status, headers, body, target=target)
