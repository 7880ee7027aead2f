"""What every wire offers: pure functions and state machines, no Django, no sockets.

A wire turns a MessagesRequest into a provider's HTTP request, and the provider's answer
back into Anthropic's form, streamed or not. `providers.wire.registry.WIRES` lists them.
"""

from collections.abc import Mapping
from typing import Literal, Protocol, runtime_checkable

from msgspec import Struct

from providers.types import Model, Target, UpstreamFailure, Usage
from providers.wire.request import MessagesRequest

MediaKind = Literal["image", "document"]


class OutboundRequest(Struct, frozen=True):
    """A POST to a provider. `headers` hold no credential: the transport adds it."""

    url: str
    body: bytes
    headers: Mapping[str, str] = {}


class DecodedResponse(Struct, frozen=True):
    """A whole answer: `body` is an Anthropic Message as JSON."""

    body: bytes
    usage: Usage
    stop_reason: str | None
    output_chars: int
    """Characters of text, reasoning and tool input: what to count when usage is missing."""


class StreamDecoder(Protocol):
    """Turns a provider's stream into Anthropic SSE. One per attempt.

    The relay calls `feed` for each piece of bytes and sends on what it returns, then
    `close` once at the stream's end. It holds back everything until `has_content`, so that
    a failure before the first content can still become an HTTP status or another attempt.
    After `failure` is set, `feed` and `close` return only what belonged before it: the
    relay writes the error event itself. `close` sets `failure` when the stream was cut.
    """

    usage: Usage
    has_content: bool
    """The first meaningful event (a content block, or a regular end) has been decoded."""
    finished: bool
    """The regular end (message_stop) has been decoded and returned."""
    failure: UpstreamFailure | None
    stop_reason: str | None
    output_chars: int
    open_thinking_index: int | None
    """The index of the thinking block that is open right now (for keep-alive deltas), else None."""

    def feed(self, data: bytes) -> bytes: ...

    def close(self) -> bytes: ...


class Wire(Protocol):
    """One wire family."""

    name: str

    def encode(
        self,
        request: MessagesRequest,
        *,
        target: Target,
        model: Model,
        max_tokens: int,
        client_headers: Mapping[str, str],
    ) -> OutboundRequest:
        """The provider's request. `max_tokens` is what the customer's credits afford (tokens);
        `client_headers` are the client's, lower-case names. Raises InvalidRequest."""
        ...

    def stream_decoder(self, *, request: MessagesRequest, target: Target, model: Model) -> StreamDecoder: ...

    def decode_response(
        self, body: bytes, *, request: MessagesRequest, target: Target, model: Model
    ) -> DecodedResponse:
        """Raises UpstreamError when the body is no answer of this wire."""
        ...

    def decode_error(self, status: int, headers: Mapping[str, str], body: bytes, *, target: Target) -> UpstreamFailure:
        """What a non-2xx answer means. `headers` have lower-case names."""
        ...


@runtime_checkable
class ReadsAddresses(Protocol):
    """A wire whose providers do not all read images and documents from addresses. Optional: ask with
    `isinstance`; of any other wire they do."""

    def reads_address(self, kind: MediaKind, url: str, *, target: Target, model: Model) -> bool:
        """Whether `target` reads it itself, or has no use for it in any form; else its bytes are sent."""
        ...


@runtime_checkable
class CountsTokens(Protocol):
    """A wire whose provider counts a request's tokens by its own tokenizer. Optional: ask with `isinstance`."""

    def encode_count(
        self, request: MessagesRequest, *, target: Target, model: Model, client_headers: Mapping[str, str]
    ) -> OutboundRequest:
        """The provider's request for a count. Raises InvalidRequest."""
        ...

    def decode_count(self, body: bytes, *, target: Target) -> int:
        """The input tokens that a 2xx answer tells. Raises UpstreamError."""
        ...
