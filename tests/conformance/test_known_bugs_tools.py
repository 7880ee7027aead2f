"""Bugs of other gateways about tools, limits and caches (translation.md, section 5 F and G), looked for
in this one."""

import json
from dataclasses import replace
from typing import Any

import pytest

from gateway.openai.chat_request import chat_request
from tests.conformance.wires import BY_NAME, SPEAKERS, TRANSLATING, Speaker
from tests.fakes.answers import Reply, Text, ToolUse
from tests.providers.openai_chat_support import (
    BASH,
    call,
    chunk,
    request,
    result,
    says,
    stream,
    target,
    text,
    use,
    whole,
)

every_wire = pytest.mark.parametrize("speaker", SPEAKERS, ids=str)
every_translation = pytest.mark.parametrize("speaker", TRANSLATING, ids=str)
EPHEMERAL = {"type": "ephemeral"}
GLOBAL = {"type": "ephemeral", "scope": "global"}
HOUR = {"type": "ephemeral", "ttl": "1h"}
ODD = {
    "type": "custom",
    "name": "Bash",
    "description": "Runs.",
    "input_schema": {"type": "object", "properties": {"command": {"type": "string"}}},
    "defer_loading": True,
    "eager_input_streaming": True,
    "allowed_callers": ["direct"],
    "cache_control": EPHEMERAL,
}


@every_translation
def test_b091_092_no_field_of_anthropic_s_tools_leaks(speaker: Speaker) -> None:
    sent = speaker.sent(request(tools=[ODD]))
    told = json.dumps(sent)
    for word in ("custom", "defer_loading", "eager_input_streaming", "allowed_callers"):
        assert word not in told
    assert '"type": "object"' in told


@pytest.mark.parametrize(
    ("name", "takes"),
    [
        ("gemini", False),
        ("openai_chat", True),
        ("openai_responses", True),
    ],
)
def test_b093_strict_goes_only_where_it_is_known(name: str, takes: bool) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "string"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    sent = BY_NAME[name].sent(request(tools=[{"name": "Bash", "input_schema": schema, "strict": True}]))
    assert ('"strict": true' in json.dumps(sent)) is takes


@pytest.mark.parametrize(
    ("model_name", "takes"),
    [
        ("us.anthropic.claude-opus-4-8-v1:0", False),
        ("anthropic.claude-opus-4-7-20260115-v1:0", False),
        ("us.anthropic.claude-sonnet-4-6-v1:0", True),
        ("us.anthropic.claude-opus-4-6-v1:0", True),
    ],
)
def test_b094_the_newest_opus_at_bedrock_gets_no_strict(model_name: str, takes: bool) -> None:
    speaker = BY_NAME["bedrock-claude"]
    served = replace(speaker, target=replace(speaker.target, actual_model=model_name))
    (sent,) = served.sent(request(tools=[{**BASH, "strict": True}]))["tools"]
    assert ("strict" in sent) is takes


@every_wire
def test_b096_one_call_for_a_client_that_takes_one(speaker: Speaker) -> None:
    asked = request(tools=[BASH], tool_choice={"type": "auto", "disable_parallel_tool_use": True}, stream=True)
    sent = json.dumps(speaker.sent(asked))
    told = "parallel_tool" in sent
    if not told:
        calls = [ToolUse("Bash", {"n": number}) for number in range(2)]
        content = speaker.streamed(Reply(calls), asked).content
        assert len([block for block in content if block["type"] == "tool_use"]) == 1
    assert told or not speaker.is_native


@pytest.mark.parametrize("stop", ["END", ["END"], None])
def test_b098_stop_may_be_a_text_or_a_list(stop: Any) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stop": stop}
    asked = chat_request(body).messages
    assert asked.value("stop_sequences") == (["END"] if stop else None)


@every_translation
def test_b103_a_reference_names_the_tool_as_the_model_knows_it(speaker: Speaker) -> None:
    long = "mcp__server__" + "x" * 90
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    tools = [BASH, {"name": long, "input_schema": schema, "defer_loading": True}]
    found = [{"type": "tool_reference", "tool_name": long}]
    told = [("user", "x"), ("assistant", [use("toolu_1")]), ("user", [result("toolu_1", found)])]
    sent = speaker.sent(request(*told, tools=tools))
    names = [name for name in _names(sent) if name != "Bash"]
    assert len(names) == 1
    assert f"Loaded tools: {names[0]}." in json.dumps(sent)
    assert long not in json.dumps(sent)


