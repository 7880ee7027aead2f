"""Reasoning of Bedrock's models, carried through the client in our own signatures.

A signature is `ccm1:bedrock:<model>|` and what the model wants back: `s` and its own signature, or `r`
and reasoning that it keeps secret. A model without signatures does not take its reasoning back.
"""

from typing import Any

from providers.types import Model
from providers.wire.openai_chat.history import Block
from providers.wire.openai_chat.reasoning import OURS

SIGNED = "s"
REDACTED = "r"


def prefix(model: Model) -> str:
    return f"{OURS}:bedrock:{model.name}|"


def own_reasoning(block: Block, model: Model) -> dict[str, Any] | None:
    """The `reasoningContent` that the thinking `block` was made of; None when this model has not made it."""
    head, signed = prefix(model), block.signature or ""
    kind, kept = signed[len(head) : len(head) + 1], signed[len(head) + 1 :]
    if not signed.startswith(head) or not kept:
        return None
    if kind == REDACTED:
        return {"reasoningContent": {"redactedContent": kept}}
    return {"reasoningContent": {"reasoningText": {"text": block.thinking, "signature": kept}}}
