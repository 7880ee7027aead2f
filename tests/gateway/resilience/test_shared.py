"""Health over a real Valkey: other processes hear of it at once, late ones read it, and nobody waits
for a Valkey that is away."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from pytest_django import Settings

from gateway.resilience import Resilience, Sharing, reading
from gateway.resilience.breaker import State
from gateway.resilience.changes import TargetOpened
from gateway.resilience.course import Course
from tests.gateway.resilience.support import DOWN, REFUSED, planned, play, target
from tests.plugin.valkey import ValkeyServer

KNOWN = {1: target(1), 2: target(2)}


class Worker:
    """One process's share of it."""

    def __init__(self, url: str) -> None:
        self.resilience = Resilience()
        self.sharing = Sharing(url, self._heard)
        self.resilience.tell = self.sharing.tell
        self.heard = asyncio.Event()

    def _heard(self, change: object) -> None:
        self.resilience.apply(change, KNOWN)  # type: ignore[arg-type]
        self.heard.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                self.heard.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.heard.wait(), 0.5)


@asynccontextmanager
async def worker(url: str) -> AsyncIterator[Worker]:
    made = Worker(url)
    tasks = [asyncio.create_task(made.sharing.send()), asyncio.create_task(made.sharing.listen())]
    try:
        yield made
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.01)


def open_one(of: Worker) -> None:
    for _ in range(10):
        attempt = of.resilience.begin(KNOWN[1], None)
        if attempt is None:
            return
        attempt.failed(DOWN)


@pytest.mark.asyncio
async def test_the_others_hear_of_it_and_late_ones_read_it(valkey: str) -> None:
    async with worker(valkey) as first, worker(valkey) as second:

        async def both_listen() -> bool:
            first.resilience.tell(TargetOpened(2, 0.0, 1, 0.0))
            return second.resilience.state(2) is not State.CLOSED

        await until(both_listen)
        open_one(first)
        await second.until(lambda: second.resilience.state(1) is State.OPEN)

        async def is_stored() -> bool:
            return (await asyncio.to_thread(reading.troubles)).state(1) is State.OPEN

        await until(is_stored)
        async with worker(valkey) as late:
            await late.until(lambda: late.resilience.state(1) is State.OPEN)
        play(Course(first.resilience, planned(KNOWN[2])), REFUSED)

        async def is_told() -> bool:
            troubles = await asyncio.to_thread(reading.troubles)
            return [each.error for each in troubles.of_credential(20)] == [REFUSED.message]

        await until(is_told)
        last_resort = first.resilience.begin(KNOWN[1], None, last_resort=True)
        assert last_resort is not None
        last_resort.succeeded()
        await second.until(lambda: second.resilience.state(1) is State.CLOSED)

        async def is_gone() -> bool:
            return (await asyncio.to_thread(reading.troubles)).state(1) is State.CLOSED

        await until(is_gone)


@pytest.mark.asyncio
async def test_without_valkey_each_process_finds_out_for_itself(private_valkey: ValkeyServer) -> None:
    async with worker(private_valkey.url) as alone:
        private_valkey.stop()
        open_one(alone)
        assert alone.resilience.state(1) is State.OPEN
        for _ in range(3000):  # more than waits to be sent
            alone.resilience.tell(TargetOpened(1, 0.0, 1, 0.0))
        assert play(Course(alone.resilience, planned(KNOWN[1], KNOWN[2])), None) == ["2/20"]


def test_without_valkey_pages_say_that_they_do_not_know(private_valkey: ValkeyServer, settings: Settings) -> None:
    url = private_valkey.url
    private_valkey.stop()
    settings.REDIS_URL = url
    reading._client.cache_clear()
    try:
        troubles = reading.troubles()
        assert not troubles.known
        assert troubles.state(1) is None
    finally:
        reading._client.cache_clear()
