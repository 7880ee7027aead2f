"""What a request tries next: pure, with a clock of the test's."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.plan import plan
from gateway.resilience.breaker import SHORTEST_SECONDS, State
from gateway.resilience.changes import CredentialCools, SessionStays, TargetClosed, TargetOpened, TargetProbed
from gateway.resilience.course import MOST_CREDENTIALS, Course, Pause
from gateway.resilience.registry import targets_of
from providers.types import Catalogue, Model, Policy, Price, RetryClass, Target, UpstreamFailure
from tests.gateway.resilience.support import (
    COST,
    DOWN,
    FORBIDDEN,
    INVALID,
    LIMITED,
    REFUSED,
    RESET,
    TIMEOUT,
    Process,
    failure,
    key,
    open_breaker,
    planned,
    play,
    target,
)


def course(process: Process, *targets: Target, session_id: str = "") -> Course:
    return Course(process.resilience, planned(*targets), session_id=session_id, model_id=1, model_name="m")


def model(*targets: Target, policy: Policy = Policy.PRIORITY) -> Model:
    return Model(1, "m", "M", "", None, None, True, True, True, COST, targets, policy=policy)


# -- the order of attempts


def test_the_healthy_way_is_one_call() -> None:
    assert play(course(Process(), target(1), target(2)), None) == ["1/10"]


def test_each_target_in_turn_then_one_once_more_after_a_pause() -> None:
    tried = course(Process(), target(1), target(2))
    assert play(tried, DOWN, DOWN, DOWN) == ["1/10", "2/20", "pause 0", "1/10"]
    assert (tried.failure.status, tried.failure.type) == (529, "overloaded_error")


@pytest.mark.parametrize("final", [INVALID, failure(200, retry=RetryClass.NEVER, paid=True)])
def test_what_no_other_target_would_mend_or_was_paid_for_ends_it(final: UpstreamFailure) -> None:
    tried = course(Process(), target(1), target(2))
    assert play(tried, final) == ["1/10"]
    assert tried.failure is final


def test_the_same_target_is_asked_twice_only_where_the_wire_says_so() -> None:
    assert play(course(Process(), target(1), target(2)), RESET, RESET, None) == ["1/10", "1/10", "2/20"]


def test_another_credential_of_the_target_comes_before_another_target() -> None:
    process = Process()
    assert play(course(process, target(1, 3), target(2)), REFUSED, LIMITED, None) == ["1/10", "1/11", "1/12"]
    assert play(course(process, target(1, 3), target(2)), None) == ["1/12"], "the other two cool down"


def test_not_every_credential_is_tried_for_one_request() -> None:
    steps = play(course(Process(), target(1, 9), target(2)), *[REFUSED] * MOST_CREDENTIALS, None)
    assert steps == ["1/10", "1/11", "1/12", "1/13", "2/20"]


def test_earlier_reasoning_is_dropped_once_at_the_same_target() -> None:
    lost = replace(INVALID, drop_reasoning=True)
    assert play(course(Process(), target(1), target(2)), lost, None) == ["1/10", "1/10"]
    tried = course(Process(), target(1), target(2))
    assert play(tried, lost, lost) == ["1/10", "1/10"]


def test_a_target_that_cannot_be_told_the_request_is_not_tried_again() -> None:
    process = Process()
    tried = course(process, target(1), target(2))
    first = tried.next()
    assert first is not None
    tried.refused()
    assert not tried.all_refused
    assert play(tried, DOWN, DOWN) == ["2/20", "pause 0", "2/20"]
    assert process.resilience.state(1) is State.CLOSED, "that says nothing about its health"
    alone = course(process, target(1))
    assert alone.next() is not None
    alone.refused()
    assert alone.next() is None
    assert alone.all_refused


def test_a_short_limit_is_waited_for_and_a_long_one_is_told() -> None:
    process = Process()
    short = course(process, target(1))
    first = short.next()
    assert first is not None
    assert not isinstance(first, Pause)
    short.failed(first, failure(429, shown=429, wait=3.0))
    step = short.next()
    assert step == Pause(3.0)
    process.clock.now += 3.0
    again = short.next()
    assert again is not None
    assert not isinstance(again, Pause)

    long = course(process, target(2))
    assert play(long, failure(429, shown=429, wait=40.0)) == ["2/20"]
    assert (long.failure.status, long.failure.retry_after) == (429, 40.0)
    process.clock.now += 10.0
    later = course(process, target(2))
    assert later.next() is None, "the provider said when to come back"
    assert (later.failure.status, later.failure.retry_after) == (429, 30.0)


def test_credentials_at_the_operator_s_own_limits_are_waited_for_and_then_told() -> None:
    process = Process()
    limited = replace(target(1), credentials=(replace(key(10), concurrency=1),))
    busy = process.resilience.begin(limited, limited.credentials[0])
    assert busy is not None
    tried = course(process, limited)
    assert play(tried) == ["pause 0"]
    assert (tried.failure.status, tried.failure.type) == (429, "rate_limit_error")
    busy.succeeded()
    assert play(course(process, limited), None) == ["1/10"]


def test_time_outs_are_not_repeated_at_the_only_target() -> None:
    tried = course(Process(), target(1))
    assert play(tried, TIMEOUT) == ["1/10"]
    assert tried.failure is TIMEOUT


def test_a_request_that_took_long_already_is_not_repeated() -> None:
    process = Process()
    tried = course(process, target(1))
    attempt = tried.next()
    assert attempt is not None
    assert not isinstance(attempt, Pause)
    process.clock.now += 31.0
    tried.failed(attempt, DOWN)
    assert tried.next() is None


def test_an_operator_s_fault_everywhere_is_told_as_one() -> None:
    tried = course(Process(), target(1), target(2))
    assert play(tried, REFUSED, FORBIDDEN) == ["1/10", "2/20"]
    assert tried.failure.should_retry is False
    assert tried.failure.status == 500


# -- breakers


def test_an_open_target_is_passed_over_and_probed_by_one_request_when_its_time_is_up() -> None:
    process, ill, well = Process(), target(1), target(2)
    open_breaker(process, ill)
    assert process.resilience.state(1) is State.OPEN
    assert play(course(process, ill, well), None) == ["2/20"]
    process.clock.now += SHORTEST_SECONDS
    prober, other = course(process, ill, well), course(process, ill, well)
    probe = prober.next()
    assert probe is not None
    assert not isinstance(probe, Pause)
    assert probe.target.mapping_id == 1
    assert play(other, None) == ["2/20"], "one probe at a time"
    prober.served(probe, streamed=True)
    assert process.resilience.state(1) is State.CLOSED, "its first content is enough"
    probe.succeeded()
    assert play(course(process, ill, well), None) == ["1/10"]


def test_a_probe_whose_client_leaves_makes_room_for_the_next() -> None:
    process, ill = Process(), target(1)
    open_breaker(process, ill)
    process.clock.now += SHORTEST_SECONDS
    probe = course(process, ill, target(2)).next()
    assert probe is not None
    assert not isinstance(probe, Pause)
    probe.close()
    again = course(process, ill, target(2)).next()
    assert again is not None
    assert not isinstance(again, Pause)
    assert again.target is ill


def test_when_nothing_is_well_one_is_tried_as_a_last_resort_while_the_budget_lasts() -> None:
    process, ill, worse = Process(), target(1), target(2)
    open_breaker(process, ill)
    open_breaker(process, worse)
    tried = course(process, ill, worse)
    assert play(tried, DOWN) == ["1/10"]
    assert (tried.failure.status, tried.failure.retry_after) == (529, SHORTEST_SECONDS)
    assert play(course(process, ill, worse), None) == ["1/10"]
    assert process.resilience.state(1) is State.CLOSED, "it worked"
    open_breaker(process, ill)
    for provider_id in (1, 2):
        while process.resilience.budget(provider_id).take(process.clock.now):
            pass
    shed = course(process, ill, worse)
    assert shed.next() is None
    assert (shed.failure.status, shed.failure.type) == (529, "overloaded_error")


def test_repetitions_stop_when_the_provider_s_budget_is_spent() -> None:
    process, only = Process(), target(1)
    calls = 0
    for _ in range(100):
        tried = course(process, only)
        while (step := tried.next()) is not None:
            if not isinstance(step, Pause):
                calls += 1
                tried.failed(step, failure(409, retry=RetryClass.SAME_TARGET))
    assert 100 < calls <= 100 + 10 + 20, "a fifth, and the floor"


def test_one_request_counts_once_however_often_it_failed() -> None:
    process, only = Process(), target(1)
    for _ in range(4):
        play(course(process, only), RESET, RESET, RESET)
    assert process.resilience.state(1) is State.CLOSED
    play(course(process, only), RESET)
    assert process.resilience.state(1) is State.OPEN


@given(
    st.lists(
        st.sampled_from(
            [INVALID, LIMITED, REFUSED, FORBIDDEN, failure(404, should_retry=False), failure(413, shown=413)]
        ),
        min_size=1,
        max_size=60,
    )
)
@settings(deadline=None)
def test_client_errors_limits_and_credentials_never_open_a_breaker(failures: list[UpstreamFailure]) -> None:
    process, only = Process(), target(1, 0)
    for each in failures:
        attempt = process.resilience.begin(only, None)
        assert attempt is not None
        attempt.failed(each)
    assert process.resilience.troubled() == {}


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_every_course_ends_and_never_goes_on_after_a_final_failure(data: st.DataObject) -> None:
    process = Process()
    targets = [target(n, data.draw(st.integers(0, 3))) for n in range(1, data.draw(st.integers(2, 5)))]
    for _ in range(data.draw(st.integers(1, 12))):
        tried = course(process, *targets)
        calls = pauses = 0
        while (step := tried.next()) is not None:
            if isinstance(step, Pause):
                pauses += 1
                process.clock.now += step.seconds
                continue
            calls += 1
            happens = data.draw(st.sampled_from([DOWN, LIMITED, REFUSED, INVALID, RESET, TIMEOUT, None]))
            if happens is None:
                step.succeeded()
                break
            tried.failed(step, happens)
            if happens is INVALID:
                assert tried.next() is None
        else:
            assert tried.failure.status in {400, 429, 500, 504, 529}
        assert pauses <= 1
        assert calls <= sum(max(2, len(each.credentials) + 1) for each in targets) + 2
        process.clock.now += data.draw(st.floats(0, 90))


# -- the plan's order, and where sessions stay


def test_own_keys_come_first_for_their_organisation_alone() -> None:
    process, platform = Process(), target(1)
    own = replace(platform, credentials=(key(99),), is_own=True)
    served = replace(model(platform, target(2, priority=2)), own_targets={7: (own,)})

    def serve(organization_id: int, *happens: UpstreamFailure | None, only: bool = False) -> list[str]:
        order = plan(
            served, provider=None, session_id="s", standing=process.resilience, organization_id=organization_id,
            own_keys_only=only,
        )  # fmt: skip
        return play(Course(process.resilience, order, session_id="s", model_id=1, model_name="m"), *happens)

    assert serve(7, None) == ["1/99"]
    assert serve(8, None) == serve(8, None, only=True) == ["1/10"]
    assert serve(7, REFUSED, None) == ["1/99", "1/10"]
    process.clock.now += 61.0
    assert serve(7, None) == ["1/99"], "nobody stays with the platform's keys while the own are well"
    assert serve(7, REFUSED, only=True) == ["1/99"]


def test_what_is_ill_comes_last_whatever_the_policy() -> None:
    process = Process()
    ill, well = target(1, priority=1), target(2, priority=2)
    open_breaker(process, ill)
    order = plan(model(ill, well), provider=None, session_id="s", standing=process.resilience)
    assert [each.target.mapping_id for each in order] == [2, 1]
    assert [each.is_home for each in order] == [False, True]


def test_the_cheapest_comes_first_and_an_unknown_cost_last() -> None:
    dear, cheap, unknown = (
        replace(target(1), cost=Price(30, 150, 0, 0, 0)),
        replace(target(2), cost=Price(10, 50, 0, 0, 0)),
        replace(target(3), cost=None),
    )
    order = plan(
        model(unknown, dear, cheap, policy=Policy.PRICE), provider=None, session_id="s", standing=Process().resilience
    )
    assert [each.target.mapping_id for each in order] == [2, 1, 3]


@pytest.mark.parametrize("policy", [Policy.LATENCY, Policy.THROUGHPUT])
def test_the_fastest_comes_first_and_who_was_never_measured_gets_a_chance(policy: Policy) -> None:
    process = Process()
    slow, fast = target(1), target(2)
    for each, seconds in ((slow, 3.0), (fast, 0.5)):
        attempt = process.resilience.begin(each, None)
        assert attempt is not None
        process.clock.now += seconds
        attempt.answers()
        process.clock.now += 10 * seconds
        attempt.succeeded(100)

    def first(*targets: Target) -> int:
        order = plan(model(*targets, policy=policy), provider=None, session_id="s", standing=process.resilience)
        return order[0].target.mapping_id

    assert first(slow, fast) == 2
    assert first(slow, fast, target(3)) == 3


def test_a_session_that_was_served_elsewhere_stays_there_for_a_while_and_then_goes_home() -> None:
    process, home, other = Process(), target(1, priority=1), target(2, 2, priority=2)

    def serve(*happens: UpstreamFailure | None) -> list[str]:
        order = plan(model(home, other), provider=None, session_id="session", standing=process.resilience)
        return play(Course(process.resilience, order, session_id="session", model_id=1, model_name="m"), *happens)

    assert serve(None) == ["1/10"]
    assert process.told == [], "everybody finds the home of a session"
    away = serve(DOWN, None)[-1]
    assert away.startswith("2/")
    assert isinstance(process.told[-1], SessionStays)
    assert serve(None) == [away], "target and credential"
    assert len(process.told) == 1
    process.clock.now += 601.0
    assert serve(None) == ["1/10"]


# -- several processes


def test_what_one_process_finds_out_holds_in_the_other() -> None:
    first, second = Process(), Process()
    ill, well = target(1), target(2)
    known = {1: ill, 2: well}

    def tell() -> None:
        for change in first.told:
            second.resilience.apply(change, known)
        first.told.clear()

    open_breaker(first, ill)
    assert [type(change) for change in first.told] == [TargetOpened]
    tell()
    assert second.resilience.state(1) is State.OPEN
    assert play(course(second, ill, well), None) == ["2/20"]

    first.clock.now = second.clock.now = first.clock.now + SHORTEST_SECONDS
    probe = course(first, ill, well).next()
    assert [type(change) for change in first.told] == [TargetProbed]
    tell()
    assert play(course(second, ill, well), None) == ["2/20"], "the other one probes"
    assert probe is not None
    assert not isinstance(probe, Pause)
    probe.succeeded()
    assert [type(change) for change in first.told] == [TargetClosed]
    tell()
    assert play(course(second, ill, well), None) == ["1/10"]

    play(course(first, target(3, 1), well), REFUSED, None)
    assert isinstance(first.told[0], CredentialCools)
    assert (first.told[0].credential_id, first.told[0].mapping_id) == (30, 0)
    tell()
    assert play(course(second, target(3, 1), well), None) == ["2/20"]


def test_nothing_is_held_against_what_an_operator_has_changed() -> None:
    process, ill = Process(), target(1)
    open_breaker(process, ill)
    play(course(process, target(2)), REFUSED)
    before = Catalogue(models={"m": model(ill, target(2))})
    moved = replace(ill, base_url="http://127.0.0.1:2")
    new_key = replace(target(2), credentials=(replace(target(2).credentials[0], secret="another"),))
    after = Catalogue(models={"m": model(moved, new_key)})
    process.resilience.catalogue_changed(before, before)
    assert process.resilience.state(1) is State.OPEN
    process.resilience.catalogue_changed(before, after)
    assert process.resilience.state(1) is State.CLOSED
    assert process.resilience.cooling() == {}
    assert set(targets_of(after)) == {1, 2}
