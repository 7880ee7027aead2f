"""Anthropic's blocks, one open at a time (translation.md 1.8): what every wire's answers are written through."""

from typing import Any, Literal

import msgspec

from providers.wire.emitters import Emitter
from providers.wire.searches import new_search_id

Kind = Literal["text", "thinking", "tool"]
Prose = Literal["text", "thinking"]
TEXT: Literal["text"] = "text"
THINKING: Literal["thinking"] = "thinking"
TOOL: Literal["tool"] = "tool"
UNNAMED = "unnamed_tool"
SEARCH_TOOL = "web_search"


class Blocks:
    """Drives an emitter: whatever begins ends what is open. `open` is the kind of the block that is
    open, None between blocks."""

    __slots__ = ("_blank", "called", "chars", "emitter", "open", "opened")

    def __init__(self, emitter: Emitter) -> None:
        self.emitter = emitter
        self.open: Kind | None = None
        self.opened = False
        """A block has been opened at all."""
        self.called = False
        """A tool has been called."""
        self.chars = 0
        """Characters of text, thinking and tools' input so far: whoever writes past `say` adds them up."""
        self._blank = ""

    def say(self, kind: Prose, text: str) -> None:
        """The next piece of text or thinking, in a block of its own unless one of its kind is open.

        Anthropic refuses blank texts when they come back: a block is opened for real text only."""
        if not text:
            return
        if self.open is not kind:
            if kind is TEXT:
                text = self._blank + text
                if text.isspace():
                    self._blank = text
                    return
            self.begin(kind)
        self.chars += len(text)
        self.emitter.piece(text)

    def would_wait(self, text: str) -> bool:
        """Whether `say` would open no block for this text, for it is blank."""
        return self.open is not TEXT and (self._blank + text).isspace()

    @property
    def has_blank(self) -> bool:
        return bool(self._blank)

    def drop_blank(self) -> None:
        self._blank = ""

    def begin(self, kind: Prose) -> None:
        self._begin(kind)
        if kind is TEXT:
            self.emitter.open_text()
        else:
            self.emitter.open_thinking()

    def begin_tool(self, name: str) -> None:
        self._begin(TOOL)
        self.called = True
        self.emitter.open_tool(name or UNNAMED)

    def search(self, query: str, results: list[dict[str, Any]]) -> None:
        """A search that the provider has made: its call and what it found (translation.md 4.1)."""
        self.close()
        self.opened = True
        search_id = new_search_id()
        self.emitter.open_server_tool(search_id, SEARCH_TOOL)
        self.emitter.piece(msgspec.json.encode({"query": query}).decode())
        self.emitter.close()
        self.emitter.block({"type": "web_search_tool_result", "tool_use_id": search_id, "content": results})

    def _begin(self, kind: Kind) -> None:
        self.close()
        self._blank = ""
        self.open = kind
        self.opened = True

    def close(self) -> None:
        if self.open is not None:
            self.emitter.close()
            self.open = None
