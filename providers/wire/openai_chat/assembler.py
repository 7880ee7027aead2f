"""The state machine between a provider's deltas and Anthropic's blocks.

Providers interleave text, reasoning and several tool calls as they please; Anthropic's blocks
stand one after the other. One block is open at a time; what belongs to another tool call waits
until the open one is complete (translation.md 1.8).
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from providers.wire.blocks import TEXT, THINKING, TOOL, Blocks, Prose
from providers.wire.openai_chat.arguments import ObjectEnd
from providers.wire.openai_chat.chunks import Delta, Function, ToolCall, reasoning_of
from providers.wire.openai_chat.citations import Citation, of_annotations
from providers.wire.openai_chat.details import Details


class _Call:
    """A tool call on its way. `waiting` are its argument pieces that are not emitted yet."""

    __slots__ = ("_end", "arguments", "follows", "id", "index", "name", "streams", "waiting")

    def __init__(self, index: int | None, call_id: str, *, name: str = "", follows: str | None = None) -> None:
        self.index = index
        self.id = call_id
        self.name = name
        self.arguments = ""
        self.follows = follows
        """The arguments before these, in the same call of the provider's: the same again are no other call."""
        self._end = ObjectEnd()
        self.waiting: list[str] = []
        self.streams = False
        """Its arguments are a JSON object so far: pieces may go out as they come."""

    def add(self, arguments: str) -> str:
        """What of `arguments` comes after the end of their object."""
        if not self.streams:
            self.streams = (self.arguments + arguments).lstrip()[:1] == "{"
        size = self._end.feed(arguments) if self.streams else len(arguments)
        self.arguments += arguments[:size]
        self.waiting.append(arguments[:size])
        return arguments[size:]

    @property
    def is_complete(self) -> bool:
        """Whether the arguments are a whole JSON object by now."""
        return self._end.ended

    @property
    def is_repeated(self) -> bool:
        return self.follows is not None and self.follows == self.arguments.strip()


