"""Servers of other companies that speak Anthropic's format: what each of them does not take.

They get the client's body byte for byte but for this. Source: translation.md 1.5 and 2.2; a new
difference is a field in a row.
"""

from dataclasses import dataclass, replace
from typing import Any

from providers.wire.claude import budget_for, budget_within
from providers.wire.openai_chat.history import BILLING_HEADER
from providers.wire.openai_chat.request import schema_instruction, wanted_schema
from providers.wire.request import MessagesRequest

ANTHROPIC = "anthropic"
SERVER_TOOLS = ("web_search_", "web_fetch_", "code_execution_", "tool_search_tool_", "mcp_toolset", "advisor_")
SERVER_MARKS = tuple(b'"' + name.encode() for name in SERVER_TOOLS)


@dataclass(frozen=True, slots=True)
class Differences:
    without: frozenset[str] = frozenset()
    """Fields that it refuses, or that would only tell it about the client."""
    server_tools: bool = True
    """Has the tools that Anthropic's servers run."""
    typed_tools: bool = True
    """Takes `type` on the client's own tools."""
    adaptive: bool = True
    """Takes thinking of the type adaptive; otherwise it gets a budget."""
    addresses: bool = True
    """Reads images and documents from addresses."""
    schemas: bool = True
    """Holds an answer to the JSON Schema of `output_config.format`."""


OWN_MODELS = Differences(
    without=frozenset({"context_management", "diagnostics", "inference_geo", "thread"}),
    server_tools=False,
    adaptive=False,
    addresses=False,
    schemas=False,
)
"""A server that does not run Claude."""
RELAY = Differences()
"""A server that may run Claude behind it, and judges for itself."""

DIFFERENCES: dict[str, Differences] = {
    "z.ai": OWN_MODELS,
    "kimi": OWN_MODELS,
    "moonshot": OWN_MODELS,
    "minimax": OWN_MODELS,
    "deepseek": replace(OWN_MODELS, typed_tools=False),
}


def reads_addresses(kind: str) -> bool:
    return DIFFERENCES.get(kind, RELAY).addresses


def changes_for(request: MessagesRequest, kind: str, *, max_tokens: int) -> dict[str, Any]:
    """The fields of `request` that have to change for a server of this kind, which may write `max_tokens`;
    None removes one. {} for Anthropic's own."""
    if kind == ANTHROPIC:
        return {}
    differences = DIFFERENCES.get(kind, RELAY)
    changed: dict[str, Any] = {name: None for name in differences.without if request.has(name)}
    limit = min(max_tokens, request.max_tokens)
    changed |= _tools(request, differences) | _thinking(request, differences, limit)
    if not differences.server_tools:
        changed |= _messages(request)
    changed |= _system(request)
    return changed if differences.schemas else changed | _told_schema(request, changed)


def _told_schema(request: MessagesRequest, changed: dict[str, Any]) -> dict[str, Any]:
    """The schema that an answer shall conform to, told in words at the system prompt's end, where it leaves the
    prompt cache of what stands before it whole."""
    schema = wanted_schema(request)
    if schema is None:
        return {}
    system = changed["system"] if "system" in changed else request.value("system")
    before = [{"type": "text", "text": system}] if isinstance(system, str) and system else system or []
    config = {name: value for name, value in request.value("output_config").items() if name != "format"}
    return {
        "system": [*before, {"type": "text", "text": schema_instruction(schema)}],
        "output_config": config or None,
    }


def _system(request: MessagesRequest) -> dict[str, Any]:
    """The client's billing block goes: it differs from request to request, stands first, and so would
    defeat every prompt cache."""
    if not request.system_says(BILLING_HEADER):
        return {}
    system = request.value("system")
    blocks = system if isinstance(system, list) else []
    kept = [block for block in blocks if not str(block.get("text") or "").lstrip().startswith(BILLING_HEADER)]
    return {} if len(kept) == len(blocks) else {"system": kept or None}


def _tools(request: MessagesRequest, differences: Differences) -> dict[str, Any]:
    marks = () if differences.server_tools else (*SERVER_MARKS, b'"defer_loading"')
    if not differences.typed_tools:
        marks = (*marks, b'"custom"')
    if not any(request.mentions(mark, "tools") for mark in marks):
        return {}
    tools = request.value("tools") or []
    kept = [
        _as_taken(tool, differences)
        for tool in tools
        if differences.server_tools or not str(tool.get("type") or "").startswith(SERVER_TOOLS)
    ]
    if kept == tools:
        return {}
    return {"tools": kept} if kept else {"tools": None, "tool_choice": None}


def _as_taken(tool: dict[str, Any], differences: Differences) -> dict[str, Any]:
    if not differences.server_tools and "defer_loading" in tool:
        tool = {name: value for name, value in tool.items() if name != "defer_loading"}
    return tool if differences.typed_tools else _untyped(tool)


def _messages(request: MessagesRequest) -> dict[str, Any]:
    """References to tools, which only a server with a tool search knows, become texts (the tools themselves are
    sent at once); turns of the system in the middle of a conversation become the user's."""
    if "tool_reference" not in request.block_types and all(message.role != "system" for message in request.messages):
        return {}
    return {"messages": [_plain_turn(message) for message in request.value("messages")]}


def _plain_turn(message: dict[str, Any]) -> dict[str, Any]:
    content = message.get("content")
    if message.get("role") == "system":
        texts = [content] if isinstance(content, str) else [str(block.get("text") or "") for block in content or ()]
        said = "\n\n".join(text for text in texts if text.strip()) or "(nothing)"
        return {"role": "user", "content": f"<system-reminder>\n{said}\n</system-reminder>"}
    if not isinstance(content, list):
        return message
    return {**message, "content": [_without_references(block) for block in content]}


def _without_references(block: dict[str, Any]) -> dict[str, Any]:
    content = block.get("content") if block.get("type") == "tool_result" else None
    if not isinstance(content, list):
        return block
    named = [str(inner.get("tool_name")) for inner in content if inner.get("type") == "tool_reference"]
    if not named:
        return block
    kept = [inner for inner in content if inner.get("type") != "tool_reference"]
    told = {"type": "text", "text": f"Loaded tools: {', '.join(named)}. You can call them now."}
    return {**block, "content": [*kept, told]}


def _untyped(tool: dict[str, Any]) -> dict[str, Any]:
    if tool.get("type") != "custom":
        return tool
    return {name: value for name, value in tool.items() if name != "type"}


def _thinking(request: MessagesRequest, differences: Differences, limit: int) -> dict[str, Any]:
    thinking = request.thinking
    if differences.adaptive or thinking is None or thinking.type != "adaptive":
        return {}
    return {"thinking": budget_within(limit, budget_for(request.output_config.effort))}
