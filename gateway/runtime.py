"""What one web process keeps while it runs: key cache, catalogue, ledger writer, transport, and
the tasks that keep them current. Started and stopped by the ASGI lifespan."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import Coroutine
from typing import Any

import redis.asyncio
import structlog
from django.conf import settings

from accounts import changes
from accounts.keys import KeyCache
from accounts.selectors import principal_by_digest
from accounts.threads import DatabaseThreads
from accounts.types import Principal
from credits.errors import CreditsError
from credits.journal import Journal
from credits.selectors import holds_by_state
from credits.services import sweep
from credits.writer import LedgerWriter
from gateway import metrics
from gateway.counting import Learner
from gateway.errors import unavailable
from gateway.limits import Limiter, Load
from gateway.resilience import Resilience, Sharing
from gateway.resilience.changes import Change
from gateway.resilience.registry import targets_of
from gateway.run import Run
from gateway.safety import VerdictCache
from gateway.texts import TextKeeper
from providers.catalogue import LiveCatalogue
from providers.media import MediaFetcher
from providers.provider_counts import ProviderCounts
from providers.search import backend_named
from providers.services import merge_token_factors
from providers.transport import Transport

log = structlog.get_logger("ccm.runtime")

POLL_SECONDS = 1.0
GAUGE_SECONDS = 15.0
TICK_SECONDS = 0.5
CHECKPOINT_TICKS = 6
SETTLE_AGAIN_SECONDS = 2.0


_running: "Runtime | None" = None


def running() -> "Runtime":
    """This process's runtime. Raises GatewayError (503) where there is none: in a command, or before the start."""
    if _running is None:
        raise unavailable("CCM is not serving requests here. Please try again.")
    return _running


