"""How a web process keeps its memory small and its garbage collector quiet."""

import asyncio
import contextlib
import ctypes
import gc

# A request makes some hundred short-lived objects and hardly a cycle: look for those less often.
GC_THRESHOLDS = (2_000, 10, 20)
# Parameters of mallopt, as its manual page names them:
M_TRIM_THRESHOLD = -1
M_ARENA_MAX = -8

TRIM_BYTES = 2 * 1024 * 1024
"""Less is kept: what every batch of the ledger and every body of 77 KB would give back and fetch again costs
a page fault for each 4 KiB, and as much CPU time as what is done in it."""


TRIM_SECONDS = 5.0
"""How often the holes are given back too. They come to some 20 MiB under load; that takes about 2 ms of a thread."""


def give_back_freed() -> None:
    """Have glibc's malloc return what is freed: by itself it keeps an arena for each thread, and in
    them the holes that requests of 77 KB leave. Does nothing with another C library."""
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_ARENA_MAX, 2)
        mallopt(M_TRIM_THRESHOLD, TRIM_BYTES)


async def keep_small() -> None:
    """For as long as the process serves: glibc gives back the end of its heap by itself, but never a hole in it.
    Ends at once with another C library."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return
    while True:
        await asyncio.sleep(TRIM_SECONDS)
        await asyncio.to_thread(trim, 0)


def settle_down() -> None:
    """After start-up: what was loaded so far stays, so the collector need not walk it ever again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
