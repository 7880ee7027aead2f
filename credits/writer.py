"""The ledger's hot path: a group commit (design: docs/adr, group commit).

One thread per process with a connection of its own takes whatever has queued while the last batch
was committing, and runs it as one transaction. When nothing else is queued, nothing waits.
"""

import asyncio
import contextlib
import os
import queue
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future as ThreadFuture
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.conf import settings
from django.db import InterfaceError, OperationalError, connection, connections, transaction
from django.utils import timezone

from credits.batch import BatchRunner, HoldOp, InterruptOp, Operation, Outcome, SettleOp
from credits.database import Dialect
from credits.errors import CreditsError, LedgerBusy, LedgerDrift, LedgerUnavailable
from credits.records import Checkpoint
from credits.types import (
    HoldGrant,
    HoldRequest,
    MeterReading,
    PriceSnapshot,
    RequestFacts,
    Settlement,
    SettleRequest,
    UsageSource,
)

log = structlog.get_logger("ccm.ledger")

CAPACITY = 10_000
LARGEST_BATCH = 512
GATHER_SECONDS = 0.004
"""How long a batch waits at most until as many operations are there as the batches before it had: a
commit costs more than what is in it. When idle nothing waits."""

RETRY_DELAYS = (0.0, 0.05, 0.25)
"""Seconds before each try of a batch that the database did not answer."""

MOST_CHECKPOINTS = 10_000
CLIENT_DISCONNECTED = "client_disconnected"


@dataclass(slots=True, eq=False)
class Ticket:
    """An operation and who waits for it: a future of `loop`, a thread, or nobody."""

    operation: Operation
    loop: asyncio.AbstractEventLoop | None = None
    future: "asyncio.Future[Any] | ThreadFuture[Any] | None" = None

    @property
    def abandoned(self) -> bool:
        return self.future is not None and self.future.cancelled()


