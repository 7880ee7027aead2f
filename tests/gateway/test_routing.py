"""Which model serves a request, and why: the rules one by one."""

import dataclasses

import msgspec
import pytest

from gateway.routing import NoModels, UnknownModel, discovery_id, merge_profiles, probe, profile_for
from providers.types import Catalogue, Profile
from tests.gateway.routing_cases import ROUTE_MODELS, ROUTES, catalogue, decide, model, provided, request, target

PNG = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}
SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 8}
BASH = {"name": "Bash", "input_schema": {"type": "object"}}
BILLING = {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1.330.d01; cc_entrypoint=cli;"}
IDENTITY = {"type": "text", "text": "You are Claude Code, Anthropic's official CLI for Claude."}
CLIENT = [BILLING, IDENTITY]
AUXILIARY = {"x-claude-code-request-class": "auxiliary"}
PLAN = "Plan mode is active. The user indicated that they do not want you to execute yet -- you MUST NOT"


def text(content: str) -> dict[str, str]:
    return {"type": "text", "text": content}


def user(*blocks: object) -> dict[str, object]:
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks: object) -> dict[str, object]:
    return {"role": "assistant", "content": list(blocks)}


# --- the names --------------------------------------------------------------------------------


def test_claude_names_become_the_default_routes_model():
    decided = decide(model="claude-opus-4-8")
    assert (decided.route, decided.model.name, decided.requested) == ("default", "the-default", "claude-opus-4-8")


def test_a_million_tokens_is_remembered():
    decided = decide(model="claude-opus-4-8[1m]")
    assert (decided.model.name, decided.wants_1m, decided.requested) == ("the-default", True, "claude-opus-4-8[1m]")
    assert decide(headers={"anthropic-beta": "claude-code-20250219,context-1m-2025-08-07"}).wants_1m
    assert not decide().wants_1m


def test_a_model_that_the_client_names_is_explicit():
    decided = decide(model="gpt-5", known=catalogue(*ROUTE_MODELS, "gpt-5"))
    assert (decided.route, decided.model.name, decided.provider) == ("explicit", "gpt-5", None)


@pytest.mark.parametrize("name", ["groq/llama", "Groq,llama", "GROQ/llama-4-70b", "groq, LLAMA"])
def test_a_provider_named_with_the_model_pins_it(name):
    llama = model("llama", target("together", "llama"), target("groq", "llama-4-70b"))
    known = catalogue("the-default", llama)
    decided = decide(model=name, known=known, profile=Profile(default="the-default"))
    assert (decided.route, decided.model.name, decided.provider) == ("explicit", "llama", "groq")


@pytest.mark.parametrize("name", ["gpt-5", "no/such", "no,such", "demo/such", "haiku"])
def test_an_unknown_name_is_refused(name):
    with pytest.raises(UnknownModel, match=r"GET /v1/models") as refusal:
        decide(model=name)
    assert name in str(refusal.value)


def test_the_refusal_is_short_and_on_one_line():
    with pytest.raises(UnknownModel) as refusal:
        decide(model="x\n" * 5000)
    assert len(str(refusal.value)) < 300
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("asked", "served"),
    [
        ("claude-opus-4-8", "claude-opus-5"),
        ("claude-sonnet-5", "my-sonnet"),
        ("claude-haiku-4-5-20251001", "plain"),
        ("claude-3-7", "plain"),
        ("anthropic/claude-opus-4-1", "claude-opus-5"),
    ],
)
def test_claude_ids_that_nobody_configured_never_fail(asked, served):
    known = catalogue("plain", "an-opus", "claude-opus-5", "my-sonnet")
    assert decide(model=asked, known=known, profile=Profile()).model.name == served
    outside = Profile(auto_map_regex="^gpt-", default="plain")
    assert decide(model=asked, known=known, profile=outside).model.name == served


@pytest.mark.parametrize(
    ("asked", "served"),
    [
        ("claude-opus-4-5", "claude-opus-4-5-20251101"),
        ("claude-sonnet-4-5-20250929", "claude-sonnet-4-5"),
        ("Claude-Sonnet-4-5", "claude-sonnet-4-5"),
        ("claude-opus-4-5-20240101", "claude-opus-4-5-20251101"),
    ],
)
def test_dates_in_claude_ids_do_not_matter(asked, served):
    known = catalogue("claude-opus-4-5-20250101", "claude-opus-4-5-20251101", "claude-sonnet-4-5", "claude-opus-9")
    decided = decide(model=asked, known=known, profile=Profile(auto_map_regex="^never$"))
    assert (decided.route, decided.model.name) == ("explicit", served)


