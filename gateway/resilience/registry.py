"""What this process knows of every target and credential, and one attempt's way through it.

All of it lives in memory and is touched by the event loop's thread alone: a request on its healthy
path costs a few dictionary look-ups. Whatever changes is told to the other processes (`shared`).
"""

import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import structlog

from gateway import metrics
from gateway.resilience.breaker import Breaker, Opening, Permit, State
from gateway.resilience.budget import RetryBudget
from gateway.resilience.changes import (
    Change,
    CredentialCools,
    CredentialWorks,
    SessionStays,
    TargetClosed,
    TargetOpened,
    TargetProbed,
)
from gateway.resilience.pools import EVERYWHERE, CoolDown, Place, Pools
from gateway.resilience.speeds import Speeds
from gateway.resilience.sticky import STAY_SECONDS, Stay, Stays
from gateway.resilience.verdicts import Verdict, concerns_whole_credential, verdict
from providers.types import Catalogue, CredentialSecret, Target, UpstreamFailure

log = structlog.get_logger("ccm.resilience")


@dataclass(slots=True)
class _Known:
    """A target with the breaker that guards it. `target` is the newest that was tried."""

    breaker: Breaker
    target: Target
    troubled_since: float = 0.0


class Resilience:
    """One per process. `clock` orders what happens here; `wall` (seconds since 1970) is what is told
    to others. `tell` must neither block nor fail."""

    def __init__(
        self,
        *,
        processes: int = 1,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
        tell: Callable[[Change], None] | None = None,
    ) -> None:
        self.clock = clock
        self.chance = chance
        self.tell: Callable[[Change], None] = tell or _tell_nobody
        self.pools = Pools(processes)
        self.speeds = Speeds()
        self.stays = Stays()
        self._wall = wall
        self._targets: dict[int, _Known] = {}
        self._budgets: dict[int, RetryBudget] = {}

    # -- what a plan asks

    def is_well(self, target: Target) -> bool:
        """Whether a call to it would be admitted now, and one of its credentials may be used."""
        known = self._targets.get(target.mapping_id)
        now = self.clock()
        if known is not None and not known.breaker.is_well(now):
            return False
        pool = target.credentials
        return not pool or any(self.pools.is_free(credential, target.mapping_id, now) for credential in pool)

    def stay(self, session_id: str, model_id: int) -> Stay | None:
        return self.stays.of(session_id, model_id, self.clock()) if self.stays else None

    def latency(self, target: Target) -> float:
        return self.speeds.latency(target.mapping_id, self.clock())

    def seconds_per_token(self, target: Target) -> float:
        return self.speeds.seconds_per_token(target.mapping_id, self.clock())

    def state(self, mapping_id: int) -> State:
        known = self._targets.get(mapping_id)
        return State.CLOSED if known is None else known.breaker.state(self.clock())

    def seconds_open(self, mapping_id: int) -> float:
        """Until its breaker is half open; 0 when it is, or is closed."""
        known = self._targets.get(mapping_id)
        opening = None if known is None else known.breaker.opening
        return 0.0 if opening is None else max(0.0, opening.until - self.clock())

    def budget(self, provider_id: int) -> RetryBudget:
        found = self._budgets.get(provider_id)
        if found is None:
            found = self._budgets[provider_id] = RetryBudget(self.clock())
        return found

    # -- an attempt

    def begin(
        self, target: Target, credential: CredentialSecret | None, *, last_resort: bool = False
    ) -> "Attempt | None":
        """A call to `target` on terms of its breaker; None when it lets none pass. Whoever gets an
        Attempt ends it."""
        now = self.clock()
        known = self._targets.get(target.mapping_id)
        if known is None:
            known = self._targets[target.mapping_id] = _Known(Breaker(), target)
        permit = known.breaker.admit(now)
        if permit is Permit.PROBE:
            self.tell(TargetProbed(target.mapping_id))
        if permit is None:
            if not last_resort:
                return None
            permit = Permit.LAST_RESORT
        known.target = target
        if credential is not None:
            self.pools.take(credential, now)
        return Attempt(self, known, target, credential, permit, now)

    def remember(self, session_id: str, model_id: int, attempt: "Attempt") -> None:
        """The session was served elsewhere than at its home: let it stay there for a while."""
        credential_id = None if attempt.credential is None else attempt.credential.id
        here = Stay(attempt.target.mapping_id, credential_id, self.clock() + STAY_SECONDS)
        self.stays.put((session_id, model_id), here)
        until = self._wall() + STAY_SECONDS
        self.tell(SessionStays(session_id, model_id, here.mapping_id, credential_id, until))

    def _worked(self, known: _Known, attempt: "Attempt") -> None:
        if known.breaker.succeeded(attempt.permit, self.clock()):
            self._closed(known)
        self._accepted(attempt)

    def _closed(self, known: _Known) -> None:
        log.info("breaker_closed", provider=known.target.provider, mapping=known.target.mapping_id)
        self._gauge(known, State.CLOSED)
        self.tell(TargetClosed(known.target.mapping_id))

    def _accepted(self, attempt: "Attempt") -> None:
        if attempt.credential is not None:
            for credential_id, mapping_id in self.pools.worked(attempt.credential.id, attempt.target.mapping_id):
                self.tell(CredentialWorks(credential_id, mapping_id))

    def _failed(self, known: _Known, attempt: "Attempt", failure: UpstreamFailure, counts: bool) -> Verdict:
        """`counts`: against the target; a request that fails twice at it counts once."""
        found = verdict(failure)
        now = self.clock()
        if found is Verdict.DOWN:
            was_closed = known.breaker.opening is None
            if (counts or attempt.permit is Permit.PROBE) and known.breaker.failed(
                attempt.permit, now, asked=failure.retry_after or 0.0, spread=self.chance()
            ):
                self._opened(known, failure, was_closed)
            return found
        # Whatever else it says, it is there.
        if known.breaker.succeeded(attempt.permit, now):
            self._closed(known)
        if found is not Verdict.ANSWERED and attempt.credential is not None:
            self._cool(attempt.credential, attempt.target, failure, found)
        elif found is Verdict.ANSWERED and failure.upstream_status in {400, 413, 422}:
            self._accepted(attempt)
        return found

    def _opened(self, known: _Known, failure: UpstreamFailure, was_closed: bool) -> None:
        opening = known.breaker.opening
        assert opening is not None
        if was_closed:
            known.troubled_since = self._wall()
        seconds = opening.until - self.clock()
        target = known.target
        log.warning(
            "breaker_opened",
            provider=target.provider,
            mapping=target.mapping_id,
            seconds=round(seconds, 1),
            error=failure.type,
            upstream_status=failure.upstream_status,
        )
        self._gauge(known, State.OPEN)
        until = self._wall() + seconds
        self.tell(TargetOpened(target.mapping_id, until, opening.times, known.troubled_since, failure.message))

    def _cool(self, credential: CredentialSecret, target: Target, failure: UpstreamFailure, found: Verdict) -> None:
        mapping_id = EVERYWHERE if concerns_whole_credential(failure) else target.mapping_id
        place = (credential.id, mapping_id)
        now = self.clock()
        if found is Verdict.REFUSED or failure.should_retry is False:
            cool_down = self.pools.refused(place, now, asked=failure.retry_after, error=failure.message)
        else:
            cool_down = self.pools.limited(place, now, asked=failure.retry_after, error=failure.message)
        seconds = cool_down.until - now
        metrics.cool_down(target.provider, found.value)
        log.warning(
            "credential_cools_down",
            provider=target.provider,
            credential=credential.id,
            mapping=mapping_id,
            seconds=round(seconds, 1),
            upstream_status=failure.upstream_status,
        )
        at = self._wall()
        self.tell(CredentialCools(*place, at + seconds, cool_down.times, cool_down.refused, at, error=cool_down.error))

    def _gauge(self, known: _Known, state: State) -> None:
        metrics.breaker(known.target.provider, known.target.actual_model, known.target.mapping_id, state.value)

    # -- what others have found out

    def apply(self, change: Change, targets: Mapping[int, Target]) -> None:
        """Take over what another process told. `targets` are the catalogue's, by mapping."""
        now = self.clock()
        match change:
            case TargetOpened():
                known = self._known(change.mapping_id, targets)
                if known is not None:
                    known.troubled_since = change.at
                    known.breaker.open(Opening(now + change.until - self._wall(), change.times))
                    self._gauge(known, State.OPEN)
            case TargetProbed():
                if (known := self._targets.get(change.mapping_id)) is not None:
                    known.breaker.probed_elsewhere(now)
            case TargetClosed():
                if (known := self._targets.get(change.mapping_id)) is not None:
                    known.breaker.close(now)
                    self._gauge(known, State.CLOSED)
            case CredentialCools():
                until = now + change.until - self._wall()
                cool_down = CoolDown(until, change.times, change.refused, change.error)
                self.pools.set((change.credential_id, change.mapping_id), cool_down)
            case CredentialWorks():
                self.pools.worked(change.credential_id, change.mapping_id)
            case SessionStays():
                until = now + change.until - self._wall()
                stay = Stay(change.mapping_id, change.credential_id, until)
                self.stays.put((change.session_id, change.model_id), stay)

    def _known(self, mapping_id: int, targets: Mapping[int, Target]) -> _Known | None:
        if mapping_id not in self._targets and mapping_id in targets:
            self._targets[mapping_id] = _Known(Breaker(), targets[mapping_id])
        return self._targets.get(mapping_id)

    def catalogue_changed(self, before: Catalogue, after: Catalogue) -> None:
        """Nothing is held against what an operator has changed: another address, another secret."""
        old, new = targets_of(before), targets_of(after)
        for mapping_id, known in list(self._targets.items()):
            target = new.get(mapping_id)
            if target is None:
                self._gauge(known, State.CLOSED)
                del self._targets[mapping_id]
            elif mapping_id in old and _address(old[mapping_id]) != _address(target):
                known.target = target
                if known.breaker.opening is not None:
                    known.breaker.close(self.clock())
                    self._closed(known)
        secrets = credentials_of(before)
        for credential_id, secret in credentials_of(after).items():
            if secrets.get(credential_id, secret) != secret:
                self._forget(credential_id)

    def _forget(self, credential_id: int) -> None:
        for place in self.pools.forget(credential_id):
            self.tell(CredentialWorks(*place))

    def tidy(self) -> None:
        self.stays.drop_expired(self.clock())

    # -- what operators see

    def troubled(self) -> Mapping[int, State]:
        """The targets whose breaker is not closed, by mapping."""
        now = self.clock()
        return {id_: known.breaker.state(now) for id_, known in self._targets.items() if known.breaker.opening}

    def cooling(self) -> Mapping[Place, CoolDown]:
        return self.pools.cooling


