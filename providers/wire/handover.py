"""A conversation as Claude takes it over, wherever it is served: what it refuses is changed before it can
answer 400.

Clients of Anthropic's get all of this right by themselves. It goes wrong where another model answered
before, and where the request came in another format (translation.md 1.3, 2.1 and 5).
"""

import hashlib
import re
from typing import Any

from providers.wire.foreign import without_foreign_blocks
from providers.wire.request import THINKING_BLOCKS, MessagesRequest

LEAST_TOP_P = 0.95
CALL_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
ODD_ID = re.compile(rb'"(?:tool_use_)?id"\s*:\s*"(?:[^"]*[^"a-zA-Z0-9_-][^"]*|[^"]{65,}|)"')
"""A first look: it may also find an id that a tool's input holds."""
SAMPLING = ("temperature", "top_p", "top_k")
THINKING_EDIT = "clear_thinking_"


def changes_for_claude(request: MessagesRequest) -> dict[str, Any]:
    """The fields of `request` that have to change for Claude; None removes one. {} for nearly all requests."""
    changed = without_foreign_blocks(request, unsigned=True)
    edited = request.with_fields(**changed) if changed else request
    thinking = edited.thinking
    if thinking is not None and thinking.type == "enabled" and _calls_without_thinking(edited):
        # With a budget Claude wants its thinking before the calls of the present turn.
        changed["thinking"] = {"type": "disabled"}
    if ODD_ID.search(edited.raw("messages")):
        changed |= _ids(edited)
    told = changed.get("thinking", edited.value("thinking"))
    thinks = isinstance(told, dict) and told.get("type") in {"enabled", "adaptive"}
    return changed | (_sampling(request) if thinks else _context(request))


def _calls_without_thinking(request: MessagesRequest) -> bool:
    messages = request.messages
    if len(messages) < 2 or all(block.type != "tool_result" for block in messages[-1].blocks):
        return False
    called = [block.type for block in messages[-2].blocks] if messages[-2].role == "assistant" else []
    return "tool_use" in called and called[0] not in THINKING_BLOCKS


def _sampling(request: MessagesRequest) -> dict[str, Any]:
    """While it thinks Claude takes no sampling but its own."""
    top_p = request.value("top_p")
    fits = isinstance(top_p, int | float) and top_p >= LEAST_TOP_P
    return {name: None for name in SAMPLING if name in request.fields and not (name == "top_p" and fits)}


def _context(request: MessagesRequest) -> dict[str, Any]:
    """Without the edits that clear thinking, which are refused where there is none."""
    management = request.value("context_management")
    edits = management.get("edits") if isinstance(management, dict) else None
    if not isinstance(edits, list):
        return {}
    kept = [edit for edit in edits if not (isinstance(edit, dict) and _clears_thinking(edit))]
    if len(kept) == len(edits):
        return {}
    return {"context_management": {**management, "edits": kept} if kept else None}


def _clears_thinking(edit: dict[str, Any]) -> bool:
    return str(edit.get("type") or "").startswith(THINKING_EDIT)


def _ids(request: MessagesRequest) -> dict[str, Any]:
    """The calls' ids in Anthropic's alphabet, the same in every request of the conversation."""
    messages = request.value("messages")
    odd = False
    for message in messages:
        content = message.get("content")
        for block in content if isinstance(content, list) else ():
            name = {"tool_use": "id", "tool_result": "tool_use_id"}.get(str(block.get("type")))
            told = block.get(name) if name else None
            if isinstance(told, str) and not CALL_ID.fullmatch(told):
                block[name] = "toolu_" + hashlib.sha256(told.encode()).hexdigest()[:24]
                odd = True
    return {"messages": messages} if odd else {}
