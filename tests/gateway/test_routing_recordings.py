"""Each request recorded from Claude Code takes the route that is right for it.

The recordings are no part of this project: they are read where they lie, and skipped without them.
"""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.routing import Decision, UnknownModel, probe
from providers.types import Profile
from providers.wire.request import MessagesRequest
from tests.gateway.routing_cases import ROUTE_MODELS, ROUTES, catalogue, decide

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "fixtures"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no recordings at {FOLDER}")

KNOWN = catalogue(*ROUTE_MODELS, "my-gpt-5", "my-haiku", "gw-cls", "gw-other", "foo", "bar", "the-agents")
PROBES = {"count_fallback_message", "model_validation_probe"}
SUBAGENTS = {
    "claude-code/subagent_custom_ccm_tag",
    "claude-code/subagent_nested",
    "claude-code/subagent_prompt_ccm_tag",
    "claude-code-2.1.330/subagent_explore_hint_headers",
    "claude-code-2.1.330/subagent_nested_hint_headers",
}

Expected = tuple[str, str] | None  # the route and the request class

OLDER: dict[str, Expected] = {
    "after_compact": ("explicit", "main"),
    "auto_mode_classifier": ("safety", "auxiliary"),
    "compact_auto": ("explicit", "compaction"),
    "count_fallback_message": ("default", "auxiliary"),
    "count_tokens_text": ("default", "auxiliary"),
    "count_tokens_tools": ("default", "auxiliary"),
    "discovery_get": None,  # GET /v1/models: nothing to route
    "json_schema_enforce": ("default", "main"),
    "main_cli_opus48": ("default", "main"),
    "main_fast_mode": ("default", "main"),
    "main_haiku45": ("think", "main"),  # thinking beats the name, as in the seed
    "main_noexp_betas": ("default", "main"),
    "main_print_opus48": ("default", "main"),
    "main_sonnet45_enabled_thinking": ("think", "main"),
    "main_thinking_disabled": ("default", "main"),
    "main_tool_search": ("default", "main"),
    "main_tool_search_after_load": ("image", "main"),  # a tool answered with a screenshot
    "main_ultrathink": ("default", "main"),
    "main_unknown_model": ("explicit", "main"),
    "main_use_gateway_unknown": ("think", "main"),
    "mcp_results": ("image", "main"),  # a tool answered with a screenshot
    "model_validation_probe": ("unknown", ""),
    "parallel_agent_results": ("default", "main"),
    "plan_exited": ("default", "main"),
    "plan_print": ("default", "main"),  # the marker is in the part that the recording cut off
    "plan_reentered": ("think", "main"),
    "plan_sonnet45": ("think", "main"),
    "prompt_suggestion": ("default", "auxiliary"),  # carries the conversation
    "side_question": ("default", "auxiliary"),  # carries the conversation
    "subagent_custom_ccm_tag": ("subagent", "subagent"),
    "subagent_nested": ("background", "subagent"),
    "subagent_prompt_ccm_tag": ("subagent", "subagent"),
    "thinking_roundtrip": ("default", "main"),
    "title": ("background", "auxiliary"),
    "title_haiku_env": ("background", "auxiliary"),
    "tool_results_images_pdf_errors": ("image", "main"),
    "webfetch_summary": ("background", "auxiliary"),
    "websearch_after": ("default", "main"),
    "websearch_inner": ("websearch", "auxiliary"),
}
NEWEST: dict[str, Expected] = {
    "after_compact": ("default", "main"),
    "auto_classifier_custom_model": ("safety", "auxiliary"),
    "auto_classifier_stage1": ("safety", "auxiliary"),
    "auto_classifier_stage2": ("safety", "auxiliary"),
    "auto_prior_turn_context": ("default", "main"),
    "compact_auto": ("default", "compaction"),
    "compact_manual": ("default", "compaction"),
    "compact_reactive": ("default", "compaction"),
    "count_tokens_tools": ("default", "auxiliary"),
    "discovery_get": None,  # GET /v1/models: nothing to route
    "main_haiku55": ("background", "main"),
    "main_noexp_betas": ("default", "main"),
    "main_print_opus55": ("default", "main"),
    "main_sonnet45_enabled_thinking": ("think", "main"),
    "main_task_notification": ("default", "main"),
    "main_tool_search_off": ("default", "main"),
    "main_tui_auto_mode_safeguards": ("default", "main"),
    "main_unknown_model": ("explicit", "main"),
    "mcp_late_tools_deferred": ("default", "main"),
    "model_validation_probe": ("explicit", "auxiliary"),
    "nonstream_fallback": ("default", "main"),
    "per_turn_effort_empty_system": ("think", "main"),
    "plan_print": ("think", "main"),
    "plan_tui_enterplan": ("think", "main"),
    "prompt_suggestion": ("default", "auxiliary"),  # carries the conversation
    "resume_after_cut_stream": ("default", "main"),
    "side_question": ("default", "auxiliary"),  # carries the conversation
    "subagent_explore_hint_headers": ("default", "subagent"),
    "subagent_nested_hint_headers": ("default", "subagent"),
    "system_role_400_fallback": ("default", "main"),
    "tool_results_images_pdf_errors": ("image", "main"),
    "tool_search_deferred_called": ("default", "main"),
    "tool_search_dropped_after_400": ("default", "main"),
    "tool_search_keyword_unknown_model": ("explicit", "main"),
    "tool_search_loaded_opus55": ("default", "main"),
    "tool_search_loaded_sonnet45": ("think", "main"),
    "use_gateway_unknown": ("think", "main"),
    "webfetch_summary": ("background", "auxiliary"),
    "websearch_inner": ("websearch", "auxiliary"),
    "websearch_inner_sonnet45": ("websearch", "auxiliary"),
}

