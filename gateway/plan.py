"""The plan: which targets a request tries, in which order, with which credentials. Pure.

Targets that are well come first. Among them the model's policy decides: priority (equal ones share
by weight), price, or measured speed. One Claude Code session keeps to one target and one credential
(weighted rendezvous hashing over the session's id), so that prompt caches and thinking signatures
survive; where it was served elsewhere, it stays there for a while (`resilience.sticky`).
"""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import TYPE_CHECKING

from gateway.resilience.speeds import STEP
from gateway.resilience.sticky import Stay
from providers.types import CredentialSecret, Model, Policy, Price, Target

if TYPE_CHECKING:
    from gateway.resilience import Resilience

INPUT_SHARE = 3
"""A request reads about three tokens, at full price, for each that it writes: for comparing prices."""


@dataclass(frozen=True, slots=True)
class PlannedTarget:
    """`credentials` in the order in which to use them. `is_home`: every process sends the session
    here while all is well, so nobody has to be told."""

    target: Target
    credentials: tuple[CredentialSecret, ...] = ()
    is_home: bool = True

    @property
    def credential(self) -> CredentialSecret | None:
        return self.credentials[0] if self.credentials else None


def plan(model: Model, *, provider: str | None, session_id: str, standing: "Resilience") -> tuple[PlannedTarget, ...]:
    """The targets of `model` in the order to try; only those of `provider` when it is named. `standing`
    is what is known of them just now."""
    targets = [t for t in model.targets if provider is None or t.provider.lower() == provider.lower()]
    if len(targets) == 1:
        planned = [PlannedTarget(targets[0], _credentials(targets[0].credentials, session_id))]
    else:
        planned = _ordered(model, targets, session_id, standing)
    if (stay := standing.stay(session_id, model.id)) is not None:
        planned = _staying(planned, stay, standing)
    return tuple(planned)


def _ordered(model: Model, targets: list[Target], session_id: str, standing: "Resilience") -> list[PlannedTarget]:
    targets.sort(
        key=lambda t: (_rank(model.policy, t, standing), _draw(session_id, f"mapping:{t.mapping_id}", t.weight))
    )
    is_fixed = model.policy in {Policy.PRIORITY, Policy.PRICE}
    planned = [
        PlannedTarget(target, _credentials(target.credentials, session_id), is_home=is_fixed and place == 0)
        for place, target in enumerate(targets)
    ]
    planned.sort(key=lambda each: not standing.is_well(each.target))
    return planned


def _rank(policy: Policy, target: Target, standing: "Resilience") -> tuple[float, int]:
    match policy:
        case Policy.PRICE:
            return _price(target.cost), target.priority
        case Policy.LATENCY:
            return _step(standing.latency(target)), target.priority
        case Policy.THROUGHPUT:
            return _step(standing.seconds_per_token(target)), target.priority
        case _:
            return 0, target.priority


def _price(cost: Price | None) -> float:
    """A cost that nobody has entered may be any."""
    return math.inf if cost is None else INPUT_SHARE * cost.input + cost.output


def _step(seconds: float) -> int:
    return -1000 if seconds <= 0 else math.floor(math.log(seconds, STEP))


def _staying(planned: list[PlannedTarget], stay: Stay, standing: "Resilience") -> list[PlannedTarget]:
    """The place where the session stays first, if it is still one, and well."""
    for place, each in enumerate(planned):
        if each.target.mapping_id == stay.mapping_id and standing.is_well(each.target):
            mine = sorted(each.credentials, key=lambda credential: credential.id != stay.credential_id)
            return [replace(each, credentials=tuple(mine), is_home=True), *planned[:place], *planned[place + 1 :]]
    return planned


def _credentials(pool: Sequence[CredentialSecret], session_id: str) -> tuple[CredentialSecret, ...]:
    if len(pool) < 2:
        return tuple(pool)
    return tuple(sorted(pool, key=lambda c: _draw(session_id, f"credential:{c.id}", c.weight)))


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
