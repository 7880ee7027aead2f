"""How much a Gemini model shall think, and the signatures that it wants back.

Google signs parts of an answer (`thoughtSignature`) and, from Gemini 3 on, refuses a function call
that comes back without its signature. Anthropic's clients keep one opaque field of ours: a thinking
block's signature. So the signature of a part rides on the thinking block right before that part; an
empty one is made where there is none. What signs the very end of an answer's text has no block
behind it that could carry it, and is dropped: Google recommends it and never asks for it.
"""

import base64
import hashlib
import re
from typing import Any, Literal

import msgspec

from providers.families import OFF, Family, nearest_effort
from providers.types import Model, Target
from providers.wire.openai_chat.reasoning import signature, wanted_effort
from providers.wire.request import MessagesRequest

DUMMY_SIGNATURE = "skip_thought_signature_validator"
"""What Google documents for calls that its model did not make, or whose signature is lost."""
DYNAMIC = -1
EFFORT_BUDGETS = {"minimal": 512, "low": 1_024, "medium": 8_192}
"""Tokens for an effort, where a model takes a budget; higher efforts get its whole budget."""

Carried = Literal["call", "text", "part"]
"""What a signature of ours carries: that of the next call, that of the next text, or a whole part
that Google wants back as it is (base64 of its JSON)."""
_CARRIED = re.compile(r";(call|text|part)\.([0-9a-f]{8})=(.*)", re.DOTALL)


def shows_thinking(request: MessagesRequest) -> bool:
    """Whether the client wants to see thoughts."""
    if not _asks_to_think(request):
        return False
    thinking = request.value("thinking")
    return not (isinstance(thinking, dict) and thinking.get("display") == "omitted")


def _asks_to_think(request: MessagesRequest) -> bool:
    return request.thinking is not None and request.thinking.type in {"enabled", "adaptive"}


def thinking_config(request: MessagesRequest, *, model: Model, family: Family, limit: int) -> dict[str, Any]:
    """`thinkingConfig` for an answer of at most `limit` tokens, thoughts included; {} for models that
    refuse it. A request without `thinking` asks for none, as at Anthropic's API, and gets the least
    that the model allows."""
    if family.reasoning not in {"budget", "level"}:
        return {}
    asks = model.thinking and _asks_to_think(request)
    config: dict[str, Any] = {"includeThoughts": True} if asks and shows_thinking(request) else {}
    wanted = wanted_effort(request) if asks else OFF
    if family.reasoning == "budget":
        return config | {"thinkingBudget": _budget(request, wanted, family, limit)}
    if wanted is None:
        return config
    level = family.efforts[0] if wanted == OFF else nearest_effort(wanted, family.efforts)
    return config | ({"thinkingLevel": level.upper()} if level else {})


def _budget(request: MessagesRequest, wanted: str | None, family: Family, limit: int) -> int:
    least, most = family.budget
    if wanted == OFF:
        return 0 if family.can_stop_thinking else least
    told = request.thinking.budget_tokens if request.thinking else None
    if told is None and wanted is None:
        return DYNAMIC
    budget = told if told is not None else EFFORT_BUDGETS.get(wanted or "", most)
    if budget >= limit:
        budget = limit * 3 // 4  # the answer itself needs room too
    return max(least, min(budget, most))


def carrying(what: Carried, payload: str, *, target: Target, model: Model) -> str:
    """Our signature with `payload` in it, for the target's own model alone."""
    return f"{signature(target, model)};{what}.{_route(target)}={payload}"


def carried(signed: str | None, *, target: Target, model: Model) -> tuple[str, str] | None:
    """(what, payload) of a signature that `carrying` made for this target and model; else None:
    another model refuses what it did not sign."""
    text, own = signed or "", signature(target, model)
    found = _CARRIED.fullmatch(text, len(own)) if text.startswith(own) else None
    return (found[1], found[3]) if found is not None and found[2] == _route(target) else None


def _route(target: Target) -> str:
    return hashlib.sha256(target.actual_model.encode()).hexdigest()[:8]


def packed(part: dict[str, Any]) -> str:
    return base64.b64encode(msgspec.json.encode(part)).decode()


def unpacked(payload: str) -> dict[str, Any] | None:
    """The part that `packed` has packed; None for anything else, which a client may have made up."""
    try:
        part = msgspec.json.decode(base64.b64decode(payload, validate=True))
    except (ValueError, msgspec.DecodeError, RecursionError):
        return None
    return part if isinstance(part, dict) and set(part) <= {"toolCall", "toolResponse", "thoughtSignature"} else None