class BlockAssembler:
    """Gets deltas, writes blocks. `names` turns functions' names back into the tools'; `fallback_name` is
    for a call that never gets one. `details`: the provider wants its reasoning's details back."""

    def __init__(
        self,
        blocks: Blocks,
        *,
        names: Mapping[str, str],
        fallback_name: str,
        details: Details | None,
    ) -> None:
        self._blocks = blocks
        self._details = details
        self.citations: list[Citation] = []
        """Of the text that is open, or comes next: they are written before it is closed."""
        self._names = names
        self._fallback_name = fallback_name
        self._calls: list[_Call] = []
        self._queue: list[_Call] = []
        """Calls that are not closed; the first one's block is open when a tool's block is."""
        self._held: list[tuple[Prose, str]] = []
        self.refused = False

    def add(self, delta: Delta) -> None:
        """Take the deltas of one chunk, reasoning first, calls last."""
        reasoning = reasoning_of(delta)
        if reasoning:
            self._say(THINKING, reasoning)
        if delta.reasoning_details and self._details is not None:
            self._keep(self._details, delta.reasoning_details)
        if delta.annotations:
            self.citations += of_annotations(delta.annotations)
        if delta.content:
            self._say(TEXT, delta.content)
        if delta.refusal:
            self.refused = True
            self._say(TEXT, delta.refusal)
        for call in delta.tool_calls or ():
            self._add_call(call)
        if delta.function_call is not None:
            self._add_call(ToolCall(index=0, function=delta.function_call))

    def finish(self) -> None:
        """Close what is open and emit all that waits: the answer is complete."""
        while self._queue:
            self._close_first_call()
        self._write_held()
        self._cite()
        if self._blocks.called:
            self._write_details()
        self._blocks.close()

    @property
    def is_whole(self) -> bool:
        """Whether no tool call has stopped in the middle of its arguments."""
        return all(call.is_complete for call in self._queue)

    @property
    def place(self) -> object:
        """The kind of the block that more of its text may go to as it is: nothing waits."""
        waits = self._queue or self._held
        gathers = self._details is not None and self._blocks.open is THINKING
        return None if waits or gathers else self._blocks.open

    # -- text and reasoning

    def _say(self, kind: Prose, text: str) -> None:
        if self._queue:
            self._advance(text_waits=True)
        if self._queue:
            # The open call is not complete: its arguments come first, wherever they are.
            self._held.append((kind, text))
            return
        if self._held:
            self._write_held()
        self._write(kind, text)

    def _write_held(self) -> None:
        held, self._held = self._held, []
        for kind, text in held:
            self._write(kind, text)

    def _write(self, kind: Prose, text: str) -> None:
        if kind is THINKING:
            self._cite()
        else:
            self._write_details()
        self._blocks.say(kind, text)

    def _cite(self) -> None:
        """The text ends, if one is open: its citations."""
        if self._blocks.open is TEXT:
            for citation in self.citations:
                self._blocks.emitter.cite(citation)
            self.citations = []

    # -- what stands behind the reasoning

    def _keep(self, details: Details, told: list[dict[str, Any]]) -> None:
        if details.add(told) and self._blocks.open is THINKING:
            self._blocks.emitter.sign(details.sealed())

    def _write_details(self) -> None:
        """The block ends that thinks: what has signed it, or in a block of its own what has come without."""
        details = self._details
        if details is None or not details.wants_back:
            return
        if self._blocks.open is not THINKING:
            self._blocks.begin(THINKING)
            self._blocks.emitter.sign(details.sealed())
        self._blocks.close()
        details.clear()

    # -- tool calls

    def _add_call(self, delta: ToolCall) -> None:
        function = delta.function or Function()
        arguments = _json_text(function.arguments)
        call = self._call_of(delta, function.name or "", arguments)
        call.name = call.name or function.name or ""
        if call not in self._queue:
            return  # closed already: its arguments were complete
        self._blocks.chars += len(arguments)
        while arguments and (arguments := call.add(arguments).lstrip()).startswith("{"):
            # Several objects in one call are several calls.
            call = self._another(call)
        self._advance(text_waits=False)

    def _another(self, call: _Call) -> _Call:
        another = _Call(call.index, call.id, name=call.name, follows=call.arguments.strip())
        self._calls.append(another)
        self._queue.append(another)
        return another

    def _call_of(self, delta: ToolCall, name: str, arguments: str) -> _Call:
        """The call that `delta` continues, or a new one (rules 1 and 2 of 1.8)."""
        known = self._known_call(delta, name)
        if known is not None:
            another = bool(delta.id and known.id and delta.id != known.id and name)
            repeated = bool(name and known.name and arguments and known.is_complete)
            if not another and not repeated:
                known.id = known.id or delta.id or ""
                return known
        call = _Call(delta.index, delta.id or "")
        self._calls.append(call)
        self._queue.append(call)
        return call

    def _known_call(self, delta: ToolCall, name: str) -> _Call | None:
        latest = reversed(self._calls)
        if delta.index is not None:
            return next((call for call in latest if call.index == delta.index), None)
        if delta.id:
            return next((call for call in latest if call.id == delta.id), None)
        last = self._calls[-1] if self._calls else None
        return None if last is None or (name and last.name) else last

    def _advance(self, *, text_waits: bool) -> None:
        """Emit what the first call has; close it once it is complete and something else waits."""
        while self._queue and self._queue[0].name:
            first = self._queue[0]
            if first.follows is not None and not first.is_complete:
                return  # it may be the same once more
            if not first.is_repeated:
                self._emit(first)
            something_waits = text_waits or len(self._queue) > 1
            if not something_waits or not first.is_complete:
                return
            self._close_first_call()

    def _emit(self, call: _Call) -> None:
        if self._blocks.open is not TOOL:
            self._cite()
            self._write_details()
            name = call.name or self._fallback_name
            self._blocks.begin_tool(self._names.get(name, name))
        if call.streams:
            for piece in call.waiting:
                self._blocks.emitter.piece(piece)
            call.waiting = []

    def _close_first_call(self) -> None:
        call = self._queue.pop(0)
        if (not call.name and not call.arguments) or call.is_repeated:
            return
        self._emit(call)
        if not call.streams:
            text = unwrapped(call.arguments)
            if text:
                self._blocks.emitter.piece(text)
        self._blocks.close()


def _json_text(arguments: Any) -> str:
    if arguments is None:
        return ""
    return arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()


def unwrapped(arguments: str) -> str:
    """Arguments that are no object: nothing for null, the object inside for JSON in a string,
    and anything else as it is, for the client to refuse."""
    try:
        told = msgspec.json.decode(arguments)
    except (msgspec.DecodeError, RecursionError):
        return arguments.strip()
    if told is None:
        return ""
    return told if isinstance(told, str) and told.lstrip().startswith("{") else arguments