class Attempt:
    """One call to one target. Ended by `succeeded`, `failed` or, when neither came, `close`."""

    __slots__ = ("_began", "_content_at", "_known", "_over", "_resilience", "credential", "permit", "target", "verdict")

    def __init__(
        self,
        resilience: Resilience,
        known: _Known,
        target: Target,
        credential: CredentialSecret | None,
        permit: Permit,
        now: float,
    ) -> None:
        self.target = target
        self.credential = credential
        self.permit = permit
        self.verdict: Verdict | None = None
        self._resilience = resilience
        self._known = known
        self._began = now
        self._content_at: float | None = None
        self._over = False

    def answers(self, *, streamed: bool = True) -> None:
        """Its first content is here. A probe has then told what it was to tell, however long the
        rest of the answer takes."""
        if streamed:
            now = self._content_at = self._resilience.clock()
            self._resilience.speeds.began(self.target.mapping_id, now - self._began, now)
        if self.permit is not Permit.ORDINARY:
            self._resilience._worked(self._known, self)
            self.permit = Permit.ORDINARY

    def succeeded(self, output_tokens: int = 0) -> None:
        """The answer came to its end, with so many tokens."""
        self._end()
        metrics.attempt(self.target.provider, "answered")
        if self._content_at is not None:
            now = self._resilience.clock()
            self._resilience.speeds.wrote(self.target.mapping_id, output_tokens, now - self._content_at, now)
        self._resilience._worked(self._known, self)

    def failed(self, failure: UpstreamFailure, *, counts: bool = True) -> Verdict:
        """What that says. `counts`: see `Resilience._failed`."""
        self._end()
        metrics.attempt(self.target.provider, "failed")
        self.verdict = self._resilience._failed(self._known, self, failure, counts)
        return self.verdict

    def close(self) -> None:
        """It ended without a verdict, unless it has one: the client left."""
        if not self._over:
            self._end()
            self._known.breaker.abandoned(self.permit)

    def _end(self) -> None:
        if self._over:
            return
        self._over = True
        if self.credential is not None:
            self._resilience.pools.give_back(self.credential)


def _tell_nobody(_: Change) -> None:
    pass


def targets_of(catalogue: Catalogue) -> dict[int, Target]:
    """By mapping. One that several kinds of keys open is the same target to its breaker."""
    return {target.mapping_id: target for target in _all_targets(catalogue)}


def credentials_of(catalogue: Catalogue) -> dict[int, str]:
    return {credential.id: credential.secret for target in _all_targets(catalogue) for credential in target.credentials}


def _all_targets(catalogue: Catalogue) -> Iterator[Target]:
    for model in catalogue.models.values():
        for own in model.own_targets.values():
            yield from own
        yield from model.targets


def _address(target: Target) -> tuple[str, str, str, str]:
    return target.kind, target.wire, target.base_url, target.actual_model