EXPECTED = {
    **{f"claude-code/{name}": expected for name, expected in OLDER.items()},
    **{f"claude-code-2.1.330/{name}": expected for name, expected in NEWEST.items()},
}
ROUTED = [name for name, expected in EXPECTED.items() if expected is not None]


def recording(name: str) -> dict[str, Any]:
    content: dict[str, Any] = msgspec.json.decode((FOLDER / f"{name}.json").read_bytes())
    return content


def sent(name: str) -> MessagesRequest:
    recorded = recording(name)
    return MessagesRequest.parse(msgspec.json.encode(recorded["body"]), counting="count_tokens" in recorded["path"])


def decision(name: str, profile: Profile = ROUTES, *, without: tuple[str, ...] = ()) -> Decision:
    headers = {key.lower(): value for key, value in recording(name)["headers"] if key.lower() not in without}
    return decide(sent(name), headers=headers, profile=profile, known=KNOWN)


def test_every_recording_has_an_expectation():
    recorded = {f"{file.parent.name}/{file.stem}" for file in FOLDER.glob("claude-code*/*.json")}
    assert recorded == set(EXPECTED)


@pytest.mark.parametrize("name", ROUTED)
def test_route_and_class(name):
    route, request_class = EXPECTED[name] or ("", "")
    if route == "unknown":
        with pytest.raises(UnknownModel, match=r"totally-unknown-model.*GET /v1/models"):
            decision(name)
        return
    decided = decision(name)
    assert (decided.route, decided.request_class) == (route, request_class)
    assert [rule.rule for rule in decided.trail if rule.matched and rule.rule != "auto_map"] == [route]
    assert decided.warnings == ()


@pytest.mark.parametrize("name", [name for name in ROUTED if name.startswith("claude-code-2.1.330/")])
def test_the_shape_tells_the_same_as_the_header(name):
    route, request_class = EXPECTED[name] or ("", "")
    decided = decision(name, without=("x-claude-code-request-class", "x-claude-1p-request-class"))
    assert (decided.route, decided.request_class) == (route, request_class)


@pytest.mark.parametrize("name", [name for name in ROUTED if name not in SUBAGENTS])
def test_only_subagents_take_the_subagent_route(name):
    if (EXPECTED[name] or ("",))[0] != "unknown":
        assert decision(name, Profile(default="the-default", subagent="the-agents")).route != "subagent"


@pytest.mark.parametrize("name", sorted(SUBAGENTS))
def test_subagents_take_the_subagent_route(name):
    decided = decision(name, Profile(default="the-default", subagent="the-agents"))
    assert decided.route == "subagent"
    assert decided.agent_id
    assert bool(decided.parent_agent_id) == ("nested" in name)


@pytest.mark.parametrize("name", ROUTED)
def test_tags_go_and_nothing_else_changes(name):
    if (EXPECTED[name] or ("",))[0] == "unknown":
        return
    tag = {"subagent_custom_ccm_tag": "foo", "subagent_prompt_ccm_tag": "bar"}.get(name.split("/")[1], "")
    removed = f"<CCM-SUBAGENT-MODEL>{tag}</CCM-SUBAGENT-MODEL>" if tag else ""
    before, after = sent(name).encode(), decision(name).request.encode()
    assert len(before) - len(after) == len(removed)
    assert before.replace(removed.encode(), b"") == after


@pytest.mark.parametrize("name", ROUTED)
def test_probes(name):
    assert probe(sent(name)) == (name.split("/")[1] in PROBES)


@pytest.mark.parametrize("name", ROUTED)
def test_session(name):
    if (EXPECTED[name] or ("",))[0] != "unknown":
        headers = {key.lower(): value for key, value in recording(name)["headers"]}
        assert decision(name).session_id == headers["x-claude-code-session-id"]


def test_plan_mode_alone_leads_to_think():
    """On a model whose thinking is always enabled the markers could be broken unseen."""
    without = Profile(think_in_plan_mode=False, default="the-default", think="the-thinker")
    for name in ("claude-code/plan_reentered", "claude-code-2.1.330/plan_tui_enterplan"):
        assert decision(name).route == "think"
        assert decision(name, without).route == "default"
