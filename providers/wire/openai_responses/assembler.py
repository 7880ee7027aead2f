"""The state machine between a response's output items and Anthropic's blocks.

Items come one after the other or interleaved, told in deltas, at once in their `done` event, or
only in the finished response; Anthropic's blocks stand one after the other. The first item that
is not done writes at once, what belongs to later ones waits (translation.md 1.8).
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from providers.wire.openai_responses.blocks import BlockWriter
from providers.wire.openai_responses.events import objects, text_in

MESSAGE = "message"
REASONING = "reasoning"
CALL = "function_call"
CUSTOM = "custom_tool_call"
SEARCH = "web_search_call"
SUMMARY = "summary"
CONTENT = "content"

Key = int | str | None


class Item:
    """An output item on its way. `waiting` are the steps that are not written yet."""

    __slots__ = ("arguments", "done", "key", "kind", "last", "name", "notes", "phase", "said", "thought", "waiting")

    def __init__(self, key: Key, told: dict[str, Any]) -> None:
        self.key = key
        self.kind = text_in(told, "type")
        self.name = text_in(told, "name")
        self.phase = text_in(told, "phase")
        self.waiting: list[tuple[Any, ...]] = []
        self.said: dict[int, list[str]] = {}
        """The texts of a message by part."""
        self.notes = 0
        """Citations so far."""
        self.thought = ""
        """Which of its two forms a reasoning item is told in: SUMMARY or CONTENT."""
        self.arguments: list[str] = []
        self.last: dict[str, Any] = told
        """The item as it was told last: in the end, as a whole."""
        self.done = False


class ItemAssembler:
    """Gets items and deltas, drives a BlockWriter. `gathers`: everything waits for the end, since
    the titles of what a search found come with the text that follows it."""

    def __init__(self, writer: BlockWriter, *, gathers: bool) -> None:
        self._writer = writer
        self._gathers = gathers
        self._items: dict[Key, Item] = {}
        self._queue: list[Item] = []
        self.seen = False
        """An item has been told of."""

    # -- what the provider tells

    def added(self, key: Key, told: dict[str, Any]) -> Item:
        self.seen = True
        known = self._items.get(key)
        if known is not None and not known.done:
            return known
        item = Item(key, told)
        self._items[key] = item
        self._queue.append(item)
        return item

    def text(self, key: Key, part: int, text: str, *, refusal: bool = False) -> None:
        item = self._item(key, MESSAGE)
        if item is None or not text:
            return
        item.said.setdefault(part, []).append(text)
        self._step(item, "refuse" if refusal else "say", part, text)

    def place(self, key: Key, part: int) -> list[str] | None:
        """Where the texts of an item's part are kept, if more of them may be written as they are."""
        item = self._items.get(key)
        if item is None or not self._queue or self._queue[0] is not item or self._gathers:
            return None
        return item.said.get(part) if self._writer.flows(part) else None

    def thought(self, key: Key, form: str, part: int, text: str) -> None:
        item = self._item(key, REASONING)
        if item is None or not text or (item.thought and item.thought != form):
            return
        item.thought = form
        item.said.setdefault(part, []).append(text)
        self._step(item, "think", part, text)

    def argument(self, key: Key, text: str) -> None:
        item = self._item(key, CALL)
        if item is None or not text:
            return
        item.arguments.append(text)
        self._step(item, "argue", text)

    def annotation(self, key: Key, part: int, annotation: dict[str, Any]) -> None:
        item = self._item(key, MESSAGE)
        if item is None:
            return
        item.notes += 1
        self._writer.learn(annotation)
        self._step(item, "cite", part, annotation)

    def done(self, key: Key, told: dict[str, Any]) -> None:
        """The item as a whole: what no delta has told is in it."""
        item = self._items.get(key)
        if item is None or (item.done and item.kind != text_in(told, "type")):
            item = self.added(key, told)
        if item.done:
            return
        self.seen = True
        item.last = told
        item.name = item.name or text_in(told, "name")
        item.phase = item.phase or text_in(told, "phase")
        self._complete(item)
        item.done = True
        self._advance()

    def finish(self) -> None:
        """The response has ended: write all that waits."""
        self._gathers = False
        for item in self._queue:
            item.done = True
        self._advance()
        self._writer.finish()

    # -- order

    def _item(self, key: Key, kind: str) -> Item | None:
        """The item that a delta belongs to. A delta without one begins it."""
        item = self._items.get(key)
        if item is None and key is None and self._queue:
            item = self._queue[-1]
        if item is None:
            item = self.added(key, {"type": kind})
        fits = item.kind == kind or (kind == CALL and item.kind == CUSTOM)
        return item if fits and not item.done else None

    def _step(self, item: Item, *step: Any) -> None:
        if not self._gathers and self._queue and self._queue[0] is item:
            if item.waiting:
                self._catch_up(item)
            self._writer.step(item, *step)
        else:
            item.waiting.append(step)

    def _advance(self) -> None:
        while self._queue and not self._gathers:
            first = self._queue[0]
            self._catch_up(first)
            if not first.done:
                return
            self._writer.end_item(first)
            self._queue.pop(0)

    def _catch_up(self, item: Item) -> None:
        waiting, item.waiting = item.waiting, []
        for step in waiting:
            self._writer.step(item, *step)

    def _complete(self, item: Item) -> None:
        if item.kind == MESSAGE:
            self._complete_message(item)
        elif item.kind == REASONING and not item.thought:
            for form in (SUMMARY, CONTENT):
                for part, told in enumerate(objects(item.last.get(form))):
                    self.thought(item.key, form, part, text_in(told, "text"))
        elif item.kind in {CALL, CUSTOM} and not item.arguments:
            arguments = item.last.get("arguments" if item.kind == CALL else "input")
            if isinstance(arguments, Mapping):
                self.argument(item.key, _encoded(arguments))
            elif isinstance(arguments, str):
                self.argument(item.key, arguments)

    def _complete_message(self, item: Item) -> None:
        annotations: list[tuple[int, dict[str, Any]]] = []
        for part, told in enumerate(objects(item.last.get("content"))):
            if part not in item.said:
                refusal = told.get("type") == "refusal"
                self.text(item.key, part, text_in(told, "refusal" if refusal else "text"), refusal=refusal)
            annotations += [(part, annotation) for annotation in objects(told.get("annotations"))]
        for part, annotation in annotations[item.notes :]:
            self.annotation(item.key, part, annotation)


def _encoded(arguments: Mapping[str, Any]) -> str:
    return msgspec.json.encode(arguments).decode()
