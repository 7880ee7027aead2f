"""What operators' and status pages read: the targets and credentials that are not well just now.

For any process and thread, Celery's too. It comes from Valkey; what is not listed is well. A
request never reads this: it asks its own process's `Resilience`.
"""

import functools
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import redis
import structlog
from django.conf import settings

from gateway.resilience.breaker import State
from gateway.resilience.changes import CredentialCools, TargetOpened
from gateway.resilience.shared import STORE, read

FORGOTTEN_SECONDS = 3600.0
"""A credential that has cooled down and was not used since is not worth telling after so long."""

log = structlog.get_logger("ccm.resilience")


@dataclass(frozen=True, slots=True)
class TargetTrouble:
    """`state` is open or half open: what would come of a call now. Times are seconds since 1970;
    `error` is what was told to the last customer who met it, without secrets."""

    mapping_id: int
    state: State
    since: float
    until: float
    error: str


@dataclass(frozen=True, slots=True)
class CredentialTrouble:
    """`mapping_id` is None where the credential cools down for all targets. `refused`: only an
    operator can put it right; else it is limited. `cooling` is False when its time is up and it was
    not used since."""

    credential_id: int
    mapping_id: int | None
    refused: bool
    cooling: bool
    since: float
    until: float
    error: str


@dataclass(frozen=True, slots=True)
class Troubles:
    """`known` is False while Valkey is away: then nothing is said about anything."""

    known: bool = True
    targets: Mapping[int, TargetTrouble] = field(default_factory=dict)
    """By mapping."""
    credentials: tuple[CredentialTrouble, ...] = ()

    def state(self, mapping_id: int) -> State | None:
        """The breaker of a mapping; None when it is not known."""
        if not self.known:
            return None
        trouble = self.targets.get(mapping_id)
        return State.CLOSED if trouble is None else trouble.state

    def of_credential(self, credential_id: int) -> tuple[CredentialTrouble, ...]:
        return tuple(trouble for trouble in self.credentials if trouble.credential_id == credential_id)


def troubles(now: float | None = None) -> Troubles:
    """Takes half a second at most, and raises nothing."""
    try:
        stored: Mapping[bytes, bytes] = _client(settings.REDIS_URL).hgetall(STORE)  # type: ignore[assignment]
    except (redis.RedisError, OSError) as error:
        log.warning("health_not_read", error=type(error).__name__)
        return Troubles(known=False)
    moment = time.time() if now is None else now
    targets: dict[int, TargetTrouble] = {}
    credentials: list[CredentialTrouble] = []
    for value in stored.values():
        match read(value):
            case TargetOpened() as change:
                state = State.OPEN if change.until > moment else State.HALF_OPEN
                targets[change.mapping_id] = TargetTrouble(
                    change.mapping_id, state, change.at, change.until, change.error
                )
            case CredentialCools() as change if change.until > moment - FORGOTTEN_SECONDS:
                credentials.append(_credential(change, moment))
    return Troubles(True, targets, tuple(sorted(credentials, key=lambda each: each.credential_id)))


def _credential(change: CredentialCools, now: float) -> CredentialTrouble:
    return CredentialTrouble(
        credential_id=change.credential_id,
        mapping_id=change.mapping_id or None,
        refused=change.refused,
        cooling=change.until > now,
        since=change.at,
        until=change.until,
        error=change.error,
    )


@functools.cache
def _client(url: str) -> "redis.Redis":
    return redis.Redis.from_url(url, socket_connect_timeout=0.5, socket_timeout=0.5)
