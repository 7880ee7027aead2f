"""The breaker: opens on failures of its kind, lets one probe through at a time, closes when one succeeds."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.resilience.breaker import (
    FAILURES_IN_A_ROW,
    FORGIVEN_SECONDS,
    LEAST_CALLS,
    LONGEST_SECONDS,
    PROBE_SECONDS,
    SHORTEST_SECONDS,
    WINDOW_SECONDS,
    Breaker,
    Opening,
    Permit,
    State,
)


def opened(now: float = 0.0) -> Breaker:
    breaker = Breaker()
    for _ in range(FAILURES_IN_A_ROW):
        breaker.failed(Permit.ORDINARY, now)
    return breaker


def test_it_opens_at_the_failure_that_is_one_too_many_in_a_row() -> None:
    breaker = Breaker()
    told = [breaker.failed(Permit.ORDINARY, 0.0) for _ in range(FAILURES_IN_A_ROW)]
    assert told == [False] * (FAILURES_IN_A_ROW - 1) + [True]
    assert breaker.state(0.0) is State.OPEN
    assert breaker.admit(SHORTEST_SECONDS - 0.01) is None


def test_a_success_in_between_starts_the_row_again() -> None:
    breaker = Breaker()
    for _ in range(FAILURES_IN_A_ROW - 1):
        breaker.failed(Permit.ORDINARY, 0.0)
    breaker.succeeded(Permit.ORDINARY, 0.0)
    assert not breaker.failed(Permit.ORDINARY, 0.0)
    assert breaker.state(0.0) is State.CLOSED


def test_half_of_many_calls_failing_opens_it_and_less_does_not() -> None:
    for failing_of_ten, expected in ((4, State.CLOSED), (5, State.OPEN)):
        breaker = Breaker()
        for number in range(5 * LEAST_CALLS):
            # Spread, so that they never come in a row.
            if number * failing_of_ten // 10 != (number + 1) * failing_of_ten // 10:
                breaker.failed(Permit.ORDINARY, 0.0)
            else:
                breaker.succeeded(Permit.ORDINARY, 0.0)
            if breaker.opening:
                break
        assert breaker.state(0.0) is expected


def test_old_calls_are_forgotten() -> None:
    breaker = Breaker()
    for _ in range(LEAST_CALLS // 4):
        breaker.failed(Permit.ORDINARY, 0.0)
        breaker.succeeded(Permit.ORDINARY, 0.0)
    for number in range(3 * LEAST_CALLS):
        breaker.succeeded(Permit.ORDINARY, 2 * WINDOW_SECONDS)
        assert number or not breaker.opening
    assert not breaker.failed(Permit.ORDINARY, 2 * WINDOW_SECONDS)


@pytest.mark.parametrize(
    ("times", "seconds"), [(1, 2.0), (2, 4.0), (3, 8.0), (6, LONGEST_SECONDS), (20, LONGEST_SECONDS)]
)
def test_each_failed_probe_keeps_it_open_for_twice_as_long(times: int, seconds: float) -> None:
    breaker, now = opened(), 0.0
    for _ in range(times - 1):
        assert breaker.opening is not None
        now = breaker.opening.until
        assert breaker.admit(now) is Permit.PROBE
        assert breaker.failed(Permit.PROBE, now)
    assert breaker.opening == Opening(now + seconds, times)


def test_the_time_it_stays_open_is_spread_by_a_fifth() -> None:
    breaker = Breaker()
    for _ in range(FAILURES_IN_A_ROW):
        breaker.failed(Permit.ORDINARY, 0.0, spread=1.0)
    assert breaker.opening is not None
    assert breaker.opening.until == pytest.approx(1.2 * SHORTEST_SECONDS)


@pytest.mark.parametrize(("asked", "seconds"), [(1.0, SHORTEST_SECONDS), (30.0, 30.0), (900.0, LONGEST_SECONDS)])
def test_it_stays_open_for_as_long_as_the_provider_asks_within_reason(asked: float, seconds: float) -> None:
    breaker = Breaker()
    for _ in range(FAILURES_IN_A_ROW):
        breaker.failed(Permit.ORDINARY, 0.0, asked=asked)
    assert breaker.opening == Opening(seconds, 1)


def test_one_probe_at_a_time_until_it_has_told_or_is_lost() -> None:
    breaker = opened()
    due = SHORTEST_SECONDS
    assert breaker.state(due) is State.HALF_OPEN
    assert breaker.admit(due) is Permit.PROBE
    assert breaker.admit(due) is None
    assert not breaker.is_well(due)
    breaker.abandoned(Permit.PROBE)
    assert breaker.admit(due) is Permit.PROBE
    assert breaker.admit(due + PROBE_SECONDS - 0.01) is None
    assert breaker.admit(due + PROBE_SECONDS) is Permit.PROBE
    assert breaker.succeeded(Permit.PROBE, due + PROBE_SECONDS)
    assert breaker.state(due + PROBE_SECONDS) is State.CLOSED


def test_what_began_before_it_opened_neither_closes_nor_prolongs_it() -> None:
    breaker = opened()
    opening = breaker.opening
    assert not breaker.succeeded(Permit.ORDINARY, 1.0)
    assert not breaker.failed(Permit.ORDINARY, 1.0)
    assert not breaker.failed(Permit.LAST_RESORT, 1.0)
    assert breaker.opening == opening


def test_a_last_resort_that_worked_closes_it() -> None:
    breaker = opened()
    assert breaker.succeeded(Permit.LAST_RESORT, 1.0)
    assert breaker.state(1.0) is State.CLOSED


def test_a_breaker_that_was_well_for_long_starts_with_the_shortest_time_again() -> None:
    for well_for, times in ((FORGIVEN_SECONDS - 1, 2), (FORGIVEN_SECONDS, 1)):
        breaker = opened()
        breaker.close(10.0)
        for _ in range(FAILURES_IN_A_ROW):
            breaker.failed(Permit.ORDINARY, 10.0 + well_for)
        assert breaker.opening is not None
        assert breaker.opening.times == times


def test_another_process_opens_probes_and_closes_it() -> None:
    breaker = Breaker()
    breaker.open(Opening(5.0, 3))
    assert breaker.admit(4.9) is None
    breaker.probed_elsewhere(5.0)
    assert breaker.admit(5.0) is None
    breaker.close(6.0)
    assert breaker.admit(6.0) is Permit.ORDINARY


@given(st.lists(st.sampled_from(["succeeded", "abandoned"]), max_size=60))
def test_without_failures_it_never_opens(calls: list[str]) -> None:
    breaker = Breaker()
    for number, call in enumerate(calls):
        permit = breaker.admit(float(number))
        assert permit is Permit.ORDINARY
        if call == "succeeded":
            breaker.succeeded(permit, float(number))
        else:
            breaker.abandoned(permit)


class BreakerMachine(RuleBasedStateMachine):
    """Any order of calls that begin, end or are lost, and of time going by."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker()
        self.now = 0.0
        self.under_way: list[Permit] = []
        self.probe_began: float | None = None
        self.failures_since_close = 0

    @rule()
    def begin(self) -> None:
        state = self.breaker.state(self.now)
        well = self.breaker.is_well(self.now)
        permit = self.breaker.admit(self.now)
        assert (permit is not None) == well
        if permit is Permit.PROBE:
            assert state is State.HALF_OPEN
            assert self.probe_began is None or self.now - self.probe_began >= PROBE_SECONDS, "two probes at once"
            self.probe_began = self.now
        elif permit is Permit.ORDINARY:
            assert state is State.CLOSED
        if permit is not None:
            self.under_way.append(permit)

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), ending=st.sampled_from(["succeeded", "failed", "abandoned"]))
    def end(self, data: st.DataObject, ending: str) -> None:
        permit = self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1)))
        before = self.breaker.state(self.now)
        if ending == "failed":
            self.failures_since_close += 1
            if self.breaker.failed(permit, self.now):
                assert self.breaker.state(self.now) is State.OPEN
        elif ending == "succeeded":
            closed = self.breaker.succeeded(permit, self.now)
            assert closed == (before is not State.CLOSED and permit is not Permit.ORDINARY)
            if before is State.CLOSED or closed:
                self.failures_since_close = 0 if closed else self.failures_since_close
        else:
            self.breaker.abandoned(permit)
        if permit is Permit.PROBE:
            self.probe_began = None
        if before is State.CLOSED and self.breaker.opening:
            assert ending == "failed"
            assert self.failures_since_close >= min(FAILURES_IN_A_ROW, LEAST_CALLS // 2)

    @rule(seconds=st.sampled_from([0.1, 1.0, SHORTEST_SECONDS, WINDOW_SECONDS, PROBE_SECONDS, 200.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def it_is_open_for_no_longer_than_allowed(self) -> None:
        opening = self.breaker.opening
        assert opening is None or opening.until - self.now <= 1.2 * LONGEST_SECONDS


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
