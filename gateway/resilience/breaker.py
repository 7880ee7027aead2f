"""The circuit breaker of one target: a state machine without a clock of its own. Pure.

Closed, it lets every call pass and counts how they end. After FAILURES_IN_A_ROW failures, or when
SHARE of the calls of the last seconds failed, it opens: the target is passed over while another one
is well. When its time is up it is half open: one call at a time goes through as a probe, and how
that ends closes or opens it again, each time for twice as long.
"""

from dataclasses import dataclass
from enum import StrEnum

FAILURES_IN_A_ROW = 5
SHARE = 0.5
LEAST_CALLS = 20
"""So many calls of the present window must have ended before their share of failures counts."""
WINDOW_SECONDS = 10.0
SHORTEST_SECONDS = 2.0
LONGEST_SECONDS = 30.0
"""How long it stays open the first time, and at most."""
FORGIVEN_SECONDS = 120.0
"""Closed for so long, it opens for the shortest time again."""
PROBE_SECONDS = 30.0
"""After so long another probe may go out: who started the last one may be gone."""


class State(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Permit(StrEnum):
    """On which terms a call was made; its end is told with it."""

    ORDINARY = "ordinary"
    PROBE = "probe"
    LAST_RESORT = "last_resort"
    """The breaker was open, and there was nothing better to try."""


@dataclass(frozen=True, slots=True)
class Opening:
    """`until` is on the breaker's clock; `times` counts the openings since it was last well for long."""

    until: float
    times: int


class Breaker:
    """`now` is any clock that only goes forward, in seconds; the same one for all calls."""

    __slots__ = ("_closed_at", "_failures", "_in_a_row", "_opening", "_probe_until", "_successes", "_times", "_window")

    def __init__(self) -> None:
        self._opening: Opening | None = None
        self._probe_until: float | None = None
        self._times = 0
        self._closed_at = 0.0
        self._in_a_row = 0
        self._window = 0.0
        self._successes = 0
        self._failures = 0

    def state(self, now: float) -> State:
        if self._opening is None:
            return State.CLOSED
        return State.HALF_OPEN if now >= self._opening.until else State.OPEN

    @property
    def opening(self) -> Opening | None:
        """None while it is closed."""
        return self._opening

    def is_well(self, now: float) -> bool:
        """Whether a call would be admitted now, ordinarily or as the one probe."""
        if self._opening is None:
            return True
        return now >= self._opening.until and not self._is_probed(now)

    def admit(self, now: float) -> Permit | None:
        """On which terms a call may be made; None: not now. A probe that was admitted must end in
        `succeeded`, `failed` or `abandoned`."""
        if self._opening is None:
            return Permit.ORDINARY
        if not self.is_well(now):
            return None
        self._probe_until = now + PROBE_SECONDS
        return Permit.PROBE

    def succeeded(self, permit: Permit, now: float) -> bool:
        """The provider answered. True when this closed the breaker. What began before it opened
        says nothing about now."""
        if self._opening is None:
            self._in_a_row = 0
            self._count(now)
            self._successes += 1
            return False
        if permit is Permit.ORDINARY:
            return False
        self.close(now)
        return True

    def failed(self, permit: Permit, now: float, *, asked: float = 0.0, spread: float = 0.0) -> bool:
        """The provider failed. True when this opened the breaker (anew), for no less than the `asked`
        seconds (Retry-After). `spread` (0 to 1) makes that up to a fifth longer, so that processes do
        not all probe at once."""
        if self._opening is None:
            self._in_a_row += 1
            self._count(now)
            self._failures += 1
            if not self._is_over_the_limit():
                return False
        elif permit is not Permit.PROBE:
            return False
        if now - self._closed_at >= FORGIVEN_SECONDS and self._opening is None:
            self._times = 0
        self._times += 1
        seconds = min(LONGEST_SECONDS, max(asked, SHORTEST_SECONDS * 2.0 ** (self._times - 1)))
        self.open(Opening(now + seconds * (1 + spread / 5), self._times))
        return True

    def abandoned(self, permit: Permit) -> None:
        """The call ended without a verdict: the client left."""
        if permit is Permit.PROBE:
            self._probe_until = None

    # What another process has found out, which is taken as it is.

    def open(self, opening: Opening) -> None:
        self._opening = opening
        self._times = opening.times
        self._probe_until = None

    def probed_elsewhere(self, now: float) -> None:
        if self._opening is not None:
            self._probe_until = now + PROBE_SECONDS

    def close(self, now: float) -> None:
        self._opening = None
        self._probe_until = None
        self._closed_at = now
        self._in_a_row = self._successes = self._failures = 0

    def _is_probed(self, now: float) -> bool:
        return self._probe_until is not None and now < self._probe_until

    def _is_over_the_limit(self) -> bool:
        calls = self._successes + self._failures
        return self._in_a_row >= FAILURES_IN_A_ROW or (calls >= LEAST_CALLS and self._failures >= SHARE * calls)

    def _count(self, now: float) -> None:
        """Begin a new window when the present one is over; half of the old one's counts go along."""
        if now - self._window < WINDOW_SECONDS:
            return
        aged_out = now - self._window >= 2 * WINDOW_SECONDS
        self._successes = 0 if aged_out else self._successes // 2
        self._failures = 0 if aged_out else self._failures // 2
        self._window = now
