"""Whether the ledger's writer keeps its memory flat: a million requests of every kind through one writer."""

import asyncio
import contextlib
import os
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

from msgspec.structs import replace

from benchmarks.processes import memory_mib

CALLERS = 64
REPORT_EVERY = 50_000
WARM_UP_SHARE = 0.2
"""Before this share of the requests caches still fill."""

LARGEST_GROWTH = 10.0
"""MiB that the process may grow by in a million requests after the warm-up: ten bytes a request,
less than the smallest object that could be forgotten for each."""

PRICE_CHANGES_EVERY = 500
LEAST_REPORTS = 5


@dataclass(frozen=True)
class Verdict:
    growth: float
    """MiB a million requests, after the warm-up."""
    sentence: str

    @property
    def flat(self) -> bool:
        return self.growth <= LARGEST_GROWTH


@dataclass
class Memory:
    """Readings of (requests, MiB)."""

    readings: list[tuple[int, float]] = field(default_factory=list)

    def read(self, requests: int) -> float:
        mib = memory_mib(os.getpid())
        self.readings.append((requests, mib))
        return mib

    def growth(self, requests: int) -> float:
        """The slope of the straight line closest to the readings after the warm-up, in MiB a million."""
        settled = [reading for reading in self.readings if reading[0] >= requests * WARM_UP_SHARE]
        if len(settled) < 2:
            return 0.0
        mean_x = sum(x for x, _ in settled) / len(settled)
        mean_y = sum(y for _, y in settled) / len(settled)
        spread = sum((x - mean_x) ** 2 for x, _ in settled)
        return 1e6 * sum((x - mean_x) * (y - mean_y) for x, y in settled) / spread


async def soak(tenants: Sequence[tuple[int, int]], requests: int, *, seed: int = 1) -> Verdict:
    """Send `requests` requests and read the memory as they go. Of a hundred, about 80 end as usual,
    10 leave checkpoints first, 5 are left by their caller, 3 are too dear, and 2 are sent twice;
    prices change every now and then."""
    from ccm_site.memory import give_back_freed
    from credits.writer import LedgerWriter

    give_back_freed()
    writer = LedgerWriter()
    writer.start()
    memory, numbers = Memory(), count(1)
    every = min(REPORT_EVERY, max(1, requests // LEAST_REPORTS))
    began = time.monotonic()
    # One generator for all callers: how they interleave is the machine's affair, the mixture is not.
    chance = random.Random(seed)

    async def caller() -> None:
        while (number := next(numbers)) <= requests:
            await _request(writer, tenants[number % len(tenants)], number, chance)
            if number % every == 0:
                mib = memory.read(number)
                print(f"{number:9} requests  {number / (time.monotonic() - began):6.0f}/s  {mib:7.1f} MiB", flush=True)

    try:
        await asyncio.gather(*(caller() for _ in range(CALLERS)))
    finally:
        await writer.close()
    growth = memory.growth(requests)
    least, most = min(mib for _, mib in memory.readings), max(mib for _, mib in memory.readings)
    flat = "flat" if growth <= LARGEST_GROWTH else "NOT flat"
    sentence = (
        f"memory is {flat} over {requests} requests: {growth:+.2f} MiB a million after the warm-up "
        f"(allowed {LARGEST_GROWTH:g}), {least:.1f} to {most:.1f} MiB"
    )
    return Verdict(growth, sentence)


async def _request(writer: "object", tenant: tuple[int, int], number: int, chance: random.Random) -> None:
    from benchmarks.writer import hold_and_settlement, sample_price
    from credits.errors import InsufficientCredits
    from credits.types import MeterReading, UsageSource
    from credits.writer import LedgerWriter

    assert isinstance(writer, LedgerWriter)
    price = sample_price()
    price = replace(price, output=price.output + number // PRICE_CHANGES_EVERY)
    hold, settlement = hold_and_settlement(*tenant, price)
    kind = chance.random()
    if kind < 0.03:
        with contextlib.suppress(InsufficientCredits):
            await writer.hold(replace(hold, input_tokens=2**31 - 1, price=replace(price, input=10**18)))
        return
    if kind < 0.08:
        task = asyncio.create_task(writer.hold(hold))
        await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return
    await writer.hold(hold)
    if kind < 0.18:
        for output in (100, 200):
            writer.checkpoint(hold.request_id, MeterReading(output=output, source=UsageSource.COUNTED))
    await writer.settle(settlement)
    if kind < 0.20:
        await writer.settle(settlement)
