"""The emitters of the openai_chat wire, with what Google's answers have beyond theirs: signatures
that differ from block to block, web searches with their results, and citations."""

import secrets
from typing import Any, Protocol

import msgspec

from providers.types import Usage
from providers.wire.openai_chat.emitters import (
    MESSAGE_STOP,
    Emitter,
    MessageEmitter,
    SseEmitter,
    usage_object,
)

SEARCH_ID = "srvtoolu_ccm"
"""How the ids of our searches begin: no other provider knows them, or can read their results."""


def new_search_id() -> str:
    return SEARCH_ID + secrets.token_hex(10)


class GeminiEmitter(Emitter, Protocol):
    def sign(self, signature: str) -> None:
        """The signature of the thinking block that is open."""

    def cite(self, citation: dict[str, Any]) -> None:
        """A citation of the text block that is open."""

    def search(self, query: str, results: list[dict[str, Any]]) -> None:
        """A search that the provider has made: its two blocks, whole."""


class GeminiSse(SseEmitter):
    def __init__(self, *, model_name: str, signature: str) -> None:
        super().__init__(model_name=model_name, signature=signature)
        self._plain = signature

    def open_thinking(self) -> None:
        self._signature = self._plain
        super().open_thinking()

    def sign(self, signature: str) -> None:
        self._signature = signature

    def cite(self, citation: dict[str, Any]) -> None:
        delta = {"type": "citations_delta", "citation": citation}
        self._event("content_block_delta", {"type": "content_block_delta", "index": self.index, "delta": delta})

    def search(self, query: str, results: list[dict[str, Any]]) -> None:
        use, found = search_blocks(query, results)
        self._open(msgspec.json.encode({**use, "input": {}}), b"input_json_delta", b"partial_json")
        self.piece(msgspec.json.encode(use["input"]).decode())
        self.close()
        self._open(msgspec.json.encode(found), b"", b"")
        self.close()

    def end(self, stop: dict[str, Any], usage: Usage) -> None:
        """The stream's regular end; `stop` holds stop_reason and what belongs to it."""
        if not self.started:
            self.start()
        self._event("message_delta", {"type": "message_delta", "delta": stop, "usage": usage_object(usage)})
        self._events.append(MESSAGE_STOP)


class GeminiMessage(MessageEmitter):
    def __init__(self, *, signature: str) -> None:
        super().__init__(signature=signature)
        self._plain = signature

    def open_thinking(self) -> None:
        self._signature = self._plain
        super().open_thinking()

    def sign(self, signature: str) -> None:
        self._block["signature"] = signature

    def cite(self, citation: dict[str, Any]) -> None:
        self._block.setdefault("citations", []).append(citation)

    def search(self, query: str, results: list[dict[str, Any]]) -> None:
        self.content.extend(search_blocks(query, results))


def search_blocks(query: str, results: list[dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The search as a call of the server's, and what it found (translation.md 4.1)."""
    search_id = new_search_id()
    use = {"type": "server_tool_use", "id": search_id, "name": "web_search", "input": {"query": query}}
    return use, {"type": "web_search_tool_result", "tool_use_id": search_id, "content": results}
