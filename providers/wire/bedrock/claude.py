"""An Anthropic request as Bedrock's Claude models take it: Anthropic's format, but not all of it.

Bedrock answers 400 ("Extra inputs are not permitted") to fields and betas that it does not have, so
only what it is known to take is sent (translation.md 1.5). What has not to change keeps its bytes.
"""

import functools
from typing import Any

import msgspec

from providers.errors import InvalidRequest
from providers.families import family_of, output_cap
from providers.wire.claude import changes_for_claude
from providers.wire.openai_chat.history import BILLING_HEADER
from providers.wire.request import MessagesRequest

VERSION = "bedrock-2023-05-31"
FIELDS = (
    "system", "tools", "tool_choice", "messages", "max_tokens", "stop_sequences", "temperature", "top_p", "top_k",
    "thinking", "output_config", "context_management",
)  # fmt: skip
BETAS = frozenset(
    {
        "compact-2026-01-12", "computer-use-2024-10-22", "computer-use-2025-01-24", "computer-use-2025-11-24",
        "context-1m-2025-08-07", "context-management-2025-06-27", "dev-full-thinking-2025-05-14", "effort-2025-11-24",
        "fine-grained-tool-streaming-2025-05-14", "interleaved-thinking-2025-05-14", "output-128k-2025-02-19",
        "token-efficient-tools-2025-02-19", "tool-examples-2025-10-29", "tool-search-tool-2025-10-19",
    }
)  # fmt: skip
TOOL_SEARCH = "tool-search-tool-2025-10-19"
TOOL_EXAMPLES = "tool-examples-2025-10-29"
EDITS = frozenset({"compact_20260112", "clear_tool_uses_20250919"})
OUTPUT = frozenset({"effort", "format"})
SERVER_TOOLS = ("web_search_", "web_fetch_", "code_execution_", "mcp_toolset", "advisor_", "browser_toolset_")
TOOL_EXTRAS = frozenset({"custom", "eager_input_streaming", "allowed_callers", "toolset_name"})
MARKS = tuple(
    b'"' + name.encode() for name in (*SERVER_TOOLS, *TOOL_EXTRAS, "defer_loading", "input_examples", "strict")
)
"""One of these stands in every list of tools that has to change."""
SCOPE, MARKED = b'"scope"', ("system", "tools", "messages")
"""Where cache marks stand, and what in them is for Anthropic's own servers."""
ELSEWHERE = frozenset({"url", "file"})


def body_of(request: MessagesRequest, *, model_id: str, max_tokens: int, betas: str) -> bytes:
    """The body of InvokeModel. `betas` is the client's `anthropic-beta` header. Raises InvalidRequest."""
    if request.value("mcp_servers"):
        raise InvalidRequest("mcp_servers: Amazon Bedrock cannot call MCP servers.")
    taken = [beta for beta in (part.strip() for part in betas.split(",")) if beta in BETAS]
    limit = output_cap(model_id, min(max_tokens, request.max_tokens), None)
    changed = changes_for_claude(request, max_tokens=limit, model_name=model_id)
    changed |= _context_management(request)
    changed |= _tools(request, frozenset(taken), strict=_takes_strict(model_id))
    edited = request.with_fields(**changed) if changed else request
    _refuse_files_elsewhere(edited)
    fields: dict[str, Any] = {"anthropic_version": VERSION}
    if taken:
        fields["anthropic_beta"] = taken
    fields |= {name: edited.fields[name] for name in FIELDS if name in edited.fields}
    fields["max_tokens"] = limit
    for name, value in (
        ("system", _system(edited)),
        ("output_config", _output_config(edited)),
    ):
        if value:
            fields[name] = value
        else:
            fields.pop(name, None)
    body = msgspec.json.encode(fields)
    return _without_scopes(body) if any(edited.mentions(SCOPE, name) for name in MARKED) else body


