"""API keys: how they are made, stored and recognised (architecture 3.1).

A key is `sk-ccm-` and 43 random base62 characters (256 bits). Only its HMAC-SHA256
under the installation's pepper is stored.
"""

import asyncio
import functools
import hmac
import re
import secrets
import string
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from hashlib import sha256

from django.conf import settings

from accounts.errors import InvalidKey
from accounts.types import Principal

PREFIX = "sk-ccm-"
LENGTH = 43
ALPHABET = string.digits + string.ascii_letters
SHAPE = re.compile(rf"{PREFIX}[0-9A-Za-z]{{{LENGTH}}}")

KNOWN_SECONDS = 15.0
UNKNOWN_SECONDS = 5.0
CAPACITY = 50_000


def generate(prefix: str = PREFIX) -> str:
    return prefix + "".join(secrets.choice(ALPHABET) for _ in range(LENGTH))


def digest(key: str) -> str:
    """The stored form of `key`: 64 hexadecimal characters."""
    return _digest(key, settings.KEY_PEPPER)


@functools.lru_cache(maxsize=10_000)
def _digest(key: str, pepper: str) -> str:
    # Remembered, since the same keys come again and again and OpenSSL's HMAC is not quick.
    return hmac.digest(pepper.encode(), key.encode(), sha256).hex()


def explain(presented: str) -> str:
    """Why a text that is not one of our keys is not, in words for its sender."""
    if not presented:
        return (
            "No API key was sent. Set ANTHROPIC_AUTH_TOKEN (or ANTHROPIC_API_KEY) to your CCM key, "
            f"which begins with {PREFIX}."
        )
    if presented.startswith("sk-ant-"):
        return (
            "This is an Anthropic credential, not a CCM key. Set ANTHROPIC_AUTH_TOKEN to your CCM key, "
            f"which begins with {PREFIX}."
        )
    if not SHAPE.fullmatch(presented):
        return f"This is not a CCM API key: one begins with {PREFIX} and has {len(PREFIX) + LENGTH} characters."
    return "This API key is unknown, revoked or expired. Make a new one on the CCM site."


class KeyCache:
    """Remembers for some seconds which principal a key's digest belongs to, or that none does.

    One look-up at a time is under way per key, however many requests wait for it.
    `lookup` answers from the database, None for an unknown key; what it raises reaches
    every waiting caller and is not remembered.
    """

    def __init__(
        self, lookup: Callable[[str], Awaitable[Principal | None]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._lookup = lookup
        self._clock = clock
        self._entries: OrderedDict[str, tuple[float, Principal | None]] = OrderedDict()
        self._pending: dict[str, asyncio.Task[Principal | None]] = {}
        self._generation = 0

    async def authenticate(self, presented: str) -> Principal:
        """The principal of the key `presented`; raises InvalidKey with a text for its sender,
        or AccountsUnavailable when the database does not answer."""
        if not SHAPE.fullmatch(presented):
            raise InvalidKey(explain(presented))
        key_digest = digest(presented)
        entry = self._entries.get(key_digest)
        if entry is not None and entry[0] > self._clock():
            principal = entry[1]
        else:
            principal = await self._look_up_once(key_digest)
        if principal is None or (principal.expires_at and principal.expires_at.timestamp() <= time.time()):
            raise InvalidKey(explain(presented))
        return principal

    async def _look_up_once(self, key_digest: str) -> Principal | None:
        task = self._pending.get(key_digest)
        if task is None:
            task = asyncio.create_task(self._fill(key_digest))
            self._pending[key_digest] = task
            task.add_done_callback(lambda _: self._pending.pop(key_digest, None))
        return await asyncio.shield(task)

    async def _fill(self, key_digest: str) -> Principal | None:
        generation = self._generation
        principal = await self._lookup(key_digest)
        if generation == self._generation:  # else: a change came in between, so this answer may be stale
            seconds = KNOWN_SECONDS if principal else UNKNOWN_SECONDS
            self._entries[key_digest] = (self._clock() + seconds, principal)
            if len(self._entries) > CAPACITY:
                self._entries.popitem(last=False)
        return principal

    def forget(self, key_digest: str | None = None) -> None:
        """Drop one key's entry, or all of them."""
        self._generation += 1
        if key_digest is None:
            self._entries.clear()
        else:
            self._entries.pop(key_digest, None)
