"""The vertex wire: Google Vertex AI, which serves Gemini models in Google's format and Claude models in
Anthropic's. The mapping's model name tells which (translation.md 1.5).
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import msgspec

from providers.families import output_cap
from providers.types import Model, Target, UpstreamFailure
from providers.wire.anthropic import UNLIMITED, AnthropicWire
from providers.wire.anthropic_errors import failure_of_answer
from providers.wire.base import DecodedResponse, MediaKind, OutboundRequest, StreamDecoder
from providers.wire.claude import changes_for_claude
from providers.wire.gemini.errors import failure_of_answer as failure_of_google
from providers.wire.gemini.errors import status_of
from providers.wire.gemini.wire import GeminiWire
from providers.wire.request import MessagesRequest

VERSION = "vertex-2023-10-16"
PUBLISHER = "publishers/anthropic/models/"
COUNTING = "count-tokens"
BASIC_SEARCH = "web_search_20250305"
USER_AGENT = "ccm"
KEPT_FOR_COUNTING = frozenset({"messages", "system", "tools", "tool_choice", "thinking"})


class VertexWire:
    name = "vertex"

    def __init__(self) -> None:
        self._gemini = GeminiWire()
        self._claude = _ClaudeOnVertex()

    def _wire(self, target: Target) -> "GeminiWire | _ClaudeOnVertex":
        name = target.actual_model.removeprefix(PUBLISHER).removeprefix("anthropic/")
        return self._claude if name.startswith("claude") else self._gemini

    def searches(self, request: MessagesRequest, *, target: Target, model: Model) -> bool:
        """See `providers.wire.searches.SearchingWire`."""
        return self._wire(target).searches(request, target=target, model=model)

    def encode(
        self,
        request: MessagesRequest,
        *,
        target: Target,
        model: Model,
        max_tokens: int,
        client_headers: Mapping[str, str],
    ) -> OutboundRequest:
        return self._wire(target).encode(
            request, target=target, model=model, max_tokens=max_tokens, client_headers=client_headers
        )

    def stream_decoder(self, *, request: MessagesRequest, target: Target, model: Model) -> StreamDecoder:
        return self._wire(target).stream_decoder(request=request, target=target, model=model)

    def decode_response(
        self, body: bytes, *, request: MessagesRequest, target: Target, model: Model
    ) -> DecodedResponse:
        return self._wire(target).decode_response(body, request=request, target=target, model=model)

    def decode_error(self, status: int, headers: Mapping[str, str], body: bytes, *, target: Target) -> UpstreamFailure:
        return self._wire(target).decode_error(status, headers, body, target=target)

    def reads_address(self, kind: MediaKind, url: str, *, target: Target, model: Model) -> bool:
        """See `providers.wire.base.ReadsAddresses`."""
        return self._wire(target).reads_address(kind, url, target=target, model=model)

    def encode_count(
        self, request: MessagesRequest, *, target: Target, model: Model, client_headers: Mapping[str, str]
    ) -> OutboundRequest:
        return self._wire(target).encode_count(request, target=target, model=model, client_headers=client_headers)

    def decode_count(self, body: bytes, *, target: Target) -> int:
        return self._wire(target).decode_count(body, target=target)


class _ClaudeOnVertex(AnthropicWire):
    """Anthropic's format, with the model in the address and the version in the body."""

    name = "vertex"

    def reads_address(
        self,
        kind: MediaKind,  # noqa: ARG002  Claude at Google takes bytes alone
        url: str,  # noqa: ARG002
        *,
        target: Target,  # noqa: ARG002
        model: Model,  # noqa: ARG002
    ) -> bool:
        return False

    def searches(
        self,
        request: MessagesRequest,  # noqa: ARG002  as below
        *,
        target: Target,  # noqa: ARG002
        model: Model,  # noqa: ARG002
    ) -> bool:
        """Every Claude there has the first version of the web search tool."""
        return True

    def encode(
        self,
        request: MessagesRequest,
        *,
        target: Target,
        model: Model,
        max_tokens: int,
        client_headers: Mapping[str, str],
    ) -> OutboundRequest:
        limit = output_cap(_name(target), min(max_tokens, request.max_tokens), model.max_output)
        changed = changes_for_claude(request, max_tokens=limit, model_name=_name(target)) | _basic_search(request)
        if limit < request.max_tokens:
            changed["max_tokens"] = limit
        changed |= {"anthropic_version": VERSION, "safeguards": None}
        fields = dict(request.with_fields(**changed).fields)
        del fields["model"]
        method = "streamRawPredict" if request.stream else "rawPredict"
        url = f"{_base(target)}{PUBLISHER}{quote(_name(target), safe='@._-~')}:{method}"
        return OutboundRequest(url, msgspec.json.encode(fields), _headers(client_headers))

    def decode_error(self, status: int, headers: Mapping[str, str], body: bytes, *, target: Target) -> UpstreamFailure:
        """Google's own refusals (no access, no quota, no such model) come in Google's form."""
        told = status_of(body)
        if told is not None and told.status:
            return failure_of_google(status, headers, body, target=target)
        return failure_of_answer(status, headers, body, target=target)

    def encode_count(
        self,
        request: MessagesRequest,
        *,
        target: Target,
        model: Model,  # noqa: ARG002  as above
        client_headers: Mapping[str, str],
    ) -> OutboundRequest:
        changed = changes_for_claude(request, max_tokens=UNLIMITED, model_name=_name(target))
        edited = request.with_fields(**(changed | _basic_search(request)))
        kept = {name: value for name, value in edited.fields.items() if name in KEPT_FOR_COUNTING}
        body = msgspec.json.encode({"anthropic_version": VERSION, "model": _name(target), **kept})
        return OutboundRequest(f"{_base(target)}{PUBLISHER}{COUNTING}:rawPredict", body, _headers(client_headers))


def _base(target: Target) -> str:
    return target.base_url.rstrip("/") + "/"


def _name(target: Target) -> str:
    return target.actual_model.removeprefix(PUBLISHER).removeprefix("anthropic/")


def _headers(client_headers: Mapping[str, str]) -> dict[str, str]:
    betas = client_headers.get("anthropic-beta")
    passed = {"anthropic-beta": betas} if betas else {}
    return {"content-type": "application/json", "accept": "application/json", "user-agent": USER_AGENT, **passed}


def _basic_search(request: MessagesRequest) -> dict[str, Any]:
    """Vertex AI has the first version of the web search tool only."""
    if not any(_is_newer_search(tool.type) for tool in request.tools):
        return {}
    tools = [{**tool, "type": BASIC_SEARCH} if _is_newer_search(tool.get("type")) else tool
             for tool in request.value("tools")]  # fmt: skip
    return {"tools": tools}


def _is_newer_search(kind: Any) -> bool:
    return isinstance(kind, str) and kind.startswith("web_search_") and kind != BASIC_SEARCH
