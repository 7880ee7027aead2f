"""Admits requests: in Valkey, one round trip each; within the process while Valkey is away.

A request without limits touches neither. Whatever happens to a request, its slot is free again:
when it ends, or, should its process have died, SLOT_SECONDS after that.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import redis.asyncio
import structlog
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from accounts.types import Limits, Principal
from gateway import metrics
from gateway.limits import scripts
from gateway.limits.buckets import Level
from gateway.limits.lease import Lease, Outcome, costs_of, headers_of, refusal
from gateway.limits.local import LocalLimits
from gateway.limits.rules import Dimension, Rules, rules_of

log = structlog.get_logger("ccm.limits")

SLOT_SECONDS = 30.0
RENEW_SECONDS = 10.0
ANSWER_SECONDS = 0.25
"""How long a request waits for Valkey. One that is slow is worse than one that is gone."""
LOOK_SECONDS = 1.0
CONNECTIONS = 32
MOST_OVER = 10_000
MOST_AT_ONCE = 500

AWAY = (RedisError, OSError, TimeoutError)


class Limiter:
    """`defaults` are the limits of organisations and of keys that have none of their own. `clock`
    (seconds since 1970) replaces Valkey's own, for tests."""

    def __init__(self, url: str, *, defaults: tuple[Limits, Limits], clock: Callable[[], float] | None = None) -> None:
        pool = redis.asyncio.BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS,
            timeout=ANSWER_SECONDS,
            socket_timeout=ANSWER_SECONDS,
            socket_connect_timeout=ANSWER_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        self._client = redis.asyncio.Redis.from_pool(pool)
        self._admit = self._client.register_script(scripts.ADMIT)
        self._finish = self._client.register_script(scripts.FINISH)
        self._renew = self._client.register_script(scripts.RENEW)
        self._defaults = defaults
        self._clock = clock
        self._local = LocalLimits()
        self._leases: set[Lease] = set()
        self._over: deque[Lease] = deque(maxlen=MOST_OVER)
        self._wake = asyncio.Event()
        self.away = False

    def rules(self, principal: Principal) -> Rules:
        return rules_of(
            principal.organization_id,
            principal.api_key_id,
            principal.organization_limits,
            principal.limits,
            self._defaults,
        )

    async def admit(self, principal: Principal, request_id: str, input_tokens: int) -> Lease | None:
        """What the request holds from now on, None when nothing limits it; `release` it. Raises
        GatewayError (429) with the headers that the client is owed in any case in `headers`."""
        rules = self.rules(principal)
        if not rules:
            return None
        costs = costs_of(input_tokens)
        outcome = await self._shared(rules, request_id, costs)
        is_local = outcome is None
        if outcome is None:
            metrics.LOCAL_LIMITS.inc()
            outcome = self._local.admit(rules, costs, self._now())
        headers = headers_of(rules, outcome)
        if not outcome.granted:
            error = refusal(rules, outcome)
            error.more_headers = headers
            raise error
        lease = Lease(request_id, rules, costs, headers, is_local)
        self._local.hold(lease)
        self._leases.add(lease)
        return lease

    async def _shared(self, rules: Rules, request_id: str, costs: Mapping[Dimension, int]) -> Outcome | None:
        """What Valkey says; None while it is away."""
        if self.away:
            return None
        try:
            return await self._ask(rules, request_id, costs)
        except AWAY as error:
            self._lost(error)
            return None
        except asyncio.CancelledError:  # the client left, and Valkey may have admitted it
            self._finished(Lease(request_id, rules, costs, [], is_local=False))
            raise

    def release(self, lease: Lease) -> None:
        """The request is over: its slot is free, and what it used beyond what was taken is taken now."""
        if lease.released:
            return
        lease.released = True
        self._leases.discard(lease)
        self._local.let_go(lease)
        if lease.is_local:
            self._local.finish(lease, self._now())
        self._finished(lease)

    def _finished(self, lease: Lease) -> None:
        self._over.append(lease)
        self._wake.set()

    # -- in the background

    async def run(self) -> None:
        """Tell Valkey of requests that are over, renew the slots of those that run, look whether it is
        back. One task, so that a slot is never renewed after it was given back."""
        renewed = time.monotonic()
        while True:
            due = LOOK_SECONDS if self.away else max(0.0, renewed + RENEW_SECONDS - time.monotonic())
            # Not `wait_for`: Python 3.11's loses a cancellation that comes as its future ends.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(due):
                    await self._wake.wait()
            self._wake.clear()
            try:
                if self.away:
                    await self._come_back()
                    renewed = time.monotonic()
                await self.flush()
                if time.monotonic() - renewed >= RENEW_SECONDS:
                    await self._renew_slots()
                    renewed = time.monotonic()
            except AWAY as error:
                self._lost(error)
                await asyncio.sleep(LOOK_SECONDS)

    async def flush(self) -> None:
        """Tell of every request that is over."""
        while self._over:
            some = [self._over.popleft() for _ in range(min(len(self._over), MOST_AT_ONCE))]
            try:
                async with self._client.pipeline(transaction=False) as pipeline:
                    for lease in some:
                        keys, values = _finishing(lease, self._given_now())
                        await self._finish(keys=keys, args=values, client=pipeline)
                    await pipeline.execute()
            except AWAY:
                # Their tokens may have been counted; their slots can be given back once more.
                self._over.extendleft(replace(lease, is_local=True) for lease in reversed(some))
                raise

    async def close(self) -> None:
        """Give back what is over; whatever cannot be told, its time will free."""
        try:
            await self.flush()
        except AWAY:
            log.warning("limits_not_given_back", leases=len(self._over))
        await self._client.aclose()

    async def _come_back(self) -> None:
        await self._client.ping()
        await self._renew_slots()  # of those admitted meanwhile, too
        self.away = False
        log.info("limits_shared_again")

    async def _renew_slots(self) -> None:
        members: dict[str, list[str]] = {}
        for lease in self._leases:
            for slots in lease.rules.slots:
                members.setdefault(slots.key, []).append(lease.id)
        async with self._client.pipeline(transaction=False) as pipeline:
            for key, ids in members.items():
                values = [self._given_now(), SLOT_SECONDS, len(ids), *ids]
                await self._renew(keys=[key], args=values, client=pipeline)
            if members:
                await pipeline.execute()

    async def _ask(self, rules: Rules, request_id: str, costs: Mapping[Dimension, int]) -> Outcome:
        values: list[Any] = [self._given_now(), SLOT_SECONDS, request_id, len(rules.buckets)]
        for bucket in rules.buckets:
            values += (bucket.limit, costs[bucket.dimension])
        values += (slots.limit for slots in rules.slots)
        answer = await self._admit(keys=_keys(rules), args=values)
        numbers = [float(each) for each in answer]
        end = 2 + 3 * len(rules.buckets)
        levels = (Level(*numbers[place : place + 3]) for place in range(2, end, 3))
        return Outcome(numbers[0] == 1, numbers[1], tuple(levels), tuple(int(each) for each in numbers[end:]))

    def _lost(self, error: BaseException) -> None:
        if not self.away:
            log.warning("limits_within_the_process", error=type(error).__name__)
        self.away = True
        self._wake.set()

    def _given_now(self) -> str | float:
        return "" if self._clock is None else self._clock()

    def _now(self) -> float:
        return time.time() if self._clock is None else self._clock()


def _keys(rules: Rules) -> list[str]:
    return [*(bucket.key for bucket in rules.buckets), *(slots.key for slots in rules.slots)]


def _finishing(lease: Lease, now: str | float) -> tuple[list[str], Iterable[Any]]:
    """What a request that Valkey did not admit has used is its process's affair."""
    buckets = () if lease.is_local else lease.rules.buckets
    keys = [*(bucket.key for bucket in buckets), *(slots.key for slots in lease.rules.slots)]
    values: list[Any] = [now, lease.id, len(buckets)]
    for bucket in buckets:
        values += (bucket.limit, lease.owed(bucket))
    return keys, values
