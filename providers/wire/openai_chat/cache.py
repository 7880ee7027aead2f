"""Cache marks, for servers that take Anthropic's in their own format: on parts of messages and on
functions (translation.md 8.1; OpenRouter hands them on to the models that know them)."""

import re
from typing import Any

from providers.types import Target
from providers.wire.openai_chat.history import PARAGRAPH, without_billing_header
from providers.wire.openai_chat.quirks import Quirks
from providers.wire.openai_chat.tools import wire_name
from providers.wire.request import MessagesRequest

Part = dict[str, Any]
KNOWS_TTL = re.compile(r"anthropic/")
"""The others have one lifetime, and are told none."""


class CacheMarks:
    """What `target` takes of the client's marks."""

    def __init__(self, target: Target, quirks: Quirks) -> None:
        name = target.actual_model
        self.taken = bool(quirks.cache_marks) and re.search(quirks.cache_marks, name) is not None
        self._names = ("type", "ttl") if KNOWS_TTL.search(name) else ("type",)

    def of(self, told: Any) -> Part:
        """The field for a part whose block is marked with `told`; {} for one that is not."""
        if not self.taken or not isinstance(told, dict):
            return {}
        return {"cache_control": {name: told[name] for name in self._names if told.get(name)}}

    def system(self, request: MessagesRequest, system: str) -> str | list[Part]:
        """The system prompt `system` in parts, when one of its blocks is marked. What CCM itself adds
        comes last."""
        blocks = request.value("system")
        marks = [self.of(block.get("cache_control")) for block in blocks] if isinstance(blocks, list) else []
        if not any(marks):
            return system
        texts = [without_billing_header(str(block.get("text") or "")) for block in blocks]
        kept = [(text, mark) for text, mark in zip(texts, marks, strict=True) if text.strip()]
        said = PARAGRAPH.join(text for text, _ in kept)
        added = system.removeprefix(said).strip()
        parts = [{"type": "text", "text": text, **mark} for text, mark in kept]
        return [*parts, {"type": "text", "text": added}] if added else parts

    def functions(self, request: MessagesRequest, functions: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if not self.taken or not request.mentions(b'"cache_control"', "tools"):
            return functions
        tools = request.value("tools") or []
        marks = {wire_name(str(tool.get("name"))): self.of(tool.get("cache_control")) for tool in tools}
        return [{**function, **marks.get(function["function"]["name"], {})} for function in functions]


def is_marked(parts: list[Part]) -> bool:
    return any("cache_control" in part for part in parts)
