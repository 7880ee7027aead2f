"""Exact counts of input tokens, from the providers that tell them free of charge.

Never more than a convenience: whatever is slow, full or refused is None, and the caller counts by itself.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import replace
from hashlib import blake2b

import structlog

from providers.errors import InvalidRequest, UpstreamError
from providers.transport import Transport
from providers.types import CredentialSecret, Model, Target, Timeouts
from providers.wire.base import CountsTokens, OutboundRequest
from providers.wire.registry import WIRES
from providers.wire.request import MessagesRequest

SECONDS = 2.0
"""That a client waits for a count at most."""
MOST_AT_ONCE = 32
"""Calls under way; Claude Code asks for some 25 counts at once."""
MOST_BYTES = 64 * 1024
"""Of an answer."""
REMEMBERED = 4096
PAUSE_SECONDS = 15.0
"""Without questions to a provider that did not answer one, or that is busy."""
LONG_PAUSE_SECONDS = 600.0
"""For one that has no such endpoint, or does not let us use it."""
NOT_OFFERED = frozenset({401, 403, 404, 405, 501})

log = structlog.get_logger("ccm.provider_counts")


class ProviderCounts:
    """One per process."""

    def __init__(self, transport: Transport, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._transport = transport
        self._monotonic = monotonic
        self._paused_until: dict[int, float] = {}
        self._known: OrderedDict[bytes, int] = OrderedDict()
        self._under_way = 0

    async def count(
        self,
        request: MessagesRequest,
        *,
        target: Target,
        credential: CredentialSecret | None,
        model: Model,
        client_headers: Mapping[str, str],
    ) -> int | None:
        """Input tokens of `request` as `target` counts them; None when it cannot say so now."""
        wire = WIRES[target.wire]
        if not target.counts_tokens or not isinstance(wire, CountsTokens) or self._is_paused(target):
            return None
        try:
            outbound = wire.encode_count(request, target=target, model=model, client_headers=client_headers)
        except (InvalidRequest, RecursionError):
            return None
        key = _key(target, outbound)
        if (known := self._known.get(key)) is not None:
            self._known.move_to_end(key)
            return known
        if self._under_way >= MOST_AT_ONCE:
            return None
        told = await self._ask(wire, outbound, request, target, credential)
        if told is not None:
            self._known[key] = told
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return told

    async def _ask(
        self,
        wire: CountsTokens,
        outbound: OutboundRequest,
        request: MessagesRequest,
        target: Target,
        credential: CredentialSecret | None,
    ) -> int | None:
        quick = replace(target, timeouts=Timeouts(connect=SECONDS, first_byte=SECONDS, idle=SECONDS, total=SECONDS))
        self._under_way += 1
        try:
            async with asyncio.timeout(SECONDS):
                upstream = await self._transport.open(outbound, target=quick, credential=credential, messages=request)
                try:
                    body = await upstream.read(MOST_BYTES)
                finally:
                    upstream.close()
            if upstream.status != 200:
                self._refused(target, upstream.status)
                return None
            return wire.decode_count(body, target=target)
        except (UpstreamError, TimeoutError) as error:
            self._pause(target, PAUSE_SECONDS, type(error).__name__)
            return None
        finally:
            self._under_way -= 1

    def _refused(self, target: Target, status: int) -> None:
        """A refusal of this very request (400, 413) says nothing about the next one."""
        if status in NOT_OFFERED:
            self._pause(target, LONG_PAUSE_SECONDS, f"HTTP {status}")
        elif status == 429 or status >= 500 or 300 <= status < 400:
            self._pause(target, PAUSE_SECONDS, f"HTTP {status}")

    def _pause(self, target: Target, seconds: float, why: str) -> None:
        self._paused_until[target.mapping_id] = self._monotonic() + seconds
        log.warning("provider_not_counting", provider=target.provider, why=why)

    def _is_paused(self, target: Target) -> bool:
        return self._paused_until.get(target.mapping_id, 0.0) > self._monotonic()


def _key(target: Target, outbound: OutboundRequest) -> bytes:
    told = blake2b(outbound.body, digest_size=16)
    told.update(f"{target.provider_id} {outbound.url} {outbound.headers.get('anthropic-beta', '')}".encode())
    return told.digest()
