"""The anthropic wire: pass-through. What we do not have to change reaches the other side
byte for byte, both ways (translation.md 1.5).

Changed in a request: `model`, `max_tokens` when credits afford less, and for servers that
are not Anthropic's own `safeguards`, which holds the client's local paths and rules, and what
those servers do not take (`compatible`); and what other providers' wires have left in the
conversation (`foreign`). Changed in an answer: `message.model`, which names the public model.
"""

import functools
from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from msgspec import Raw

from providers.errors import UpstreamError
from providers.families import family_of, output_cap
from providers.kinds import DEMO
from providers.types import Model, Target, UpstreamFailure, Usage
from providers.wire.anthropic_errors import failure_in_stream, failure_of_answer
from providers.wire.anthropic_stream import AnthropicStreamDecoder, renamed
from providers.wire.anthropic_usage import NO_USAGE, update_usage
from providers.wire.base import DecodedResponse, MediaKind, OutboundRequest
from providers.wire.claude import changes_for_claude, changes_for_family
from providers.wire.compatible import changes_for, reads_addresses
from providers.wire.errors import broken_answer, error_parts
from providers.wire.foreign import without_foreign_blocks
from providers.wire.request import MessagesRequest

ANTHROPIC = "anthropic"
VERSION = "2023-06-01"
FORWARDED = ("anthropic-", "x-stainless-", "x-claude-code-")
FORWARDED_EXACTLY = frozenset({"x-app", "user-agent"})
FORWARDED_ELSEWHERE = ("anthropic-version", "anthropic-beta")
USER_AGENT = "ccm"
COUNTED = frozenset(
    {"messages", "system", "tools", "tool_choice", "thinking", "output_config", "mcp_servers", "context_management"}
)
"""The fields that its endpoint for counting tokens takes; it refuses any other."""
UNLIMITED = 1_000_000_000


SEARCHING = frozenset({ANTHROPIC, DEMO, "openrouter"})
PASSES_ON = frozenset({"anthropic-compatible", "litellm", "zenmux"})
"""Servers that may stand before Anthropic's own: with a model of Anthropic's they search. The others
of this format reject the tool or ignore it (translation.md 1.5, 4.2)."""


class AnthropicWire:
    name = "anthropic"

    def searches(
        self,
        request: MessagesRequest,  # noqa: ARG002  other wires cannot combine it with everything
        *,
        target: Target,
        model: Model,  # noqa: ARG002  the target's model decides
    ) -> bool:
        """See `providers.wire.searches.SearchingWire`."""
        return target.kind in SEARCHING or (target.kind in PASSES_ON and "claude" in target.actual_model.lower())

    def encode(
        self,
        request: MessagesRequest,
        *,
        target: Target,
        model: Model,
        max_tokens: int,
        client_headers: Mapping[str, str],
    ) -> OutboundRequest:
        limit = output_cap(target.actual_model, min(max_tokens, request.max_tokens), model.max_output)
        changed = _changes(request, target, limit=limit)
        if limit < request.max_tokens:
            changed["max_tokens"] = limit
        if target.kind != ANTHROPIC and request.has("safeguards"):
            changed["safeguards"] = None
        edited = request.with_fields(**changed) if changed else request
        renames = request.model != target.actual_model
        return OutboundRequest(
            url=messages_url(target.base_url, beta="anthropic-beta" in client_headers),
            body=edited.encode_as(target.actual_model) if renames else edited.encode(),
            headers=_headers(client_headers, target.kind),
        )

    def reads_address(
        self,
        kind: MediaKind,  # noqa: ARG002  the kind of server decides
        url: str,  # noqa: ARG002
        *,
        target: Target,
        model: Model,  # noqa: ARG002  as above
    ) -> bool:
        """See `providers.wire.base.ReadsAddresses`."""
        return reads_addresses(target.kind)

    def encode_count(
        self,
        request: MessagesRequest,
        *,
        target: Target,
        model: Model,  # noqa: ARG002  as above
        client_headers: Mapping[str, str],
    ) -> OutboundRequest:
        """See `providers.wire.base.CountsTokens`."""
        edited = request.with_fields(**_changes(request, target, limit=UNLIMITED))
        fields = {name: value for name, value in edited.fields.items() if name in COUNTED}
        fields["model"] = Raw(msgspec.json.encode(target.actual_model))
        address, query, beta = messages_url(target.base_url, beta="anthropic-beta" in client_headers).partition("?")
        return OutboundRequest(
            url=f"{address}/count_tokens{query}{beta}",
            body=msgspec.json.encode(fields),
            headers=_headers(client_headers, target.kind),
        )

    def decode_count(self, body: bytes, *, target: Target) -> int:
        try:
            return msgspec.json.decode(body, type=_Count).input_tokens
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise UpstreamError(broken_answer(target, "told no token count")) from None

    def stream_decoder(
        self,
        *,
        request: MessagesRequest,  # noqa: ARG002  other wires translate tool names and ids by it
        target: Target,
        model: Model,
    ) -> AnthropicStreamDecoder:
        return AnthropicStreamDecoder(target=target, model_name=model.name)

    def decode_response(
        self,
        body: bytes,
        *,
        request: MessagesRequest,  # noqa: ARG002  as above
        target: Target,
        model: Model,
    ) -> DecodedResponse:
        try:
            message = msgspec.json.decode(body, type=_Message)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            raise UpstreamError(_no_message(body, target)) from None
        usage = Usage()
        update_usage(usage, message.usage)
        return DecodedResponse(
            body=body if message.model == model.name else renamed(body, model.name),
            usage=usage,
            stop_reason=message.stop_reason,
            output_chars=sum(block.chars for block in message.content),
        )

    def decode_error(self, status: int, headers: Mapping[str, str], body: bytes, *, target: Target) -> UpstreamFailure:
        return failure_of_answer(status, headers, body, target=target)


