"""Writes one item after the other as Anthropic's blocks.

A thinking block stays open until the next item begins: the phase of the message that follows
belongs into its signature, for the provider wants both back.
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any

import msgspec

from providers.types import Model, Target, Usage
from providers.wire.blocks import TEXT, THINKING, TOOL, Blocks
from providers.wire.openai_chat.assembler import unwrapped
from providers.wire.openai_responses import search
from providers.wire.openai_responses.reasoning import PARTS, Envelope, sealed

if TYPE_CHECKING:
    from providers.wire.openai_responses.assembler import Item

WRAPPERS = frozenset({"parallel", "multi_tool_use.parallel"})
"""A function that nobody declared: OpenAI's models sometimes call it to make several calls at once."""


class BlockWriter:
    """`names` turns functions' names back into the tools'; `declared` are the functions' names."""

    def __init__(
        self,
        blocks: Blocks,
        *,
        target: Target,
        model: Model,
        usage: Usage,
        names: Mapping[str, str],
        declared: AbstractSet[str],
        results: search.Results,
    ) -> None:
        self._blocks = blocks
        self._emitter = blocks.emitter
        self._target = target
        self._model = model
        self._usage = usage
        self._names = names
        self._declared = declared
        self._results = results
        self._envelope: Envelope | None = None
        self._part = 0
        self._arguments = ""
        self._searches: list[tuple[str, list[str]]] = []
        self.refused = False

    def learn(self, annotation: dict[str, Any]) -> None:
        if annotation.get("type") == "url_citation":
            self._results.cited(annotation)

    def step(self, item: "Item", kind: str, *told: Any) -> None:
        match kind:
            case "say":
                self._say(item, *told)
            case "refuse":
                self.refused = True
                self._say(item, *told)
            case "think":
                self._think(*told)
            case "argue":
                self._argue(item, *told)
            case "cite":
                self._cite(item, *told)

    def end_item(self, item: "Item") -> None:
        match item.kind:
            case "message":
                self._end_text()
            case "reasoning":
                self._end_reasoning(item)
            case "function_call":
                self._end_call(item)
            case "custom_tool_call":
                text = "".join(item.arguments)
                self._whole_call(item.name, msgspec.json.encode({"input": text}).decode())
            case "web_search_call":
                self._search(item)

    def finish(self) -> None:
        """The last item is written."""
        self._seal("")
        self._write_searches()
        self._blocks.close()

    # -- text

    def flows(self, part: int) -> bool:
        """Whether more text or thinking of the item being written, of its `part`, may go on as it is."""
        return self._part == part and self._blocks.open in {THINKING, TEXT}

    def _say(self, item: "Item", part: int, text: str) -> None:
        if self._blocks.open is TEXT and part != self._part:
            self._end_text()
        if self._blocks.open is not TEXT and not self._blocks.has_blank:
            self._part = part
        if text and self._blocks.open is not TEXT and not self._blocks.would_wait(text):
            self._begin(item.phase)
        self._blocks.say(TEXT, text)

    def _end_text(self) -> None:
        if self._blocks.open is TEXT:
            self._blocks.close()
        self._blocks.drop_blank()

    def _cite(self, item: "Item", part: int, annotation: dict[str, Any]) -> None:
        if self._blocks.open is TEXT and annotation.get("type") == "url_citation":
            self._emitter.cite(search.citation_of(annotation, "".join(item.said.get(part, ()))))

    # -- reasoning

    def _think(self, part: int, text: str) -> None:
        if self._blocks.open is not THINKING:
            self._begin("")
            self._part = part
        elif part != self._part:
            self._emitter.piece(PARTS)
            self._part = part
        self._blocks.say(THINKING, text)

    def _end_reasoning(self, item: "Item") -> None:
        encrypted = item.last.get("encrypted_content")
        if self._blocks.open is not THINKING:
            if not encrypted:
                return
            self._begin("")
        lengths = [len("".join(texts)) for texts in item.said.values()]
        self._envelope = Envelope(encrypted=encrypted if isinstance(encrypted, str) else "")
        if item.thought == "summary":
            self._envelope.summary = lengths
        elif item.thought == "content":
            self._envelope.content = lengths

    def _seal(self, phase: str) -> None:
        """Sign what was thought before the item that begins now, whose phase is `phase`."""
        envelope, self._envelope = self._envelope, None
        if self._blocks.open is THINKING:
            envelope = envelope or Envelope()
            envelope.phase = phase
            self._emitter.sign(sealed(envelope, self._target, self._model))
            self._blocks.close()
        elif phase or (envelope is not None and envelope.encrypted):
            envelope = envelope or Envelope()
            envelope.phase = phase
            data = sealed(envelope, self._target, self._model)
            self._emitter.block({"type": "redacted_thinking", "data": data})

    # -- calls

    def _argue(self, item: "Item", text: str) -> None:
        """The pieces of a call's arguments go out as they come, if they are an object's."""
        if item.kind != "function_call" or not item.name or self._wraps(item):
            return
        if self._blocks.open is not TOOL:
            self._arguments += text
            if not self._arguments.lstrip().startswith("{"):
                return
            self._open_call(item.name)
            text = self._arguments
        self._add(text)

    def _end_call(self, item: "Item") -> None:
        self._arguments = ""
        arguments = "".join(item.arguments)
        if self._blocks.open is TOOL:
            self._blocks.close()
        elif self._wraps(item) and (calls := _wrapped_calls(arguments)):
            for name, text in calls:
                self._whole_call(name, text)
        elif item.name:
            self._whole_call(item.name, unwrapped(arguments))

    def _wraps(self, item: "Item") -> bool:
        return item.name in WRAPPERS and item.name not in self._declared

    def _whole_call(self, name: str, arguments: str) -> None:
        self._open_call(name)
        if arguments:
            self._add(arguments)
        self._blocks.close()

    def _open_call(self, name: str) -> None:
        self._begin("")
        self._blocks.begin_tool(self._names.get(name, name))

    def _add(self, arguments: str) -> None:
        self._blocks.chars += len(arguments)
        self._emitter.piece(arguments)

    # -- searches

    def _search(self, item: "Item") -> None:
        """A search and what it found. Pages that were opened afterwards count to what it found."""
        if not search.is_search(item.last.get("action")):
            if self._searches:
                self._searches[-1][1].extend(search.urls_of(item.last))
            return
        self._seal("")
        self._write_searches()
        self._usage.web_searches += 1
        self._searches.append((search.query_of(item.last), search.urls_of(item.last)))

    def _write_searches(self) -> None:
        """The search that waits for the pages that are opened after it. What is cited without being
        listed by any search counts to it too."""
        searches, self._searches = self._searches, []
        for query, urls in searches:
            self._blocks.search(query, self._results.blocks(urls))

    # -- one block at a time

    def _begin(self, phase: str) -> None:
        """Another block begins: close what is open, and write what was to stand before it."""
        self._seal(phase)
        self._blocks.close()
        self._write_searches()


def _wrapped_calls(arguments: str) -> list[tuple[str, str]]:
    """The calls inside a `parallel` one: (name, arguments)."""
    try:
        told = msgspec.json.decode(arguments)
    except (msgspec.DecodeError, RecursionError):
        return []
    uses = told.get("tool_uses") if isinstance(told, dict) else None
    calls = []
    for use in uses if isinstance(uses, list) else []:
        if not isinstance(use, dict) or not isinstance(use.get("recipient_name"), str):
            return []
        name = use["recipient_name"].removeprefix("functions.")
        calls.append((name, msgspec.json.encode(use.get("parameters") or {}).decode()))
    return calls
