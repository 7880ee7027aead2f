"""What waits for a provider, looked at several times a second while something does: one timer for all, since a timer
for each would cost more than what it waits for.
"""

import asyncio
from typing import Protocol


class Expiring(Protocol):
    def expire(self, now: float) -> None:
        """Give up if it is overdue; `now` is on the event loop's clock, in seconds."""
        ...


class Until:
    """Cancels the task that entered it when its time is up, which it then leaves with TimeoutError: as
    `asyncio.timeout`, by the clock of a `Watch`."""

    __slots__ = ("_before", "_expired", "_task", "_until", "_watch")

    def __init__(self, watch: "Watch", until: float) -> None:
        self._watch = watch
        self._until = until
        self._expired = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._before = task.cancelling()
        self._watch.add(self)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._watch.remove(self)
        if self._expired and self._task.uncancel() <= self._before and kind is asyncio.CancelledError:
            raise TimeoutError

    def expire(self, now: float) -> None:
        if now >= self._until and not self._expired:
            self._expired = True
            self._task.cancel()


class Watch:
    """One for each event loop."""

    SECONDS = 0.25

    __slots__ = ("_handle", "_waiting")

    def __init__(self) -> None:
        self._waiting: set[Expiring] = set()
        self._handle: asyncio.TimerHandle | None = None

    def until(self, moment: float) -> Until:
        """Of the loop's clock."""
        return Until(self, moment)

    def add(self, waiting: Expiring) -> None:
        self._waiting.add(waiting)
        if self._handle is None:
            self._wait()

    def remove(self, waiting: Expiring) -> None:
        self._waiting.discard(waiting)

    def _wait(self) -> None:
        self._handle = asyncio.get_running_loop().call_later(self.SECONDS, self._look)

    def _look(self) -> None:
        self._handle = None
        if not self._waiting:
            return
        now = asyncio.get_running_loop().time()
        for waiting in tuple(self._waiting):
            waiting.expire(now)
        self._wait()
