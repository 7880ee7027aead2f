"""Local token counting: a cheap estimate for holds, and a count with one of OpenAI's vocabularies.

Neither is the provider's own tokenizer: a model's factors (`providers.calibration`) make the one of the
other. What is charged comes from the provider's usage.
"""

import asyncio
import functools
import math
import os
import re
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from hashlib import blake2b
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from providers.calibration import scaled
from providers.families import UNKNOWN, Family
from providers.readable import DOCUMENT_BYTES_PER_TOKEN, IMAGE_TOKENS, readable
from providers.wire.request import MessagesRequest

if TYPE_CHECKING:
    import tiktoken

VOCABULARY = Path(__file__).resolve().parent / "vocab"
SAFETY = Fraction(5, 4)
"""What a hold multiplies the estimate with: requests differ in how many bytes a token of theirs has."""

BYTES_PER_TOKEN = 3
REQUEST_OVERHEAD = 8

PIECE_CHARS = 20_000
"""A text is counted in pieces of so many characters: what one long run of letters costs grows faster
than its length."""
MOST_CHARS = 1_000_000
"""Of one request that are counted with the vocabulary, beside those whose count is known; of the rest the
tokens are estimated from what was counted."""
MOST_WAITING_BYTES = 16 * 1024 * 1024
"""Of requests that wait to be counted. Beyond that a count is an estimate, and comes at once."""
CACHE_FROM_CHARS = 256
CACHE_BYTES = 8 * 1024 * 1024
CACHE_ENTRY_BYTES = 160
PAYLOAD_FROM_BYTES = 1024
NEAR_BYTES = 200
BY_ADDRESS = re.compile(rb'"source"\s*:\s*\{[^{}]{0,40}"url"')


@dataclass(frozen=True, slots=True)
class Count:
    """Input tokens of a request: `text` by a vocabulary, `media` by the rules for images and files. `exact`:
    all text was counted, nothing estimated."""

    text: int
    media: int
    exact: bool = True

    @property
    def total(self) -> int:
        return self.text + self.media

    def scaled(self, factor: float) -> int:
        """For a model that has `factor` tokens for one of the vocabulary's."""
        return scaled(self.text, factor) + self.media


def hold_tokens(estimated: int, factor: float = 1.0) -> int:
    """`estimated` tokens with the safety factor, rounded up. What use has taught about the model (`factor`)
    takes away no more than that safety: the plain estimate is always held."""
    if factor == 1.0:
        return -(-estimated * SAFETY.numerator // SAFETY.denominator)
    return math.ceil(estimated * max(Fraction(1), SAFETY * Fraction(factor)))


def estimate(request: MessagesRequest, body_bytes: int) -> int:
    """Input tokens of `request`, whose body has `body_bytes` bytes, from sizes alone.

    High for prose and code (about 4 bytes a token); meant to be used with `hold_tokens`.
    Images and documents sent as base64 count by their kind, not as text."""
    payload_bytes, payload_tokens = 0, 0
    if request.has_media:
        messages = request.raw("messages")
        if b'"base64"' in messages:
            payload_bytes, payload_tokens = _payloads(messages)
        payload_tokens += IMAGE_TOKENS * len(BY_ADDRESS.findall(messages))
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


def count(request: MessagesRequest, family: Family = UNKNOWN, *, eager_tools: bool = False) -> Count:
    """Input tokens of `request` in the vocabulary that stands in for the family's: system, messages, tools,
    images and files. `eager_tools`: deferred tools are sent at once, as to every model without a tool
    search. About 1 ms per 10 KB the first time a text is seen: not for the event loop."""
    return _Counting(vocabulary_of(family)).of(request, family, eager_tools=eager_tools)


async def count_async(request: MessagesRequest, family: Family = UNKNOWN, *, eager_tools: bool = False) -> Count:
    """`count` off the event loop. While too much waits to be counted, an estimate."""
    size = sum(len(request.raw(name)) for name in ("system", "tools", "messages"))
    if _waiting.bytes + size > MOST_WAITING_BYTES:
        return Count(estimate(request, size), 0, exact=False)
    counting = functools.partial(count, request, family, eager_tools=eager_tools)
    _waiting.bytes += size
    try:
        return await asyncio.get_running_loop().run_in_executor(_executor(), counting)
    finally:
        _waiting.bytes -= size


@dataclass(slots=True)
class _Waiting:
    bytes: int = 0


_waiting = _Waiting()


class _Counting:
    """One request's count, which encodes MOST_CHARS at most."""

    def __init__(self, vocabulary: str) -> None:
        self._vocabulary = vocabulary
        self._left = MOST_CHARS
        self._chars = self._tokens = self._uncounted = 0

    def of(self, request: MessagesRequest, family: Family, *, eager_tools: bool) -> Count:
        extras = REQUEST_OVERHEAD
        media = 0
        for part in readable(request, family, eager_tools=eager_tools):
            extras += part.extra
            media += part.media
            if part.text:
                self._add(part.text)
        rest = math.ceil(self._uncounted * self._tokens / self._chars) if self._chars else 0
        return Count(extras + self._tokens + rest, media, exact=not self._uncounted)

    def _add(self, text: str) -> None:
        taken = text
        if not is_known(text, self._vocabulary):
            taken = text[: self._left]
            self._left -= len(taken)
        self._uncounted += len(text) - len(taken)
        if taken:
            self._chars += len(taken)
            self._tokens += count_text(taken, self._vocabulary)


def vocabulary_of(family: Family) -> str:
    """Which of the vocabularies at hand counts for a family: its own, or else the newest."""
    return "cl100k_base" if family.tokenizer == "cl100k" else "o200k_base"


def is_loaded(family: Family) -> bool:
    """Whether the family's vocabulary is in memory: it takes some 60 MB, and is loaded on first use."""
    return vocabulary_of(family) in _loaded


def is_known(text: str, vocabulary: str) -> bool:
    """Whether counting `text` costs nothing."""
    return len(text) >= CACHE_FROM_CHARS and _cache.get(_key(text, vocabulary)) is not None


def count_text(text: str, vocabulary: str = "o200k_base") -> int:
    """Tokens of `text`. Time grows linearly with its length, whatever it holds."""
    if len(text) < CACHE_FROM_CHARS:
        return _encode(text, vocabulary)
    key = _key(text, vocabulary)
    known = _cache.get(key)
    if known is None:
        pieces = (text[at : at + PIECE_CHARS] for at in range(0, len(text), PIECE_CHARS))
        known = sum(_encode(piece, vocabulary) for piece in pieces)
        _cache.put(key, known)
    return known


def _key(text: str, vocabulary: str) -> bytes:
    return blake2b(text.encode("utf-8", "replace"), digest_size=16, person=vocabulary[:16].encode()).digest()


def _encode(text: str, vocabulary: str) -> int:
    # A lone surrogate has no UTF-8 form, which tiktoken needs.
    clean = text if text.isascii() else text.encode("utf-8", "replace").decode()
    return len(encoding(vocabulary).encode_ordinary(clean))


@functools.cache
def encoding(vocabulary: str = "o200k_base") -> "tiktoken.Encoding":
    import tiktoken  # not at the top: most processes never count, and it takes 5 MiB

    os.environ.setdefault("TIKTOKEN_CACHE_DIR", str(VOCABULARY))
    loaded = tiktoken.get_encoding(vocabulary)
    _loaded.add(vocabulary)
    return loaded


_loaded: set[str] = set()


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

    def clear(self) -> None:
        with self._lock:
            self._counts.clear()

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


def forget() -> None:
    """Forget every count; for measurements."""
    _cache.clear()