def _system(request: MessagesRequest) -> Any:
    """The system prompt without the client's billing block, which differs from request to request and so
    defeats the prompt cache."""
    if not request.system_says(BILLING_HEADER):
        return request.fields.get("system")
    system = request.value("system")
    blocks = [{"type": "text", "text": system}] if isinstance(system, str) else system
    return [block for block in blocks if not str(block.get("text") or "").lstrip().startswith(BILLING_HEADER)]


def _output_config(request: MessagesRequest) -> Any:
    config = request.value("output_config")
    return {name: value for name, value in config.items() if name in OUTPUT} if isinstance(config, dict) else None


def _context_management(request: MessagesRequest) -> dict[str, Any]:
    management = request.value("context_management")
    if management is None:
        return {}
    edits = management.get("edits") if isinstance(management, dict) else None
    kept = [edit for edit in edits or () if isinstance(edit, dict) and edit.get("type") in EDITS]
    return {"context_management": {"edits": kept} if kept else None}


def _takes_strict(model_id: str) -> bool:
    """Bedrock refuses `strict` on the tools of its newest Opus models."""
    family = family_of(model_id)
    return "opus" not in model_id or family.budgets or not family.adaptive


def _tools(request: MessagesRequest, betas: frozenset[str], *, strict: bool) -> dict[str, Any]:
    """The tools without those that only Anthropic's own servers run, and without the fields that Bedrock
    does not know; {} when they may stay as they are."""
    if not _is_marked(request.raw("tools")):
        return {}
    tools = request.value("tools") or []
    kept = [
        _tool(tool, betas, strict=strict) for tool in tools if not str(tool.get("type") or "").startswith(SERVER_TOOLS)
    ]
    if kept == tools:
        return {}
    if not kept:
        return {"tools": None, "tool_choice": None}
    choice = request.value("tool_choice")
    named = choice.get("name") if isinstance(choice, dict) and choice.get("type") == "tool" else None
    if named is not None and all(tool.get("name") != named for tool in kept):
        return {"tools": kept, "tool_choice": None}
    return {"tools": kept}


@functools.lru_cache(maxsize=32)
def _is_marked(tools: bytes) -> bool:
    """A client sends the same tools with every request of a conversation, 60 KB of them."""
    return any(mark in tools for mark in MARKS)


def _tool(tool: dict[str, Any], betas: frozenset[str], *, strict: bool) -> dict[str, Any]:
    left_out = set(TOOL_EXTRAS) | (set() if strict else {"strict"})
    if TOOL_SEARCH not in betas:
        left_out.add("defer_loading")
    if TOOL_EXAMPLES not in betas:
        left_out.add("input_examples")
    return {name: value for name, value in tool.items() if name not in left_out}


def _refuse_files_elsewhere(request: MessagesRequest) -> None:
    """Bedrock fetches nothing and stores nothing."""
    if not request.has_media or not any(request.mentions(b'"%b"' % kind.encode(), "messages") for kind in ELSEWHERE):
        return
    for message in request.value("messages"):
        content = message.get("content")
        for block in content if isinstance(content, list) else ():
            inner = block.get("content") if block.get("type") == "tool_result" else None
            for each in [block, *(inner if isinstance(inner, list) else ())]:
                source = each.get("source")
                if isinstance(source, dict) and source.get("type") in ELSEWHERE:
                    raise InvalidRequest(
                        f"messages: the {each.get('type')} is given by {source['type']}; Amazon Bedrock takes only "
                        "data in base64."
                    )


def _without_scopes(body: bytes) -> bytes:
    """`body` without the `scope` of cache marks, which is for Anthropic's own servers."""
    return msgspec.json.encode(_unscoped(msgspec.json.decode(body, type=dict[str, Any])))


def _unscoped(value: Any) -> Any:
    if isinstance(value, list):
        return [_unscoped(part) for part in value]
    if not isinstance(value, dict):
        return value
    mark = value.get("cache_control")
    if isinstance(mark, dict) and "scope" in mark and isinstance(value.get("type"), str | None):
        value = {**value, "cache_control": {name: part for name, part in mark.items() if name != "scope"}}
    return {name: part if name in {"input", "input_schema"} else _unscoped(part) for name, part in value.items()}
