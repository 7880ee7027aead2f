"""What was judged before. In memory, for a while, by digest: no call or rule is kept."""

import time
from collections import OrderedDict
from collections.abc import Callable
from hashlib import blake2b

from gateway.safety.prompt import Verdict

CAPACITY = 10_000
SECONDS = 600.0


class VerdictCache:
    def __init__(self, *, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._known: OrderedDict[bytes, tuple[float, Verdict]] = OrderedDict()

    @staticmethod
    def key(organization_id: int, question: bytes) -> bytes:
        """Of one organisation's question: the rules, the messages, the call and the judge are all part of it."""
        return blake2b(b"%d|" % organization_id + question, digest_size=16).digest()

    def get(self, key: bytes) -> Verdict | None:
        found = self._known.get(key)
        if found is None or found[0] < self._now():
            return None
        self._known.move_to_end(key)
        return found[1]

    def put(self, key: bytes, verdict: Verdict) -> None:
        self._known[key] = (self._now() + SECONDS, verdict)
        if len(self._known) > CAPACITY:
            self._known.popitem(last=False)
