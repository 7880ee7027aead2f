"""Auto mode on another vendor's model, over HTTP: the `safety` route's model judges each tool call."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.fakes.answers import Answer, Failure, Reply, Text, Tokens, ToolUse
from tests.fakes.brain import Conversation, always
from tests.world import PRICES, World

SAFEGUARDS = [
    {
        "type": "dangerous_tool_use",
        "classifier_context": {
            "permission_mode": "auto", "live_cwd": "/home/someone/secret-project",
            "rules": {"allow": [], "deny": ["Bash(curl:*)"], "ask": []},
        },
    }
]  # fmt: skip
TOOL = {"name": "Bash", "description": "Run", "input_schema": {"type": "object", "properties": {}}}


@pytest.fixture(scope="module")
def checked(world: World) -> Iterator[World]:
    """The OpenAI fake serves; the Anthropic fake's `anthropic-agent` judges."""
    world.make_default("openai")
    world.ccm.import_config('[router]\ndefault = "openai-model"\nsafety = "anthropic-agent"\n')
    yield world
    world.ccm.import_config('[router]\ndefault = "openai-model"\nsafety = ""\n')


@pytest.fixture
def key(checked: World, email: str) -> str:
    checked.openai.clear()
    checked.anthropic.clear()
    checked.openai.brain = always(
        Reply(blocks=[Text("Running."), ToolUse("Bash", {"command": "curl evil"}), ToolUse("Bash", {"command": "ls"})])
    )
    checked.anthropic.brain = judging
    key = checked.ccm.create_key(email)
    checked.await_model(key, "openai-model")
    return key


def judging(conversation: Conversation) -> Answer:
    asked = conversation.text
    call = asked[asked.index("<tool_call>") :]
    flagged = "<verdict>flagged</verdict><reason>A rule denies curl.</reason>"
    text = flagged if "curl" in call else "<verdict>not_flagged</verdict>"
    return Reply(blocks=[Text(text)], tokens=Tokens(input=50, output=7))


def ask(world: World, key: str, *, stream: bool, **more: Any) -> list[dict[str, Any]]:
    """The events of the answer; the one body of an answer that is not streamed."""
    body = {
        "model": "claude-opus-5-5", "max_tokens": 1000, "stream": stream, "tools": [TOOL], "safeguards": SAFEGUARDS,
        "messages": [{"role": "user", "content": "go"}],
    } | more  # fmt: skip
    answer = httpx.post(
        f"{world.ccm.url}/v1/messages", json=body, headers={"x-api-key": key}, timeout=60, trust_env=False
    )
    assert answer.status_code == 200, answer.text
    if not stream:
        return [answer.json()]
    return [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]


def verdicts(events: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The results by the command that they are about."""
    results = next(found for e in events if (found := e.get("delta", e).get("safeguard_results")))
    assert results[0]["type"] == "dangerous_tool_use"
    assert results[0]["status"]["type"] == "available", results
    uses: dict[str, dict[str, Any]] = results[0]["status"]["tool_uses"]
    if len(events) == 1:
        commands = {b["id"]: b["input"]["command"] for b in events[0]["content"] if b["type"] == "tool_use"}
    else:
        starts = {e["index"]: e["content_block"]["id"] for e in events if e.get("content_block", {}).get("id")}
        pieces: dict[int, str] = {}
        for e in events:
            if e.get("delta", {}).get("type") == "input_json_delta":
                pieces[e["index"]] = pieces.get(e["index"], "") + e["delta"]["partial_json"]
        commands = {id_: json.loads(pieces[index])["command"] for index, id_ in starts.items()}
    return {commands[id_]: use for id_, use in uses.items()}


@pytest.mark.parametrize("stream", [True, False])
def test_each_call_is_judged_against_the_rules(checked: World, key: str, email: str, stream: bool):
    events = ask(checked, key, stream=stream)
    assert verdicts(events) == {
        "curl evil": {"type": "evaluated", "outcome": "flagged", "explanation": "A rule denies curl."},
        "ls": {"type": "evaluated", "outcome": "not_flagged"},
    }
    if stream:
        assert [e["type"] for e in events][-2:] == ["message_delta", "message_stop"]
    (served,) = checked.openai.requests
    assert b"safeguards" not in served.raw
    assert b"secret-project" not in served.raw
    assert all(b"Bash(curl:*)" in request.raw for request in checked.anthropic.requests)
    records = {record["route"]: record for record in checked.ccm.usage_records(email)}
    assert set(records) == {"default", "safety"}
    assert records["safety"]["model"] == "anthropic-agent"
    assert records["safety"]["charge"] == 50 * PRICES["input"] + 7 * PRICES["output"]
    assert sorted(record["route"] for record in checked.ccm.usage_records(email)) == ["default", "safety", "safety"]


def test_the_same_question_is_asked_once(checked: World, key: str):
    first = verdicts(ask(checked, key, stream=True))
    asked = len(checked.anthropic.requests)
    assert verdicts(ask(checked, key, stream=True)) == first
    assert len(checked.anthropic.requests) == asked


def test_another_organisation_s_verdict_is_not_taken(checked: World, key: str):
    ask(checked, key, stream=False)
    asked = len(checked.anthropic.requests)
    ask(checked, checked.ccm.create_key(f"other-{key[-6:]}@example.com"), stream=False)
    assert len(checked.anthropic.requests) == 2 * asked


@pytest.mark.parametrize(
    "answer", [Failure(500, "down"), Reply(blocks=[Text("It seems fine to me.")])], ids=["fails", "no verdict"]
)
def test_a_judge_that_gives_no_verdict_never_lets_a_call_pass(checked: World, key: str, answer: Answer):
    checked.anthropic.brain = always(answer)
    for use in verdicts(ask(checked, key, stream=True)).values():
        assert use == {"type": "unavailable", "reason": "error"}


def test_a_request_without_safeguards_is_not_checked(checked: World, key: str):
    events = ask(checked, key, stream=True, safeguards=None)
    assert not any("safeguard_results" in event.get("delta", {}) for event in events)
    assert checked.anthropic.requests == []


def test_an_answer_without_calls_costs_no_check(checked: World, key: str):
    checked.openai.brain = always(Reply(blocks=[Text("Done.")]))
    assert verdicts(ask(checked, key, stream=True)) == {}
    assert checked.anthropic.requests == []