@pytest.mark.parametrize("name", ["gpt-5", "claude-own", "Anthropic.thing", "vendor/model", "Claude-Upper"])
def test_discovery_ids_are_kept_by_the_picker_and_lead_back(name):
    listed = discovery_id(name)
    assert listed.lower().startswith(("claude", "anthropic"))
    known = provided("anthropic,the-default", f"anthropic,{name}", f"other,{name}")
    decided = decide(model=listed, known=known, profile=Profile(auto_map_regex="^never$"))
    assert (decided.route, decided.model.name, decided.provider) == ("explicit", name, None)


def test_a_listed_alias_is_not_mapped_away():
    decided = decide(model="claude-via-gpt-5", known=catalogue(*ROUTE_MODELS, "gpt-5"))
    assert (decided.route, decided.model.name) == ("explicit", "gpt-5")


def test_a_name_for_background_needs_no_model_of_its_own():
    profile = Profile(default="the-default", background="the-cheap", background_regex="mini$")
    assert decide(model="gpt-4o-mini", profile=profile).route == "background"
    with pytest.raises(UnknownModel):
        decide(model="gpt-4o", profile=profile)


def test_an_empty_catalogue_serves_nobody():
    with pytest.raises(NoModels):
        decide(known=Catalogue())
    with pytest.raises(NoModels):
        decide(known=Catalogue(models={"bare": dataclasses.replace(model("bare"), targets=())}))


# --- profiles ---------------------------------------------------------------------------------


def test_the_most_specific_profile_wins_field_by_field():
    known = Catalogue(
        platform_profile=Profile(default="p", think="p", background="p", think_efforts=frozenset({"high"})),
        organization_profiles={1: Profile(think="o", background="o", think_efforts=frozenset())},
        key_profiles={2: Profile(background="", pin_explicit_model=True)},
    )
    key = profile_for(known, 1, 2)
    assert (key.default, key.think, key.background, key.pin_explicit_model) == ("p", "o", "", True)
    assert key.think_efforts == frozenset()
    stranger = profile_for(known, 7, 8)
    assert (stranger.default, stranger.think, stranger.pin_explicit_model) == ("p", "p", False)


def test_defaults_fill_what_nobody_set():
    profile = merge_profiles()
    assert (profile.auto_map_regex, profile.background_regex) == ("^claude-", "(?i)claude.*haiku")
    assert (profile.long_context_threshold, profile.think_efforts) == (60_000, frozenset({"max"}))
    assert (profile.think_in_plan_mode, profile.pin_explicit_model, profile.default) == (True, False, None)


def test_a_route_switched_off_falls_through():
    thinking = {"type": "enabled", "budget_tokens": 1024}
    assert decide(thinking=thinking).route == "think"
    assert decide(thinking=thinking, profile=merge_profiles(Profile(think=""), ROUTES)).route == "default"


def test_a_route_whose_model_is_gone_falls_through_with_a_warning():
    profile = merge_profiles(Profile(websearch="retired-model"), ROUTES)
    decided = decide(tools=[SEARCH], thinking={"type": "enabled"}, profile=profile)
    assert decided.route == "think"
    assert any("retired-model" in warning for warning in decided.warnings)


def test_a_default_route_whose_model_is_gone_still_serves_claude_names():
    decided = decide(profile=Profile(default="retired"), known=catalogue("some-opus", "other"))
    assert decided.model.name == "some-opus"
    assert any("retired" in warning for warning in decided.warnings)


@pytest.mark.parametrize(
    "pattern", ["", "(", "[[a]", "(a+)+$", "(a|a)*b", "a?" * 40 + "a" * 40, r"(.)\1", "x" * 201, ".*.*.*.*x"]
)
def test_a_bad_pattern_means_the_default_with_a_warning(pattern):
    profile = merge_profiles(Profile(auto_map_regex=pattern, background_regex=pattern), ROUTES)
    assert decide(model="claude-opus-4-8", profile=profile).model.name == "the-default"
    decided = decide(model="claude-haiku-4-5", profile=profile)
    assert decided.route == "background"
    assert [warning.split()[0] for warning in decided.warnings] == ["auto_map_regex", "background_regex"]


@pytest.mark.parametrize("pattern", ["^(claude-|gpt-)", "(?i)claude.*haiku", "mini$", "^gpt-[45](\\.\\d)?", "a{2,4}"])
def test_patterns_that_routing_needs_are_run(pattern):
    assert decide(profile=merge_profiles(Profile(background_regex=pattern), ROUTES)).warnings == ()


