"""How large a request may be: generous for the largest sessions that Claude Code has (a million tokens,
hundreds of tools), and small enough that one request cannot hold up a process.

Read from what is decoded already, or from the raw bytes; no second parse of an ordinary request.
"""

import re
from typing import TYPE_CHECKING

import msgspec
from msgspec import Raw

from providers.errors import InvalidRequest, RequestTooLarge

if TYPE_CHECKING:
    from providers.wire.request import MessagesRequest

MOST_MESSAGES = 100_000
MOST_BLOCKS = 200_000
MOST_TOOLS = 2_000
MOST_SYSTEM_BLOCKS = 1_000
MOST_STOPS = 64
MOST_IMAGES = 600
"""Images and documents together, as at Anthropic for its largest windows."""
LARGEST_TOOL, LARGEST_TOOLS = 512 * 1024, 4 * 1024 * 1024
"""Bytes of one tool's definition, and of all."""
MAX_DEPTH = 100
"""Levels of a tool's schema. Elsewhere the parser's own limit holds, which is several hundred."""
TOO_DEEP = f"is nested too deeply: {MAX_DEPTH} levels are supported."

_raw_tools = msgspec.json.Decoder(list[Raw] | None)
_MEDIA = re.compile(rb'"type"\s*:\s*"(?:image|document)"')
_ONE_KIND = bytes.maketrans(b"[]", b"{}")
_NO_STRUCTURE = bytes(set(range(256)) - set(b'"[]{}'))


def check(request: "MessagesRequest") -> None:
    """Raises InvalidRequest, which names the field and its limit; RequestTooLarge for too many images, which
    makes the client take old ones out and try again."""
    _count("messages", len(request.messages), MOST_MESSAGES, "messages")
    blocks = 0
    for message in request.messages:
        if type(message.content) is list:
            blocks += len(message.content)
    _count("messages", blocks, MOST_BLOCKS, "content blocks")
    if isinstance(request.system, list):
        _count("system", len(request.system), MOST_SYSTEM_BLOCKS, "blocks")
    if request.has("stop_sequences"):
        stops = request.value("stop_sequences")
        _count("stop_sequences", len(stops) if isinstance(stops, list) else 0, MOST_STOPS, "stop sequences")
    if request.has_media:
        found = len(_MEDIA.findall(request.raw("messages")))
        if found > MOST_IMAGES:
            raise RequestTooLarge(f"messages: {found} images and documents; {MOST_IMAGES} are allowed in one request.")
    _check_tools(request)


def _count(field: str, found: int, most: int, what: str) -> None:
    if found > most:
        raise InvalidRequest(f"{field}: {found} {what}; {most} are allowed in one request.")


def _check_tools(request: "MessagesRequest") -> None:
    _count("tools", len(request.tools), MOST_TOOLS, "tools")
    raw = request.raw("tools")
    if not raw:
        return
    if len(raw) > LARGEST_TOOLS:
        raise InvalidRequest(f"tools: {len(raw)} bytes; {LARGEST_TOOLS} are allowed in one request.")
    if len(raw) > LARGEST_TOOL:
        for number, tool in enumerate(_raw_tools.decode(raw) or ()):
            size = len(bytes(tool))
            if size > LARGEST_TOOL:
                raise InvalidRequest(f"tools.{number}: {size} bytes; a tool may have {LARGEST_TOOL}.")
    if too_deep := request.toolset.too_deep:
        raise InvalidRequest(f"tools: {too_deep}")


def depth(raw: bytes, limit: int) -> int:
    """Levels of lists and objects in `raw` (valid JSON); `limit` + 1 for all that has more."""
    told = raw.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in raw else raw
    # Only quotes and brackets; then without what stands in quotes; then layer by layer from the inside.
    brackets = b"".join(told.translate(_ONE_KIND, _NO_STRUCTURE).split(b'"')[::2])
    levels = 0
    while brackets and levels <= limit:
        brackets = brackets.replace(b"{}", b"")
        levels += 1
    return levels