class Runtime:
    def __init__(self) -> None:
        self.database = DatabaseThreads()
        self.keys = KeyCache(self._look_up_key)
        self.catalogue = LiveCatalogue()
        self.writer = LedgerWriter()
        self.transport = Transport(
            allow_private=settings.ALLOW_PRIVATE_UPSTREAMS, allow_private_media=settings.ALLOW_PRIVATE_MEDIA
        )
        self.media = MediaFetcher(self.transport)
        self.provider_counts = ProviderCounts(self.transport)
        self.learner = Learner()
        self.journal = Journal(settings.JOURNAL_DIR, self.writer.owner)
        self.limiter = Limiter(settings.REDIS_URL, defaults=(settings.ORGANIZATION_LIMITS, settings.KEY_LIMITS))
        self.load = Load(
            most_active=settings.MAX_ACTIVE_REQUESTS,
            most_waiting=settings.MAX_WRITER_DEPTH,
            depth=lambda: self.writer.depth,
        )
        self.texts = TextKeeper(self.database.run)
        self.verdicts = VerdictCache()
        self.resilience = Resilience(processes=settings.WORKERS)
        self.sharing = Sharing(settings.REDIS_URL, self._take_over)
        self.resilience.tell = self.sharing.tell
        self.search = backend_named(
            settings.SEARCH_BACKEND, url=settings.SEARCH_URL, key=settings.SEARCH_KEY, transport=self.transport
        )
        self.active: set[Run] = set()
        self.unsettled: set[Run] = set()
        """Requests that are over, but which the ledger did not take."""
        self._tasks: list[asyncio.Task[None]] = []
        self._catalogue_changed = asyncio.Event()

    async def _look_up_key(self, key_digest: str) -> Principal | None:
        return await self.database.run(principal_by_digest, key_digest)

    async def start(self) -> None:
        """Raises nothing when the database is down: the process serves 503 until it is back."""
        global _running
        _running = self
        self.writer.start()
        await self.transport.start()
        await self._refresh_catalogue()
        await self._settle_what_was_left()
        for coroutine in (
            self._poll_catalogue(),
            self._listen(),
            self._tick(),
            self._gauge(),
            self._settle_unsettled(),
            self.limiter.run(),
            self.sharing.send(),
            self.sharing.listen(),
            self._calibrate(),
            self.texts.run(),
        ):
            self._tasks.append(asyncio.create_task(_logged(coroutine)))

    async def close(self) -> None:
        global _running
        _running = None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.learner.close()
        await self._merge_observations()
        await self.texts.flush()
        with contextlib.suppress(CreditsError):
            await self._settle_again()
            await self.writer.close()
            self.journal.close()
        await self.limiter.close()
        await self.transport.close()
        self.database.close()

    def keep_unsettled(self, run: Run) -> None:
        """Settle `run` as soon as the ledger answers again; should this process die before, from its journal."""
        self.unsettled.add(run)

    async def _settle_unsettled(self) -> None:
        while True:
            await asyncio.sleep(SETTLE_AGAIN_SECONDS)
            await self._settle_again()

    async def _settle_again(self) -> None:
        """All at once, so that they share a commit."""
        await asyncio.gather(*(run.settle_again() for run in self.unsettled))
        self.unsettled = {run for run in self.unsettled if run.unsettled is not None}

    async def _calibrate(self) -> None:
        while True:
            await asyncio.sleep(settings.CALIBRATION_SECONDS)
            await self._merge_observations()

    async def _merge_observations(self) -> None:
        """Bring what this process has learnt about tokenizers into the database, for all of them."""
        batches = self.learner.observations.take()
        if not batches:
            return
        known = {model.id: model.token_factors for model in self.catalogue.current.models.values()}
        try:
            await self.database.run(merge_token_factors, batches, known)
        except Exception as error:
            self.learner.observations.put_back(batches)
            log.warning("token_factors_not_merged", error=type(error).__name__)

    async def _refresh_catalogue(self) -> None:
        before = self.catalogue.current
        try:
            if await self.database.run(self.catalogue.refresh_if_changed):
                self.resilience.catalogue_changed(before, self.catalogue.current)
        except Exception as error:
            log.error("catalogue_not_refreshed", error=type(error).__name__)

    def _take_over(self, change: Change) -> None:
        """What another process has found out about targets, credentials and sessions."""
        self.resilience.apply(change, targets_of(self.catalogue.current))

    async def _settle_what_was_left(self) -> None:
        """What an earlier process of this machine left when it was killed is settled before the
        first new request; whatever cannot be settled now, the sweeper settles."""
        try:
            await self.database.run(sweep)
        except Exception as error:
            log.error("holds_not_swept", error=type(error).__name__)

    async def _poll_catalogue(self) -> None:
        """The version is read every second, and at once when an announcement comes."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):  # `wait_for` may lose a cancellation (Python 3.11)
                    await self._catalogue_changed.wait()
            self._catalogue_changed.clear()
            await self._refresh_catalogue()

    async def _listen(self) -> None:
        """Follow the announcements of `accounts.changes`; while Redis is away, keys are forgotten
        every few seconds anyway and the catalogue is polled."""
        while True:
            client = redis.asyncio.Redis.from_url(settings.REDIS_URL, socket_connect_timeout=2)
            try:
                async with client.pubsub(ignore_subscribe_messages=True) as subscription:
                    await subscription.subscribe(changes.CHANNEL)
                    self.keys.forget()  # what was announced while nobody listened
                    self._catalogue_changed.set()
                    async for message in subscription.listen():
                        self._announced(message["data"].decode())
            except redis.RedisError as error:
                log.warning("announcements_lost", error=type(error).__name__)
                await asyncio.sleep(2)
            finally:
                await client.aclose()

    def _announced(self, message: str) -> None:
        topic, _, subject = message.partition(" ")
        if topic == changes.KEY:
            self.keys.forget(subject or None)
        elif topic == changes.CATALOGUE:
            self._catalogue_changed.set()

    async def _tick(self) -> None:
        """Watch for clients that leave, keep silent streams alive, write down how far answers have come."""
        pending: set[asyncio.Task[None]] = set()
        for tick in itertools.count():
            await asyncio.sleep(TICK_SECONDS)
            now = time.monotonic()
            for run in tuple(self.active):
                run.watch()
                if tick % CHECKPOINT_TICKS == 0:
                    run.checkpoint()
                if run.stream is not None and run.stream.keep_alive_due(now):
                    task = asyncio.create_task(run.stream.keep_alive())
                    pending.add(task)
                    task.add_done_callback(pending.discard)

    async def _gauge(self) -> None:
        while True:
            metrics.WRITER_DEPTH.set(self.writer.depth)
            metrics.ACTIVE_STREAMS.set(len(self.active))
            metrics.CATALOGUE_AGE.set(self.catalogue.age)
            self.resilience.tidy()
            try:
                for state, count in (await self.database.run(holds_by_state)).items():
                    metrics.HOLDS.labels(state).set(count)
            except Exception as error:
                log.warning("gauges_not_read", error=type(error).__name__)
            await asyncio.sleep(GAUGE_SECONDS)


async def _logged(coroutine: Coroutine[Any, Any, None]) -> None:
    """Log what ends a background task: none of them ends while the process is healthy."""
    try:
        await coroutine
    except asyncio.CancelledError:
        raise
    except Exception:
        log.exception("background_task_failed")
        raise
