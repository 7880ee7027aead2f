"""Which requests this process answers for, and what each would cost if it died now: a memory-mapped file.

A request has its slot from before its hold exists until the hold has ended, so whoever reads first the holds and
then the journals knows of each hold whether a living process still has it in hand (`standing`). A checkpoint in
the database every few seconds would leave what came after it free of charge. Writing eight bytes to a mapped page
costs nothing and survives kill -9 of the process, since the page belongs to the kernel (it does not survive the
loss of the machine: then the last checkpoint in the database counts). One file a process, locked for its life: a
file that can be locked is a dead process's, and `recover` reads it.

A process may die between any two instructions, and other processes read at any moment. So an id is written once,
before anything refers to it; a reading is written whole into a spare place, of which then one word says that it
counts; and each word is one aligned store.
"""

import contextlib
import fcntl
import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from credits import rating
from credits.errors import LedgerUnavailable
from credits.types import MeterReading, UsageSource

CHUNK_SLOTS = 4096
"""The file grows by so many, should there be more answers at once."""

# In words of eight bytes, padded so that no slot crosses a page: the id; which of two readings counts, 0 for none yet;
# the readings, at READING and at twice that.
WORD = 8
SLOT_BYTES = 256
SLOT_WORDS = SLOT_BYTES // WORD
ID_BYTES = 48
CURRENT = ID_BYTES // WORD
READING = 8
OUTPUT = 4
_READING = struct.Struct("=7q")
_WORD = struct.Struct("=q")
_EMPTY = bytes(SLOT_BYTES)
SUFFIX = ".v2.journal"


