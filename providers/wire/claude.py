"""A request for one Claude as another Claude takes it: newer models think adaptively and by effort, older
ones by a budget, the oldest not at all; and each has its limit of output (translation.md 1.3).

What the model takes as it is keeps its bytes.
"""

from typing import Any

from providers.families import Family
from providers.wire.openai_chat.reasoning import BUDGETS
from providers.wire.request import MessagesRequest

LEAST_BUDGET = 1_024
SAMPLING = ("temperature", "top_p", "top_k")
NAME = "claude"


def changes_for_family(request: MessagesRequest, family: Family, *, limit: int) -> dict[str, Any]:
    """The fields that have to change for a Claude of `family`, which may write `limit` tokens; None removes
    one. {} for whatever is no Claude."""
    if family.name != NAME:
        return {}
    changed = _thinking(request, family, limit) | _effort(request, family)
    if not family.sampling:
        changed |= {name: None for name in SAMPLING if name in request.fields}
    return changed


def _thinking(request: MessagesRequest, family: Family, limit: int) -> dict[str, Any]:
    thinking = request.thinking
    if thinking is None:
        return {}
    if thinking.type == "adaptive" and not family.adaptive:
        return {"thinking": _budget(family, budget_for(request.output_config.effort), limit)}
    if thinking.type == "enabled" and not family.budgets and family.adaptive:
        changed: dict[str, Any] = {"thinking": {"type": "adaptive"}}
        if request.output_config.effort is None and thinking.budget_tokens is not None:
            changed["output_config"] = (request.value("output_config") or {}) | {
                "effort": effort_for(thinking.budget_tokens)
            }
        return changed
    crowded = limit < request.max_tokens and (thinking.budget_tokens or 0) >= limit
    if thinking.type == "enabled" and (not family.budgets or crowded):
        return {"thinking": _budget(family, thinking.budget_tokens or 0, limit)}
    if thinking.type not in {"enabled", "adaptive"} and not (family.budgets or family.adaptive):
        return {"thinking": None}
    return {}


def _budget(family: Family, wanted: int, limit: int) -> dict[str, Any] | None:
    """Thinking with a budget that leaves room for an answer; none where that is less than the least."""
    budget = min(wanted, limit - 1)
    return {"type": "enabled", "budget_tokens": budget} if family.budgets and budget >= LEAST_BUDGET else None


def _effort(request: MessagesRequest, family: Family) -> dict[str, Any]:
    if family.takes_effort or request.output_config.effort is None:
        return {}
    config = request.value("output_config")
    return {"output_config": {name: value for name, value in config.items() if name != "effort"} or None}


def budget_for(effort: str | None) -> int:
    """Tokens of thinking for a level."""
    limits = {level: limit for limit, level in BUDGETS}
    return limits.get(effort or "high", limits["high"])


def effort_for(budget: int) -> str:
    """The level for a budget of thinking, in tokens."""
    return next((level for limit, level in BUDGETS if budget < limit), "xhigh")
