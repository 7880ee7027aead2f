"""The wire's face: see `providers.wire.base.Wire` and `CountsTokens`."""

from collections.abc import Mapping

from providers.families import family_of
from providers.types import Model, Target, UpstreamFailure
from providers.wire.base import DecodedResponse, MediaKind, OutboundRequest
from providers.wire.gemini.errors import failure_of_answer
from providers.wire.gemini.media import reads
from providers.wire.gemini.request import body_of, counting_body, searches, url_of
from providers.wire.gemini.response import decoded_count, decoded_response
from providers.wire.gemini.stream import GeminiStreamDecoder
from providers.wire.request import MessagesRequest

USER_AGENT = "ccm"


class GeminiWire:
    name = "gemini"

    def searches(self, request: MessagesRequest, *, target: Target, model: Model) -> bool:
        """See `providers.wire.searches.SearchingWire`."""
        return searches(request, target=target, model=model)

    def encode(
        self,
        request: MessagesRequest,
        *,
        target: Target,
        model: Model,
        max_tokens: int,
        client_headers: Mapping[str, str],  # noqa: ARG002  they are Anthropic's client's, and stay here
    ) -> OutboundRequest:
        url = (
            url_of(target, "streamGenerateContent") + "?alt=sse"
            if request.stream
            else url_of(target, "generateContent")
        )
        body = body_of(request, target=target, model=model, max_tokens=max_tokens)
        return OutboundRequest(url, body, _headers("text/event-stream" if request.stream else "application/json"))

    def stream_decoder(self, *, request: MessagesRequest, target: Target, model: Model) -> GeminiStreamDecoder:
        return GeminiStreamDecoder(request=request, target=target, model=model)

    def decode_response(
        self, body: bytes, *, request: MessagesRequest, target: Target, model: Model
    ) -> DecodedResponse:
        return decoded_response(body, request=request, target=target, model=model)

    def decode_error(self, status: int, headers: Mapping[str, str], body: bytes, *, target: Target) -> UpstreamFailure:
        return failure_of_answer(status, headers, body, target=target)

    def reads_address(self, kind: MediaKind, url: str, *, target: Target, model: Model) -> bool:  # noqa: ARG002
        """See `providers.wire.base.ReadsAddresses`."""
        return not model.vision or reads(url, family=family_of(target.actual_model), target=target)

    def encode_count(
        self,
        request: MessagesRequest,
        *,
        target: Target,
        model: Model,
        client_headers: Mapping[str, str],  # noqa: ARG002  as above
    ) -> OutboundRequest:
        body = counting_body(request, target=target, model=model)
        return OutboundRequest(url_of(target, "countTokens"), body, _headers("application/json"))

    def decode_count(self, body: bytes, *, target: Target) -> int:
        return decoded_count(body, target=target)


def _headers(accept: str) -> dict[str, str]:
    return {"content-type": "application/json", "accept": accept, "user-agent": USER_AGENT}
