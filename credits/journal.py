"""What each answer under way would cost if this process died now, in a memory-mapped file.

A checkpoint in the database every few seconds would leave what came after it free of charge.
Writing eight bytes to a mapped page costs nothing and survives kill -9 of the process, since
the page belongs to the kernel (it does not survive the loss of the machine: then the last
checkpoint in the database counts). One file a process, locked for its life: a file that can
be locked is a dead process's, and `recover` reads it.
"""

import contextlib
import fcntl
import mmap
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from credits.types import MeterReading, UsageSource

SLOTS = 4096
_RECORD = struct.Struct("<48s7q")
_OUTPUT = struct.Struct("<q")
# Padded so that no record crosses a page.
SLOT_BYTES = 128
OUTPUT_OFFSET = 48 + 4 * 8
SUFFIX = ".journal"


class Slot:
    """The place of one request. Not for use after `close`."""

    __slots__ = ("_journal", "_offset")

    def __init__(self, journal: "Journal", offset: int) -> None:
        self._journal = journal
        self._offset = offset

    def write(self, request_id: str, reading: MeterReading) -> None:
        _RECORD.pack_into(
            self._journal.map,
            self._offset,
            request_id.encode(),
            reading.input,
            reading.cache_read,
            reading.cache_write,
            reading.cache_write_1h,
            reading.output,
            reading.reasoning,
            reading.web_searches,
        )

    def write_output(self, tokens: int) -> None:
        """Only the output count moves on: the one write per piece of a stream."""
        _OUTPUT.pack_into(self._journal.map, self._offset + OUTPUT_OFFSET, tokens)

    def close(self) -> None:
        self._journal.map[self._offset : self._offset + _RECORD.size] = bytes(_RECORD.size)
        self._journal.free.append(self._offset)


class Journal:
    """This process's file. With more than SLOTS answers at once the further ones have no slot:
    their checkpoints in the database remain."""

    def __init__(self, folder: Path, owner: str) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path = folder / f"{owner}{SUFFIX}"
        unlocked = folder / f".{owner}"
        self._file: BinaryIO = unlocked.open("w+b")
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(self._file.fileno(), SLOTS * SLOT_BYTES)
        unlocked.rename(self._path)  # under this name it is never seen unlocked while we live
        self.map = mmap.mmap(self._file.fileno(), SLOTS * SLOT_BYTES)
        self.free = [number * SLOT_BYTES for number in reversed(range(SLOTS))]

    def open(self) -> Slot | None:
        return Slot(self, self.free.pop()) if self.free else None

    def close(self) -> None:
        """Leave nothing behind but what is not settled: that is then a dead process's."""
        if not _read(bytes(self.map)):
            self._path.unlink(missing_ok=True)
        self.map.close()
        self._file.close()


@contextlib.contextmanager
def recover(folder: Path) -> Iterator[dict[str, MeterReading]]:
    """What dead processes left: readings by request id. Their files are removed when the block
    ends without an exception; a file that another process recovers right now is passed over."""
    locked: list[tuple[Path, BinaryIO]] = []
    readings: dict[str, MeterReading] = {}
    try:
        for path in sorted(folder.glob(f"*{SUFFIX}")):
            file = _lock(path)
            if file is not None:
                locked.append((path, file))
                readings.update(_read(file.read()))
        yield readings
        for path, _ in locked:
            path.unlink(missing_ok=True)
    finally:
        for _, file in locked:
            file.close()


def standing(folder: Path) -> set[str]:
    """The request ids in every journal, those of living processes and those under recovery too. Whoever
    has the journal knows better than any checkpoint what these answers have come to."""
    ids: set[str] = set()
    for path in folder.glob(f"*{SUFFIX}"):
        with contextlib.suppress(FileNotFoundError):  # recovered and removed meanwhile
            ids.update(_read(path.read_bytes()))
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


def _read(data: bytes) -> dict[str, MeterReading]:
    readings = {}
    for offset in range(0, len(data) - SLOT_BYTES + 1, SLOT_BYTES):
        id_, *counts = _RECORD.unpack_from(data, offset)
        request_id = id_.rstrip(b"\0").decode("ascii", "replace")
        if request_id:
            input_, read, write, write_1h, output, reasoning, searches = (max(0, count) for count in counts)
            readings[request_id] = MeterReading(
                input=input_,
                cache_read=read,
                cache_write=write,
                cache_write_1h=write_1h,
                output=output,
                reasoning=reasoning,
                web_searches=searches,
                source=UsageSource.CHECKPOINT,
            )
    return readings
