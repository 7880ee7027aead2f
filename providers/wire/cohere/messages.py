"""The conversation as Cohere's messages.

Like Chat Completions, but for three things: what the assistant says before it calls tools is its
`tool_plan`, results of tools are documents, and thinking is a part of the content.
"""

from typing import Any

from providers.types import Model, Target
from providers.wire.cohere.sources import wants_citations
from providers.wire.openai_chat.history import Block, Turn
from providers.wire.openai_chat.messages import (
    ATTACHMENTS,
    INTERRUPTED,
    NO_CONTENT,
    MessageWriter,
    Part,
    assistant_text,
    text_part,
)
from providers.wire.openai_chat.quirks import Quirks
from providers.wire.openai_chat.reasoning import is_own_reasoning

CONTINUE = "Continue your last message exactly where it ends, without repeating any of it."


class CohereMessageWriter(MessageWriter):
    """`cites`: documents whose citations are wanted go elsewhere, and are left out here."""

    def __init__(self, *, target: Target, model: Model, quirks: Quirks, cites: bool) -> None:
        super().__init__(target=target, model=model, quirks=quirks, thinking=False)
        self._cites = cites

    def write(self, system: str | list[Part], turns: list[Turn]) -> list[dict[str, Any]]:
        messages = super().write(system, turns)
        if messages[-1]["role"] == "assistant":
            # Cohere continues no message of the assistant's.
            messages.append({"role": "user", "content": CONTINUE})
        return messages

    def _assistant(self, turn: Turn) -> None:
        self._answer_calls({})
        self._flush_user()
        message: dict[str, Any] = {"role": "assistant"}
        text = assistant_text(turn.blocks)
        calls = self._tool_calls(turn.calls)
        parts = [
            {"type": "thinking", "thinking": block.thinking}
            for block in turn.blocks
            if block.type == "thinking" and block.thinking and is_own_reasoning(block.signature, self._target)
        ]
        if calls:
            message["tool_calls"] = calls
            if text:
                message["tool_plan"] = text
        else:
            parts.append(text_part(text or NO_CONTENT))
        if parts:
            only_text = parts[0]["type"] == "text"
            message["content"] = parts[0]["text"] if only_text else parts
        self._messages.append(message)

    def _answer_calls(self, results: dict[str, Block]) -> None:
        attached: list[Part] = []
        for call_id, wire_id in self._calls.items():
            block = results.get(call_id)
            text, parts = (INTERRUPTED, []) if block is None else self._result(block)
            failed = block is None or bool(block.is_error)
            document = {"data": {"error": text.removeprefix("Error: ")} if failed else {"output": text}}
            content = [{"type": "document", "document": document}]
            self._messages.append({"role": "tool", "tool_call_id": wire_id, "content": content})
            if parts:
                attached += [text_part(f"[result of the tool call {wire_id}]"), *parts]
        self._calls = {}
        if attached:
            self._user += [text_part(ATTACHMENTS), *attached]

    def parts(self, block: Block) -> list[Part]:
        return [] if self._cites and wants_citations(block) else super().parts(block)
