"""Tells the other processes what this one has found out, and listens to them, over Redis or Valkey.

Nothing on a request's way waits for it: changes are queued, and while Valkey is away they are
dropped; every process then finds out for itself. What is not well just now also stands in the
hash STORE, for processes that start later and for the operators' pages (`reading`).
"""

import asyncio
import contextlib
import secrets
from collections.abc import Callable
from typing import Any

import msgspec
import redis.asyncio
import structlog

from gateway.resilience.changes import (
    Change,
    CredentialCools,
    CredentialWorks,
    TargetClosed,
    TargetOpened,
)

CHANNEL = "ccm:health"
STORE = "ccm:health:now"
STORE_SECONDS = 24 * 3600
MOST_WAITING = 1000
AGAIN_SECONDS = 1.0

log = structlog.get_logger("ccm.resilience")


class Envelope(msgspec.Struct, frozen=True):
    sender: str
    change: Change


_encode = msgspec.json.Encoder().encode
_read_envelope = msgspec.json.Decoder(Envelope).decode
_changes: "msgspec.json.Decoder[Change]" = msgspec.json.Decoder(Change)


class Sharing:
    """`apply` is called with what other processes tell. Run `send` and `listen` as tasks."""

    def __init__(self, url: str, apply: Callable[[Change], None]) -> None:
        self._url = url
        self._apply = apply
        self._sender = secrets.token_hex(4)
        self._waiting: asyncio.Queue[Change] = asyncio.Queue(MOST_WAITING)

    def tell(self, change: Change) -> None:
        """Soon, if Valkey is there. Never waits or raises."""
        with contextlib.suppress(asyncio.QueueFull):
            self._waiting.put_nowait(change)

    async def send(self) -> None:
        client = redis.asyncio.Redis.from_url(self._url, socket_connect_timeout=1, socket_timeout=1)
        try:
            while True:
                changes = [await self._waiting.get()]
                while not self._waiting.empty():
                    changes.append(self._waiting.get_nowait())
                try:
                    await self._publish(client, changes)
                except (redis.RedisError, OSError) as error:
                    log.warning("health_not_shared", changes=len(changes), error=type(error).__name__)
        finally:
            await client.aclose()

    async def _publish(self, client: "redis.asyncio.Redis", changes: list[Change]) -> None:
        pipeline = client.pipeline(transaction=False)
        for change in changes:
            match change:
                case TargetOpened() | CredentialCools():
                    pipeline.hset(STORE, place(change), _encode(change))
                    pipeline.expire(STORE, STORE_SECONDS)
                case TargetClosed() | CredentialWorks():
                    pipeline.hdel(STORE, place(change))
            pipeline.publish(CHANNEL, _encode(Envelope(self._sender, change)))
        await pipeline.execute()

    async def listen(self) -> None:
        """Without end. After each time that Valkey was away, what stands in STORE is taken over."""
        while True:
            client = redis.asyncio.Redis.from_url(self._url, socket_connect_timeout=1)
            try:
                async with client.pubsub(ignore_subscribe_messages=True) as subscription:
                    await subscription.subscribe(CHANNEL)
                    for stored in (await client.hgetall(STORE)).values():
                        self._take(stored)
                    async for message in subscription.listen():
                        self._hear(message)
            except (redis.RedisError, OSError) as error:
                log.debug("health_not_heard", error=type(error).__name__)
                await asyncio.sleep(AGAIN_SECONDS)
            finally:
                await client.aclose()

    def _hear(self, message: dict[str, Any]) -> None:
        try:
            envelope = _read_envelope(message["data"])
        except msgspec.MsgspecError:  # another release's words
            return
        if envelope.sender != self._sender:
            self._apply(envelope.change)

    def _take(self, stored: bytes | str) -> None:
        with contextlib.suppress(msgspec.MsgspecError):
            self._apply(_changes.decode(stored))


def place(change: TargetOpened | TargetClosed | CredentialCools | CredentialWorks) -> str:
    """Where in STORE it stands."""
    match change:
        case TargetOpened() | TargetClosed():
            return f"target:{change.mapping_id}"
        case CredentialCools() | CredentialWorks():
            return f"credential:{change.credential_id}:{change.mapping_id}"


def read(stored: bytes) -> Change | None:
    try:
        return _changes.decode(stored)
    except msgspec.MsgspecError:
        return None
