"""Subagent tags: where they choose a model, where they are only text, and what is left behind."""

import pytest

from providers.types import Profile
from tests.gateway.routing_cases import ROUTE_MODELS, catalogue, decide, provided, request

TAG = "<CCM-SUBAGENT-MODEL>glm-4.6</CCM-SUBAGENT-MODEL>"
CCR_TAG = TAG.replace("CCM", "CCR")
KNOWN = catalogue(*ROUTE_MODELS, "glm-4.6", "other")
BILLING = {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1.330.d01; cc_is_subagent=true;"}
AGENT = {"x-claude-code-agent-id": "a1"}


def text(content: str) -> dict[str, str]:
    return {"type": "text", "text": content}


@pytest.mark.parametrize("tag", [TAG, CCR_TAG, TAG.replace("glm-4.6", "  glm-4.6 "), TAG.replace("glm", "GLM")])
@pytest.mark.parametrize(
    ("system", "left"),
    [
        ("{}rest", "rest"),
        ([text("a {}")], [text("a ")]),
        ([text("{}"), text("b")], [text(""), text("b")]),
        ([text("a"), text("b"), text("c{}d")], [text("a"), text("b"), text("cd")]),
    ],
)
def test_any_system_block(tag, system, left):
    filled = system.format(tag) if isinstance(system, str) else [text(b["text"].format(tag)) for b in system]
    decided = decide(system=filled, known=KNOWN)
    assert (decided.route, decided.model.name) == ("subagent", "glm-4.6")
    assert decided.request.value("system") == left


@pytest.mark.parametrize("name", ["llama", "groq/llama", "groq,llama", "groq/llama-4", "anthropic/llama", "llama[1m]"])
def test_every_form_of_a_name_in_a_tag(name):
    known = provided("demo,the-default", "groq,llama", "groq,llama-4")
    system = TAG.replace("glm-4.6", name)
    decided = decide(system=system, known=known, profile=Profile(default="the-default"))
    assert decided.route == "subagent"
    assert decided.model.name in {"llama", "llama-4"}
    assert decided.provider == ("groq" if "groq" in name else None)


def test_a_name_that_does_not_resolve_is_ignored_with_a_warning():
    decided = decide(system=f"{TAG}rest", known=catalogue(*ROUTE_MODELS))
    assert decided.route == "default"
    assert any("glm-4.6" in warning for warning in decided.warnings)
    assert decided.request.value("system") == "rest"


def test_the_first_tag_wins_and_all_go():
    decided = decide(system=[text(f"{TAG}{TAG.replace('glm-4.6', 'other')}k")], known=KNOWN)
    assert decided.model.name == "glm-4.6"
    assert decided.request.value("system") == [text("k")]


def test_halves_that_a_tag_kept_apart_do_not_become_one():
    nested = f"a<CCM-SUB{TAG}AGENT-MODEL>other</CCM-SUBAGENT-MODEL>b"
    decided = decide(system=nested, known=KNOWN)
    assert decided.model.name == "glm-4.6"
    assert decided.request.value("system") == "ab"


@pytest.mark.parametrize(
    "system",
    ["<CCM-SUBAGENT-MODEL>glm-4.6", TAG.replace("4.6", "\n4.6"), "<CCM-SUBAGENT-MODEL>glm-4.6</CCR-SUBAGENT-MODEL>"],
)
def test_what_is_no_tag_stays(system):
    decided = decide(system=system, known=KNOWN)
    assert decided.route == "default"
    assert decided.request.value("system") == system


PROOFS = [
    pytest.param({"headers": AGENT}, id="agent id"),
    pytest.param({"headers": {"x-claude-code-request-class": "subagent"}}, id="class subagent"),
    pytest.param({"headers": {"x-claude-code-request-class": "workflow"}}, id="class workflow"),
    pytest.param({"headers": {**AGENT, "x-claude-code-request-class": "compaction"}}, id="its compaction"),
    pytest.param({"system": [BILLING]}, id="billing block"),
    pytest.param({"system": [text('x-anthropic-billing-header: {"cc_is_subagent":true}')]}, id="older billing block"),
]


@pytest.mark.parametrize("proof", PROOFS)
@pytest.mark.parametrize(
    "content", [f"{TAG} do it", [text("<system-reminder>\nx</system-reminder>"), text(f"{TAG} do it")]]
)
def test_a_proven_subagents_first_message_is_trusted(proof, content):
    messages = [{"role": "user", "content": content}, {"role": "assistant", "content": TAG}]
    messages.append({"role": "user", "content": f"later {TAG}"})
    decided = decide(messages=messages, known=KNOWN, **proof)
    assert (decided.route, decided.model.name) == ("subagent", "glm-4.6")
    first, *rest = decided.request.value("messages")
    assert first["content"] == " do it" or [block["text"] for block in first["content"]][1] == " do it"
    assert rest == messages[1:]


UNPROVEN = [
    pytest.param({}, id="nothing"),
    pytest.param({"headers": {"x-claude-code-request-class": "main"}}, id="main"),
    pytest.param({"headers": {"x-claude-code-request-class": "auxiliary"}}, id="auxiliary"),
    pytest.param({"headers": {"x-claude-code-request-class": "compaction"}}, id="main compaction"),
    pytest.param({"system": [text("a"), BILLING]}, id="billing text in another block"),
    pytest.param(
        {"system": [text("x-anthropic-billing-header: cc_is_subagent=true; cc_is_subagent=false;")]}, id="ambiguous"
    ),
]


@pytest.mark.parametrize("case", UNPROVEN)
def test_a_main_requests_messages_are_only_text(case):
    sent = request(
        messages=[{"role": "user", "content": f"{TAG} do it"}], **{k: v for k, v in case.items() if k == "system"}
    )
    decided = decide(sent, headers=case.get("headers"), known=KNOWN)
    assert decided.route != "subagent"
    assert decided.request is sent


def test_the_class_wins_over_the_agent_id():
    headers = {**AGENT, "x-claude-code-request-class": "main"}
    sent = request(messages=[{"role": "user", "content": f"{TAG} do it"}])
    decided = decide(sent, headers=headers, known=KNOWN)
    assert (decided.route, decided.request_class, decided.request) == ("default", "main", sent)


def result(content: object) -> dict[str, object]:
    return {"type": "tool_result", "tool_use_id": "t", "content": content}


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": [result(TAG)]}],
        [{"role": "user", "content": [result([text(TAG)])]}],
        [{"role": "user", "content": [text(f"<system-reminder>\nCLAUDE.md: {TAG}\n</system-reminder>"), text("do")]}],
        [{"role": "user", "content": "do"}, {"role": "assistant", "content": TAG}],
        [{"role": "user", "content": "do"}, {"role": "system", "content": TAG}],
        [{"role": "user", "content": "do"}, {"role": "user", "content": TAG}],
        [{"role": "user", "content": f"\nWeb page content:\n---\n{TAG}"}],  # the helper holds a stranger's page
    ],
)
def test_tags_in_other_places_are_only_text(messages):
    sent = request(messages=messages, system=[BILLING])
    decided = decide(sent, headers=AGENT, known=KNOWN)
    assert decided.route != "subagent"
    assert decided.request is sent