# --- the routes -------------------------------------------------------------------------------


def test_web_search_comes_first():
    everything = user(text("look"), PNG)
    system = [BILLING, text("<CCM-SUBAGENT-MODEL>the-guard</CCM-SUBAGENT-MODEL>")]
    decided = decide(
        model="claude-haiku-4-5",
        tools=[SEARCH],
        tool_choice={"type": "tool", "name": "web_search"},
        messages=[everything],
        system=system,
        thinking={"type": "enabled"},
        tokens=100_000,
    )
    assert decided.route == "websearch"
    assert b"SUBAGENT-MODEL" not in decided.request.encode()


def test_a_web_search_without_its_route_stays_on_the_default():
    profile = merge_profiles(Profile(websearch=""), ROUTES)
    assert decide(tools=[SEARCH], headers=AUXILIARY, profile=profile).route == "default"


@pytest.mark.parametrize(
    ("messages", "route"),
    [
        ([user(text("see"), PNG)], "image"),
        ([user({"type": "tool_result", "tool_use_id": "t", "content": [text("a"), PNG]})], "image"),
        ([user(PNG), {"role": "system", "content": "later"}], "image"),
        ([user(PNG), user(text("and?"))], "image"),
        ([user(PNG), assistant(text("nice")), user(text("thanks"))], "default"),
        ([user({"type": "tool_result", "tool_use_id": "t", "content": 'a "image" word'})], "default"),
        (
            [user({"type": "tool_result", "tool_use_id": "t", "content": [{"type": "document", "source": PNG}]})],
            "default",
        ),
        ([user({"type": "document", "source": {"type": "content", "content": [PNG]}})], "default"),
    ],
)
def test_images_of_the_newest_turn(messages, route):
    assert decide(messages=messages).route == route


@pytest.mark.parametrize(
    ("content", "sees", "warned"), [([PNG], False, True), ([PNG], True, False), ([text("hi")], False, False)]
)
def test_a_model_that_cannot_see_a_new_image_is_warned_of(content, sees, warned):
    known = catalogue(dataclasses.replace(model("the-default"), vision=sees))
    decided = decide(messages=[user(*content)], known=known, profile=Profile(default="the-default"))
    assert any("cannot see images" in warning for warning in decided.warnings) == warned


@pytest.mark.parametrize(("tokens", "route"), [(60_000, "default"), (60_001, "long_context")])
def test_long_conversations(tokens, route):
    assert decide(tokens=tokens).route == route


@pytest.mark.parametrize(
    ("tokens", "long_window", "route"),
    [
        (30_000, None, "default"),
        (33_000, None, "long_context"),
        (33_000, 40_000, "long_context"),
        (33_000, 8_000, "default"),
    ],
)
def test_what_does_not_fit_goes_to_long_context(tokens, long_window, route):
    known = catalogue(model("the-default", window=32_000), model("the-long", window=long_window))
    profile = Profile(default="the-default", long_context="the-long")
    compaction = {"x-claude-code-request-class": "compaction"}
    decided = decide(tokens=tokens, known=known, profile=profile, headers=compaction)
    assert (decided.route, decided.request_class) == (route, "compaction")


def test_the_window_is_that_of_the_model_that_would_serve():
    known = catalogue("the-default", model("the-thinker", window=8_000), "the-long")
    profile = Profile(default="the-default", think="the-thinker", long_context="the-long")
    assert decide(tokens=9_000, known=known, profile=profile, thinking={"type": "enabled"}).route == "long_context"
    assert decide(tokens=9_000, known=known, profile=profile).route == "default"


@pytest.mark.parametrize(
    ("fields", "headers", "route"),
    [
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, {}, "think"),
        ({"thinking": {"type": "adaptive"}}, {}, "default"),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}, {}, "think"),
        ({"output_config": {"effort": "xhigh"}}, {}, "default"),
        ({"thinking": {"type": "disabled"}, "output_config": {"effort": "max"}}, {}, "default"),
        ({}, {"x-claude-code-agent-type": "Plan"}, "think"),
        ({"thinking": {"type": "disabled"}}, {"x-claude-code-agent-type": "Plan"}, "default"),
        ({}, {"x-claude-code-agent-type": "Explore"}, "default"),
        ({"output_config": {"effort": "max"}, "tools": []}, AUXILIARY, "background"),
        ({"model": "claude-haiku-4-5", "thinking": {"type": "enabled"}}, {}, "think"),
    ],
)
def test_what_asks_for_thinking(fields, headers, route):
    assert decide(headers=headers, **fields).route == route


