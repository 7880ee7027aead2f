"""What of an answer's end clients are shown beyond what the provider told."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from providers import tokens
from providers.types import Usage
from providers.wire.request import MessagesRequest

CHARS_PER_TOKEN = 4


def shown_usage(usage: Usage, request: MessagesRequest, chars: int) -> Usage:
    """`usage` with an estimate for what the provider did not tell, of an answer of `chars` characters.

    Clients compact their conversation by these counts: zeros would let it run into the window's end.
    What is charged is counted elsewhere."""
    if usage.input_tokens is not None and usage.output_tokens is not None:
        return usage
    size = sum(len(request.raw(name)) for name in ("system", "tools", "messages"))
    asked = tokens.estimate(request, size) if usage.input_tokens is None else usage.input_tokens
    said = -(-chars // CHARS_PER_TOKEN) if usage.output_tokens is None else usage.output_tokens
    return replace(usage, input_tokens=asked, output_tokens=said)


def stop_details(stop_reason: str, told: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What belongs to a stop reason: Anthropic's clients look for an explanation of a refusal."""
    if stop_reason != "refusal" or told:
        return dict(told or {})
    return {"stop_details": {"type": "refusal", "category": None, "explanation": None}}
