"""The wire's face: see `providers.wire.base.Wire`."""

from collections.abc import Mapping

from providers.types import Model, Target, UpstreamFailure
from providers.wire.base import DecodedResponse, MediaKind, OutboundRequest, StreamDecoder
from providers.wire.enforced import enforced, enforced_response, wants_one_call
from providers.wire.openai_chat.quirks import quirks_of
from providers.wire.openai_responses.errors import failure_of_answer
from providers.wire.openai_responses.quirks import responses_quirks_of
from providers.wire.openai_responses.request import body_of, counting_body, url_of
from providers.wire.openai_responses.response import decoded_count, decoded_response
from providers.wire.openai_responses.stream import OpenAIResponsesStreamDecoder
from providers.wire.request import MessagesRequest

USER_AGENT = "ccm"


class OpenAIResponsesWire:
    name = "openai_responses"

    def searches(
        self,
        request: MessagesRequest,  # noqa: ARG002  other wires cannot combine it with everything
        *,
        target: Target,
        model: Model,  # noqa: ARG002  the server decides
    ) -> bool:
        """See `providers.wire.searches.SearchingWire`."""
        return bool(responses_quirks_of(target.kind).search)

    def encode(
        self,
        request: MessagesRequest,
        *,
        target: Target,
        model: Model,
        max_tokens: int,
        client_headers: Mapping[str, str],  # noqa: ARG002  they are Anthropic's client's, and stay here
    ) -> OutboundRequest:
        accept = "text/event-stream" if request.stream else "application/json"
        return OutboundRequest(
            url=url_of(target),
            body=body_of(request, target=target, model=model, max_tokens=max_tokens),
            headers={"content-type": "application/json", "accept": accept, "user-agent": USER_AGENT},
        )

    def encode_count(
        self,
        request: MessagesRequest,
        *,
        target: Target,
        model: Model,
        client_headers: Mapping[str, str],  # noqa: ARG002  as above
    ) -> OutboundRequest:
        """See `providers.wire.base.CountsTokens`."""
        return OutboundRequest(
            url=f"{url_of(target)}/input_tokens",
            body=counting_body(request, target=target, model=model),
            headers={"content-type": "application/json", "accept": "application/json", "user-agent": USER_AGENT},
        )

    def decode_count(self, body: bytes, *, target: Target) -> int:
        return decoded_count(body, target=target)

    def reads_address(
        self,
        kind: MediaKind,
        url: str,  # noqa: ARG002  whichever it is
        *,
        target: Target,
        model: Model,
    ) -> bool:
        """See `providers.wire.base.ReadsAddresses`."""
        quirks = quirks_of(target.kind)
        if kind == "document":
            return not (model.vision and quirks.files) or quirks.addresses
        return not model.vision or quirks.addresses

    def stream_decoder(self, *, request: MessagesRequest, target: Target, model: Model) -> StreamDecoder:
        decoder = OpenAIResponsesStreamDecoder(request=request, target=target, model=model)
        return enforced(decoder, stops=[], one_call=wants_one_call(request))

    def decode_response(
        self, body: bytes, *, request: MessagesRequest, target: Target, model: Model
    ) -> DecodedResponse:
        response = decoded_response(body, request=request, target=target, model=model)
        return enforced_response(response, stops=[], one_call=wants_one_call(request))

    def decode_error(self, status: int, headers: Mapping[str, str], body: bytes, *, target: Target) -> UpstreamFailure:
        return failure_of_answer(status, headers, body, target=target)
