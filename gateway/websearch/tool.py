"""The client's web search tool, and the function that stands in for it. Pure."""

from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import Raw

from gateway.errors import policy_blocked
from providers.errors import InvalidRequest
from providers.search import Backend, Domains, InvalidDomain, Place
from providers.search.domains import normalised
from providers.types import Model, Target
from providers.wire.registry import WIRES
from providers.wire.request import MessagesRequest
from providers.wire.searches import SearchingWire, is_web_search

DEFAULT_USES = 10
"""Searches of one answer where the client sets no `max_uses`."""
MOST_USES = 20
"""Searches that CCM makes for one answer."""
MOST_RESERVED = 10**6
MOST_DOMAINS = 64
LEAST_BUDGET = 1024
"""Tokens of thinking; Anthropic takes no smaller budget."""

DESCRIPTION = (
    "Search the web. Returns titles, addresses and excerpts of the pages that were found. Use it for current "
    "information and for facts you are not sure of; name the sources you used."
)
SCHEMA = {
    "type": "object",
    "properties": {"query": {"type": "string", "description": "What to search for, in a few words."}},
    "required": ["query"],
    "additionalProperties": False,
}


class _Location(msgspec.Struct):
    type: str | None = None
    city: str | None = None
    region: str | None = None
    country: str | None = None
    timezone: str | None = None


class _Declared(msgspec.Struct):
    type: str | None = None
    name: str = ""
    max_uses: int | None = None
    allowed_domains: list[str] | None = None
    blocked_domains: list[str] | None = None
    user_location: _Location | None = None


_raws = msgspec.json.Decoder(list[Raw])
_declared = msgspec.json.Decoder(_Declared)


@dataclass(frozen=True, slots=True)
class SearchTool:
    name: str
    max_uses: int
    domains: Domains
    place: Place
    alone: bool
    """Whether the client has no other tools."""


def asks_for_search(request: MessagesRequest) -> bool:
    return request.toolset.searches_web


def searches_itself(request: MessagesRequest, target: Target, model: Model) -> bool:
    """Whether the provider searches; otherwise CCM does it for the model."""
    wire = WIRES[target.wire]
    return isinstance(wire, SearchingWire) and wire.searches(request, target=target, model=model)


def check_can_search(model: Model, backend: Backend | None) -> Backend:
    """The search engine for `model`. Refuses, with what the operator or the customer can do, where
    CCM cannot search for it."""
    if backend is None:
        raise policy_blocked(
            f"The model {model.name!r} cannot search the web for this request, and this installation has no search "
            "engine. Route web searches to a model that can (the router's websearch route), or ask the operator to set "
            "CCM_SEARCH_BACKEND.",
            "no_web_search",
        )
    if not model.tools:
        raise policy_blocked(
            f"The model {model.name!r} can neither search the web itself nor call tools. Route web searches to a "
            "model that can (the router's websearch route).",
            "no_web_search",
        )
    return backend


def search_tool(request: MessagesRequest) -> SearchTool:
    """The web search that `request` declares. Raises InvalidRequest."""
    raws = _raws.decode(request.fields["tools"])
    names = [tool.name for tool in request.tools]
    index = next(index for index, tool in enumerate(request.tools) if is_web_search(tool.type))
    where = f"tools[{index}]"
    try:
        declared = _declared.decode(raws[index])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{where}: {error}.") from None
    name = declared.name or "web_search"
    if names.count(name) > 1 or sum(is_web_search(tool.type) for tool in request.tools) > 1:
        raise InvalidRequest("tools: Tool names must be unique, and only one of them can be the web search.")
    if declared.max_uses is not None and declared.max_uses < 1:
        raise InvalidRequest(f"{where}.max_uses: must be at least 1.")
    if declared.allowed_domains and declared.blocked_domains:
        raise InvalidRequest(f"{where}: allowed_domains and blocked_domains cannot be used together.")
    place = declared.user_location or _Location()
    return SearchTool(
        name=name,
        max_uses=min(declared.max_uses or DEFAULT_USES, MOST_USES),
        domains=Domains(
            allowed=_domains(declared.allowed_domains, f"{where}.allowed_domains"),
            blocked=_domains(declared.blocked_domains, f"{where}.blocked_domains"),
        ),
        place=Place(*(_shortened(part) for part in (place.city, place.region, place.country, place.timezone))),
        alone=len(names) == 1,
    )


def _shortened(text: str | None) -> str:
    return (text or "")[:100]


