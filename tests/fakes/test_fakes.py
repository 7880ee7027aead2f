"""The fake providers speak their protocols, refuse what the real ones refuse, and fail as told."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from anthropic import Anthropic

from tests.fakes.answers import (
    Block,
    End,
    Failure,
    Reply,
    Reset,
    Text,
    Thinking,
    Tokens,
    ToolUse,
    WebSearch,
    html,
    many_deltas,
)
from tests.fakes.anthropic import fake_anthropic
from tests.fakes.brain import CodingSession, InOrder, always, session_prompt
from tests.fakes.openai import fake_openai
from tests.fakes.server import FakeProvider

TOOLS = ["Read", "Bash", "Agent", "ToolSearch", "CronList"]
RESULTS = {"Read": "1 hello", "ToolSearch": "Loaded tools: CronList.", "CronList": "none"}


@pytest.fixture
def anthropic() -> Iterator[FakeProvider]:
    with fake_anthropic() as server:
        yield server


@pytest.fixture
def openai() -> Iterator[FakeProvider]:
    with fake_openai() as server:
        yield server


def ask_openai(server: FakeProvider, **body: Any) -> httpx.Response:
    message = {"model": "gpt-fake", "messages": [{"role": "user", "content": "hello"}], **body}
    headers = {"authorization": "Bearer k"}
    return httpx.post(f"{server.base_url}/chat/completions", json=message, headers=headers, trust_env=False)


def ask_anthropic(server: FakeProvider, **body: Any) -> httpx.Response:
    message = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}], **body}
    headers = {"x-api-key": "k", "anthropic-version": "2023-06-01"}
    return httpx.post(f"{server.base_url}/v1/messages", json=message, headers=headers, trust_env=False)


def test_the_anthropic_sdk_reads_every_block_of_a_stream(anthropic: FakeProvider) -> None:
    blocks: list[Block] = [
        Thinking("so so"),
        Text("one two"),
        ToolUse("Read", {"file_path": "/x"}),
        WebSearch("q", [("T", "https://t")]),
    ]
    anthropic.brain = always(Reply(blocks, tokens=Tokens(5, 7, cache_read=11, cache_write=13)))
    with (
        Anthropic(api_key="k", base_url=anthropic.base_url) as client,
        client.messages.stream(model="m", max_tokens=9, messages=[{"role": "user", "content": "x"}]) as stream,
    ):
        message = stream.get_final_message()
    kinds = [block.type for block in message.content]
    assert kinds == ["thinking", "text", "tool_use", "server_tool_use", "web_search_tool_result"]
    assert message.content[2].input == {"file_path": "/x"}  # type: ignore[union-attr]
    assert message.stop_reason == "tool_use"
    usage = message.usage
    assert (usage.input_tokens, usage.output_tokens) == (5, 7)
    assert (usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (11, 13)


def test_an_openai_stream_ends_with_its_usage_after_the_finish_reason(openai: FakeProvider) -> None:
    openai.brain = always(many_deltas(200, tokens=Tokens(5, 7, cache_read=11)))
    answer = ask_openai(openai, stream=True, stream_options={"include_usage": True})
    lines = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    chunks = [json.loads(line) for line in lines[:-1]]
    assert lines[-1] == "[DONE]"
    assert sum(bool(c["choices"] and c["choices"][0]["delta"].get("content")) for c in chunks) == 200
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["prompt_tokens"] == 16


@pytest.mark.parametrize("server", ["anthropic", "openai"])
def test_failures_come_as_scripted(server: str, request: pytest.FixtureRequest) -> None:
    fake: FakeProvider = request.getfixturevalue(server)
    ask = ask_anthropic if server == "anthropic" else ask_openai
    fake.brain = InOrder(
        Failure(429, "slow down", headers={"retry-after": "7"}),
        html(502),
        Reset(),
        Reset(after_headers=True),
        many_deltas(20, events=5, end=End.RESET),
        many_deltas(20, events=5, end=End.EOF),
        many_deltas(20, events=5, end=End.ERROR),
    )
    limited = ask(fake)
    assert (limited.status_code, limited.headers["retry-after"]) == (429, "7")
    assert limited.json()["error"]["message"] == "slow down"
    assert ask(fake).text.startswith("<!DOCTYPE html>")
    for _ in range(3):
        with pytest.raises(httpx.TransportError):
            ask(fake, stream=True)
    assert "w0001" in (cut := ask(fake, stream=True).text)
    assert "w0019" not in cut
    assert "error" in ask(fake, stream=True).text
    assert len(fake.requests) == 7


CALL = {"id": "call_1", "type": "function", "function": {"name": "Read", "arguments": "{}"}}
ASSISTANT = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "x"}
USER = {"role": "user", "content": "hello"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"tools": []},
        {"safeguards": []},
        {"thinking": {"type": "adaptive"}},
        {"tool_choice": "auto"},
        {"messages": [USER, ASSISTANT]},
        {"messages": [USER, ASSISTANT, USER, RESULT]},
        {"messages": [USER, RESULT]},
        {"messages": [USER, ASSISTANT, RESULT, RESULT]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "x", "cache_control": {}}]}]},
        {"messages": [USER, {"role": "assistant", "content": None, "tool_calls": [CALL | {"id": "x" * 41}]}, RESULT]},
        {"tools": [{"type": "function", "function": {"name": "a b", "parameters": {"type": "object"}}}]},
        {"tools": [{"type": "function", "function": {"name": "a", "defer_loading": True}}]},
    ],
)
def test_openai_refuses_what_the_real_one_refuses(openai: FakeProvider, wrong: dict[str, Any]) -> None:
    answer = ask_openai(openai, **wrong)
    assert answer.status_code == 400
    assert openai.violations == [answer.json()["error"]["message"]]


USE = {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "Read", "input": {}}]}
DONE = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "x"}]}


@pytest.mark.parametrize(
    "wrong",
    [
        {"messages": [USER, USE]},
        {"messages": [USER, USE, USER]},
        {"messages": [USER, DONE]},
        {"messages": [USE, DONE]},
        {"messages": [USER, USE, {"role": "user", "content": [{"type": "text", "text": "x"}, *DONE["content"]]}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": ""}]}]},
        {
            "messages": [
                USER,
                {"role": "assistant", "content": [{"type": "thinking", "thinking": "x", "signature": "y"}]},
            ]
        },
        {"unheard_of": 1},
        {"thinking": {"type": "enabled", "budget_tokens": 4000}},
        {"tools": [{"name": "a", "input_schema": {"type": "object"}, "defer_loading": True}]},
    ],
)
def test_anthropic_refuses_what_the_real_one_refuses(anthropic: FakeProvider, wrong: dict[str, Any]) -> None:
    answer = ask_anthropic(anthropic, **wrong)
    assert answer.status_code == 400
    assert anthropic.violations == [answer.json()["error"]["message"]]


def test_the_coding_session_runs_to_its_end_over_openai(openai: FakeProvider) -> None:
    """A small client of our own plays Claude Code: it runs the tools, and an agent in a loop of its own."""
    openai.brain = session = CodingSession()
    text = _loop(openai, session_prompt("/tmp/some file.txt"))
    assert text.split(" | ") == [
        "CODING-SESSION-DONE",
        "1 hello",
        "shell: wc -c < '/tmp/some file.txt'",
        "shell: echo product-$((6*7))",
        "report=shell: echo agent-$((7*9))",
    ]
    assert session.steps == [
        "read", "tools", "search", "loaded", "agent", "subagent tool", "subagent report", "final",
    ]  # fmt: skip
    assert openai.violations == []


def _loop(server: FakeProvider, prompt: str) -> str:
    """Claude Code's loop in small: ask, run the tools, ask again, until there are no calls."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": prompt}]
    tools = [{"type": "function", "function": {"name": n, "parameters": {"type": "object"}}} for n in TOOLS]
    for _ in range(12):
        message = ask_openai(server, messages=messages, tools=tools).json()["choices"][0]["message"]
        calls = message.get("tool_calls") or []
        if not calls:
            return str(message["content"])
        messages.append({"role": "assistant", "content": message["content"], "tool_calls": calls})
        for call in calls:
            name, arguments = call["function"]["name"], json.loads(call["function"]["arguments"])
            match name:
                case "Agent":
                    result = _loop(server, arguments["prompt"])
                case "Bash":
                    result = f"shell: {arguments['command']}"
                case _:
                    result = RESULTS[name]
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": result})
    raise AssertionError("the session did not end")
