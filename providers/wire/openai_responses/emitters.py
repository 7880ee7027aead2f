"""Chat Completions' emitters, with what the Responses API has besides: several signatures, blocks
that are whole at once, a server's tools, and citations."""

import secrets
from typing import Any, Protocol

import msgspec

from providers.wire.openai_chat import emitters
from providers.wire.openai_chat.emitters import DELTA, DELTA_END, tool_input

_encode = msgspec.json.encode


def new_server_tool_id() -> str:
    """Marked as ours: on its way to Anthropic such a search has to become text."""
    return "srvtoolu_ccm" + secrets.token_hex(12)


class Emitter(emitters.Emitter, Protocol):
    def sign(self, signature: str) -> None:
        """What the open thinking block is signed with when it is closed."""

    def open_server_tool(self, tool_id: str, name: str) -> None: ...

    def cite(self, citation: dict[str, Any]) -> None:
        """A citation of the open text block."""

    def block(self, block: dict[str, Any]) -> None:
        """A block that has no pieces."""


class SseEmitter(emitters.SseEmitter):
    def sign(self, signature: str) -> None:
        self._signature = signature

    def open_server_tool(self, tool_id: str, name: str) -> None:
        block = {"type": "server_tool_use", "id": tool_id, "name": name, "input": {}}
        self._open(_encode(block), b"input_json_delta", b"partial_json")

    def cite(self, citation: dict[str, Any]) -> None:
        self._events.append(DELTA % (self.index, b"citations_delta", b"citation") + _encode(citation) + DELTA_END)

    def block(self, block: dict[str, Any]) -> None:
        self._open(_encode(block), b"", b"")
        self.close()


class MessageEmitter(emitters.MessageEmitter):
    def sign(self, signature: str) -> None:
        self._block["signature"] = signature

    def open_server_tool(self, tool_id: str, name: str) -> None:
        self._open({"type": "server_tool_use", "id": tool_id, "name": name, "input": {}})

    def cite(self, citation: dict[str, Any]) -> None:
        self._block.setdefault("citations", []).append(citation)

    def block(self, block: dict[str, Any]) -> None:
        self.content.append(block)

    def close(self) -> None:
        if self._block["type"] == "server_tool_use":
            self._block["input"] = tool_input("".join(self._pieces))
        else:
            super().close()