def result(id_: str, content: object) -> dict[str, object]:
    return {"type": "tool_result", "tool_use_id": id_, "content": content}


def call(name: str, id_: str = "t1") -> dict[str, object]:
    return {"type": "tool_use", "id": id_, "name": name, "input": {}}


ENTERED = "Entered plan mode. You should now focus on exploring the codebase and designing an approach."
APPROVED = "User has approved your plan. You can now start coding."
REMINDER = f"<system-reminder>\n{PLAN}\n</system-reminder>"
OTHER_REMINDER = "<system-reminder>\n<total_tokens>15000000 tokens left</total_tokens>\n</system-reminder>"
SYSTEM_ON = {"role": "system", "content": f"# Environment\n\n{PLAN}"}
SYSTEM_OFF = {"role": "system", "content": "## Exited Plan Mode\n\nYou have exited plan mode."}


@pytest.mark.parametrize(
    ("messages", "on"),
    [
        ([user(text("go")), SYSTEM_ON], True),
        ([user(text("go")), SYSTEM_ON, assistant(text("ok")), user(text("now")), SYSTEM_OFF], False),
        ([SYSTEM_ON, SYSTEM_OFF, {"role": "system", "content": "## Re-entering Plan Mode\n\nYou are"}], True),
        ([user(text(REMINDER), text("go"))], True),
        ([user(text("go")), assistant(call("EnterPlanMode")), user(result("t1", ENTERED))], True),
        ([SYSTEM_ON, assistant(call("ExitPlanMode")), user(result("t1", APPROVED))], False),
        ([SYSTEM_ON, assistant(call("ExitPlanMode")), user(result("t1", [text(APPROVED)]))], False),
        ([assistant(call("Bash")), user(result("t1", f"output\n\n{REMINDER}"))], True),
        ([assistant(call("Bash")), user(result("t1", f"out\n\n{REMINDER}\n\n{OTHER_REMINDER}"))], True),
        ([SYSTEM_ON, assistant(call("Bash")), user(result("t1", APPROVED))], True),
        ([assistant(call("Read")), user(result("t1", ENTERED))], False),
        ([assistant(call("Read")), user(result("t1", f"{REMINDER}\n\nmore of the file"))], False),
        ([assistant(call("Read")), user(result("t1", f"Docs:\n\n{PLAN}"))], False),
        ([assistant(call("Read")), user(result("t1", f"1\t{REMINDER}"))], False),
        ([user(text(f"what does this mean?\n\n{PLAN}"))], False),
        ([user(text("go")), assistant(text(f"<system-reminder>\n{PLAN}"))], False),
        ([user(text("go")), {"role": "system", "content": f"He wrote: {PLAN}"}], False),
        ([SYSTEM_ON, assistant({"type": "x", "content": {"type": "error"}}), user(text("go"))], True),
        ([SYSTEM_ON, {"role": "system", "content": []}], True),
    ],
)
def test_plan_mode(messages, on):
    first = [] if messages[0]["role"] == "user" else [user(text("start"))]
    profile = merge_profiles(Profile(think_in_plan_mode=False), ROUTES)
    assert decide(messages=[*first, *messages]).route == ("think" if on else "default")
    assert decide(messages=[*first, *messages], profile=profile).route == "default"


# --- the client's helpers -----------------------------------------------------------------------

TITLE = text("Generate a concise, sentence-case title (3-7 words) that captures the topic.")


@pytest.mark.parametrize(
    ("fields", "route"),
    [
        ({"system": [*CLIENT, TITLE], "messages": [user(text("<session>\nhi"))]}, "background"),
        ({"system": CLIENT, "messages": [user(text("\nWeb page content:\n---\nT"))]}, "background"),
        ({"system": CLIENT, "messages": [user(text("<conversation>\nhi"))], "tools": []}, "background"),
        ({"system": CLIENT, "messages": [user(text("<conversation>\nhi"))], "tools": [BASH]}, "default"),
        ({"system": CLIENT, "messages": [user(text("hi"))]}, "default"),
        ({"messages": [user(text("<conversation>\nhi"))]}, "default"),  # somebody else's prompt
    ],
)
def test_helpers_by_their_shape(fields, route):
    assert decide(**fields).route == route


@pytest.mark.parametrize(
    ("fields", "route"),
    [
        ({"tools": []}, "background"),
        ({}, "background"),
        ({"tools": [BASH], "tool_choice": {"type": "tool", "name": "Bash"}}, "background"),
        ({"tools": [BASH]}, "default"),  # a side question: the conversation's prompt cache is with the main model
        ({"max_tokens": 1}, "default"),
    ],
)
def test_the_auxiliary_class(fields, route):
    assert decide(headers=AUXILIARY, **fields).route == route


