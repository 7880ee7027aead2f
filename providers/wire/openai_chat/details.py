"""OpenRouter's `reasoning_details`: what stands behind a model's reasoning (signatures, encrypted steps).

It wants them back as they were, before the calls that they led to. They travel in the signature of the
thinking block whose text they belong to; where there is no text, in that of an empty one.
"""

from typing import Any

import msgspec

from providers.types import Model, Target
from providers.wire.openai_chat.reasoning import is_own_reasoning, signature

OPAQUE = ("data", "signature")
TEXTS = ("text", "summary")
Detail = dict[str, Any]


class _Envelope(msgspec.Struct):
    model: str
    details: list[Detail]


_envelope = msgspec.json.Decoder(_Envelope)


class Details:
    """The details of one thinking block on its way, told in pieces. `wants_back`: there is something
    among them that the provider wants back."""

    def __init__(self, target: Target, model: Model) -> None:
        self._target = target
        self._model = model
        self._told: dict[tuple[Any, Any], Detail] = {}
        self.wants_back = False

    def add(self, details: list[Detail]) -> bool:
        """Whether a signature made of them would be another one now."""
        changed = False
        for told in details:
            known = self._told.setdefault((told.get("type"), told.get("index")), {})
            for name, value in told.items():
                if name in TEXTS and isinstance(value, str):
                    known[name] = known.get(name, "") + value
                elif value is not None or name not in known:
                    known[name] = value
            changed = changed or any(told.get(name) for name in OPAQUE)
        self.wants_back = self.wants_back or changed
        return changed

    def sealed(self) -> str:
        envelope = _Envelope(self._target.actual_model, list(self._told.values()))
        return f"{signature(self._target, self._model)}:{msgspec.json.encode(envelope).decode()}"

    def clear(self) -> None:
        self._told.clear()
        self.wants_back = False


def opened(signed: str | None, target: Target) -> list[Detail]:
    """The details in a signature that this very model's answer was signed with."""
    if not signed or not is_own_reasoning(signed, target):
        return []
    _, brace, text = signed.partition(":{")
    try:
        envelope = _envelope.decode(f"{{{text}") if brace else None
    except (msgspec.DecodeError, RecursionError):
        return []
    return envelope.details if envelope is not None and envelope.model == target.actual_model else []
