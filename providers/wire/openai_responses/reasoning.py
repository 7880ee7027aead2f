"""How much a model shall think, and how its reasoning comes back to it.

With `store: false` the provider forgets its reasoning: it hands it out encrypted and wants it
back, in place. It travels in the signature of a thinking block (or as redacted thinking, where
there is no text), behind the tag that names its owner. To any other model it says nothing.
"""

import re
from typing import Any

import msgspec

from providers.families import OFF, nearest_effort
from providers.types import Model, Target
from providers.wire.openai_chat.quirks import OPENAI_KINDS, OPENAI_REASONING, Quirks
from providers.wire.openai_chat.reasoning import is_own_reasoning, openai_effort, signature, wanted_effort
from providers.wire.openai_responses.quirks import ResponsesQuirks
from providers.wire.request import MessagesRequest

PARTS = "\n\n"
"""Between the parts of a summary, in a thinking block's text."""


class Envelope(msgspec.Struct, omit_defaults=True):
    """What the provider gets back. `summary` and `content` are the lengths, in characters, of the
    parts that the thinking block's text was put together from; `phase` belongs to the message
    that follows."""

    provider: str = ""
    model: str = ""
    encrypted: str = ""
    summary: list[int] = []
    content: list[int] = []
    phase: str = ""


_envelope = msgspec.json.Decoder(Envelope)


def sealed(envelope: Envelope, target: Target, model: Model) -> str:
    """The signature that carries `envelope` through the client."""
    envelope.provider, envelope.model = target.provider, target.actual_model
    return f"{signature(target, model)}:{msgspec.json.encode(envelope).decode()}"


def opened(signed: str | None, target: Target) -> Envelope | None:
    """The envelope in a signature that this very provider's model wrote; None for any other, since
    encrypted reasoning is bound to the account and the model."""
    if not signed or not is_own_reasoning(signed, target):
        return None
    _, brace, text = signed.partition(":{")
    try:
        envelope = _envelope.decode(f"{{{text}") if brace else None
    except (msgspec.DecodeError, RecursionError):
        return None
    if envelope is None or (envelope.provider, envelope.model) != (target.provider, target.actual_model):
        return None
    return envelope


def reasoning_item(envelope: Envelope, text: str, *, encrypts: bool) -> dict[str, Any] | None:
    """The item as the provider wrote it, but for its id, which names nothing that is stored."""
    item: dict[str, Any] = {"type": "reasoning", "summary": []}
    if envelope.summary:
        item["summary"] = [{"type": "summary_text", "text": part} for part in _parts(text, envelope.summary)]
    if envelope.content:
        item["content"] = [{"type": "reasoning_text", "text": part} for part in _parts(text, envelope.content)]
    if envelope.encrypted:
        return item | {"encrypted_content": envelope.encrypted}
    return item if envelope.content and not encrypts else None


def _parts(text: str, lengths: list[int]) -> list[str]:
    if sum(lengths) + len(PARTS) * (len(lengths) - 1) != len(text):
        return [text] if text else []
    parts, start = [], 0
    for length in lengths:
        parts.append(text[start : start + length])
        start += length + len(PARTS)
    return parts


def is_reasoning_model(target: Target, model: Model) -> bool:
    """Whether OpenAI's rules for reasoning models hold. At Azure a deployment's name says nothing."""
    if target.kind == "azure":
        return model.thinking or OPENAI_REASONING.search(target.actual_model) is not None
    return target.kind == "openai" and OPENAI_REASONING.search(target.actual_model) is not None


def reasoning_fields(
    request: MessagesRequest, *, target: Target, model: Model, quirks: Quirks, own: ResponsesQuirks
) -> dict[str, Any]:
    """`reasoning` and `include`, for a model that thinks."""
    if not model.thinking or (target.kind in OPENAI_KINDS and not is_reasoning_model(target, model)):
        return {}
    reasoning: dict[str, Any] = {}
    wanted = wanted_effort(request)
    level = _level(wanted, target, quirks) if wanted else None
    if level:
        reasoning["effort"] = level
    if own.summarises and level != OFF and _wants_summary(request):
        reasoning["summary"] = "auto"
    fields: dict[str, Any] = {"reasoning": reasoning} if reasoning else {}
    if own.encrypts:
        fields["include"] = ["reasoning.encrypted_content"]
    return fields


def _wants_summary(request: MessagesRequest) -> bool:
    thinking = request.value("thinking")
    return not (isinstance(thinking, dict) and thinking.get("display") == "omitted")


def _level(wanted: str, target: Target, quirks: Quirks) -> str | None:
    name = target.actual_model
    if target.kind in OPENAI_KINDS:
        return openai_effort(name, wanted)
    if quirks.reasoning == "none" or not re.search(quirks.reasoning_models, name):
        return None
    return quirks.efforts[0] if wanted == OFF else nearest_effort(wanted, quirks.efforts)
