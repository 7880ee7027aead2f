"""One answer of a provider, streamed or whole: its blocks, its usage, and how it ended."""

from providers.types import Model, Target, UpstreamFailure, Usage
from providers.wire.blocks import UNNAMED, Blocks
from providers.wire.emitters import Emitter
from providers.wire.errors import broken_answer
from providers.wire.openai_chat.assembler import BlockAssembler
from providers.wire.openai_chat.chunks import Choice, Chunk, update_usage, usage_of
from providers.wire.openai_chat.citations import Citation, of_chunk
from providers.wire.openai_chat.details import Details
from providers.wire.openai_chat.errors import failure_in_stream
from providers.wire.openai_chat.quirks import quirks_of
from providers.wire.openai_chat.tools import original_names
from providers.wire.request import MessagesRequest

STOP_REASONS = {
    "length": "max_tokens",
    "max_tokens": "max_tokens",
    "model_length": "model_context_window_exceeded",
    "content_filter": "refusal",
    "refusal": "refusal",
    "sensitive": "refusal",
}
"""translation.md 1.6. Every other reason means tool_use or end_turn, by what the answer holds."""
FAILED = frozenset({"error", "network_error", "abort", "cancelled", "insufficient_system_resource"})


class Answer:
    def __init__(self, emitter: Emitter, *, request: MessagesRequest, target: Target, model: Model) -> None:
        tools = request.tools
        self.blocks = Blocks(emitter)
        self.assembler = BlockAssembler(
            self.blocks,
            names=original_names(request),
            fallback_name=tools[0].name if len(tools) == 1 else UNNAMED,
            details=Details(target, model) if quirks_of(target.kind).replays_details else None,
        )
        self._citations: list[Citation] = []
        self.usage = Usage()
        self.finish_reason: str | None = None
        self._request = request
        self._target = target
        self._quirks = quirks_of(target.kind)
        self._matched: object = None

    @property
    def place(self) -> object:
        return self.assembler.place

    def add(self, chunk: Chunk, data: bytes) -> UpstreamFailure | None:
        """Take over `chunk`, which was read from `data`. A failure when it reports an error."""
        if chunk.error:
            return failure_in_stream(data, target=self._target)
        told = usage_of(chunk)
        if told is not None:
            update_usage(self.usage, told, self._quirks)
        if chunk.citations or chunk.search_results:
            # Every chunk repeats them, for the whole answer.
            self._citations = of_chunk(chunk)
        for choice in chunk.choices or ():
            if choice.index == 0:
                return self._add_choice(choice)
        return None

    def _add_choice(self, choice: Choice) -> UpstreamFailure | None:
        delta = choice.delta or choice.message
        if delta is not None:
            self.assembler.add(delta)
        if choice.finish_reason:
            self.finish_reason = choice.finish_reason
            self._matched = choice.stop_reason or choice.matched_stop
            if choice.finish_reason in FAILED:
                return broken_answer(self._target, f"broke its answer off ({choice.finish_reason})")
        return None

    def end(self) -> tuple[str, str | None]:
        """Close the last block: Anthropic's (stop_reason, stop_sequence)."""
        self.assembler.citations += self._citations
        self.assembler.finish()
        reason = "refusal" if self.assembler.refused else STOP_REASONS.get(self.finish_reason or "")
        if reason is not None:
            return reason, None
        if self.blocks.called:
            return "tool_use", None
        if isinstance(self._matched, str) and self._matched in (self._request.value("stop_sequences") or ()):
            return "stop_sequence", self._matched
        return "end_turn", None
