"""What is decided once for many requests is what would have been decided for each."""

from dataclasses import replace
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from gateway.explain import explanation_of
from gateway.plan import PlannedTarget
from gateway.resilience import Resilience
from gateway.routing.names import names_of
from gateway.routing.router import MOST_CHOICES, choose
from gateway.routing.types import Signals
from providers.types import Catalogue, Profile, UpstreamFailure
from tests.gateway.routing_cases import ROUTE_MODELS, ROUTES, catalogue, decide, model, target

WITHOUT_LONG_CONTEXT = msgspec.structs.replace(ROUTES, long_context=None)
flags = st.booleans()
signals = st.builds(
    Signals,
    web_search=flags,
    image=flags,
    tag=st.sampled_from([None, "the-cheap", "nobody"]),
    subagent=flags,
    classifier=flags,
    helper=st.sampled_from(["", "title"]),
    request_class=st.sampled_from(["", "main", "auxiliary"]),
    main_shaped=flags,
    thinking=st.sampled_from([None, "enabled", "disabled", "adaptive"]),
    effort=st.sampled_from([None, "max"]),
    plan_agent=flags,
    plan_mode=st.sampled_from([None, True, False]),
    little=flags,
)
asked = st.sampled_from(["claude-opus-4-8", "claude-haiku-4-5", "the-thinker", "demo,the-cheap"])


@given(
    cases=st.lists(st.tuples(signals, asked, st.integers(0, 200_000)), min_size=1, max_size=12),
    profile=st.sampled_from([ROUTES, WITHOUT_LONG_CONTEXT, Profile(default="the-cheap")]),
)
def test_a_remembered_choice_is_the_same_choice(cases: list[tuple[Signals, str, int]], profile: Profile) -> None:
    known = catalogue(*ROUTE_MODELS)
    for found, name, tokens in cases:
        told: dict[str, Any] = {"asked": name, "tokens": tokens, "counted": False, "profile": profile}
        for _ in range(2):
            chosen = choose(found, catalogue=known, **told)
            anew = choose(found, catalogue=catalogue(*ROUTE_MODELS), **told)
            assert (chosen.route, chosen.found.model.name, chosen.found.provider) == (
                anew.route,
                anew.found.model.name,
                anew.found.provider,
            )
            assert (chosen.trail, chosen.warnings) == (anew.trail, anew.warnings)


def choice(known: Catalogue, name: str, profile: Profile = WITHOUT_LONG_CONTEXT) -> object:
    return choose(Signals(), asked=name, tokens=9, counted=False, profile=profile, catalogue=known)


def test_choices_are_remembered_so_many_and_only_of_names_that_can_be_models() -> None:
    known = catalogue(*ROUTE_MODELS)
    assert choice(known, "claude-a") is choice(known, "claude-a")
    assert choice(known, "claude-a") is not choice(catalogue(*ROUTE_MODELS), "claude-a")
    assert choice(known, "claude-a", ROUTES) is not choice(known, "claude-a", ROUTES)
    for number in range(2 * MOST_CHOICES):
        choice(known, f"claude-{number}")
        choice(known, f"claude-{number}" + "x" * 100_000)
    remembered = names_of(known).choices
    assert len(remembered) <= MOST_CHOICES
    assert max(len(name) for _, name, _ in remembered) < 1000


def test_an_explanation_tells_how_the_targets_are_now() -> None:
    standing = Resilience()
    first, second = target("one", "a"), replace(target("two", "b"), mapping_id=2)
    decision = decide(known=catalogue(model("the-default", first, second)))
    planned = (PlannedTarget(first), PlannedTarget(second))
    well = explanation_of(decision, planned, standing)
    assert explanation_of(decision, planned, standing) is well
    failure = UpstreamFailure(500, "api_error", "down", upstream_status=500)
    for _ in range(10):
        attempt = standing.begin(first, None, last_resort=True)
        assert attempt is not None
        attempt.failed(failure)
    ill = msgspec.json.decode(explanation_of(decision, planned, standing).content)
    assert [each["healthy"] for each in ill["targets"]] == [False, True]
    assert [each["healthy"] for each in msgspec.json.decode(well.content)["targets"]] == [True, True]
