"""One answer of Converse's, streamed or whole: its blocks, its usage, and how it ended."""

from typing import Any

import msgspec

from providers.types import Model, Target, UpstreamFailure, Usage
from providers.wire.bedrock.citations import anthropic_citation
from providers.wire.bedrock.errors import malformed
from providers.wire.bedrock.signatures import REDACTED, SIGNED, prefix
from providers.wire.blocks import TEXT, THINKING, TOOL, Blocks
from providers.wire.emitters import Emitter
from providers.wire.enforced import wants_one_call
from providers.wire.errors import broken_answer
from providers.wire.openai_chat.tools import original_names
from providers.wire.request import MessagesRequest
from providers.wire.sequence import BlockSequence

REFUSED = frozenset({"guardrail_intervened", "content_filtered"})
MALFORMED = {"malformed_model_output": "malformed output", "malformed_tool_use": "a malformed tool call"}
AS_IT_IS = frozenset({"max_tokens", "model_context_window_exceeded"})


class _Wire(msgspec.Struct, rename="camel"):
    """Amazon's names are in camel case."""


class ToolUse(_Wire):
    tool_use_id: str = ""
    name: str = ""
    input: Any = None
    """A piece of JSON in a stream, else the object itself."""


class ReasoningText(_Wire):
    text: str = ""
    signature: str | None = None


class Reasoning(_Wire):
    """`text` and `signature` are a stream's, `reasoning_text` a whole answer's."""

    text: str | None = None
    signature: str | None = None
    redacted_content: str | None = None
    reasoning_text: ReasoningText | None = None


class Text(_Wire):
    text: str = ""


class CitationsContent(_Wire):
    content: list[Text] = []
    citations: list[dict[str, Any]] = []


class Content(_Wire):
    """A part of a block in a stream, or a whole block."""

    text: str | None = None
    tool_use: ToolUse | None = None
    reasoning_content: Reasoning | None = None
    citation: dict[str, Any] | None = None
    citations_content: CitationsContent | None = None


class CacheDetail(_Wire):
    ttl: str = ""
    input_tokens: int = 0


class Counts(_Wire):
    """`usage`: the input leaves out what was read from the cache and written to it."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_write_input_tokens: int | None = None
    cache_details: list[CacheDetail] | None = None


class Answer:
    def __init__(self, emitter: Emitter, *, request: MessagesRequest, target: Target, model: Model) -> None:
        self.blocks = Blocks(emitter)
        self.sequence = BlockSequence(self.blocks, names=original_names(request), one_call=wants_one_call(request))
        self.usage = Usage()
        self.stopped = False
        """The answer is complete; only its usage may come later."""
        self._reason = ""
        self._matched: str | None = None
        self._request = request
        self._target = target
        self._prefix = prefix(model)

    @property
    def place(self) -> object:
        return self.sequence.place

    def add(self, index: int, content: Content) -> None:
        """The next piece of the block `index`."""
        blocks = self.sequence
        if content.text is not None:
            blocks.add(index, TEXT, content.text)
        elif content.tool_use is not None:
            piece = content.tool_use.input
            blocks.add(index, TOOL, piece if isinstance(piece, str) else "")
        elif content.reasoning_content is not None:
            self._add_reasoning(index, content.reasoning_content)
        elif content.citation is not None and (citation := anthropic_citation(content.citation)):
            blocks.cite(index, citation)

    def _add_reasoning(self, index: int, reasoning: Reasoning) -> None:
        whole = reasoning.reasoning_text
        text = whole.text if whole is not None else reasoning.text
        signature = whole.signature if whole is not None else reasoning.signature
        self.sequence.add(index, THINKING, text or "")
        if signature:
            self.sequence.sign(index, self._prefix + SIGNED + signature)
        elif reasoning.redacted_content:
            self.sequence.sign(index, self._prefix + REDACTED + reasoning.redacted_content)

    def add_whole(self, index: int, content: Content) -> None:
        """The whole block `index`."""
        if content.tool_use is not None:
            self.sequence.start(index, TOOL, content.tool_use.name)
            self.sequence.add(index, TOOL, msgspec.json.encode(content.tool_use.input).decode())
        elif content.citations_content is not None:
            self.sequence.add(index, TEXT, "".join(part.text for part in content.citations_content.content))
            for told in content.citations_content.citations:
                if citation := anthropic_citation(told):
                    self.sequence.cite(index, citation)
        else:
            self.add(index, content)
        self.sequence.stop(index)

    def stop(self, reason: str, fields: Any) -> UpstreamFailure | None:
        """How the answer ended; `fields` are the model's own. A failure when it did not end well."""
        if reason in MALFORMED:
            return malformed(self._target, MALFORMED[reason])
        if not reason:
            return broken_answer(self._target, "ended its answer without a reason")
        self.stopped = True
        self._reason = reason
        self._matched = _stop_sequence(fields)
        return None

    def end(self) -> tuple[str, str | None]:
        """Close the last block: Anthropic's (stop_reason, stop_sequence)."""
        self.sequence.finish()
        if self._reason in REFUSED:
            return "refusal", None
        if self._reason in AS_IT_IS:
            return self._reason, None
        if self.blocks.called:
            return "tool_use", None
        if self._reason == "stop_sequence":
            stops: list[str] = self._request.value("stop_sequences") or []
            # Only Claude tells which one it was.
            return "stop_sequence", self._matched or (stops[0] if len(stops) == 1 else None)
        return "end_turn", None


def text_alone(content: Content) -> str:
    """The text or the thought that `content` says, and nothing else; "" for any other content."""
    if content.text:
        return content.text if content == Content(text=content.text) else ""
    thought = content.reasoning_content
    if thought is None or not thought.text:
        return ""
    return thought.text if content == Content(reasoning_content=Reasoning(text=thought.text)) else ""


def _stop_sequence(fields: Any) -> str | None:
    if not isinstance(fields, dict):
        return None
    inner = fields.get("delta")
    told = fields.get("stop_sequence") or (inner.get("stop_sequence") if isinstance(inner, dict) else None)
    return told if isinstance(told, str) else None


def update_usage(usage: Usage, told: Counts) -> None:
    if told.input_tokens is not None:
        usage.input_tokens = told.input_tokens
        usage.cache_read_tokens = told.cache_read_input_tokens or 0
        written = told.cache_write_input_tokens or 0
        hour = sum(detail.input_tokens for detail in told.cache_details or () if detail.ttl == "1h")
        usage.cache_write_1h_tokens = min(hour, written)
        usage.cache_write_tokens = written - usage.cache_write_1h_tokens
    if told.output_tokens is not None:
        usage.output_tokens = told.output_tokens
