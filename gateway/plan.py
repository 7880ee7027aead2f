"""The plan: which targets a request tries, in which order, with which credential. Pure.

Lower priorities come first; equal priorities share by weight. One Claude Code session keeps
to one target and one credential (weighted rendezvous hashing over the session's id), so
that prompt caches and thinking signatures survive.
"""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from providers.types import CredentialSecret, Model, Target


@dataclass(frozen=True, slots=True)
class PlannedTarget:
    target: Target
    credential: CredentialSecret | None


def plan(model: Model, *, provider: str | None, session_id: str) -> tuple[PlannedTarget, ...]:
    """The targets of `model` in the order to try; only those of `provider` when it is named."""
    targets = [t for t in model.targets if provider is None or t.provider.lower() == provider.lower()]
    if len(targets) > 1:
        targets.sort(key=lambda t: (t.priority, _draw(session_id, f"mapping:{t.mapping_id}", t.weight)))
    return tuple(PlannedTarget(target, _credential(target.credentials, session_id)) for target in targets)


def _credential(credentials: Sequence[CredentialSecret], session_id: str) -> CredentialSecret | None:
    if len(credentials) < 2:
        return credentials[0] if credentials else None
    return min(credentials, key=lambda c: _draw(session_id, f"credential:{c.id}", c.weight))


def _draw(session_id: str, name: str, weight: int, chance: Callable[[], float] = random.random) -> float:
    """The smallest draw wins with a probability proportional to its weight."""
    if weight <= 0:
        return math.inf
    if session_id:
        digest = blake2b(f"{session_id}|{name}".encode(), digest_size=8).digest()
        uniform = (int.from_bytes(digest) + 1) / (2**64 + 1)
    else:
        uniform = 1.0 - chance()
    return -math.log(uniform) / weight
