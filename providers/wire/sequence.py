"""Blocks of providers whose streams number and close them (Cohere, Bedrock), one after the other.

Anthropic's blocks never overlap; a provider's may. The block that was opened first is written as
its pieces come, what belongs to later ones waits (translation.md 1.8). Unlike Chat Completions,
these providers say where a block ends, so nothing has to be guessed.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from providers.wire.blocks import TEXT, THINKING, TOOL, Blocks, Kind


class _Block:
    """A block on its way. `waiting` are the pieces that are not written yet; `ended` says that
    there will be no more."""

    __slots__ = ("citations", "ended", "flows", "kind", "name", "signature", "started", "text", "waiting")

    def __init__(self, kind: Kind, name: str) -> None:
        self.kind = kind
        self.name = name
        self.waiting: list[str] = []
        self.text: str | None = ""
        """Of a tool: its input so far, until it is known to be an object; then None."""
        self.signature: str | None = None
        self.citations: list[dict[str, Any]] = []
        self.started = False
        self.flows = False
        """Nothing of it waits: its next piece may be written as it is, once the block is the first one."""
        self.ended = False


class BlockSequence:
    """Takes blocks by the provider's keys, and writes them. `names` turns functions' names back
    into the tools'. `one_call`: calls after the first one are left out, for a client that asked for
    one at a time of a provider that cannot be told so."""

    def __init__(self, blocks: Blocks, *, names: Mapping[str, str], one_call: bool = False) -> None:
        self._written = blocks
        self._emitter = blocks.emitter
        self._names = names
        self._one_call = one_call
        self._blocks: dict[int | str, _Block] = {}
        """Those that may still grow."""
        self._queue: list[_Block] = []
        """Those that are not written to their end; only the first one's block may be open."""
        self._called = False

    @property
    def place(self) -> object:
        """The block that is open towards the client, if more of it may be written as it is."""
        return self._queue[0] if self._queue and self._queue[0].flows else None

    def start(self, key: int | str, kind: Kind, name: str = "") -> None:
        """Open a block; one that is open under the same key ends."""
        self.stop(key)
        block = self._blocks[key] = _Block(kind, name)
        if kind is TOOL and self._called and self._one_call:
            return
        self._called = self._called or kind is TOOL
        self._queue.append(block)
        self._advance()

    def add(self, key: int | str, kind: Kind, text: str) -> None:
        """The next piece of the block `key`, which opens with it if need be."""
        if not text:
            return
        self._written.chars += len(text)
        block = self._blocks.get(key)
        if block is None or block.kind != kind:
            self.start(key, kind)
            block = self._blocks[key]
        if block.flows and self._queue[0] is block:
            self._emitter.piece(text)
            return
        block.waiting.append(text)
        self._advance()

    def sign(self, key: int | str, signature: str) -> None:
        """The signature of the thinking block `key`: the whole of it, or its next part."""
        block = self._blocks.get(key)
        if block is None or block.kind is not THINKING:
            self.start(key, THINKING)
            block = self._blocks[key]
        block.signature = (block.signature or "") + signature
        self._advance()

    def cite(self, key: int | str, citation: dict[str, Any]) -> None:
        """A citation of the text block `key`; lost when that block has ended already."""
        block = self._blocks.get(key)
        if block is not None and block.kind is TEXT:
            block.citations.append(citation)
            self._advance()

    def stop(self, key: int | str) -> None:
        block = self._blocks.pop(key, None)
        if block is not None:
            block.ended = True
            self._advance()

    def finish(self) -> None:
        """The answer is complete: end all blocks."""
        for key in list(self._blocks):
            self.stop(key)

    def _advance(self) -> None:
        """Write what the first block has; once it has ended, what the next one has."""
        while self._queue:
            first = self._queue[0]
            self._write(first)
            if not first.ended:
                return
            del self._queue[0]
            if first.started:
                self._written.close()

    def _write(self, block: _Block) -> None:
        if block.kind is TOOL:
            self._write_tool(block)
            return
        text = "".join(block.waiting)
        if not block.started and not self._may_start(block, text):
            return
        for piece in block.waiting:
            self._emitter.piece(piece)
        block.waiting.clear()
        block.flows = True
        if block.signature is not None:
            self._emitter.sign(block.signature)
        for citation in block.citations:
            self._emitter.cite(citation)
        block.citations.clear()

    def _may_start(self, block: _Block, text: str) -> bool:
        """Open the block if it says something: Anthropic refuses blank texts when they come back."""
        if block.kind is THINKING:
            if not text and not (block.signature and block.ended):
                return False
            self._written.begin(THINKING)
        else:
            if not text or text.isspace():
                return False
            self._written.begin(TEXT)
        block.started = True
        return True

    def _write_tool(self, block: _Block) -> None:
        if not block.started:
            block.started = True
            self._written.begin_tool(self._names.get(block.name, block.name))
        if block.text is None:
            for piece in block.waiting:
                self._emitter.piece(piece)
            block.waiting.clear()
            return
        block.text += "".join(block.waiting)
        block.waiting.clear()
        if block.text.lstrip()[:1] == "{":
            self._emitter.piece(block.text)
            block.text = None
            block.flows = True
        elif block.ended and (text := _unwrapped(block.text)):
            self._emitter.piece(text)


def _unwrapped(arguments: str) -> str:
    """Arguments that are no object: nothing for none and for null, the object inside for JSON in
    a string, and anything else as it is, for the client to refuse."""
    try:
        told = msgspec.json.decode(arguments) if arguments.strip() else None
    except (msgspec.DecodeError, RecursionError):
        return arguments.strip()
    if told is None:
        return ""
    return told if isinstance(told, str) and told.lstrip().startswith("{") else arguments
