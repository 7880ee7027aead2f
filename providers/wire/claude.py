"""What Claude refuses, wherever it is served, changed before it can answer 400.

Clients of Anthropic's get all of this right by themselves. It goes wrong where a conversation was
answered by another model before, where credits lower `max_tokens`, and where the request came in
another format (translation.md 1.3, 2.1 and 5).
"""

import hashlib
import re
from typing import Any

from providers.families import family_of
from providers.wire.foreign import without_foreign_blocks
from providers.wire.request import THINKING_BLOCKS, MessagesRequest

LEAST_BUDGET = 1024
CALL_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
ODD_ID = re.compile(rb'"(?:tool_use_)?id"\s*:\s*"(?:[^"]*[^"a-zA-Z0-9_-][^"]*|[^"]{65,}|)"')
"""A first look: it may also find an id that a tool's input holds."""
SAMPLING = ("temperature", "top_p", "top_k")
THINKING_EDIT = "clear_thinking_"


def changes_for_claude(request: MessagesRequest, *, max_tokens: int, model_name: str) -> dict[str, Any]:
    """The fields of `request` that have to change for Claude, which may write `max_tokens` and is served
    as `model_name`; None removes one. {} for nearly all requests."""
    changed = without_foreign_blocks(request, unsigned=True)
    edited = request.with_fields(**changed) if changed else request
    changed |= _thinking(edited, max_tokens)
    if ODD_ID.search(edited.raw("messages")):
        changed |= _ids(edited)
    thinking = changed.get("thinking", edited.value("thinking"))
    thinks = isinstance(thinking, dict) and thinking.get("type") in {"enabled", "adaptive"}
    return changed | _sampling(request, model_name, thinks=thinks) | ({} if thinks else _context(request))


def fitting_budget(request: MessagesRequest, max_tokens: int) -> dict[str, Any]:
    """`thinking` with a budget below `max_tokens`, or none at all, where credits allow for fewer tokens
    than the client did; {} when it fits."""
    thinking = request.thinking
    if max_tokens >= request.max_tokens or thinking is None or thinking.type != "enabled":
        return {}
    if (thinking.budget_tokens or 0) < max_tokens:
        return {}
    if max_tokens <= LEAST_BUDGET:
        return {"thinking": {"type": "disabled"}}
    return {"thinking": {**request.value("thinking"), "budget_tokens": max_tokens - 1}}


def _thinking(request: MessagesRequest, max_tokens: int) -> dict[str, Any]:
    """With a budget Claude wants its thinking before the calls of the present turn: there is none when
    another model has made them."""
    thinking = request.thinking
    if thinking is not None and thinking.type == "enabled" and _calls_without_thinking(request):
        return {"thinking": {"type": "disabled"}}
    return fitting_budget(request, max_tokens)


def _calls_without_thinking(request: MessagesRequest) -> bool:
    messages = request.messages
    if len(messages) < 2 or all(block.type != "tool_result" for block in messages[-1].blocks):
        return False
    called = [block.type for block in messages[-2].blocks] if messages[-2].role == "assistant" else []
    return "tool_use" in called and called[0] not in THINKING_BLOCKS


def _sampling(request: MessagesRequest, model_name: str, *, thinks: bool) -> dict[str, Any]:
    """While it thinks Claude takes no sampling but its own, and its newest versions take none at all."""
    told = [name for name in SAMPLING if name in request.fields]
    if not told:
        return {}
    if not family_of(model_name).sampling:
        return dict.fromkeys(told)
    if not thinks:
        return {}
    top_p = request.value("top_p")
    fits = isinstance(top_p, int | float) and top_p >= 0.95
    return {name: None for name in told if not (name == "top_p" and fits)}


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
