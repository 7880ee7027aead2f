"""Bugs of other gateways about thinking (translation.md, section 5 E), looked for in this one."""

from dataclasses import replace
from typing import Any

import pytest

from gateway.openai.chat_request import chat_request
from tests.conformance.wires import BY_NAME, SPEAKERS, Speaker
from tests.providers.openai_chat_support import BASH, request, result, text, use

native = pytest.mark.parametrize("speaker", [each for each in SPEAKERS if each.is_native], ids=str)
BUDGET = {"type": "enabled", "budget_tokens": 2000}
ADAPTIVE = {"type": "adaptive"}
SIGNED = {"type": "thinking", "thinking": "Claude's.", "signature": "EqQB"}
UNSIGNED = {"type": "thinking", "thinking": "A clone's.", "signature": ""}
CLEAR = {"edits": [{"type": "clear_thinking_20251015"}, {"type": "clear_tool_uses_20250919"}]}
CALLED = [("user", "x"), ("assistant", [text("Now."), use("toolu_1")]), ("user", [result("toolu_1")])]


@native
def test_b077_thinking_that_nobody_signed_is_left_out(speaker: Speaker) -> None:
    """Servers of Anthropic's format write thinking without a signature, which Claude refuses."""
    sent = speaker.sent(request(("user", "x"), ("assistant", [UNSIGNED, text("a")]), ("user", "y")))
    assert sent["messages"][1]["content"] == [text("a")]
    kept = speaker.sent(request(("user", "x"), ("assistant", [SIGNED, text("a")]), ("user", "y")))
    assert kept["messages"][1]["content"] == [SIGNED, text("a")]


def test_b077_a_refused_signature_asks_for_a_repetition_without_thinking() -> None:
    said = "messages.1.content.0: Invalid `signature` in `thinking` block"
    body = {"type": "error", "error": {"type": "invalid_request_error", "message": said}}
    assert BY_NAME["anthropic"].failure(400, body).drop_reasoning
    body["error"] = {"type": "invalid_request_error", "message": "max_tokens: must be positive"}
    assert not BY_NAME["anthropic"].failure(400, body).drop_reasoning


@native
@pytest.mark.parametrize(
    ("thinking", "first", "expected"),
    [
        (BUDGET, [], {"type": "disabled"}),
        (BUDGET, [SIGNED], BUDGET),
        (ADAPTIVE, [], ADAPTIVE),
    ],
)
def test_b078_no_budget_in_a_turn_whose_calls_another_model_made(
    speaker: Speaker, thinking: Any, first: list[Any], expected: Any
) -> None:
    told = [("user", "x"), ("assistant", [*first, text("Now."), use("toolu_1")]), ("user", [result("toolu_1")])]
    asked = request(*told, tools=[BASH], thinking=thinking, max_tokens=4096)
    assert speaker.sent(asked)["thinking"] == expected
    later = [*told, ("assistant", "done"), ("user", "next")]
    assert speaker.sent(request(*later, tools=[BASH], thinking=thinking, max_tokens=4096))["thinking"] == thinking


def test_b081_only_claude_loses_what_others_have_signed() -> None:
    """A server of Anthropic's format gets its own thinking back, signed or not."""
    speaker = BY_NAME["anthropic"]
    for kind in ("kimi", "minimax", "anthropic-compatible"):
        clone = replace(speaker, target=replace(speaker.target, kind=kind, actual_model="kimi-k2"))
        content = [UNSIGNED, {**SIGNED, "signature": "theirs"}, text("a")]
        sent = clone.sent(request(("user", "x"), ("assistant", content), ("user", "y")))
        assert sent["messages"][1]["content"] == content


def test_b085_thinking_is_not_cleared_where_there_is_none() -> None:
    """The edit that clears thinking is refused while thinking is off: also when CCM has turned it off."""
    speaker = BY_NAME["anthropic"]
    sent = speaker.sent(request(*CALLED, tools=[BASH], thinking=BUDGET, context_management=CLEAR))
    assert sent["thinking"] == {"type": "disabled"}
    assert sent["context_management"] == {"edits": [{"type": "clear_tool_uses_20250919"}]}
    only = {"edits": CLEAR["edits"][:1]}
    assert "context_management" not in speaker.sent(request(context_management=only))
    thinking = speaker.sent(request(thinking=ADAPTIVE, context_management=CLEAR))
    assert thinking["context_management"] == CLEAR


@native
def test_b086_no_temperature_beside_thinking(speaker: Speaker) -> None:
    sampling = {"temperature": 0.2, "top_k": 5, "top_p": 0.99}
    sent = speaker.sent(request(thinking=ADAPTIVE, **sampling))
    assert [name for name in sampling if name in sent] == ["top_p"]
    plain = speaker.sent(request(**sampling))
    assert {name: plain[name] for name in sampling} == sampling


def test_b086_an_openai_client_s_temperature_does_not_reach_a_claude_that_thinks() -> None:
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "reasoning_effort": "high",
        "temperature": 0.3,
    }
    sent = BY_NAME["anthropic"].sent(chat_request(body).messages)
    assert sent["thinking"] == ADAPTIVE
    assert "temperature" not in sent


def test_b086_the_newest_claude_takes_no_sampling_at_all() -> None:
    speaker = BY_NAME["anthropic"]
    newest = replace(speaker, target=replace(speaker.target, actual_model="claude-opus-4-8"))
    assert "temperature" not in newest.sent(request(temperature=0.2))


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("anthropic", "claude-sonnet-4-6"),
        ("anthropic-compatible", "claude-sonnet-4-6"),
        ("anthropic-compatible", "some-model"),
        ("kimi", "kimi-k2"),
    ],
)
@pytest.mark.parametrize(
    ("afforded", "thinking"), [(5000, {"type": "enabled", "budget_tokens": 4999}), (900, {"type": "disabled"})]
)
def test_b087_a_budget_stays_below_what_credits_afford(kind: str, name: str, afforded: int, thinking: Any) -> None:
    speaker = BY_NAME["anthropic"]
    served = replace(speaker, target=replace(speaker.target, kind=kind, actual_model=name))
    asked = request(thinking={"type": "enabled", "budget_tokens": 10_000}, max_tokens=16_000)
    sent = served.sent(asked, max_tokens=afforded)
    assert (sent["max_tokens"], sent.get("thinking")) == (afforded, thinking)
    assert served.sent(asked, max_tokens=16_000)["thinking"]["budget_tokens"] == 10_000


def test_b089_a_budget_reaches_converse() -> None:
    speaker = BY_NAME["bedrock"]
    claude = replace(speaker, target=replace(speaker.target, actual_model="converse/anthropic.claude-sonnet-4-5-v1:0"))
    sent = claude.sent(request(thinking=BUDGET, max_tokens=4096))
    assert sent["additionalModelRequestFields"]["thinking"] == BUDGET