def test_an_unknown_class_is_no_class():
    decided = decide(headers={"x-claude-code-request-class": "whatever"})
    assert (decided.route, decided.request_class) == ("default", "")


MONITOR = text(
    "You are a security monitor for autonomous AI coding agents.\n<CCM-SUBAGENT-MODEL>the-long</CCM-SUBAGENT-MODEL>"
)


@pytest.mark.parametrize("headers", [{}, AUXILIARY, {"x-claude-code-agent-id": "a1"}])
@pytest.mark.parametrize(
    ("profile", "route", "name"), [(ROUTES, "safety", "the-guard"), (Profile(safety=""), "safety", "the-default")]
)
def test_the_safety_classifier(headers, profile, route, name):
    decided = decide(
        model="claude-haiku-5-5",
        system=[BILLING, MONITOR],
        max_tokens=64,
        thinking={"type": "enabled"},
        headers=headers,
        profile=merge_profiles(profile, ROUTES),
        tokens=90_000,
    )
    assert (decided.route, decided.model.name, decided.request_class) == (route, name, "auxiliary")


# --- pinned models ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "pinned", "unpinned"),
    [
        ({"thinking": {"type": "enabled"}}, "explicit", "think"),
        ({"tools": [SEARCH]}, "websearch", "websearch"),
        ({}, "explicit", "explicit"),
    ],
)
def test_pinned_models(fields, pinned, unpinned):
    known = catalogue(*ROUTE_MODELS, "gpt-5")
    pin = merge_profiles(Profile(pin_explicit_model=True), ROUTES)
    assert decide(model="gpt-5", known=known, profile=pin, **fields).route == pinned
    assert decide(model="gpt-5", known=known, **fields).route == unpinned


def test_a_pin_is_for_named_models_only():
    pin = merge_profiles(Profile(pin_explicit_model=True), ROUTES)
    assert decide(model="claude-opus-4-8", profile=pin, thinking={"type": "enabled"}).route == "think"


# --- what the decision tells ----------------------------------------------------------------------

ORDER = [
    "auto_map",
    "safety",
    "websearch",
    "subagent",
    "image",
    "long_context",
    "pin_explicit_model",
    "think",
    "background",
]


@pytest.mark.parametrize(
    "fields", [{}, {"tools": [SEARCH]}, {"thinking": {"type": "enabled"}}, {"model": "claude-haiku-5"}]
)
def test_the_trail_lists_every_rule_and_one_winner(fields):
    decided = decide(**fields)
    assert [rule.rule for rule in decided.trail] == [*ORDER, "default"]
    assert [rule.rule for rule in decided.trail[1:] if rule.matched] == [decided.route]
    assert all(rule.why.endswith(".") for rule in decided.trail)


def test_warnings_and_reasons_fit_in_headers():
    nasty = "é\r\nx-evil: 1" + "y" * 500
    known = catalogue(*ROUTE_MODELS)
    decided = decide(
        known=known,
        profile=merge_profiles(Profile(think=nasty), ROUTES),
        system=f"<CCM-SUBAGENT-MODEL>{nasty[-200:]}\u00e9</CCM-SUBAGENT-MODEL>",
    )
    assert len(decided.warnings) == 2
    for line in (*decided.warnings, *(rule.why for rule in decided.trail)):
        assert line.isascii()
        assert line.isprintable()
        assert len(line) < 300


def test_agents_and_sessions():
    ids = {"session_id": "s-1", "device_id": "d"}
    headers = {"x-claude-code-agent-id": "a1", "x-claude-code-parent-agent-id": "p1"}
    decided = decide(headers=headers, metadata={"user_id": msgspec.json.encode(ids).decode()})
    assert (decided.session_id, decided.agent_id, decided.parent_agent_id) == ("s-1", "a1", "p1")
    assert decided.request_class == "subagent"


@pytest.mark.parametrize("user_id", ["", "{", "[1]", '{"session_id": 3}', "someone", '"x"'])
def test_a_user_id_without_a_session(user_id):
    assert decide(metadata={"user_id": user_id}).session_id == ""


def test_probes():
    assert probe(request(max_tokens=1))
    assert not probe(request(max_tokens=1, stream=True))
    assert not probe(request(max_tokens=2))
    assert not probe(request(max_tokens=1, messages=[user(text("a")), assistant(text("b")), user(text("c"))]))
