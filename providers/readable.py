"""What of a request a model reads, and so counts as input: every text, and what images and files are worth."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from providers.families import Family
from providers.pictures import image_tokens, pdf_tokens
from providers.wire.request import MessagesRequest

IMAGE_TOKENS = 1_600
"""An image whose size is not known: one at Claude's limit, 1568 x 1568 pixels, width x height / 750 (capped)."""
DOCUMENT_BYTES_PER_TOKEN = 8
MESSAGE_OVERHEAD = 4
OPAQUE_BYTES_PER_TOKEN = 3
MOST_DEPTH = 8
"""Of blocks inside blocks: a document in the result of a tool is two deep."""
TOOL_REFERENCE = re.compile(rb'"tool_name"\s*:\s*"([^"]+)"')


class Part(NamedTuple):
    """A text, with tokens to add for what surrounds it; or tokens of an image or a file."""

    text: str = ""
    extra: int = 0
    media: int = 0


def readable(request: MessagesRequest, family: Family, *, eager_tools: bool) -> Iterator[Part]:
    """Everything that a model of `family` reads. `eager_tools`: also the tools that are deferred."""
    yield from _contents(request.value("system"), family)
    for message in request.value("messages"):
        yield Part(extra=MESSAGE_OVERHEAD)
        yield from _contents(message["content"], family)
    yield from _tools(request, family, eager_tools=eager_tools)


def _tools(request: MessagesRequest, family: Family, *, eager_tools: bool) -> Iterator[Part]:
    once, each = family.tools_overhead
    loaded: set[bytes] | None = None
    first = True
    for tool in request.value("tools") or ():
        if tool.get("defer_loading") and not eager_tools:
            # A deferred tool costs nothing until a tool search has loaded it.
            loaded = set(TOOL_REFERENCE.findall(request.raw("messages"))) if loaded is None else loaded
            if str(tool.get("name")).encode() not in loaded:
                continue
        yield Part(_json(tool.get("input_schema")), each + (once if first else 0))
        yield Part(f"{tool.get('name', '')}\n{tool.get('description') or ''}")
        first = False


def _contents(content: Any, family: Family, depth: int = 0) -> Iterator[Part]:
    if isinstance(content, str):
        yield Part(content)
    elif isinstance(content, list) and depth < MOST_DEPTH:
        for block in content:
            if isinstance(block, dict):
                yield from _block(block, family, depth)


def _block(block: dict[str, Any], family: Family, depth: int) -> Iterator[Part]:
    match block.get("type"):
        case "text":
            yield Part(str(block.get("text", "")))
        case "thinking":
            yield Part(str(block.get("thinking", "")))
        case "tool_use" | "server_tool_use" | "mcp_tool_use":
            yield Part(str(block.get("name", "")), MESSAGE_OVERHEAD)
            yield Part(_json(block.get("input")))
        case "image":
            source = block.get("source")
            data = source.get("data") if isinstance(source, dict) else None
            yield Part(media=image_tokens(data, family, IMAGE_TOKENS))
        case "document":
            yield from _document(block, family, depth)
        case "redacted_thinking":
            yield Part(extra=len(str(block.get("data", ""))) // OPAQUE_BYTES_PER_TOKEN)
        case _:
            # Tool results of every kind, and blocks that are newer than this code.
            yield Part(extra=MESSAGE_OVERHEAD)
            content = block.get("content")
            yield from _contents(content, family, depth + 1)
            if isinstance(content, dict):
                yield Part(_json(content))


def _document(block: dict[str, Any], family: Family, depth: int) -> Iterator[Part]:
    told = block.get("source")
    source = told if isinstance(told, dict) else {}
    data = str(source.get("data", ""))
    match source.get("type"):
        case "text":
            yield Part(data)
        case "content":
            yield from _contents(source.get("content"), family, depth + 1)
        case "base64":
            yield Part(media=max(pdf_tokens(data, family), 1))
        case _:
            yield Part(media=family.page_tokens)
    yield Part(str(block.get("title") or ""))


def _json(value: Any) -> str:
    return "" if value is None else msgspec.json.encode(value).decode("utf-8", "replace")
