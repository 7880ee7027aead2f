"""The plan: order by priority, shares by weight, one session keeps to one target."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from gateway.plan import PlannedTarget, plan
from gateway.resilience import Resilience
from providers.types import CredentialSecret, Model, Price, Target, Timeouts

FREE = Price(0, 0, 0, 0, 0)


def target(mapping_id: int, *, priority: int = 1, weight: int = 1, provider: str = "p", credentials: int = 1) -> Target:
    return Target(
        mapping_id=mapping_id,
        provider_id=mapping_id,
        provider=f"{provider}{mapping_id}",
        kind="openai",
        wire="openai_chat",
        base_url="http://127.0.0.1:1",
        actual_model="m",
        priority=priority,
        weight=weight,
        cost=FREE,
        timeouts=Timeouts(),
        credentials=tuple(CredentialSecret(id=n, weight=1, secret=f"s{n}") for n in range(credentials)),
    )


def model(*targets: Target) -> Model:
    return Model(1, "m", "M", "", None, None, True, True, True, FREE, targets)


def ordered(
    of: Model, *, provider: str | None, session_id: str, standing: Resilience | None = None
) -> tuple[PlannedTarget, ...]:
    return plan(of, provider=provider, session_id=session_id, standing=standing or Resilience())


def test_lower_priority_numbers_come_first() -> None:
    order = ordered(
        model(target(1, priority=3), target(2, priority=1), target(3, priority=2)),
        standing=Resilience(),
        provider=None,
        session_id="s",
    )
    assert [p.target.mapping_id for p in order] == [2, 3, 1]


def test_only_the_named_provider_serves_in_any_case_of_its_name() -> None:
    order = ordered(model(target(1), target(2)), provider="P2", session_id="s")
    assert [p.target.mapping_id for p in order] == [2]
    assert ordered(model(target(1)), provider="other", session_id="s") == ()


@given(st.text(min_size=1), st.permutations([1, 2, 3, 4]))
def test_a_session_keeps_to_its_target_and_credential_whatever_the_order_of_rows(session: str, rows: list[int]) -> None:
    first = ordered(
        model(*(target(n, credentials=3) for n in (1, 2, 3, 4))),
        standing=Resilience(),
        provider=None,
        session_id=session,
    )
    again = ordered(model(*(target(n, credentials=3) for n in rows)), provider=None, session_id=session)
    assert [(p.target.mapping_id, p.credential) for p in first] == [(p.target.mapping_id, p.credential) for p in again]


def test_sessions_share_equal_priorities_by_weight() -> None:
    both = model(target(1, weight=3), target(2, weight=1))
    first = Counter(ordered(both, provider=None, session_id=f"s{n}")[0].target.mapping_id for n in range(4000))
    assert 2850 < first[1] < 3150, first


def test_a_weight_of_zero_is_the_last_resort_of_its_priority() -> None:
    both = model(target(1, weight=0), target(2, weight=1))
    assert {ordered(both, provider=None, session_id=f"s{n}")[0].target.mapping_id for n in range(200)} == {2}


def test_removing_one_target_moves_only_its_own_sessions() -> None:
    full, less = model(target(1), target(2), target(3)), model(target(1), target(2))
    for n in range(300):
        before = ordered(full, provider=None, session_id=f"s{n}")[0].target.mapping_id
        after = ordered(less, provider=None, session_id=f"s{n}")[0].target.mapping_id
        assert before in (after, 3)


def test_without_a_session_the_choice_is_spread() -> None:
    both = model(target(1), target(2))
    first = {ordered(both, provider=None, session_id="")[0].target.mapping_id for _ in range(200)}
    assert first == {1, 2}
