"""The wire's face: see `providers.wire.base.Wire`."""

from collections.abc import Mapping

from providers.types import Model, Target, UpstreamFailure
from providers.wire.base import DecodedResponse, MediaKind, OutboundRequest, StreamDecoder
from providers.wire.enforced import enforced, enforced_response, wants_one_call
from providers.wire.openai_chat.errors import failure_of_answer
from providers.wire.openai_chat.quirks import quirks_of
from providers.wire.openai_chat.request import body_of, stops_to_enforce, url_of
from providers.wire.openai_chat.response import decoded_response
from providers.wire.openai_chat.stream import OpenAIChatStreamDecoder
from providers.wire.request import MessagesRequest

USER_AGENT = "ccm"


class OpenAIChatWire:
    name = "openai_chat"

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
            return not (model.vision and quirks.files)
        return not model.vision or quirks.addresses

    def stream_decoder(self, *, request: MessagesRequest, target: Target, model: Model) -> StreamDecoder:
        decoder = OpenAIChatStreamDecoder(request=request, target=target, model=model)
        return enforced(decoder, stops=stops_to_enforce(request, target), one_call=wants_one_call(request))

    def decode_response(
        self, body: bytes, *, request: MessagesRequest, target: Target, model: Model
    ) -> DecodedResponse:
        response = decoded_response(body, request=request, target=target, model=model)
        return enforced_response(response, stops=stops_to_enforce(request, target), one_call=wants_one_call(request))

    def decode_error(self, status: int, headers: Mapping[str, str], body: bytes, *, target: Target) -> UpstreamFailure:
        return failure_of_answer(status, headers, body, target=target)
