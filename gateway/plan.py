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


def plan(
    model: Model,
    *,
    provider: str | None,
    session_id: str,
    standing: "Resilience",
    organization_id: int = 0,
    own_keys_only: bool = False,
) -> tuple[PlannedTarget, ...]:
    """The targets of `model` in the order to try; only those of `provider` when it is named. `standing`
    is what is known of them just now. Targets that the organisation's own keys open come before the
    platform's, and with `own_keys_only` instead of them."""
    own = model.own_targets.get(organization_id, ()) if model.own_targets else ()
    offered = own if own and own_keys_only else (*own, *model.targets)
    targets = [t for t in offered if provider is None or t.provider.lower() == provider.lower()]
    if len(targets) == 1:
        planned = [PlannedTarget(targets[0], _credentials(targets[0].credentials, session_id))]
    else:
        planned = _ordered(model, targets, session_id, standing)
    if (stay := standing.stay(session_id, model.id)) is not None:
        planned = _staying(planned, stay, standing)
    return tuple(planned)


def _ordered(model: Model, targets: list[Target], session_id: str, standing: "Resilience") -> list[PlannedTarget]:
    by_priority = model.policy is Policy.PRIORITY
    is_fixed = by_priority or model.policy is Policy.PRICE
    ranks = [
        (not target.is_own, 0.0 if by_priority else _measure(model.policy, target, standing), target.priority)
        for target in targets
    ]
    # Equals alone have to draw, which costs more than all the rest.
    ties = {rank for rank in ranks if ranks.count(rank) > 1} if len(set(ranks)) < len(ranks) else ()
    keys = [
        (rank, _draw(session_id, f"mapping:{target.mapping_id}", target.weight) if rank in ties else 0.0)
        for rank, target in zip(ranks, targets, strict=True)
    ]
    order = sorted(range(len(targets)), key=keys.__getitem__)
    planned = [
        PlannedTarget(targets[number], _credentials(targets[number].credentials, session_id), is_fixed and place == 0)
        for place, number in enumerate(order)
    ]
    if not all(standing.is_well(target) for target in targets):
        planned.sort(key=lambda each: not standing.is_well(each.target))
    return planned


def _measure(policy: Policy, target: Target, standing: "Resilience") -> float:
    match policy:
        case Policy.PRICE:
            return _price(target.cost)
        case Policy.LATENCY:
            return _step(standing.latency(target))
        case Policy.THROUGHPUT:
            return _step(standing.seconds_per_token(target))
    return 0.0


def _price(cost: Price | None) -> float:
    """A cost that nobody has entered may be any."""
    return math.inf if cost is None else INPUT_SHARE * cost.input + cost.output


def _step(seconds: float) -> int:
    return -1000 if seconds <= 0 else math.floor(math.log(seconds, STEP))


def _staying(planned: list[PlannedTarget], stay: Stay, standing: "Resilience") -> list[PlannedTarget]:
    """The place where the session stays first, if it is still one, and well. Nobody stays with the
    platform's keys, and pays for it, while the organisation's own are well."""
    for place, each in enumerate(planned):
        is_it = each.target.mapping_id == stay.mapping_id and stay.credential_id in _ids(each.credentials)
        if is_it and standing.is_well(each.target) and each.target.is_own >= planned[0].target.is_own:
            mine = sorted(each.credentials, key=lambda credential: credential.id != stay.credential_id)
            return [replace(each, credentials=tuple(mine), is_home=True), *planned[:place], *planned[place + 1 :]]
    return planned


def _ids(pool: Sequence[CredentialSecret]) -> list[int | None]:
    return [credential.id for credential in pool] or [None]


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