class Slot:
    """The place of one request. Not for use after `close`, of the slot or of its journal."""

    __slots__ = ("_chunk", "_first", "_journal", "_output")

    def __init__(self, journal: "Journal", chunk: "_Chunk", number: int, request_id: str) -> None:
        self._journal, self._chunk = journal, chunk
        self._first = number * SLOT_WORDS
        self._output = self._first + READING + OUTPUT
        id_ = request_id.encode()
        if len(id_) > ID_BYTES:
            raise ValueError(f"a request id has at most {ID_BYTES} bytes: {request_id}")
        start = number * SLOT_BYTES
        chunk.bytes[start : start + ID_BYTES] = id_.ljust(ID_BYTES, b"\0")

    def write(self, reading: MeterReading) -> None:
        """All of `reading`, or after a crash all of the one before."""
        reading = rating.sane(reading)
        words, current = self._chunk.words, self._first + CURRENT
        spare = 2 if words[current] == 1 else 1
        at = self._first + spare * READING
        words[at] = reading.input
        words[at + 1] = reading.cache_read
        words[at + 2] = reading.cache_write
        words[at + 3] = reading.cache_write_1h
        words[at + OUTPUT] = reading.output
        words[at + 5] = reading.reasoning
        words[at + 6] = reading.web_searches
        words[current] = spare
        self._output = at + OUTPUT

    def write_output(self, tokens: int) -> None:
        """Only the output count moves on: the one write per piece of a stream. After a first `write`."""
        self._chunk.words[self._output] = tokens

    def close(self) -> None:
        """The hold has ended, or there is none, or it is left to its lease and its checkpoint."""
        start = self._first * WORD
        self._chunk.bytes[start : start + ID_BYTES] = _EMPTY[:ID_BYTES]  # first: what has no id counts no more
        self._chunk.bytes[start : start + SLOT_BYTES] = _EMPTY
        self._journal.free.append((self._chunk, self._first // SLOT_WORDS))


class _Chunk:
    """CHUNK_SLOTS slots of the file, as bytes and as words."""

    def __init__(self, file: BinaryIO, start: int) -> None:
        size = CHUNK_SLOTS * SLOT_BYTES
        # Written, not only sized: a full disk is then an error here, and not a signal at the first use of a page.
        file.seek(start)
        file.write(bytes(size))
        file.flush()
        self._map = mmap.mmap(file.fileno(), size, offset=start)
        self.bytes = memoryview(self._map)
        self.words = self.bytes.cast("q")

    def close(self) -> None:
        self.words.release()
        self.bytes.release()
        self._map.close()


class Journal:
    """This process's file. Raises OSError when the disk is full."""

    def __init__(self, folder: Path, owner: str) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path = folder / f"{owner}{SUFFIX}"
        unlocked = folder / f".{owner}"
        self._file: BinaryIO = unlocked.open("w+b")
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._chunks: list[_Chunk] = []
        self.free: list[tuple[_Chunk, int]] = []
        self._grow()
        unlocked.rename(self._path)  # under this name it is never seen unlocked while we live

    def claim(self, request_id: str) -> Slot:
        """A slot for the request, before its hold is asked for: from now on no sweep touches the hold.
        Raises LedgerUnavailable when there is no room for it on the disk."""
        if not self.free:
            try:
                self._grow()
            except OSError as error:
                raise LedgerUnavailable(f"the journal cannot grow: {error.strerror}") from error
        return Slot(self, *self.free.pop(), request_id)

    def _grow(self) -> None:
        chunk = _Chunk(self._file, len(self._chunks) * CHUNK_SLOTS * SLOT_BYTES)
        self._chunks.append(chunk)
        self.free.extend((chunk, number) for number in reversed(range(CHUNK_SLOTS)))

    def close(self) -> None:
        """Leave nothing behind but what has not ended: that is then a dead process's."""
        if not any(_entries(chunk.bytes) for chunk in self._chunks):
            self._path.unlink(missing_ok=True)
        self.let_go()

    def let_go(self) -> None:
        """Give the file up as it is, as the kernel does for a process that died."""
        for chunk in self._chunks:
            chunk.close()
        self._file.close()


@contextlib.contextmanager
def recover(folder: Path) -> Iterator[dict[str, MeterReading | None]]:
    """What dead processes left: readings by request id, None where none was written yet. Their files
    are removed when the block ends without an exception; a file that another process recovers right now is
    passed over."""
    locked: list[tuple[Path, BinaryIO]] = []
    readings: dict[str, MeterReading | None] = {}
    try:
        for path in sorted(folder.glob(f"*{SUFFIX}")):
            file = _lock(path)
            if file is not None:
                locked.append((path, file))
                readings.update(_entries(file.read()))
        yield readings
        for path, _ in locked:
            path.unlink(missing_ok=True)
    finally:
        for _, file in locked:
            file.close()


def standing(folder: Path) -> set[str]:
    """The request ids in every journal, those of living processes and those under recovery too: they are in
    somebody's hands. Holds that were read before and are not among these have ended meanwhile, or are left."""
    ids: set[str] = set()
    for path in folder.glob(f"*{SUFFIX}"):
        with contextlib.suppress(FileNotFoundError):  # recovered and removed meanwhile
            ids.update(_entries(path.read_bytes()))
    return ids


def _lock(path: Path) -> BinaryIO | None:
    """The file, locked; None when its process lives or somebody else has recovered it."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def _entries(data: bytes | memoryview) -> dict[str, MeterReading | None]:
    entries: dict[str, MeterReading | None] = {}
    for start in range(0, len(data) - SLOT_BYTES + 1, SLOT_BYTES):
        if data[start]:
            id_ = bytes(data[start : start + ID_BYTES]).rstrip(b"\0").decode("ascii", "replace")
            entries[id_] = _reading(data, start)
    return entries


def _reading(data: bytes | memoryview, start: int) -> MeterReading | None:
    (current,) = _WORD.unpack_from(data, start + CURRENT * WORD)
    if current not in (1, 2):
        return None
    input_, read, write, write_1h, output, reasoning, searches = _READING.unpack_from(
        data, start + current * READING * WORD
    )
    return MeterReading(input_, read, write, write_1h, output, reasoning, searches, UsageSource.CHECKPOINT)