def _names(value: Any) -> list[str]:
    """The names of all functions that a body declares."""
    if isinstance(value, list):
        return [name for part in value for name in _names(part)]
    if not isinstance(value, dict):
        return []
    schemas = {"parameters", "parametersJsonSchema", "inputSchema"}
    own = [value["name"]] if "name" in value and schemas & set(value) else []
    return own + [name for key, part in value.items() if key in DECLARING for name in _names(part)]


DECLARING = {"tools", "function", "functionDeclarations", "toolConfig", "toolSpec"}


@every_translation
def test_b104_an_answer_that_was_cut_says_so(speaker: Speaker) -> None:
    answer = speaker.streamed(Reply([Text("Once upon")], stop="max_tokens"))
    assert answer.message["stop_reason"] == "max_tokens"
    assert speaker.whole(Reply([Text("Once upon")], stop="max_tokens"))["stop_reason"] == "max_tokens"


def test_b104_a_call_that_was_cut_is_no_finished_turn() -> None:
    answer = whole(stream(*says("Now."), call(0, "c", "Bash", '{"command":"rm -r'), chunk({}, "length")))
    assert answer.message["stop_reason"] == "max_tokens"


@every_wire
def test_b106_tools_keep_the_client_s_order(speaker: Speaker) -> None:
    names = ["Zeta", "Alpha", "Mid", "Beta"]
    tools = [{"name": name, "input_schema": {"type": "object", "properties": {}}} for name in names]
    first, again = (json.dumps(speaker.sent(request(tools=tools))) for _ in range(2))
    assert first == again
    places = [first.index(f'"{name}"') for name in names]
    assert places == sorted(places)


def test_b107_openrouter_s_claude_caches_what_the_client_marks() -> None:
    """Without the marks every turn of a session is paid in full."""
    chat = BY_NAME["openai_chat"]
    asked = request(
        ("user", [text("long context") | {"cache_control": HOUR}]),
        ("assistant", [use("toolu_1")]),
        ("user", [result("toolu_1", "out", cache_control=EPHEMERAL)]),
        system=[
            text("x-anthropic-billing-header: 1"),
            text("Rules.") | {"cache_control": {**EPHEMERAL, "scope": "global"}},
        ],
        tools=[BASH, {**BASH, "name": "Read", "cache_control": EPHEMERAL}],
    )
    claude = replace(chat, target=target("openrouter", "anthropic/claude-sonnet-4.6")).sent(asked)
    assert claude["messages"] == [
        {"role": "system", "content": [text("Rules.") | {"cache_control": EPHEMERAL}]},
        {"role": "user", "content": [text("long context") | {"cache_control": HOUR}]},
        {"role": "assistant", "tool_calls": claude["messages"][2]["tool_calls"]},
        {"role": "tool", "tool_call_id": "toolu_1", "content": [text("out") | {"cache_control": EPHEMERAL}]},
    ]
    assert [tool.get("cache_control") for tool in claude["tools"]] == [None, EPHEMERAL]
    gemini = replace(chat, target=target("openrouter", "google/gemini-2.5-flash")).sent(asked)
    assert gemini["messages"][1]["content"] == [text("long context") | {"cache_control": EPHEMERAL}]
    for kind, name in (("openrouter", "openai/gpt-5-mini"), ("openai", "gpt-4.1"), ("openai-compatible", "m")):
        assert "cache_control" not in json.dumps(replace(chat, target=target(kind, name)).sent(asked))


def test_b108_a_compaction_is_asked_of_every_server_that_has_it() -> None:
    wanted = {"edits": [{"type": "compact_20260112"}]}
    for name in ("anthropic", "bedrock-claude"):
        assert BY_NAME[name].sent(request(context_management=wanted))["context_management"] == wanted


@every_translation
def test_b109_many_marks_become_no_more_points_than_are_taken(speaker: Speaker) -> None:
    blocks = [text(f"part {number}") | {"cache_control": EPHEMERAL} for number in range(3)]
    asked = request(("user", blocks), system=[text("Rules.") | {"cache_control": EPHEMERAL}], tools=[BASH])
    served = speaker
    if speaker.name == "bedrock":
        served = replace(speaker, target=replace(speaker.target, actual_model="converse/anthropic.claude-sonnet-4-6"))
    told = json.dumps(served.sent(asked))
    assert "cache_control" not in told
    assert told.count("cachePoint") == (4 if speaker.name == "bedrock" else 0)
