"""Local token counting: a cheap estimate for holds, and a count with OpenAI's o200k vocabulary.

Neither is the provider's own tokenizer: newer Claude models need 1.0 to 1.4 times as many
tokens as o200k (translation.md 8.3). What is charged comes from the provider's usage.
"""

import asyncio
import functools
import os
import re
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from hashlib import blake2b
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import msgspec

from providers.wire.request import MessagesRequest

if TYPE_CHECKING:
    import tiktoken

VOCABULARY = Path(__file__).resolve().parent / "vocab"
SAFETY = Fraction(5, 4)
"""What a hold multiplies the estimate with: Claude's tokenizers split finer than o200k."""

BYTES_PER_TOKEN = 3
IMAGE_TOKENS = 1600
"""An image at Claude's size limit: 1568 x 1568 pixels, width x height / 750 (capped)."""
DOCUMENT_BYTES_PER_TOKEN = 8
REQUEST_OVERHEAD = 8
MESSAGE_OVERHEAD = 4
TOOL_OVERHEAD = 8

PIECE_CHARS = 100_000
CACHE_FROM_CHARS = 256
CACHE_BYTES = 8 * 1024 * 1024
CACHE_ENTRY_BYTES = 160
PAYLOAD_FROM_BYTES = 1024
NEAR_BYTES = 200
TOOL_REFERENCE = re.compile(rb'"tool_name"\s*:\s*"([^"]+)"')


def hold_tokens(estimated: int) -> int:
    """`estimated` tokens with the safety factor, rounded up."""
    return -(-estimated * SAFETY.numerator // SAFETY.denominator)


def estimate(request: MessagesRequest, body_bytes: int) -> int:
    """Input tokens of `request`, whose body has `body_bytes` bytes, from sizes alone.

    High for prose and code (about 4 bytes a token); meant to be used with `hold_tokens`.
    Images and documents sent as base64 count by their kind, not as text."""
    payload_bytes, payload_tokens = 0, 0
    if request.mentions(b'"base64"', "messages"):
        payload_bytes, payload_tokens = _payloads(bytes(request.raw("messages")))
    return max(0, body_bytes - payload_bytes) // BYTES_PER_TOKEN + payload_tokens + REQUEST_OVERHEAD


def _payloads(raw: bytes) -> tuple[int, int]:
    """Bytes of base64 in `raw` (JSON), and the tokens of the images and documents they are.

    A payload is the value of a key "data" near a "base64". A quoted key cannot occur inside
    a JSON string (its quotes are escaped there), and base64 holds no quote: so it is enough
    to look for the next one."""
    size = tokens = 0
    position = 0
    while (key := raw.find(b'"data"', position)) >= 0:
        position = key + 6
        start = raw.find(b'"', position, position + 8)
        end = raw.find(b'"', start + 1) if start >= 0 else -1
        if end < 0 or end - start < PAYLOAD_FROM_BYTES:
            continue
        around = raw[max(0, key - NEAR_BYTES) : key] + raw[end : end + NEAR_BYTES]
        if b'"base64"' not in around:
            continue
        position = end
        length = end - start
        size += length
        tokens += length // DOCUMENT_BYTES_PER_TOKEN if b"application/pdf" in around else IMAGE_TOKENS
    return size, tokens


def count(request: MessagesRequest) -> int:
    """Input tokens of `request` in o200k_base: system, messages, tools, and a flat amount for
    each image. About 1 ms per 8 KB the first time a text is seen: not for the event loop."""
    total = REQUEST_OVERHEAD
    for text, extra in _countable(request):
        total += extra + (count_text(text) if text else 0)
    return total


async def count_async(request: MessagesRequest) -> int:
    """`count` off the event loop."""
    return await asyncio.get_running_loop().run_in_executor(_executor(), count, request)


def count_text(text: str) -> int:
    """Tokens of `text` in o200k_base. Time grows linearly with its length, whatever it holds."""
    if len(text) < CACHE_FROM_CHARS:
        return _encode(text)
    data = text.encode("utf-8", "replace")
    key = blake2b(data, digest_size=16).digest()
    known = _cache.get(key)
    if known is None:
        known = sum(_encode(text[at : at + PIECE_CHARS]) for at in range(0, len(text), PIECE_CHARS))
        _cache.put(key, known)
    return known


def _encode(text: str) -> int:
    # A lone surrogate has no UTF-8 form, which tiktoken needs.
    clean = text if text.isascii() else text.encode("utf-8", "replace").decode()
    return len(encoding().encode_ordinary(clean))


@functools.cache
def encoding() -> "tiktoken.Encoding":
    import tiktoken  # not at the top: most processes never count, and it takes 5 MiB

    os.environ.setdefault("TIKTOKEN_CACHE_DIR", str(VOCABULARY))
    return tiktoken.get_encoding("o200k_base")


@functools.cache
def _executor() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="tokens")


