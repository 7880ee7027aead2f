"""What remains of blocks that only Anthropic's servers write: the text that a model can use.

Clients send such blocks back verbatim when an earlier turn was answered by Anthropic."""

from typing import Any

import msgspec

from providers.wire.openai_chat.history import Block
from providers.wire.searches import text_of_results

STREAMS = ("stdout", "stderr")


def text_of_server_block(block: Block) -> str:
    """ "" for a block that says nothing to another model: reasoning, calls of server tools,
    references, and every type that we do not know."""
    if block.type == "search_result":
        return _lines([block.title or "", *(texts_of(_content(block)))])
    if block.type == "compaction":
        return _lines(["Summary of the earlier conversation:", *texts_of(_content(block))])
    if not block.type.endswith("_tool_result"):
        return ""
    content = _content(block)
    if block.type == "web_search_tool_result":
        return text_of_results(content)
    if isinstance(content, dict):
        return _lines([str(content[name]) for name in STREAMS if content.get(name)])
    found = [item for item in _items(content) if item.get("url")]
    return _lines([f"{item.get('title') or ''} {item['url']}".strip() for item in found])


def _content(block: Block) -> Any:
    return msgspec.json.decode(block.content) if bytes(block.content) else None


def texts_of(content: Any) -> list[str]:
    """The texts of a block's content, which is a text, a list of blocks, or nothing we know."""
    if isinstance(content, str):
        return [content]
    return [str(item.get("text") or "") for item in _items(content)]


def _items(content: Any) -> list[dict[str, Any]]:
    return [item for item in content if isinstance(item, dict)] if isinstance(content, list) else []


def _lines(texts: list[str]) -> str:
    return "\n".join(text for text in texts if text)