class _Count(msgspec.Struct):
    input_tokens: int


class _Content(msgspec.Struct):
    text: str | None = None
    thinking: str | None = None
    input: Raw = Raw(b"")

    @property
    def chars(self) -> int:
        return len(self.text or "") + len(self.thinking or "") + len(bytes(self.input))


class _Message(msgspec.Struct):
    type: Literal["message"]
    content: list[_Content]
    model: str = ""
    stop_reason: str | None = None
    usage: Raw = NO_USAGE


def _changes(request: MessagesRequest, target: Target, *, limit: int) -> dict[str, Any]:
    """The fields that the target's model and its server do not take as they are; `limit` tokens may be written."""
    if target.kind == ANTHROPIC:
        return changes_for_claude(request, max_tokens=limit, model_name=target.actual_model)
    changed = without_foreign_blocks(request)
    edited = request.with_fields(**changed) if changed else request
    changed |= changes_for_family(edited, family_of(target.actual_model), limit=limit)
    edited = request.with_fields(**changed) if changed else request
    return changed | changes_for(edited, target.kind, max_tokens=limit)


@functools.lru_cache(maxsize=1024)
def messages_url(base_url: str, *, beta: bool) -> str:
    """The endpoint under `base_url`, which may end in `/` or `/v1`."""
    base = base_url.rstrip("/").removesuffix("/v1")
    return f"{base}/v1/messages?beta=true" if beta else f"{base}/v1/messages"


def _headers(client_headers: Mapping[str, str], kind: str) -> dict[str, str]:
    own = {"content-type": "application/json", "accept": "application/json"}
    if kind == ANTHROPIC:
        passed = {name: value for name, value in client_headers.items() if _is_forwarded(name)}
    else:
        passed = {name: client_headers[name] for name in FORWARDED_ELSEWHERE if name in client_headers}
    return {"anthropic-version": VERSION, "user-agent": USER_AGENT, **passed, **own}


def _is_forwarded(name: str) -> bool:
    return name.startswith(FORWARDED) or name in FORWARDED_EXACTLY


def _no_message(body: bytes, target: Target) -> UpstreamFailure:
    """A 200 that holds no Message: an error body, or no JSON at all."""
    kind, said = error_parts(body)
    if said:
        return failure_in_stream(kind, said, target=target)
    return broken_answer(target, "answered with something that is not a Message")