class _CountCache:
    """Counts of texts by digest, so that no prompt stays in memory; least recently used goes first."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._counts: OrderedDict[bytes, int] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._counts)

    def get(self, key: bytes) -> int | None:
        with self._lock:
            known = self._counts.get(key)
            if known is not None:
                self._counts.move_to_end(key)
            return known

    def put(self, key: bytes, value: int) -> None:
        with self._lock:
            self._counts[key] = value
            if len(self._counts) > self._capacity:
                self._counts.popitem(last=False)


_cache = _CountCache(CACHE_BYTES // CACHE_ENTRY_BYTES)


def _countable(request: MessagesRequest) -> Iterator[tuple[str, int]]:
    """Every text of `request` that a model reads, with tokens to add for what surrounds it."""
    system = request.value("system")
    yield from _contents(system)
    for message in request.value("messages"):
        yield "", MESSAGE_OVERHEAD
        yield from _contents(message["content"])
    loaded = None
    for tool in request.value("tools") or ():
        if tool.get("defer_loading"):
            # A deferred tool costs nothing until a tool search has loaded it.
            loaded = loaded or set(TOOL_REFERENCE.findall(request.raw("messages")))
            if str(tool.get("name")).encode() not in loaded:
                continue
        yield _json(tool.get("input_schema")), TOOL_OVERHEAD
        yield f"{tool.get('name', '')}\n{tool.get('description') or ''}", 0


def _contents(content: Any) -> Iterator[tuple[str, int]]:
    if isinstance(content, str):
        yield content, 0
    elif isinstance(content, list):
        for block in content:
            if isinstance(block, dict):
                yield from _block(block)


def _block(block: dict[str, Any]) -> Iterator[tuple[str, int]]:
    match block.get("type"):
        case "text":
            yield str(block.get("text", "")), 0
        case "thinking":
            yield str(block.get("thinking", "")), 0
        case "tool_use" | "server_tool_use" | "mcp_tool_use":
            yield str(block.get("name", "")), MESSAGE_OVERHEAD
            yield _json(block.get("input")), 0
        case "image":
            yield "", IMAGE_TOKENS
        case "document":
            yield from _document(block)
        case "redacted_thinking":
            yield "", len(str(block.get("data", ""))) // BYTES_PER_TOKEN
        case _:
            # Tool results of every kind, and blocks that are newer than this code.
            yield "", MESSAGE_OVERHEAD
            content = block.get("content")
            yield from _contents(content)
            if isinstance(content, dict):
                yield _json(content), 0


def _document(block: dict[str, Any]) -> Iterator[tuple[str, int]]:
    source = block.get("source")
    data = str(source.get("data", "")) if isinstance(source, dict) else ""
    if isinstance(source, dict) and source.get("type") == "text":
        yield data, 0
    else:
        yield "", max(IMAGE_TOKENS, len(data) // DOCUMENT_BYTES_PER_TOKEN)
    yield str(block.get("title") or ""), 0
    yield from _contents(source.get("content") if isinstance(source, dict) else None)


def _json(value: Any) -> str:
    return "" if value is None else msgspec.json.encode(value).decode("utf-8", "replace")
