"""What Claude refuses, wherever it is served, changed before it can answer 400.

Clients of Anthropic's get all of this right by themselves. It goes wrong where a conversation was
answered by another model before, where credits lower `max_tokens`, where the request came in
another format, and where it was made for another Claude: newer ones think adaptively and by effort,
older ones by a budget, the oldest not at all (translation.md 1.3, 2.1 and 5).

What the model takes as it is keeps its bytes.
"""

import hashlib
import re
from typing import Any

from providers.families import Family, family_of
from providers.wire.foreign import without_foreign_blocks
from providers.wire.openai_chat.reasoning import BUDGETS
from providers.wire.request import THINKING_BLOCKS, MessagesRequest

LEAST_BUDGET = 1024
CALL_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
ODD_ID = re.compile(rb'"(?:tool_use_)?id"\s*:\s*"(?:[^"]*[^"a-zA-Z0-9_-][^"]*|[^"]{65,}|)"')
"""A first look: it may also find an id that a tool's input holds."""
SAMPLING = ("temperature", "top_p", "top_k")
THINKING_EDIT = "clear_thinking_"
NAME = "claude"


def changes_for_claude(request: MessagesRequest, *, max_tokens: int, model_name: str) -> dict[str, Any]:
    """The fields of `request` that have to change for Claude, which may write `max_tokens` and is served
    as `model_name`; None removes one. {} for nearly all requests."""
    family = family_of(model_name)
    changed = without_foreign_blocks(request, unsigned=True)
    edited = request.with_fields(**changed) if changed else request
    changed |= changes_for_family(edited, family, limit=max_tokens)
    if ODD_ID.search(edited.raw("messages")):
        changed |= _ids(edited)
    thinking = changed.get("thinking", edited.value("thinking"))
    kind = thinking.get("type") if isinstance(thinking, dict) else None
    if kind == "enabled" and _calls_without_thinking(edited):
        # With a budget Claude wants its thinking before the calls of the present turn: there is none
        # when another model has made them.
        changed["thinking"], kind = {"type": "disabled"}, "disabled"
    if kind not in {"enabled", "adaptive"}:
        return changed | _context(request)
    return changed | (_sampling(request) if family.sampling else {})


def changes_for_family(request: MessagesRequest, family: Family, *, limit: int) -> dict[str, Any]:
    """The fields that have to change for a model of `family`, which may write `limit` tokens; None removes
    one. Whatever is no Claude judges for itself, but for a budget that is too large."""
    if family.name != NAME:
        return fitting_budget(request, limit)
    changed = _thinking(request, family, limit) | _effort(request, family)
    if not family.sampling:
        changed |= {name: None for name in SAMPLING if name in request.fields}
    return changed


def fitting_budget(request: MessagesRequest, max_tokens: int) -> dict[str, Any]:
    """`thinking` with a budget below `max_tokens`, or none at all, where credits allow for fewer tokens
    than the client did; {} when it fits."""
    thinking = request.thinking
    if max_tokens >= request.max_tokens or thinking is None or thinking.type != "enabled":
        return {}
    if (thinking.budget_tokens or 0) < max_tokens:
        return {}
    fitting = budget_within(max_tokens, max_tokens)
    return {"thinking": fitting if fitting["type"] == "disabled" else {**request.value("thinking"), **fitting}}


def _thinking(request: MessagesRequest, family: Family, limit: int) -> dict[str, Any]:
    """`thinking` in the form that the family has."""
    thinking = request.thinking
    if thinking is None:
        return {}
    if not (family.budgets or family.adaptive):
        return {"thinking": None}
    if thinking.type == "adaptive" and not family.adaptive:
        return {"thinking": budget_within(limit, budget_for(request.output_config.effort))}
    if thinking.type == "enabled" and not family.budgets:
        changed: dict[str, Any] = {"thinking": {"type": "adaptive"}}
        if request.output_config.effort is None and thinking.budget_tokens is not None:
            changed["output_config"] = (request.value("output_config") or {}) | {
                "effort": effort_for(thinking.budget_tokens)
            }
        return changed
    return fitting_budget(request, limit)


def _effort(request: MessagesRequest, family: Family) -> dict[str, Any]:
    if family.takes_effort or request.output_config.effort is None:
        return {}
    config = request.value("output_config")
    return {"output_config": {name: value for name, value in config.items() if name != "effort"} or None}


def budget_within(limit: int, wanted: int) -> dict[str, Any]:
    """`thinking` with a budget, in tokens, that leaves room for an answer of a request's `limit`. Where
    that is less than the least none, and said so: some of the servers that speak this format think unasked."""
    budget = min(wanted, limit - 1)
    return {"type": "enabled", "budget_tokens": budget} if budget >= LEAST_BUDGET else {"type": "disabled"}


def budget_for(effort: str | None) -> int:
    """Tokens of thinking for a level."""
    limits = {level: limit for limit, level in BUDGETS}
    return limits.get(effort or "high", limits["high"])


def effort_for(budget: int) -> str:
    """The level for a budget of thinking, in tokens."""
    return next((level for limit, level in BUDGETS if budget < limit), "xhigh")


def _calls_without_thinking(request: MessagesRequest) -> bool:
    messages = request.messages
    if len(messages) < 2 or all(block.type != "tool_result" for block in messages[-1].blocks):
        return False
    called = [block.type for block in messages[-2].blocks] if messages[-2].role == "assistant" else []
    return "tool_use" in called and called[0] not in THINKING_BLOCKS


def _sampling(request: MessagesRequest) -> dict[str, Any]:
    """While it thinks Claude takes no sampling but its own, and a `top_p` that hardly differs."""
    top_p = request.value("top_p")
    fits = isinstance(top_p, int | float) and top_p >= 0.95
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
