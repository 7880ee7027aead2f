"""A time limit by a watch ends as `asyncio.timeout` does."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from providers.watch import Watch


@pytest_asyncio.fixture
async def watch(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Watch]:
    monkeypatch.setattr(Watch, "SECONDS", 0.01)
    yield Watch()


def soon() -> float:
    return asyncio.get_running_loop().time() + 0.02


@pytest.mark.asyncio
async def test_who_takes_too_long_gets_a_timeout_and_is_not_cancelled(watch: Watch) -> None:
    with pytest.raises(TimeoutError), watch.until(soon()):
        await asyncio.sleep(60)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(0)


@pytest.mark.asyncio
async def test_who_is_done_in_time_hears_nothing(watch: Watch) -> None:
    with watch.until(soon()):
        pass
    await asyncio.sleep(0.08)


@pytest.mark.asyncio
async def test_who_is_cancelled_by_another_stays_cancelled(watch: Watch) -> None:
    async def waiting() -> None:
        with watch.until(soon() + 60):
            await asyncio.sleep(60)

    task = asyncio.create_task(waiting())
    await asyncio.sleep(0.03)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


@pytest.mark.asyncio
async def test_a_cancellation_together_with_the_timeout_is_not_swallowed(watch: Watch) -> None:
    async def waiting() -> None:
        until = watch.until(0)
        with until:
            until.expire(1)
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(60)

    task = asyncio.create_task(waiting())
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.asyncio
async def test_another_error_passes(watch: Watch) -> None:
    with pytest.raises(ValueError, match="mine"), watch.until(soon()):
        raise ValueError("mine")
