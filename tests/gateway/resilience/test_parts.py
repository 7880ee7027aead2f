"""Back-off, retry budget, pools of credentials, stays and speeds: each by itself, with a clock of the test's."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.resilience import backoff, budget, speeds, sticky
from gateway.resilience.budget import RetryBudget
from gateway.resilience.pools import (
    EVERYWHERE,
    LONGEST_LIMITED_SECONDS,
    LONGEST_REFUSED_SECONDS,
    LONGEST_SECONDS,
    REFUSED_SECONDS,
    Pools,
)
from gateway.resilience.speeds import Speeds
from gateway.resilience.sticky import Stay, Stays
from providers.types import CredentialSecret

KEY = CredentialSecret(id=7, weight=1, secret="s")


# -- back-off


@given(st.integers(1, 50), st.floats(0, 1))
def test_jitter_is_full_and_grows_to_its_limit(repetition: int, chance: float) -> None:
    seconds = backoff.jitter(repetition, lambda: chance)
    assert 0 <= seconds <= backoff.LONGEST_STEP_SECONDS
    assert backoff.jitter(repetition, lambda: 0.0) == 0.0
    assert backoff.jitter(3, lambda: 1.0) == 4 * backoff.STEP_SECONDS


def test_a_short_pause_is_made_and_a_long_one_is_the_client_s() -> None:
    assert backoff.pause(3.0, 1, 0.0, lambda: 0.5) == 3.0 + 0.5 * backoff.STEP_SECONDS
    assert backoff.pause(None, 1, 0.0, lambda: 1.0) == backoff.STEP_SECONDS
    assert backoff.pause(backoff.LONGEST_WAIT_SECONDS + 0.1, 1, 0.0) is None
    assert backoff.pause(4.0, 1, backoff.MOST_WAITED_SECONDS - 3.0) is None


@given(st.none() | st.floats(0, 100), st.floats(0, 12))
def test_a_request_never_waits_longer_than_it_may_nor_shorter_than_was_asked(
    asked: float | None, waited: float
) -> None:
    seconds = backoff.pause(asked, 1, waited)
    if seconds is not None:
        assert waited + seconds <= backoff.MOST_WAITED_SECONDS
        assert seconds >= (asked or 0.0)


# -- retry budget


def test_a_quiet_provider_may_be_asked_twice_as_well() -> None:
    purse = RetryBudget(0.0)
    assert [purse.take(0.0) for _ in range(11)] == [True] * 10 + [False]
    assert purse.take(1.0)
    assert not purse.take(1.0)


@given(st.lists(st.tuples(st.integers(0, 50), st.floats(0, 2)), max_size=30))
def test_repetitions_stay_under_a_fifth_of_the_requests_and_the_floor(rounds: list[tuple[int, float]]) -> None:
    purse, now, requests, repetitions = RetryBudget(0.0), 0.0, 0, 0
    for count, seconds in rounds:
        now += seconds
        for _ in range(count):
            requests += 1
            purse.note_request()
            while purse.take(now):  # as much as it lets through
                repetitions += 1
    most = budget.FLOOR_TOKENS + budget.SHARE * requests + budget.FLOOR_PER_SECOND * now
    assert repetitions <= most + 1e-6


# -- pools


def test_a_limited_credential_is_left_alone_for_as_long_as_the_provider_asks() -> None:
    pools = Pools()
    pools.limited((7, 1), 0.0, asked=30.0, error="slow down")
    assert not pools.is_free(KEY, 1, 29.9)
    assert pools.seconds_until_free(KEY, 1, 10.0) == 20.0
    assert pools.is_free(KEY, 1, 30.0)
    assert pools.is_free(KEY, 2, 0.0), "another model has limits of its own"


def test_a_refused_key_is_refused_everywhere_and_for_longer_each_time() -> None:
    pools, now = Pools(), 0.0
    waits = []
    for _ in range(6):
        cool_down = pools.refused((7, EVERYWHERE), now, asked=None, error="no")
        waits.append(cool_down.until - now)
        now = cool_down.until
        assert not pools.is_free(KEY, 1, now - 0.1)
        assert not pools.is_free(KEY, 2, now - 0.1)
    assert waits == [REFUSED_SECONDS * 2**n for n in range(4)] + [LONGEST_REFUSED_SECONDS] * 2
    assert pools.worked(7, 3) == [(7, EVERYWHERE)]
    assert pools.refused((7, EVERYWHERE), now, asked=None, error="no").until == now + REFUSED_SECONDS


def test_requests_that_were_under_way_together_count_once() -> None:
    pools = Pools()
    first = pools.limited((7, 1), 0.0, asked=None, error="")
    for _ in range(5):
        again = pools.limited((7, 1), 0.1, asked=None, error="")
        assert again.times == first.times
    assert pools.seconds_until_free(KEY, 1, 0.1) <= 1.0


def test_no_cool_down_is_longer_than_an_hour() -> None:
    pools = Pools()
    for now in range(0, 100_000, 10_000):
        assert pools.limited((7, 1), now, asked=86400.0, error="").until - now <= LONGEST_SECONDS
        assert pools.limited((7, 2), now, asked=None, error="").until - now <= LONGEST_LIMITED_SECONDS
        assert pools.refused((7, 3), now, asked=86400.0, error="").until - now <= LONGEST_SECONDS


def test_a_changed_secret_has_a_clean_slate() -> None:
    pools = Pools()
    pools.refused((7, EVERYWHERE), 0.0, asked=None, error="")
    pools.limited((7, 1), 0.0, asked=None, error="")
    assert sorted(pools.forget(7)) == [(7, EVERYWHERE), (7, 1)]
    assert pools.is_free(KEY, 1, 0.0)


def test_an_operator_s_concurrency_is_kept() -> None:
    key, pools = CredentialSecret(id=1, weight=1, secret="s", concurrency=2), Pools()
    pools.take(key, 0.0)
    assert pools.is_free(key, 1, 0.0)
    pools.take(key, 0.0)
    assert not pools.is_free(key, 1, 0.0)
    pools.give_back(key)
    assert pools.is_free(key, 1, 0.0)


def test_an_operator_s_requests_per_minute_are_kept_in_every_minute() -> None:
    key, pools = CredentialSecret(id=1, weight=1, secret="s", requests_per_minute=3), Pools()
    began: list[float] = []
    for quarter in range(800):
        now = quarter / 4
        if pools.is_free(key, 1, now):
            assert pools.seconds_until_free(key, 1, now) == 0.0
            pools.take(key, now)
            pools.give_back(key)
            began.append(now)
        else:
            assert pools.seconds_until_free(key, 1, now) > 0
    assert all(later - earlier >= 60 for earlier, later in zip(began, began[3:], strict=False))
    assert len(began) == 12


def test_several_processes_share_the_limits() -> None:
    key, pools = CredentialSecret(id=1, weight=1, secret="s", concurrency=4), Pools(processes=3)
    pools.take(key, 0.0)
    assert not pools.is_free(key, 1, 0.0)


# -- stays


def test_a_stay_ends_and_the_oldest_are_forgotten() -> None:
    stays = Stays()
    stays.put(("s", 1), Stay(5, None, 100.0))
    assert stays.of("s", 1, 99.0) == Stay(5, None, 100.0)
    assert stays.of("s", 1, 100.0) is None
    assert stays.of("s", 2, 0.0) is None
    assert stays.of("", 1, 0.0) is None
    for number in range(sticky.MOST_STAYS):
        stays.put((f"s{number}", 1), Stay(5, None, 100.0))
    assert stays.of("s", 1, 0.0) is None
    stays.drop_expired(100.0)
    assert stays.of("s5", 1, 0.0) is None


# -- speeds


def test_speeds_are_averages_that_fade() -> None:
    measured = Speeds()
    assert measured.latency(1, 0.0) == 0.0, "nobody has measured it: it gets its chance"
    measured.began(1, 2.0, 0.0)
    measured.began(1, 1.0, 0.0)
    assert measured.latency(1, 0.0) == 2.0 - speeds.WEIGHT
    assert measured.latency(1, speeds.HALF_LIFE_SECONDS) == (2.0 - speeds.WEIGHT) / 2
    measured.wrote(1, 100, 2.0, 0.0)
    assert measured.seconds_per_token(1, 0.0) == 0.02
    measured.wrote(1, 3, 60.0, 0.0)
    assert measured.seconds_per_token(1, 0.0) == 0.02, "three tokens say nothing"
