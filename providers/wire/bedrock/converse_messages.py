"""The conversation as Converse's messages: user and assistant in turn, the user first, every call
answered in the user's next message, and no blank text anywhere.
"""

import hashlib
import re
from typing import Any

from msgspec import Raw

from providers.errors import InvalidRequest
from providers.types import Model
from providers.wire.bedrock.families import Family
from providers.wire.bedrock.signatures import own_reasoning
from providers.wire.openai_chat.history import Block, Turn, content_of
from providers.wire.openai_chat.messages import (
    FILE_OMITTED,
    IMAGE_OMITTED,
    INTERRUPTED,
    NO_CONTENT,
    NO_OUTPUT,
)
from providers.wire.openai_chat.server_blocks import text_of_server_block, texts_of
from providers.wire.openai_chat.tools import wire_name

Item = dict[str, Any]
CALL_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
IMAGE_FORMATS = {"image/png": "png", "image/jpeg": "jpeg", "image/gif": "gif", "image/webp": "webp"}
NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9 ()\[\]-]+")
MAX_NAME = 200
SEE_DOCUMENT = "See the document."
CONTINUE = "Continue your last message exactly where it ends, without repeating any of it."


class ConverseWriter:
    def __init__(self, *, model: Model, family: Family) -> None:
        self._model = model
        self._family = family
        self._messages: list[Item] = []
        self._user: list[Item] = []
        self._results: list[Item] = []
        self._calls: dict[str, str] = {}
        self._names: set[str] = set()
        self.used_tools: dict[str, None] = {}
        """Names of the tools that the conversation has called, in order."""

    def write(self, turns: list[Turn], head: str = "") -> list[Item]:
        """The messages. `head` stands at the beginning of the first one."""
        if head:
            self._user.append(text_item(head))
        for turn in turns:
            if turn.role == "assistant":
                self._assistant(turn)
            elif turn.role == "user":
                self._user_turn(turn)
            else:
                self._answer_calls({})
                self._user.append(text_item(f"<system-reminder>\n{turn.text}\n</system-reminder>"))
        self._answer_calls({})
        self._flush_user()
        if self._messages and self._messages[-1]["role"] == "assistant":
            self._messages.append({"role": "user", "content": [text_item(CONTINUE)]})
        return self._messages or [{"role": "user", "content": [text_item(NO_CONTENT)]}]

    def _assistant(self, turn: Turn) -> None:
        self._answer_calls({})
        self._flush_user()
        if not self._messages:
            self._messages.append({"role": "user", "content": [text_item(NO_CONTENT)]})
        items: list[Item] = []
        for block in turn.blocks:
            items += self._assistant_items(block)
            if items:
                items += self._cache_point(block, "messages")
        content = items or [text_item(NO_CONTENT)]
        if self._messages[-1]["role"] == "assistant":
            self._messages[-1]["content"] += content
        else:
            self._messages.append({"role": "assistant", "content": content})

    def _assistant_items(self, block: Block) -> list[Item]:
        match block.type:
            case "text":
                return [text_item(block.text)] if block.text.strip() else []
            case "tool_use":
                return self._call(block)
            case "thinking":
                reasoning = own_reasoning(block, self._model)
                return [reasoning] if reasoning else []
            case _:
                text = text_of_server_block(block)
                return [text_item(text)] if text else []

    def _call(self, block: Block) -> list[Item]:
        if block.id in self._calls:
            return []
        self._calls[block.id] = call_id(block.id)
        name = wire_name(block.name)
        self.used_tools[name] = None
        return [{"toolUse": {"toolUseId": self._calls[block.id], "name": name, "input": _object(block.input)}}]

    def _user_turn(self, turn: Turn) -> None:
        results = {block.tool_use_id: block for block in turn.blocks if block.type == "tool_result"}
        self._answer_calls(results)
        for block in turn.blocks:
            if block.type != "tool_result" and (items := self._items(block)):
                self._user += items + self._cache_point(block, "messages")
        if not self._user and not self._results:
            self._user.append(text_item(NO_CONTENT))

    def _answer_calls(self, results: dict[str, Block]) -> None:
        """A result for every call that waits; results that answer none of them are dropped."""
        for told_id, wire_id in self._calls.items():
            block = results.get(told_id)
            self._results.append(self._result(wire_id, block))
            if block is not None:
                self._results += self._cache_point(block, "messages")
        self._calls = {}

    def _result(self, wire_id: str, block: Block | None) -> Item:
        items = [text_item(INTERRUPTED)] if block is None else self._result_items(block)
        failed = block is None or bool(block.is_error)
        result: Item = {"toolUseId": wire_id, "content": items}
        if failed and self._family.result_status:
            result["status"] = "error"
        elif failed:
            items.insert(0, text_item("Error:"))
        return {"toolResult": result}

    def _result_items(self, block: Block) -> list[Item]:
        items: list[Item] = []
        loaded: list[str] = []
        for inner in content_of(block):
            if inner.type == "tool_reference":
                loaded.append(wire_name(inner.tool_name))
                continue
            for item in self._items(inner):
                if "text" in item or "searchResult" in item or self._family.result_images:
                    items.append(item)
                elif self._family.results_alone:
                    items.append(text_item(f"[{inner.type} omitted: this model takes none from tools]"))
                else:
                    self._user.append(item)
                    items.append(text_item(f"[{inner.type} attached after the results]"))
        if loaded:
            items.append(text_item(f"Loaded tools: {', '.join(loaded)}. You can call them now."))
        return _with_text(items) or [text_item(NO_OUTPUT)]

    def _flush_user(self) -> None:
        results, others = self._results, self._user
        self._results, self._user = [], []
        if results and others and self._family.results_alone:
            # They refuse a message with anything beside results: what follows becomes part of the last one.
            last = next(item["toolResult"] for item in reversed(results) if "toolResult" in item)
            last["content"] += [item for item in others if "cachePoint" not in item]
            others = []
        content = results + others
        if content:
            self._messages.append({"role": "user", "content": _with_text(content)})

    def _items(self, block: Block) -> list[Item]:
        match block.type:
            case "text":
                return [text_item(block.text)] if block.text.strip() else []
            case "image":
                return [self._image(block)]
            case "document":
                return self._document(block)
            case "search_result" if self._family.search_results:
                return [self._search_result(block)]
            case _:
                text = text_of_server_block(block)
                return [text_item(text)] if text else []

    def _image(self, block: Block) -> Item:
        where = block.where
        if not self._model.vision:
            return text_item(IMAGE_OMITTED)
        if where.type != "base64":
            raise InvalidRequest(
                f"messages: an image is given by {where.type or 'nothing'}; Amazon Bedrock takes only data in base64."
            )
        if where.media_type not in IMAGE_FORMATS:
            raise InvalidRequest(f"messages: images of the type {where.media_type!r} are not supported.")
        return {"image": {"format": IMAGE_FORMATS[where.media_type], "source": {"bytes": where.data}}}

    def _document(self, block: Block) -> list[Item]:
        where = block.where
        cites = self._family.search_results and _enabled(block.citations)
        if where.type == "base64":
            if not self._model.vision:
                return [text_item(FILE_OMITTED)]
            return [self._document_item(block, "pdf", {"bytes": where.data}, cites=cites)]
        if where.type in {"url", "file"}:
            raise InvalidRequest(
                f"messages: a document is given by {where.type}; Amazon Bedrock takes only data in base64 and texts."
            )
        texts = [where.data] if where.type == "text" else texts_of(where.content)
        texts = [text for text in texts if text.strip()]
        if cites and texts:
            source = {"text": texts[0]} if where.type == "text" else {"content": [{"text": text} for text in texts]}
            return [self._document_item(block, "txt", source, cites=True)]
        title = block.title or "document"
        return [text_item(f'<document title="{title}">\n{text}\n</document>') for text in texts]

    def _document_item(self, block: Block, form: str, source: Item, *, cites: bool) -> Item:
        document: Item = {"format": form, "name": self._name(block.title or "document"), "source": source}
        if cites:
            document["citations"] = {"enabled": True}
        return {"document": document}

    def _name(self, title: str) -> str:
        """A name that no other document of the conversation has, in the characters that are allowed."""
        base = " ".join(NOT_IN_NAMES.sub(" ", title).split())[: MAX_NAME - 5] or "document"
        name, number = base, 2
        while name in self._names:
            name, number = f"{base} {number}", number + 1
        self._names.add(name)
        return name

    def _search_result(self, block: Block) -> Item:
        texts = [{"text": text} for text in (inner.text for inner in content_of(block)) if text.strip()]
        result: Item = {
            "source": block.source if isinstance(block.source, str) else "",
            "title": block.title or "",
            "content": texts or [{"text": NO_CONTENT}],
        }
        if _enabled(block.citations):
            result["citations"] = {"enabled": True}
        return {"searchResult": result}

    def _cache_point(self, block: Block, place: str) -> list[Item]:
        return cache_points(block.cache_control, self._family, place)


def text_item(text: str) -> Item:
    return {"text": text}


def cache_points(mark: Any, family: Family, place: str) -> list[Item]:
    """What a `cache_control` mark becomes, for a family that takes cache points in that place."""
    if not isinstance(mark, dict) or place not in family.cache:
        return []
    point = {"type": "default"}
    if family.hour_cache and mark.get("ttl") == "1h":
        point["ttl"] = "1h"
    return [{"cachePoint": point}]


def call_id(told: str) -> str:
    """The provider's id for a call, the same in every request of the conversation."""
    return told if CALL_ID.fullmatch(told) else "call_" + hashlib.sha256(told.encode()).hexdigest()[:32]


def _object(raw: Raw) -> Any:
    """A call's input, which has to be an object."""
    text = bytes(raw).strip()
    if text.startswith(b"{"):
        return raw
    return {} if text in (b"", b"null") else {"input": raw}


def _enabled(citations: Any) -> bool:
    return isinstance(citations, dict) and citations.get("enabled") is True


def _with_text(items: list[Item]) -> list[Item]:
    """A document needs a text beside it."""
    if any("document" in item for item in items) and not any("text" in item for item in items):
        return [*items, text_item(SEE_DOCUMENT)]
    return items