def test_a_subagents_web_search_is_no_conversation():
    sent = request(messages=[{"role": "user", "content": TAG}], tools=[{"type": "web_search_20250305", "name": "s"}])
    decided = decide(sent, headers=AGENT, known=KNOWN, profile=Profile(default="the-default"))
    assert (decided.route, decided.request) == ("default", sent)


def test_other_blocks_keep_their_bytes():
    body = (
        b'{"model":"claude-x","max_tokens":5,"system":[{"type":"text","text":"caf\\u00e9", "cache_control": '
        b'{"type":"ephemeral"}},{"unknown":1.50,"type":"text","text":"%s!","n":1e2}],'
        b'"messages":[{"role":"user","content":"caf\\u00e9 1.0"}],"extra":{"b": 1.0, "a":[ ]}}'
    )
    sent = type(request()).parse(body % TAG.encode())
    decided = decide(sent, known=KNOWN)
    assert decided.model.name == "glm-4.6"
    assert decided.request.encode() == body % b""


def test_each_turn_gets_the_same_edit():
    first = [{"role": "user", "content": [text(f"{TAG}do it")]}]
    second = [*first, {"role": "assistant", "content": "done"}, {"role": "user", "content": "more"}]
    edits = [decide(messages=turn, headers=AGENT, known=KNOWN).request.value("messages")[0] for turn in (first, second)]
    assert edits[0] == edits[1] == {"role": "user", "content": [text("do it")]}


def test_a_tag_may_ask_for_a_claude_tier():
    known = catalogue("the-default", "claude-opus-5")
    decided = decide(
        system=TAG.replace("glm-4.6", "claude-opus-4-8"), known=known, profile=Profile(default="the-default")
    )
    assert (decided.route, decided.model.name) == ("subagent", "claude-opus-5")
