"""What a request tries next, after what has failed. It decides; `relay` acts.

The targets of the plan in turn, each with a credential that may be used; the same target once more
where the wire says that this helps, or with its next credential. When all have failed: one that was
passed over, as a last resort; then, after a short pause, the most promising one again. Repetitions at
one provider are paid for from its retry budget. The first content ends all this, as does a failure
that no other target would mend, or that was paid for.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from gateway import metrics
from gateway.plan import PlannedTarget
from gateway.resilience.backoff import pause
from gateway.resilience.breaker import State
from gateway.resilience.registry import Attempt, Resilience
from gateway.resilience.verdicts import Verdict
from providers.types import CredentialSecret, RetryClass, UpstreamFailure

MOST_CREDENTIALS = 4
"""So many credentials of one target are tried for one request."""
LATEST_REPETITION_SECONDS = 30.0
"""A request that has been under way for longer is not repeated: its client hears what happened."""
RETRY_SOON = 5.0
LONGEST_TOLD_SECONDS = 60.0
"""What a client is asked to wait; with more, Claude Code gives up at once."""


@dataclass(frozen=True, slots=True)
class Pause:
    seconds: float


@dataclass(frozen=True, slots=True)
class _Failed:
    planned: PlannedTarget
    failure: UpstreamFailure
    verdict: Verdict


class Course:
    """Of one request. Ask for `next` until it is None; then `failure` is what to tell the client."""

    __slots__ = (
        "_again", "_began", "_failures", "_is_over", "_model_id", "_model_name", "_passed", "_paused", "_place",
        "_plan", "_present", "_refused", "_resilience", "_session_id", "_tried", "_waited",
    )  # fmt: skip

    def __init__(
        self,
        resilience: Resilience,
        plan: Sequence[PlannedTarget],
        *,
        session_id: str = "",
        model_id: int = 0,
        model_name: str = "",
    ) -> None:
        self._resilience = resilience
        self._plan = plan
        self._session_id = session_id
        self._model_id = model_id
        self._model_name = model_name
        self._began = resilience.clock()
        self._place = 0
        self._present: PlannedTarget | None = None
        self._again: PlannedTarget | None = None
        self._passed: list[PlannedTarget] = []
        self._failures: list[_Failed] = []
        self._refused: set[int] = set()
        """The mappings of targets that cannot be told this request."""
        self._tried: set[tuple[int, int]] = set()
        self._paused = False
        self._waited = 0.0
        self._is_over = False

    # -- what comes next

    def next(self) -> Attempt | Pause | None:
        if self._is_over:
            return None
        if self._again is not None:
            planned, self._again = self._again, None
            if (attempt := self._begin(planned, fresh=False)) is not None:
                return attempt
        while self._place < len(self._plan):
            planned = self._plan[self._place]
            self._place += 1
            if (attempt := self._begin(planned)) is not None:
                return attempt
            self._passed.append(planned)
        return self._last_resort() or self._pause()

    def _begin(self, planned: PlannedTarget, *, fresh: bool = True) -> Attempt | None:
        """A call to it on ordinary terms: with a credential that is free, if its breaker lets it pass."""
        target = planned.target
        credential: CredentialSecret | None = None
        if planned.credentials:
            credential = self._free_credential(planned)
            if credential is None:
                return None
        attempt = self._resilience.begin(target, credential)
        if attempt is not None:
            if fresh:
                self._resilience.budget(target.provider_id).note_request()
            self._present = planned
        return attempt

    def _free_credential(self, planned: PlannedTarget) -> CredentialSecret | None:
        now = self._resilience.clock()
        mapping_id = planned.target.mapping_id
        for credential in planned.credentials:
            if self._resilience.pools.is_free(credential, mapping_id, now):
                return credential
        return None

    # -- what a failure leads to

    def failed(self, attempt: Attempt, failure: UpstreamFailure) -> None:
        """`attempt`, the present one, has failed before any content was sent."""
        assert self._present is not None
        planned = self._present
        mapping_id = planned.target.mapping_id
        counts = all(each.planned.target.mapping_id != mapping_id for each in self._failures)
        first_here = counts
        found = attempt.failed(failure, counts=counts)
        self._failures.append(_Failed(planned, failure, found))
        if attempt.credential is not None:
            self._tried.add((mapping_id, attempt.credential.id))
        if failure.drop_reasoning and first_here:
            self._again = planned
        elif failure.paid or failure.retry is RetryClass.NEVER:
            self._is_over = True
        elif failure.retry is RetryClass.SAME_TARGET:
            if first_here:
                self._repeat(planned, "same_target")
        elif found in {Verdict.LIMITED, Verdict.REFUSED} and self._has_another_credential(planned):
            self._repeat(planned, "other_credential")

    def refused(self) -> None:
        """The present target cannot be told this request: nothing was sent, and it is not tried again."""
        assert self._present is not None
        self._refused.add(self._present.target.mapping_id)

    @property
    def all_refused(self) -> bool:
        return not self._takers

    @property
    def _takers(self) -> list[PlannedTarget]:
        return [each for each in self._plan if each.target.mapping_id not in self._refused]

    def _has_another_credential(self, planned: PlannedTarget) -> bool:
        mapping_id = planned.target.mapping_id
        tried = sum(1 for mapping, _ in self._tried if mapping == mapping_id)
        if tried >= MOST_CREDENTIALS:
            return False
        credential = self._free_credential(planned)
        return credential is not None and (mapping_id, credential.id) not in self._tried

    def _repeat(self, planned: PlannedTarget, reason: str) -> bool:
        """Call it once more, if its provider's budget pays for that."""
        target = planned.target
        if not self._resilience.budget(target.provider_id).take(self._resilience.clock()):
            return False
        metrics.retry(target.provider, reason)
        self._again = planned
        return True

    # -- when every target has failed or was passed over

    def _last_resort(self) -> Attempt | None:
        """One that is not well, rather than none: its breaker may know less than a call would tell. A
        credential that is limited is never used before its time."""
        candidates = [planned for planned in self._passed if self._could_be_tried(planned)]
        self._passed = []
        if any(each.verdict is Verdict.LIMITED for each in self._failures):
            return None
        for planned in sorted(candidates, key=lambda each: self._resilience.seconds_open(each.target.mapping_id)):
            target = planned.target
            if self._resilience.budget(target.provider_id).take(self._resilience.clock()):
                metrics.retry(target.provider, "last_resort")
                self._present = planned
                return self._resilience.begin(target, self._any_credential(planned), last_resort=True)
        return None

    def _could_be_tried(self, planned: PlannedTarget) -> bool:
        return not planned.credentials or self._any_credential(planned) is not None

    def _any_credential(self, planned: PlannedTarget) -> CredentialSecret | None:
        """A free one, else one that was refused lately: it may have been put right."""
        free = self._free_credential(planned)
        if free is not None:
            return free
        pools, now, mapping_id = self._resilience.pools, self._resilience.clock(), planned.target.mapping_id
        for credential in planned.credentials:
            cool_down = pools.cool_down(credential.id, mapping_id, now)
            if cool_down is not None and cool_down.refused:
                return credential
        return None

    def _pause(self) -> Pause | None:
        """Once per request, and briefly: then the target that is the first to be free again."""
        is_late = self._resilience.clock() - self._began > LATEST_REPETITION_SECONDS
        if self._paused or is_late:
            return None
        self._paused = True
        waits = [(wait, place) for place, each in enumerate(self._plan) if (wait := self._wait_for(each)) is not None]
        if not waits:
            return None
        asked, place = min(waits)
        seconds = pause(asked, 1, self._waited, self._resilience.chance)
        if seconds is None or not self._repeat(self._plan[place], "after_pause"):
            return None
        self._waited += seconds
        return Pause(seconds)

    def _wait_for(self, planned: PlannedTarget) -> float | None:
        """Seconds until asking it again may help; None when it will not."""
        mapping_id = planned.target.mapping_id
        if mapping_id in self._refused:
            return None
        last = next((each for each in reversed(self._failures) if each.planned is planned), None)
        if last is None:
            if self._resilience.state(mapping_id) is State.OPEN:
                return None
            return self._seconds_until_free(planned)
        failure = last.failure
        if failure.should_retry is False or failure.type == "timeout_error":
            return None
        if last.verdict is Verdict.LIMITED:
            return self._seconds_limited(last)
        is_open = self._resilience.state(mapping_id) is State.OPEN
        return None if is_open or last.verdict is not Verdict.DOWN else failure.retry_after or 0.0

    def _seconds_limited(self, last: _Failed) -> float:
        known = self._seconds_until_free(last.planned)
        return (last.failure.retry_after or 0.0) if known is None else known

    def _seconds_until_free(self, planned: PlannedTarget) -> float | None:
        """None when no credential will be free at a known time because refused ones do not count."""
        pools, now, mapping_id = self._resilience.pools, self._resilience.clock(), planned.target.mapping_id
        waits = []
        for credential in planned.credentials:
            cool_down = pools.cool_down(credential.id, mapping_id, now)
            if cool_down is None or not cool_down.refused:
                waits.append(pools.seconds_until_free(credential, mapping_id, now))
        return min(waits, default=None)

    # -- how it ends

    def served(self, attempt: Attempt, *, streamed: bool) -> None:
        """The first content is here, or the whole answer: this is where the session is served."""
        attempt.answers(streamed=streamed)
        planned = self._present
        assert planned is not None
        if planned is not self._plan[0]:
            metrics.failover(self._model_name)
        if self._session_id and not (planned.is_home and attempt.credential is planned.credential):
            self._resilience.remember(self._session_id, self._model_id, attempt)

    @property
    def failure(self) -> UpstreamFailure:
        """What to tell the client, in the terms that make it do the best thing."""
        if not self._failures:
            return self._never_tried()
        last = self._failures[-1].failure
        if last.paid or last.retry is RetryClass.NEVER:
            return last
        transient = [each for each in self._failures if each.failure.should_retry is not False]
        if not transient:
            return last
        wait = self._seconds_to_tell(transient)
        if all(each.verdict is Verdict.LIMITED for each in transient) and len(transient) == len(self._failures):
            return replace(transient[-1].failure, retry_after=wait)
        if self._all_are_down():
            return self._all_down(transient[-1].failure, wait)
        return transient[-1].failure

    def _all_are_down(self) -> bool:
        """Several have failed, or the only one does so all the time."""
        failed = {each.planned.target.mapping_id for each in self._failures}
        return len(failed) > 1 or all(
            self._resilience.state(each.target.mapping_id) is not State.CLOSED for each in self._plan
        )

    def _all_down(self, last: UpstreamFailure, wait: float | None) -> UpstreamFailure:
        several = "None of the model's providers can answer at present. " if len(self._plan) > 1 else ""
        seconds = RETRY_SOON if wait is None else wait
        message = several + last.message
        return replace(
            last,
            status=529,
            type="overloaded_error",
            message=message,
            retry_after=seconds,
            body=None,
            should_retry=None,
        )

    def _seconds_to_tell(self, transient: list[_Failed]) -> float | None:
        """Until the first of them may answer again; None when nobody knows."""
        waits = [each.failure.retry_after for each in transient if each.failure.retry_after is not None]
        waits += [self._seconds_limited(each) for each in transient if each.verdict is Verdict.LIMITED]
        waits += [
            seconds for each in self._plan if (seconds := self._resilience.seconds_open(each.target.mapping_id)) > 0
        ]
        return min(waits, default=None)

    def _never_tried(self) -> UpstreamFailure:
        """Every target is cooling down, at its limits, or known to be down."""
        waits = [wait for each in self._takers if (wait := self._seconds_until_free(each)) is not None]
        down = [self._resilience.seconds_open(each.target.mapping_id) for each in self._takers]
        if waits and not any(down):
            message = "The model's providers are limiting CCM's requests at present. Nothing was charged."
            return UpstreamFailure(429, "rate_limit_error", message, retry_after=min(waits))
        seconds = min([*filter(None, waits), *filter(None, down)], default=RETRY_SOON)
        message = "None of the model's providers can answer at present. Nothing was charged."
        return UpstreamFailure(529, "overloaded_error", message, retry_after=min(seconds, LONGEST_TOLD_SECONDS))
