"""The tools that a request declares. A client declares the same ones with every request of a conversation, tens of
kilobytes of them: they are read once, and known again by their bytes.
"""

from collections.abc import Callable
from functools import cached_property
from threading import Lock
from typing import Any, TypeVar, cast

import msgspec

from providers.wire import bounds

MOST_KEPT_BYTES = 4 * 1024 * 1024
"""Of all toolsets that are remembered."""
LARGEST_KEPT_BYTES = 512 * 1024
MOST_MARKS = 64
Made = TypeVar("Made")
WEB_SEARCH = "web_search"
"""What the type of the server-side web search begins with. The type tells, the name does not."""


class Tool(msgspec.Struct, frozen=True):
    type: str | None = None
    name: str = ""


_tools = msgspec.json.Decoder(list[Tool] | None)
_raw_tools = msgspec.json.Decoder(list[msgspec.Raw] | None)


class Toolset:
    """`raw` is the field's JSON. Shared by all requests that declare the same: what is read from it is not to be
    changed."""

    def __init__(self, raw: bytes) -> None:
        """Raises what msgspec raises."""
        self.raw = raw
        self.tools: list[Tool] = _tools.decode(raw) or []
        self._marks: dict[bytes, bool] = {}
        self._made: dict[Callable[[Toolset], Any], Any] = {}

    @cached_property
    def searches_web(self) -> bool:
        """Whether one of them is the server-side web search."""
        return any((tool.type or "").startswith(WEB_SEARCH) for tool in self.tools)

    @cached_property
    def too_deep(self) -> str:
        """What is nested deeper than it may be, in words; "" if nothing is."""
        limit = bounds.MAX_DEPTH + 1  # the tool around the schema, and the list around the tool
        if bounds.depth(self.raw, limit + 1) <= limit + 1:
            return ""
        raws = enumerate(_raw_tools.decode(self.raw) or ())
        deepest = (f"the schema of tool {number}" for number, raw in raws if bounds.depth(bytes(raw), limit) > limit)
        return f"{next(deepest, 'a schema')} {bounds.TOO_DEEP}"

    def once(self, make: "Callable[[Toolset], Made]") -> Made:
        """What `make`, a function of a module, makes of the toolset: made once."""
        if make not in self._made:
            self._made[make] = make(self)
        return cast(Made, self._made[make])

    def has(self, mark: bytes) -> bool:
        """Whether these bytes occur in the JSON."""
        found = self._marks.get(mark)
        if found is None:
            found = mark in self.raw
            if len(self._marks) < MOST_MARKS:
                self._marks[mark] = found
        return found


class Kept:
    """The newest toolsets. They are found by their length and then compared, which takes a third of the time of
    hashing them."""

    def __init__(self, most_bytes: int = MOST_KEPT_BYTES) -> None:
        self._most_bytes = most_bytes
        self._by_length: dict[int, Toolset] = {}
        self._bytes = 0
        self._lock = Lock()

    def of(self, raw: bytes) -> Toolset:
        """Raises what msgspec raises for `raw` that declares no tools."""
        known = self._by_length.get(len(raw))
        if known is not None and known.raw == raw:
            return known
        toolset = Toolset(raw)
        if len(raw) <= LARGEST_KEPT_BYTES:
            with self._lock:
                self._keep(toolset)
        return toolset

    def _keep(self, toolset: Toolset) -> None:
        length = len(toolset.raw)
        if self._by_length.pop(length, None) is None:
            self._bytes += length
        self._by_length[length] = toolset
        while self._bytes > self._most_bytes:
            oldest = next(iter(self._by_length))
            del self._by_length[oldest]
            self._bytes -= oldest


toolset_of = Kept().of
NO_TOOLS = Toolset(b"null")
