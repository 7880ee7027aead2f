"""A MessagesRequest as a request of the Responses API.

Only fields named here are sent. `store` is always false: nothing of a customer's conversation
stays at the provider.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from providers.families import output_cap
from providers.types import Model, Target
from providers.wire import refusals
from providers.wire.openai_chat.history import PARAGRAPH, Turn, system_text, turns_of
from providers.wire.openai_chat.quirks import Quirks, quirks_of
from providers.wire.openai_chat.reasoning import takes_sampling
from providers.wire.openai_chat.request import response_format, user_fields
from providers.wire.openai_chat.tools import choice_of, functions_of
from providers.wire.openai_responses.items import ItemWriter
from providers.wire.openai_responses.quirks import ResponsesQuirks, responses_quirks_of
from providers.wire.openai_responses.reasoning import is_reasoning_model, reasoning_fields
from providers.wire.openai_responses.search import provider_tool, search_tool
from providers.wire.remembered import encoded
from providers.wire.request import MessagesRequest

PATH = "/responses"
LEAST_OUTPUT = 16
"""Tokens; the API refuses a lower limit."""
COUNTED = frozenset(
    {"model", "instructions", "input", "tools", "tool_choice", "parallel_tool_calls", "reasoning", "text"}
)
SOURCES = "web_search_call.action.sources"


def body_of(request: MessagesRequest, *, target: Target, model: Model, max_tokens: int) -> bytes:
    """The request's body. Raises InvalidRequest.

    The fields' order is fixed: what changes least comes first."""
    refusals.check(request, model)
    quirks, own = quirks_of(target.kind), responses_quirks_of(target.kind)
    turns = turns_of(request)
    structured, instruction = response_format(request, quirks)
    system = PARAGRAPH.join(text for text in (system_text(request), instruction) if text)
    body: dict[str, Any] = {"model": target.actual_model}
    if system:
        body["instructions"] = system
    body |= _tools(request, turns, model, quirks, own)
    body["input"] = ItemWriter(target=target, model=model, quirks=quirks, own=own).write(turns)
    body["max_output_tokens"] = max(LEAST_OUTPUT, output_cap(target.actual_model, max_tokens, model.max_output))
    body["store"] = False
    if not is_reasoning_model(target, model) and takes_sampling(target, model, quirks):
        sampling = {name: request.value(name) for name in ("temperature", "top_p")}
        body |= {name: value for name, value in sampling.items() if value is not None}
    reasoning = reasoning_fields(request, target=target, model=model, quirks=quirks, own=own)
    include = [*reasoning.pop("include", []), *body.pop("include", [])]
    body |= reasoning
    if include:
        body["include"] = include
    if structured:
        body["text"] = {"format": {"type": "json_schema", **structured["response_format"]["json_schema"]}}
    body |= _identity(request, quirks, own)
    if request.stream:
        body["stream"] = True
    return msgspec.json.encode(body)


def counting_body(request: MessagesRequest, *, target: Target, model: Model) -> bytes:
    """The body for a count of its input tokens. Raises InvalidRequest."""
    told = msgspec.json.decode(
        body_of(request, target=target, model=model, max_tokens=LEAST_OUTPUT), type=dict[str, msgspec.Raw]
    )
    return msgspec.json.encode({name: value for name, value in told.items() if name in COUNTED})


def url_of(target: Target) -> str:
    base = target.base_url.rstrip("/")
    return base if base.endswith(PATH) else base + PATH


def _tools(
    request: MessagesRequest, turns: list[Turn], model: Model, quirks: Quirks, own: ResponsesQuirks
) -> dict[str, Any]:
    """`tools` and what goes with them. `strict` is always told: where it is missing, the provider
    takes every optional property for a required one."""
    functions = [chat["function"] for chat in (functions_of(request, turns, quirks) if model.tools else [])]
    declared = search_tool(request) if own.search else None
    if not functions and declared is None:
        return {}
    fields: dict[str, Any] = {
        "tools": encoded(functions, _always_strict_or_not)
        if declared is None
        else [*_always_strict_or_not(functions), provider_tool(declared, own)]
    }
    fields |= _choice(request, {function["name"] for function in functions}, declared, quirks, own)
    if declared is not None:
        uses = declared.get("max_uses")
        if isinstance(uses, int) and uses > 0 and not functions:
            fields["max_tool_calls"] = uses
        if own.tells_sources:
            fields["include"] = [SOURCES]
    return fields


def _always_strict_or_not(functions: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"type": "function", **function, "strict": function.get("strict", False)} for function in functions]


def _choice(
    request: MessagesRequest,
    names: set[str],
    declared: dict[str, Any] | None,
    quirks: Quirks,
    own: ResponsesQuirks,
) -> dict[str, Any]:
    wanted = request.value("tool_choice")
    named = wanted.get("name") if isinstance(wanted, dict) and wanted.get("type") == "tool" else None
    if declared is not None and named == declared.get("name", "web_search"):
        return {"tool_choice": {"type": own.search}}
    fields = choice_of(request, names, quirks)
    choice = fields.get("tool_choice")
    if isinstance(choice, dict):
        fields["tool_choice"] = {"type": "function", "name": choice["function"]["name"]}
    return fields


def _identity(request: MessagesRequest, quirks: Quirks, own: ResponsesQuirks) -> dict[str, Any]:
    if not quirks.user:
        return {}
    fields = user_fields(request)
    if own.safety_identifier and "user" in fields:
        fields["safety_identifier"] = fields.pop("user")
    return fields
