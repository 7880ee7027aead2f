"""How much a model shall think, and whose reasoning it gets back."""

import re
from typing import Any

from providers.families import EFFORTS, OFF, effort_of, family_of, nearest_effort
from providers.types import Model, Target
from providers.wire.openai_chat.quirks import OPENAI_KINDS, OPENAI_REASONING, Quirks, is_openai_reasoning
from providers.wire.request import MessagesRequest

BUDGETS = ((4_000, "low"), (12_000, "medium"), (24_000, "high"))
OURS = "ccm1"
VERSION = re.compile(r"gpt-(\d+)(?:\.(\d+))?")


def wanted_effort(request: MessagesRequest) -> str | None:
    """The level the client asks for, OFF for no thinking, None when it leaves it to the model."""
    thinking = request.thinking
    if thinking is not None and thinking.type in {"disabled", "between_tools"}:
        return OFF
    if thinking is not None and thinking.type == "enabled" and thinking.budget_tokens is not None:
        budget = thinking.budget_tokens
        return next((level for limit, level in BUDGETS if budget < limit), "xhigh")
    effort = request.output_config.effort
    return effort if effort in EFFORTS else None


def reasoning_fields(
    request: MessagesRequest, *, target: Target, model: Model, quirks: Quirks, has_tools: bool
) -> dict[str, Any]:
    """The fields that tell the provider how much to think; none where it would refuse them."""
    wanted = wanted_effort(request)
    if wanted is None or not model.thinking or quirks.reasoning == "none":
        return {}
    if quirks.reasoning == "switch":
        kept = {"clear_thinking": False} if quirks.keeps_thinking and wanted != OFF else {}
        return {"thinking": {"type": "disabled" if wanted == OFF else "enabled", **kept}}
    if quirks.reasoning == "openrouter":
        return {
            "reasoning": {"enabled": False} if wanted == OFF else {"effort": nearest_effort(wanted, quirks.efforts)}
        }
    name = target.actual_model
    if is_openai_reasoning(target.kind, name):
        level = _openai_level(wanted, name, has_tools=has_tools)
    elif wanted == OFF and quirks.off_models and re.search(quirks.off_models, name):
        level = OFF
    elif target.kind in OPENAI_KINDS or not re.search(quirks.reasoning_models, name):
        level = None
    else:
        level = quirks.efforts[0] if wanted == OFF else nearest_effort(wanted, quirks.efforts)
    return {"reasoning_effort": level} if level else {}


def _openai_level(wanted: str, name: str, *, has_tools: bool) -> str | None:
    """From 5.4 on Chat Completions refuse a level together with functions, and think little without one."""
    found = VERSION.search(name)
    if has_tools and found is not None and (int(found[1]), int(found[2] or 0)) >= (5, 4):
        return None
    return openai_effort(name, wanted)


def openai_effort(name: str, wanted: str) -> str | None:
    """The effort of OpenAI's model `name`; one whose name says nothing (a deployment's) knows the common three."""
    family = family_of(name)
    return effort_of(family if family.efforts else family_of("o3"), wanted)


def takes_sampling(target: Target, model: Model, quirks: Quirks) -> bool:
    """Whether the target takes temperature and top_p."""
    if is_openai_reasoning(target.kind, target.actual_model):
        return False
    thinks = model.thinking and not (target.kind in OPENAI_KINDS and not OPENAI_REASONING.search(target.actual_model))
    return not (quirks.fixed_sampling and thinks)


def signature(target: Target, model: Model) -> str:
    """What we sign a provider's reasoning with: clients keep signed thinking, and by it we know
    our own again. Anthropic's clients demand that it is not empty."""
    return f"{OURS}:{target.kind}:{model.name}"


def is_own_reasoning(signed: str | None, target: Target) -> bool:
    return (signed or "").startswith(f"{OURS}:{target.kind}:")