class LedgerWriter:
    """`start` it once per process. `owner` names this process on its holds, whose leases it renews."""

    def __init__(
        self,
        *,
        capacity: int = CAPACITY,
        lease_seconds: float | None = None,
        clock: Callable[[], datetime] = timezone.now,
    ) -> None:
        self.owner = f"{os.getpid()}-{secrets.token_hex(8)}"
        self._capacity = capacity
        self._lease = settings.HOLD_LEASE_SECONDS if lease_seconds is None else lease_seconds
        self._clock = clock
        self._queue: queue.SimpleQueue[Ticket | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._closing = False
        self._enough: int | None = None
        """How many queued operations the thread waits for, while it waits for company; `_complete` tells it."""
        self._complete = threading.Event()
        self._thread: threading.Thread | None = None
        self._checkpoints: dict[str, Checkpoint] = {}
        # Touched by the thread alone:
        self._unfinished: set[str] = set()
        self._renew_at = 0.0
        self._expected = 1

    # For callers

    def start(self) -> None:
        """Raises nothing when the database is down: operations then fail with LedgerUnavailable."""
        self._thread = threading.Thread(target=self._work, name="ledger-writer", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    @property
    def depth(self) -> int:
        """Operations waiting."""
        return self._queue.qsize()

    async def hold(self, request: HoldRequest, *, dispatch: bool = True) -> HoldGrant:
        """Reserve the request's worst case; committed when this returns. With `dispatch` the request
        may be sent to a provider at once; else see `services.dispatch`.

        A caller that is cancelled leaves no hold behind. Raises InsufficientCredits,
        OutstandingDebt, WalletFrozen, KeyNoLongerValid, HoldConflict, LedgerBusy, LedgerUnavailable."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[HoldGrant] = loop.create_future()
        self._enqueue(Ticket(HoldOp(request, dispatch), loop, future), bounded=True)
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self._void(request.request_id)
            raise

    async def settle(self, request: SettleRequest) -> Settlement:
        """Charge the reading and end the hold; committed when this returns, and done also if the
        caller is cancelled. Raises HoldClosed, HoldConflict, LedgerUnavailable; after the last the
        reading is kept as the hold's checkpoint, from which `services.sweep` settles it."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Settlement] = loop.create_future()
        self._enqueue(Ticket(SettleOp(request), loop, future))
        return await future

    def hold_sync(self, request: HoldRequest, *, dispatch: bool = True) -> HoldGrant:
        """`hold` for callers without an event loop."""
        future: ThreadFuture[HoldGrant] = ThreadFuture()
        self._enqueue(Ticket(HoldOp(request, dispatch), None, future), bounded=True)
        return future.result()

    def settle_sync(self, request: SettleRequest) -> Settlement:
        """`settle` for callers without an event loop."""
        future: ThreadFuture[Settlement] = ThreadFuture()
        self._enqueue(Ticket(SettleOp(request), None, future))
        return future.result()

    def checkpoint(
        self,
        request_id: str,
        reading: MeterReading,
        facts: RequestFacts | None = None,
        cost_price: PriceSnapshot | None = None,
        price: PriceSnapshot | None = None,
    ) -> None:
        """Write down soon how far an answer has come; of several the newest. Never waits or raises.
        `price`: see `SettleRequest`."""
        with self._lock:
            earlier = self._checkpoints.pop(request_id, None)
            if len(self._checkpoints) >= MOST_CHECKPOINTS:
                return
            if earlier is not None:
                facts, cost_price = facts or earlier.facts, cost_price or earlier.cost_price
            wake = not self._checkpoints and not self._closing
            self._checkpoints[request_id] = Checkpoint(reading, facts, cost_price, price)
        if wake:
            self._queue.put(None)

    async def close(self) -> None:
        """Finish what is queued and end the thread. Later operations raise LedgerUnavailable."""
        self._begin_closing()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)
            await asyncio.sleep(0)  # so that the futures' callbacks have run

    def close_sync(self) -> None:
        self._begin_closing()
        if self._thread is not None:
            self._thread.join()

    def _begin_closing(self) -> None:
        with self._lock:
            self._closing = True
        self._queue.put(None)

    def _enqueue(self, ticket: Ticket, *, bounded: bool = False) -> None:
        """Only new holds are refused when the queue is full: a settlement ends one that exists."""
        with self._lock:
            if self._closing or self._thread is None:
                raise LedgerUnavailable("the ledger writer is not running")
            if bounded and self._queue.qsize() >= self._capacity:
                raise LedgerBusy(f"{self._capacity} operations are waiting")
            self._queue.put(ticket)
            if self._enough is not None and self._queue.qsize() >= self._enough:
                self._enough = None
                self._complete.set()

    def _void(self, request_id: str) -> None:
        """End a hold that nobody waits for. A writer that is closed leaves it to the sweeper."""
        no_usage = MeterReading(source=UsageSource.NONE)
        with contextlib.suppress(LedgerUnavailable):
            self._enqueue(Ticket(InterruptOp(request_id, no_usage, CLIENT_DISCONNECTED)))

    # On the thread

    def _work(self) -> None:
        # The thread's own connection itself: the proxy would look it up at each use.
        own = connections[connection.alias]
        self._dialect = Dialect(own)
        self._runner = BatchRunner(own, owner=self.owner, lease_seconds=self._lease, clock=self._clock, alone=True)
        try:
            while True:
                tickets = self._take()
                if tickets:
                    self._serve(tickets)
                self._between_batches()
                if self._closing and self._queue.empty():
                    return
        finally:
            connection.close()

    def _take(self) -> list[Ticket]:
        """Whatever is queued; waits for the first, at most until leases are to be renewed."""
        tickets: list[Ticket] = []
        try:
            ticket = self._queue.get(timeout=self._lease / 3)
            self._wait_for_company()
            while True:
                if ticket is not None:
                    tickets.append(ticket)
                if len(tickets) == LARGEST_BATCH:
                    break
                ticket = self._queue.get_nowait()
        except queue.Empty:
            pass
        # Slowly forgotten: a batch that came apart once is to come together again.
        self._expected = max(len(tickets), self._expected - 1 - self._expected // 8)
        return tickets

    def _wait_for_company(self) -> None:
        """With one operation taken, until as many are there as are to be expected, at most GATHER_SECONDS.
        Woken by the last of them: under load each millisecond of this is one in which nothing is done."""
        others = self._expected - 1
        with self._lock:
            if self._queue.qsize() >= others or self._closing:
                return
            self._complete.clear()
            self._enough = others
        self._complete.wait(GATHER_SECONDS)
        self._enough = None

    def _serve(self, tickets: list[Ticket]) -> None:
        wanted = [ticket for ticket in tickets if not (ticket.abandoned and isinstance(ticket.operation, HoldOp))]
        if not wanted:
            return
        try:
            results: Sequence[Outcome] = self._commit([ticket.operation for ticket in wanted])
        except Exception:
            log.exception("ledger_batch_failed", operations=len(wanted))
            results = [LedgerUnavailable("the batch failed")] * len(wanted)
        for ticket, result in zip(wanted, results, strict=True):
            self._remember(ticket.operation, result)
        self._resolve(wanted, results)

    def _commit(self, operations: list[Operation]) -> Sequence[Outcome]:
        """The batch as one transaction; operation by operation if it cannot be run as one."""
        for delay in RETRY_DELAYS:
            if delay:
                time.sleep(delay)
            try:
                return self._runner.run(operations)
            except (OperationalError, InterfaceError) as error:
                log.warning("ledger_not_answering", error=type(error).__name__, operations=len(operations))
                usable = self._usable()
            except Exception as error:
                log.warning("ledger_batch_split", error=type(error).__name__, operations=len(operations))
                return self._one_by_one(operations)
            if usable and len(operations) > 1:
                return self._one_by_one(operations)
        return [LedgerUnavailable("the database did not answer") for _ in operations]

    def _usable(self) -> bool:
        """Whether the connection survived; one that did not is closed, and opened anew by the next use."""
        try:
            usable = connection.connection is not None and connection.is_usable()
        except Exception:
            usable = False
        if not usable:
            with contextlib.suppress(Exception):
                connection.close()
        return usable

    def _one_by_one(self, operations: list[Operation]) -> list[Outcome]:
        return [self._alone(operation) for operation in operations]

    def _alone(self, operation: Operation) -> Outcome:
        try:
            return self._runner.run([operation])[0]
        except (OperationalError, InterfaceError):
            self._usable()
            return LedgerUnavailable("the database did not answer")
        except LedgerDrift as error:
            log.exception("ledger_drift", request_id=operation.request_id)
            return error
        except Exception:
            log.exception("ledger_operation_failed", request_id=operation.request_id)
            return LedgerUnavailable("the operation could not be stored")

    def _remember(self, operation: Operation, result: Outcome) -> None:
        """Which holds are this process's to keep alive, and which readings are still to be charged."""
        match operation, result:
            case HoldOp(), HoldGrant():
                self._unfinished.add(operation.request_id)
            case SettleOp(), LedgerUnavailable() | LedgerDrift():
                request = operation.request
                self.checkpoint(request.request_id, request.reading, request.facts, request.cost_price, request.price)
                self._unfinished.discard(operation.request_id)
            case HoldOp(), _:
                pass
            case _:
                self._unfinished.discard(operation.request_id)
                if self._checkpoints:
                    with self._lock:
                        self._checkpoints.pop(operation.request_id, None)

    def _resolve(self, tickets: list[Ticket], results: Sequence[Outcome]) -> None:
        """Hand the results over, with one wake-up per event loop."""
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Ticket, Outcome]]] = {}
        for ticket, result in zip(tickets, results, strict=True):
            if ticket.loop is not None:
                by_loop.setdefault(ticket.loop, []).append((ticket, result))
            elif ticket.future is not None:
                hand_over(ticket.future, result)
        for loop, pairs in by_loop.items():
            try:
                loop.call_soon_threadsafe(self._hand_over_all, pairs)
            except RuntimeError:  # the loop is closed: nobody waits any more
                self._hand_over_to_nobody(pairs)

    def _hand_over_all(self, pairs: list[tuple[Ticket, Outcome]]) -> None:
        for ticket, result in pairs:
            if ticket.future is None:
                continue
            if not ticket.future.cancelled():
                hand_over(ticket.future, result)
            elif isinstance(ticket.operation, HoldOp) and isinstance(result, HoldGrant):
                self._void(ticket.operation.request_id)

    def _hand_over_to_nobody(self, pairs: list[tuple[Ticket, Outcome]]) -> None:
        for ticket, result in pairs:
            if isinstance(ticket.operation, HoldOp) and isinstance(result, HoldGrant):
                self._void(ticket.operation.request_id)

    def _between_batches(self) -> None:
        now = time.monotonic()
        try:
            if self._checkpoints:
                self._write_checkpoints()
            if self._unfinished and now >= self._renew_at:
                self._renew_leases()
                self._renew_at = now + self._lease / 3
        except (OperationalError, InterfaceError) as error:
            log.warning("ledger_checkpoints_not_written", error=type(error).__name__)
            self._usable()
        except Exception:
            log.exception("ledger_checkpoints_dropped")
            with self._lock:
                self._checkpoints.clear()

    def _write_checkpoints(self) -> None:
        with self._lock:
            checkpoints = dict(self._checkpoints)
        now = self._dialect.time(self._clock())
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.executemany(
                "UPDATE credits_hold SET checkpoint = %s, updated_at = %s "
                "WHERE id = %s AND state IN ('dispatched', 'needs_settlement')",
                [(checkpoint.stored(), now, request_id) for request_id, checkpoint in checkpoints.items()],
            )
        with self._lock:
            for request_id, checkpoint in checkpoints.items():
                if self._checkpoints.get(request_id) is checkpoint:
                    del self._checkpoints[request_id]

    def _renew_leases(self) -> None:
        now = self._clock()
        with connection.cursor() as cursor:
            cursor.execute(
                f"UPDATE credits_hold SET lease_until = %s WHERE {self._dialect.any_of('id')} "
                "AND state IN ('open', 'dispatched', 'needs_settlement')",
                (self._dialect.time(now + timedelta(seconds=self._lease)), self._dialect.values(self._unfinished)),
            )


def hand_over(future: "asyncio.Future[Any] | ThreadFuture[Any]", result: Outcome) -> None:
    if isinstance(result, CreditsError):
        future.set_exception(result)
    else:
        future.set_result(result)
