"""Amazon's event stream framing (`application/vnd.amazon.eventstream`).

A frame is `total length, header length, CRC of these | headers | payload | CRC of it all`, big-endian
with CRC-32. botocore's decoder takes 14 us a frame on the machine where this one takes 2, and streams
have a frame a token; the tests hold the two against each other.
"""

import functools
from binascii import crc32
from struct import Struct
from struct import error as StructError  # noqa: N812  a class
from typing import NamedTuple

from providers.errors import ProvidersError

PRELUDE = Struct("!III")
CHECKSUM = Struct("!I")
LENGTH = Struct("!H")
LENGTHS_SIZE = 8
HEAD_SIZE = PRELUDE.size
TAIL_SIZE = CHECKSUM.size
MAX_FRAME = 24 * 1024 * 1024
MAX_HEADERS = 128 * 1024
MAX_REMEMBERED = 512
FIXED_SIZES = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""Bytes of a header's value by its type; types 6 (bytes) and 7 (text) have their own length."""
TEXT = 7
_prelude, _number = PRELUDE.unpack_from, Struct("!I").unpack_from
LENGTHS = Struct("!II")
_next = LENGTHS.unpack_from
"""A frame's checksum, and the next one's length."""
_NO_FRAME = bytes(HEAD_SIZE)
"""What stands where a next frame's prelude would: no frame is so short."""


class BrokenFrame(ProvidersError):
    code = "broken_frame"


class Head(NamedTuple):
    """What a frame's headers say. `kind` is `event`, `exception` or `error`; `name` is the event's or the
    exception's type. An error has its message in a header, for it has no payload."""

    kind: str
    name: str
    message: str


Frames = tuple[Head, list[bytes]]
"""Frames of the same headers that follow one another: what these say, and the payload of each."""


class FrameReader:
    """Splits a byte stream into frames; the bytes may be cut anywhere."""

    __slots__ = ("_head", "_pieces", "_size", "_sums", "_told", "_wanted")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        """What is no whole frame yet."""
        self._size = 0
        self._wanted = HEAD_SIZE
        """Bytes that have to be there before looking makes sense again."""
        self._told = b""
        """The latest frame's headers: nearly all frames of a stream have the same."""
        self._head = _head(b"")
        self._sums = _sums(b"")
        """By a frame's length: the checksum of its prelude and of those headers."""

    @property
    def is_between_frames(self) -> bool:
        return not self._size

    def feed(self, data: bytes) -> list[Frames]:
        """The frames that `data` completes. Raises BrokenFrame for a wrong checksum or length: what
        follows cannot be read either."""
        self._pieces.append(data)
        self._size += len(data)
        if self._size < self._wanted:
            return []
        size = self._size
        buffer = b"".join((*self._pieces, _NO_FRAME))
        frames: list[Frames] = []
        start = 0
        self._wanted = HEAD_SIZE
        while size - start >= HEAD_SIZE:
            payloads: list[bytes] = []
            end = self._take_alike(buffer, start, size, payloads)
            if not payloads:
                end = self._take_other(buffer, start, size, payloads)
            if end > size:
                self._wanted = end - start
                break
            if frames and frames[-1][0] is self._head:
                frames[-1][1].extend(payloads)
            else:
                frames.append((self._head, payloads))
            start = end
        self._pieces = [buffer[start:size]] if start < size else []
        self._size = size - start
        return frames

    def _take_alike(self, buffer: bytes, start: int, size: int, payloads: list[bytes]) -> int:
        """Add the payloads of the whole frames at `start` that have the headers of the frame before; where they end.
        Nearly all frames go this way. `buffer` is `size` bytes and _NO_FRAME.

        The checksum is worked out with those headers, from where they end: that they are others, or that the lengths
        are, is found with it."""
        sums, before, last = self._sums, HEAD_SIZE + len(self._told), size - TAIL_SIZE
        (total,) = _number(buffer, start)
        while (so_far := sums.get(total)) is not None or (so_far := self._sum(total)) is not None:
            tail = start + total - TAIL_SIZE
            if tail > last:
                break
            payload = buffer[start + before : tail]
            checksum, total = _next(buffer, tail)
            if crc32(payload, so_far) != checksum:
                break
            payloads.append(payload)
            start = tail + TAIL_SIZE
        return start

    def _sum(self, total: int) -> int | None:
        """The checksum of the prelude and headers of such a frame; None if there can be none."""
        headers = len(self._told)
        if not HEAD_SIZE + headers + TAIL_SIZE <= total <= MAX_FRAME:
            return None
        if len(self._sums) >= MAX_REMEMBERED:
            self._sums.clear()
        lengths = LENGTHS.pack(total, headers)
        prelude = lengths + CHECKSUM.pack(crc32(lengths))
        found = self._sums[total] = crc32(self._told, crc32(prelude))
        return found

    def _take_other(self, buffer: bytes, start: int, size: int, payloads: list[bytes]) -> int:
        """Add the payload of the frame at `start` if it is whole, and remember its headers; where it ends. Raises
        BrokenFrame."""
        total: int
        total, headers, checksum = _prelude(buffer, start)
        begin, tail, end = start + HEAD_SIZE + headers, start + total - TAIL_SIZE, start + total
        if headers > MAX_HEADERS or not HEAD_SIZE + headers + TAIL_SIZE <= total <= MAX_FRAME:
            raise BrokenFrame("A frame has an impossible length.")
        if end > size:
            # The checksum of a whole frame covers its head: only who waits for the rest has to trust it.
            if crc32(buffer[start : start + LENGTHS_SIZE]) != checksum:
                raise BrokenFrame("A frame's head does not fit its checksum.")
            return end
        if crc32(buffer[start:tail]) != _number(buffer, tail)[0]:
            raise BrokenFrame("A frame does not fit its checksum.")
        self._told = buffer[start + HEAD_SIZE : begin]
        self._head = _head(self._told)
        self._sums = _sums(self._told) if headers <= MAX_REMEMBERED else {}
        payloads.append(buffer[begin:tail])
        return end


@functools.lru_cache(maxsize=16)
def _sums(told: bytes) -> dict[int, int]:  # noqa: ARG001  one for all streams' frames of these headers
    return {}


def _head(data: bytes) -> Head:
    """What a frame's headers say."""
    return _known_head(data) if len(data) <= MAX_REMEMBERED else _head_of(data)


def _head_of(data: bytes) -> Head:
    headers = _headers(data)
    kind = headers.get(":message-type", "event")
    if kind == "exception":
        return Head(kind, headers.get(":exception-type", ""), "")
    if kind == "error":
        return Head(kind, headers.get(":error-code", ""), headers.get(":error-message", ""))
    return Head(kind, headers.get(":event-type", ""), "")


_known_head = functools.lru_cache(maxsize=256)(_head_of)


def _headers(data: bytes) -> dict[str, str]:
    """The headers that are texts, by name."""
    headers: dict[str, str] = {}
    at = 0
    try:
        while at < len(data):
            name = data[at + 1 : at + 1 + data[at]].decode()
            at += 1 + data[at]
            kind = data[at]
            at += 1
            size = FIXED_SIZES.get(kind)
            if size is None:
                (size,) = LENGTH.unpack_from(data, at)
                at += LENGTH.size
            if kind == TEXT:
                headers[name] = data[at : at + size].decode()
            at += size
    except (IndexError, UnicodeDecodeError, StructError):
        raise BrokenFrame("A frame's headers cannot be read.") from None
    return headers
