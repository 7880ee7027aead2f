"""A registry with a clock of the test's, and targets and failures to play with."""

from gateway.plan import PlannedTarget
from gateway.resilience import Attempt, Resilience
from gateway.resilience.changes import Change
from gateway.resilience.course import Course, Pause
from providers.types import CredentialSecret, Price, RetryClass, Target, Timeouts, UpstreamFailure

COST = Price(1000, 1000, 1000, 1000, 1000)


class Clock:
    """Monotonic and wall clock in one: seconds."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Process:
    """One process's registry; `told` is what it would tell the others."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self.told: list[Change] = []
        self.resilience = Resilience(clock=self.clock, wall=self.clock, chance=lambda: 0.0, tell=self.told.append)


def target(mapping_id: int, credentials: int = 1, *, provider_id: int | None = None, priority: int = 1) -> Target:
    return Target(
        mapping_id=mapping_id,
        provider_id=mapping_id if provider_id is None else provider_id,
        provider=f"p{mapping_id}",
        kind="openai",
        wire="openai_chat",
        base_url="http://127.0.0.1:1",
        actual_model="m",
        priority=priority,
        weight=1,
        cost=COST,
        timeouts=Timeouts(),
        credentials=tuple(key(10 * mapping_id + n) for n in range(credentials)),
    )


def key(id_: int) -> CredentialSecret:
    return CredentialSecret(id=id_, weight=1, secret=f"s{id_}")


def planned(*targets: Target) -> tuple[PlannedTarget, ...]:
    return tuple(PlannedTarget(each, each.credentials, is_home=place == 0) for place, each in enumerate(targets))


def failure(
    status: int | None,
    *,
    shown: int | None = None,
    kind: str = "",
    retry: RetryClass = RetryClass.NEXT_TARGET,
    wait: float | None = None,
    should_retry: bool | None = None,
    paid: bool = False,
) -> UpstreamFailure:
    kinds = {429: "rate_limit_error", 529: "overloaded_error", 504: "timeout_error", 400: "invalid_request_error"}
    told = 500 if shown is None else shown
    return UpstreamFailure(
        told,
        kind or kinds.get(told, "api_error"),
        f"failed with {status}",
        retry=retry,
        retry_after=wait,
        upstream_status=status,
        should_retry=should_retry,
        paid=paid,
    )


DOWN = failure(500)
LIMITED = failure(429, shown=429)
REFUSED = failure(401, should_retry=False)
FORBIDDEN = failure(403, should_retry=False)
INVALID = failure(400, shown=400, retry=RetryClass.NEVER)
RESET = failure(None, retry=RetryClass.SAME_TARGET)
TIMEOUT = failure(None, shown=504)


def play(course: Course, *failures: UpstreamFailure | None) -> list[str]:
    """Go the course: each attempt fails as told, None serves it. What was tried: `mapping/credential`,
    and pauses in seconds."""
    steps: list[str] = []
    pending = list(failures)
    while (step := course.next()) is not None:
        if isinstance(step, Pause):
            steps.append(f"pause {step.seconds:g}")
            continue
        steps.append(_name(step))
        happens = pending.pop(0)
        if happens is None:
            course.served(step, streamed=True)
            step.succeeded()
            break
        course.failed(step, happens)
    assert not pending, pending
    return steps


def _name(attempt: Attempt) -> str:
    return f"{attempt.target.mapping_id}/{attempt.credential.id if attempt.credential else '-'}"


def open_breaker(process: Process, of: Target) -> None:
    for _ in range(10):
        attempt = process.resilience.begin(of, None)
        if attempt is None:
            return
        attempt.failed(DOWN)