def _domains(entries: list[str] | None, where: str) -> tuple[str, ...]:
    if entries and len(entries) > MOST_DOMAINS:
        raise InvalidRequest(f"{where}: at most {MOST_DOMAINS} domains.")
    try:
        return tuple(dict.fromkeys(normalised(entry) for entry in entries or ()))
    except InvalidDomain as error:
        raise InvalidRequest(f"{where}: {error}") from None


def allowed_searches(request: MessagesRequest) -> int:
    """How many searches `request` allows a provider to make, which its hold has to pay for."""
    if not asks_for_search(request) or choice_of(request).get("type") == "none":
        return 0
    return min(sum(_uses(raw) or DEFAULT_USES for raw in _searches(request)), MOST_RESERVED)


def bounded(request: MessagesRequest) -> MessagesRequest:
    """`request` with a `max_uses` on each search that has none: what is reserved for is also what is allowed."""
    raws = _raws.decode(request.fields["tools"])
    if all(_uses(raw) for raw in _searches(request)):
        return request
    tools = [
        _with_uses(raw) if is_web_search(tool.type) and not _uses(raw) else raw
        for raw, tool in zip(raws, request.tools, strict=True)
    ]
    return request.with_fields(tools=tools)


def _searches(request: MessagesRequest) -> list[Raw]:
    raws = _raws.decode(request.fields["tools"])
    return [raw for raw, tool in zip(raws, request.tools, strict=True) if is_web_search(tool.type)]


def _uses(raw: Raw) -> int | None:
    """The tool's `max_uses`; nonsense is none, and the provider's to refuse."""
    uses = msgspec.json.decode(raw).get("max_uses")
    return uses if isinstance(uses, int) and uses > 0 else None


def _with_uses(raw: Raw) -> Raw:
    fields = msgspec.json.decode(raw)
    return raw if fields.get("max_uses") is not None else Raw(msgspec.json.encode(fields | {"max_uses": DEFAULT_USES}))


def choice_of(request: MessagesRequest) -> dict[str, Any]:
    choice = request.value("tool_choice")
    return choice if isinstance(choice, dict) else {}


def without_search(request: MessagesRequest) -> MessagesRequest:
    """`request` without a search that it forbids anyway (`tool_choice` none); otherwise as it is."""
    return _without(request) if choice_of(request).get("type") == "none" else request


def unsearched(request: MessagesRequest) -> MessagesRequest | None:
    """`request` without the search that it offers to the model; None where it demands one."""
    choice = choice_of(request)
    searches = {tool.name or "web_search" for tool in request.tools if is_web_search(tool.type)}
    alone = all(is_web_search(tool.type) for tool in request.tools)
    demanded = choice.get("name") in searches if choice.get("type") == "tool" else alone and choice.get("type") == "any"
    return None if demanded else _without(request)


def _without(request: MessagesRequest) -> MessagesRequest:
    raws = _raws.decode(request.fields["tools"])
    kept = [raw for raw, tool in zip(raws, request.tools, strict=True) if not is_web_search(tool.type)]
    return request.with_fields(tools=kept or None, **({} if kept else {"tool_choice": None}))


def with_function(request: MessagesRequest, tool: SearchTool) -> MessagesRequest:
    """The first step's request: a function that any model can call stands where the search stood."""
    function = Raw(msgspec.json.encode({"name": tool.name, "description": DESCRIPTION, "input_schema": SCHEMA}))
    raws = _raws.decode(request.fields["tools"])
    tools = [function if is_web_search(t.type) else raw for raw, t in zip(raws, request.tools, strict=True)]
    return request.with_fields(tools=tools)


def continued(
    request: MessagesRequest, turns: list[dict[str, Any]], *, max_tokens: int, may_call: bool
) -> MessagesRequest:
    """The next step's request: `request` with what has been said since. A tool that had to be called
    has been, so from now on the model decides; or it only answers."""
    said = _raws.decode(request.fields["messages"])
    choice = choice_of(request)
    parallel = {"disable_parallel_tool_use": True} if choice.get("disable_parallel_tool_use") is True else {}
    next_choice: dict[str, Any] | None = {"type": "auto", **parallel} if choice else None
    thinking = request.thinking
    budget = thinking.budget_tokens if thinking else None
    # The budget has to be smaller than max_tokens, which shrinks from step to step.
    fits = budget is None or budget < max_tokens
    less: dict[str, Any] = {} if fits else {"thinking": {"type": "enabled", "budget_tokens": max_tokens - 1}}
    if not fits and max_tokens <= LEAST_BUDGET:
        less = {"thinking": {"type": "disabled"}}
    return request.with_fields(
        **less,
        messages=[*said, *turns],
        max_tokens=max_tokens,
        tool_choice=next_choice if may_call else {"type": "none"},
    )
