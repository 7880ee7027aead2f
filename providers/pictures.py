"""What images and PDF files count, by their own size: pixels and pages.

Sources: translation.md 8.3 and the families' rows. Reads no more than the first bytes of an image.
"""

import base64
import binascii
import math
import re
from typing import Any

from providers.families import Family

HEAD_CHARS = 64 * 1024
"""Of the base64: a JPEG may have long comments before its size."""
PIXELS_PER_TOKEN = 750
FLAT_TOKENS = 1_120
GEMINI_TILE_TOKENS = 258
OPENAI_BASE, OPENAI_TILE_TOKENS, OPENAI_TILE = 85, 170, 512
OPENAI_LONG, OPENAI_SHORT = 2_048, 768
MAX_PDF_CHARS = 44 * 1024 * 1024
MOST_PAGES = 1_000
BYTES_PER_PAGE = 16 * 1024
"""Of a PDF whose pages cannot be told apart: they are compressed away."""
PAGE = re.compile(rb"/Type\s*/Page(?![a-zA-Z])")
PAGE_COUNT = re.compile(rb"/Count\s+(\d{1,5})\b")
JPEG_SIZES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})

Size = tuple[int, int]


def image_tokens(data: Any, family: Family, otherwise: int) -> int:
    """Tokens of an image given as base64; `otherwise` when its size cannot be told."""
    if family.image_tokens == "flat":
        return FLAT_TOKENS
    size = size_of(data) if isinstance(data, str) else None
    if size is None or not all(size):
        return otherwise
    match family.image_tokens:
        case "tiles":
            return _openai_tiles(size)
        case "tiles_768":
            return _gemini_tiles(size)
        case _:
            edge, most = family.largest_image
            width, height = _within(size, edge)
            return min(most, math.ceil(width * height / PIXELS_PER_TOKEN))


def pdf_tokens(data: Any, family: Family) -> int:
    """Tokens of a PDF given as base64."""
    return family.page_tokens * _pages(data if isinstance(data, str) else "")


def _pages(data: str) -> int:
    by_size = max(1, len(data) * 3 // 4 // BYTES_PER_PAGE)
    if len(data) > MAX_PDF_CHARS:
        return min(by_size, MOST_PAGES)
    try:
        raw = base64.b64decode(data)
    except (binascii.Error, ValueError):
        return min(by_size, MOST_PAGES)
    told = max((int(found[1]) for found in PAGE_COUNT.finditer(raw)), default=0)
    seen = len(PAGE.findall(raw))
    return min(seen or told or by_size, MOST_PAGES)


def size_of(data: str) -> Size | None:
    """Width and height in pixels of an image given as base64, None for what is none."""
    try:
        head = base64.b64decode(data[:HEAD_CHARS])
    except (binascii.Error, ValueError):
        return None
    if head.startswith(b"\x89PNG\r\n\x1a\n") and len(head) >= 24:
        return int.from_bytes(head[16:20]), int.from_bytes(head[20:24])
    if head.startswith((b"GIF87a", b"GIF89a")) and len(head) >= 10:
        return int.from_bytes(head[6:8], "little"), int.from_bytes(head[8:10], "little")
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP" and len(head) >= 30:
        return _webp(head)
    return _jpeg(head) if head.startswith(b"\xff\xd8") else None


def _webp(head: bytes) -> Size | None:
    match head[12:16]:
        case b"VP8X":
            return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
        case b"VP8L":
            bits = int.from_bytes(head[21:25], "little")
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8 ":
            return int.from_bytes(head[26:28], "little") & 0x3FFF, int.from_bytes(head[28:30], "little") & 0x3FFF
        case _:
            return None


def _jpeg(head: bytes) -> Size | None:
    at = 2
    while at + 9 <= len(head) and head[at] == 0xFF:
        if head[at + 1] in JPEG_SIZES:
            return int.from_bytes(head[at + 7 : at + 9]), int.from_bytes(head[at + 5 : at + 7])
        at += 2 + max(2, int.from_bytes(head[at + 2 : at + 4]))
    return None


def _within(size: Size, edge: int) -> tuple[float, float]:
    share = min(1.0, edge / max(size))
    return size[0] * share, size[1] * share


def _openai_tiles(size: Size) -> int:
    width, height = _within(size, OPENAI_LONG)
    share = min(1.0, OPENAI_SHORT / min(width, height))
    tiles = math.ceil(width * share / OPENAI_TILE) * math.ceil(height * share / OPENAI_TILE)
    return OPENAI_BASE + OPENAI_TILE_TOKENS * tiles


def _gemini_tiles(size: Size) -> int:
    if max(size) <= 384:
        return GEMINI_TILE_TOKENS
    unit = min(max(256, math.floor(min(size) / 1.5)), 768)
    return GEMINI_TILE_TOKENS * min(64, math.ceil(size[0] / unit) * math.ceil(size[1] / unit))
