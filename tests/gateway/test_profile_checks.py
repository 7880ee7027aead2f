"""What a router profile may say, and how it is told what is wrong."""

import dataclasses

import pytest

from gateway.routing import merge
from gateway.routing.checks import problems
from providers.types import Profile
from tests.gateway.routing_cases import catalogue, model, target

HIDDEN = dataclasses.replace(model("hidden"), discoverable=False)
PRICELESS = dataclasses.replace(model("priceless"), price=None)
NOT_SERVED = dataclasses.replace(model("not-served"), targets=())
KNOWN = catalogue("glm", model("gpt", target("acme", "gpt-x")), HIDDEN, PRICELESS, NOT_SERVED)


def found(only_offered: bool = True, **values: object) -> dict[str, str]:
    told = problems(Profile(**values), KNOWN, only_offered=only_offered)  # type: ignore[arg-type]
    return {problem.field: problem.text for problem in told}


def test_what_works():
    assert (
        found(
            default="glm",
            think="acme/gpt",
            websearch="acme,gpt",
            image="",
            subagent="GLM",
            long_context_threshold=60_000,
            auto_map_regex="^(claude-|gpt-)",
            background_regex="(?i)claude.*haiku",
            think_efforts=frozenset({"max", "xhigh"}),
            pin_explicit_model=True,
        )
        == {}
    )
    assert found() == {}
    assert found(think_efforts=frozenset()) == {}


@pytest.mark.parametrize("name", ["retired", "acme/retired", "nobody/glm", "hidden", "priceless", "not-served"])
def test_a_customers_route_names_what_is_offered(name):
    text = found(background=name)["background"]
    assert name in text
    assert "GET /v1/models" in text


@pytest.mark.parametrize("name", ["hidden", "priceless", "not-served"])
def test_an_operators_route_may_name_any_model(name):
    assert found(only_offered=False, default=name) == {}
    assert "retired" in found(only_offered=False, default="retired")["default"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("auto_map_regex", "("),
        ("auto_map_regex", "(a+)+$"),
        ("background_regex", "a" * 201),
        ("background_regex", ""),
        ("long_context_threshold", 0),
        ("long_context_threshold", 10_000_001),
        ("think_efforts", frozenset({"very hard"})),
        ("think_efforts", frozenset({""})),
        ("think_efforts", frozenset(f"e{number}" for number in range(11))),
        ("default", "x" * 201),
    ],
)
def test_what_cannot_work_is_named_by_its_field(field, value):
    assert list(found(**{field: value})) == [field]


def test_only_what_was_changed_is_told():
    profile = Profile(default="retired", think="gone")
    told = problems(profile, KNOWN, only_offered=False, among=["think"])
    assert [problem.field for problem in told] == ["think"]


def test_the_merged_profile_says_where_each_field_comes_from():
    merged = merge(
        Profile(background="", pin_explicit_model=True),
        Profile(think="o", background="o", think_efforts=frozenset()),
        Profile(default="p", think="p", long_context_threshold=9),
    )
    assert merged.profile.background == ""
    assert dict(merged.origins) == {
        "default": "platform",
        "think": "organization",
        "background": "key",
        "long_context_threshold": "platform",
        "auto_map_regex": "built_in",
        "background_regex": "built_in",
        "think_efforts": "organization",
        "think_in_plan_mode": "built_in",
        "pin_explicit_model": "key",
    }
