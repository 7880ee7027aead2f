"""One answer of a provider, streamed or whole: its items, its usage, and how it ended."""

from typing import Any

from providers.types import Model, Target, UpstreamFailure, Usage
from providers.wire.blocks import Blocks
from providers.wire.emitters import Emitter
from providers.wire.errors import broken_answer
from providers.wire.openai_chat.tools import original_names, wire_name
from providers.wire.openai_responses.assembler import ItemAssembler, Key
from providers.wire.openai_responses.blocks import BlockWriter
from providers.wire.openai_responses.errors import failure_in_answer
from providers.wire.openai_responses.events import objects, update_usage
from providers.wire.openai_responses.search import Results, search_tool, searches_only
from providers.wire.request import MessagesRequest
from providers.wire.toolset import Toolset

INCOMPLETE = {"max_output_tokens": "max_tokens", "max_tokens": "max_tokens", "content_filter": "refusal"}


def _declared(toolset: Toolset) -> frozenset[str]:
    return frozenset(wire_name(tool.name) for tool in toolset.tools)


class Answer:
    def __init__(self, emitter: Emitter, *, request: MessagesRequest, target: Target, model: Model) -> None:
        self.usage = Usage()
        self.blocks = Blocks(emitter)
        self._writer = BlockWriter(
            self.blocks,
            target=target,
            model=model,
            usage=self.usage,
            names=original_names(request),
            declared=request.toolset.once(_declared),
            results=Results(search_tool(request)),
        )
        self.items = ItemAssembler(self._writer, gathers=searches_only(request))
        self._target = target
        self._ended: str | None = None
        self._latest: tuple[Key, int] | None = None

    def note(self, key: Key, part: int) -> None:
        """What text came last: more of it may be able to go on as it is."""
        self._latest = (key, part)

    @property
    def place(self) -> list[str] | None:
        return self.items.place(*self._latest) if self._latest is not None else None

    def end(self, response: dict[str, Any], status: str) -> UpstreamFailure | None:
        """Take over the finished `response`, which ended with `status`. A failure when it failed."""
        update_usage(self.usage, response.get("usage"))
        status = str(response.get("status") or status)
        if status in {"failed", "cancelled"}:
            if response.get("error"):
                return failure_in_answer(response["error"], target=self._target)
            return broken_answer(self._target, f"broke its answer off ({status})")
        if not self.items.seen:
            for index, item in enumerate(objects(response.get("output"))):
                self.items.done(index, item)
        self.items.finish()
        if status == "incomplete":
            details = response.get("incomplete_details")
            reason = details.get("reason") if isinstance(details, dict) else None
            self._ended = INCOMPLETE.get(str(reason), "max_tokens")
        return None

    def stop_reason(self) -> tuple[str, str | None]:
        """Anthropic's (stop_reason, stop_sequence) (translation.md 1.6)."""
        if self._writer.refused:
            return "refusal", None
        if self._ended is not None:
            return self._ended, None
        return ("tool_use" if self.blocks.called else "end_turn"), None
