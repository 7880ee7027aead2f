"""A MessagesRequest as a request to Cohere's `/v2/chat`.

Only fields named here are sent. Fields that cannot matter to the answer are left out (`metadata`,
`service_tier`, `cache_control`: Cohere caches by itself); what Cohere cannot do is said to the model
in words (a schema beside tools), or refused.
"""

from typing import Any

import msgspec

from providers.errors import InvalidRequest
from providers.families import OFF, output_cap
from providers.types import Model, Target
from providers.wire import refusals
from providers.wire.cohere.messages import CohereMessageWriter
from providers.wire.cohere.sources import Source, sources_of
from providers.wire.openai_chat.history import PARAGRAPH, system_text, turns_of
from providers.wire.openai_chat.quirks import Quirks
from providers.wire.openai_chat.reasoning import wanted_effort
from providers.wire.openai_chat.request import schema_instruction, wanted_schema
from providers.wire.openai_chat.tools import functions_of, wire_name
from providers.wire.remembered import encoded
from providers.wire.request import MessagesRequest

PATH = "/v2/chat"
QUIRKS = Quirks(system_in_place=True)
MAX_STOPS = 5
MAX_TOP_K = 500
TOP_P = (0.01, 0.99)
BUDGETS = {"minimal": 1_024, "low": 2_048, "medium": 8_192, "high": 16_384}
"""Tokens of thinking for the levels that Cohere does not know; above them it has no limit."""


def url_of(target: Target) -> str:
    base = target.base_url.rstrip("/").removesuffix(PATH).removesuffix("/v2")
    return base + PATH


def body_of(request: MessagesRequest, *, target: Target, model: Model, max_tokens: int) -> bytes:
    """The request's body. Raises InvalidRequest. What changes least comes first."""
    refusals.check(request, model)
    turns = turns_of(request)
    limit = output_cap(target.actual_model, max_tokens, model.max_output)
    functions = functions_of(request, turns, QUIRKS) if model.tools else []
    # With tools Cohere takes neither documents nor a schema.
    sources = [] if functions else sources_of(turns)
    structured, instruction = _response_format(request, free=not functions and not sources)
    system = PARAGRAPH.join(text for text in (system_text(request), instruction) if text)
    body: dict[str, Any] = {"model": target.actual_model}
    if functions:
        body |= _tools(request, functions)
    if sources:
        body["documents"] = [{"id": source.id, "data": source.data} for source in sources]
    writer = CohereMessageWriter(target=target, model=model, quirks=QUIRKS, cites=bool(sources))
    body["messages"] = writer.write(system, turns)
    body["max_tokens"] = limit
    body |= _sampling(request)
    body |= _thinking(request, model, limit)
    body |= structured
    body["stream"] = request.stream
    return msgspec.json.encode(body)


def cited_sources(request: MessagesRequest, model: Model) -> dict[str, Source]:
    """The sources that `body_of` has sent, by id."""
    turns = turns_of(request)
    if model.tools and functions_of(request, turns, QUIRKS):
        return {}
    return {source.id: source for source in sources_of(turns)}


def _tools(request: MessagesRequest, functions: list[dict[str, Any]]) -> dict[str, Any]:
    """`tools`, `strict_tools` and `tool_choice`. Cohere can be told to call some tool, but not which
    one: it then gets that one alone."""
    fields: dict[str, Any] = {"tools": encoded(functions)}
    choice = request.value("tool_choice")
    kind = choice.get("type") if isinstance(choice, dict) else None
    if kind == "tool":
        name = wire_name(str(choice.get("name") or ""))
        functions = [function for function in functions if function["function"]["name"] == name] or functions
        fields["tools"] = functions
    if _all_strict(request, functions):
        fields["strict_tools"] = True
    if kind in {"any", "tool"}:
        fields["tool_choice"] = "REQUIRED"
    elif kind == "none":
        fields["tool_choice"] = "NONE"
    return fields


def _all_strict(request: MessagesRequest, functions: list[dict[str, Any]]) -> bool:
    """Strict is for all tools or none, and needs at least one required parameter in each."""
    if functions and not request.mentions(b'"strict"', "tools"):
        return False
    strict = {
        wire_name(str(tool.get("name") or ""))
        for tool in request.value("tools") or ()
        if isinstance(tool, dict) and tool.get("strict") is True
    }
    return all(
        function["function"]["name"] in strict and _requires_something(function["function"]["parameters"])
        for function in functions
    )


def _requires_something(parameters: Any) -> bool:
    schema = msgspec.json.decode(parameters) if isinstance(parameters, msgspec.Raw) else parameters
    return _objects_require(schema)


def _objects_require(schema: Any) -> bool:
    if isinstance(schema, list):
        return all(_objects_require(part) for part in schema)
    if not isinstance(schema, dict):
        return True
    if isinstance(schema.get("properties"), dict) and not schema.get("required"):
        return False
    return all(_objects_require(part) for part in schema.values())


def _sampling(request: MessagesRequest) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    stops = request.value("stop_sequences")
    if isinstance(stops, list) and stops:
        if len(stops) > MAX_STOPS:
            raise InvalidRequest(f"stop_sequences: this model takes at most {MAX_STOPS} of them.")
        fields["stop_sequences"] = stops
    if (temperature := request.value("temperature")) is not None:
        fields["temperature"] = temperature
    if isinstance(top_p := request.value("top_p"), int | float):
        fields["p"] = min(max(top_p, TOP_P[0]), TOP_P[1])
    if isinstance(top_k := request.value("top_k"), int):
        fields["k"] = min(top_k, MAX_TOP_K)
    return fields


def _thinking(request: MessagesRequest, model: Model, limit: int) -> dict[str, Any]:
    """How much to think; nothing where the client leaves it to the model."""
    wanted = wanted_effort(request)
    if wanted is None or not model.thinking:
        return {}
    if wanted == OFF:
        return {"thinking": {"type": "disabled"}}
    thinking = request.thinking
    budget = thinking.budget_tokens if thinking is not None and thinking.type == "enabled" else BUDGETS.get(wanted)
    if budget is None:
        return {"thinking": {"type": "enabled"}}
    return {"thinking": {"type": "enabled", "token_budget": max(1, min(budget, limit - 1))}}


def _response_format(request: MessagesRequest, *, free: bool) -> tuple[dict[str, Any], str]:
    """The field for an answer in a JSON Schema; or, where Cohere takes none, what to tell the model."""
    schema = wanted_schema(request)
    if schema is None:
        return {}, ""
    if not free:
        return {}, schema_instruction(schema)
    return {"response_format": {"type": "json_object", "json_schema": schema}}, ""
