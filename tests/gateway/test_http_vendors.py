"""Cohere and Bedrock behind `/v1/messages`: over sockets, streamed and whole, with what it costs."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from tests.fakes.answers import End, Failure, Reply, Text, Thinking, Tokens, ToolUse
from tests.fakes.bedrock import ACCESS_KEY, fake_bedrock
from tests.fakes.brain import CodingSession, always, saying, session_prompt
from tests.fakes.cohere import fake_cohere
from tests.fakes.server import FakeProvider
from tests.world import PRICES, World

CONFIG = """
[[providers]]
name = "{name}"
kind = "{kind}"
base_url = "{url}"
api_key = '{secret}'
"""
MODEL = """
[[models]]
name = "{name}"
context_window = 1000000
max_output = 32000
tools = true
vision = true
thinking = true
input = "3"
output = "15"
cache_read = "0.3"
cache_write = "3.75"
[[models.mappings]]
provider = "{provider}"
actual_model = "{actual}"
cost = {{ input = "1", output = "5", cache_read = "0.1", cache_write = "1.25" }}
"""
MODELS = {
    "vendor-cohere": ("cohere", "command-a-03-2025"),
    "vendor-converse": ("bedrock", "openai.gpt-oss-120b-1:0"),
    "vendor-claude": ("bedrock", "us.anthropic.claude-sonnet-4-6-v1:0"),
}
EMAIL = "vendors@example.com"
TOOLS = [{"name": name, "input_schema": {"type": "object", "properties": {}}} for name in ("Read", "Bash", "Agent")]


@pytest.fixture(scope="module")
def vendors(world: World, key: str) -> Iterator[dict[str, FakeProvider]]:
    with ExitStack() as stack:
        fakes: dict[str, FakeProvider] = {
            "cohere": stack.enter_context(fake_cohere()),
            "bedrock": stack.enter_context(fake_bedrock()),
        }
        secrets = {"cohere": "secret-of-cohere", "bedrock": json.dumps(ACCESS_KEY)}
        config = [
            CONFIG.format(name=f"v-{kind}", kind=kind, url=fake.base_url, secret=secrets[kind])
            for kind, fake in fakes.items()
        ]
        config += [
            MODEL.format(name=name, provider=f"v-{kind}", actual=actual) for name, (kind, actual) in MODELS.items()
        ]
        world.ccm.import_config("".join(config))
        for name in MODELS:
            world.await_model(key, name)
        yield fakes


@pytest.fixture(scope="module")
def key(world: World) -> str:
    """One customer for all of this module: creating one takes a process."""
    return world.ccm.create_key(EMAIL)


def record_of(world: World, *responses: httpx.Response) -> list[Any]:
    """The usage records of `responses`."""
    records = {record["request_id"]: record for record in world.ccm.usage_records(EMAIL)}
    return [records[response.headers["request-id"]] for response in responses]


@pytest.fixture(params=MODELS)
def served(request: pytest.FixtureRequest, vendors: dict[str, FakeProvider]) -> tuple[str, FakeProvider]:
    """A model, and the fake that serves it."""
    name = str(request.param)
    fake = vendors[MODELS[name][0]]
    fake.clear()
    return name, fake


def ask(world: World, key: str, name: str, **fields: Any) -> httpx.Response:
    body = {"model": name, "max_tokens": 2000, "messages": [{"role": "user", "content": "hello"}], **fields}
    return world.post(key, body)


def events_of(response: httpx.Response) -> list[Any]:
    return [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: ")]


def test_streamed_and_not_an_answer_is_the_same_and_costs_the_same(
    world: World, key: str, served: tuple[str, FakeProvider]
) -> None:
    name, fake = served
    fake.brain = always(Reply([Text("The same answer either way.")], tokens=Tokens(70, 9, cache_read=30)))
    whole = ask(world, key, name)
    assert whole.status_code == 200, whole.text
    streamed = ask(world, key, name, stream=True)
    assert streamed.headers["content-type"].startswith("text/event-stream")
    events = events_of(streamed)
    assert [events[0]["type"], events[-1]["type"]] == ["message_start", "message_stop"]
    text = "".join(each["delta"].get("text", "") for each in events if each["type"] == "content_block_delta")
    assert text == whole.json()["content"][0]["text"] == "The same answer either way."
    assert whole.json()["model"] == events[0]["message"]["model"] == name
    charge = 70 * PRICES["input"] + 9 * PRICES["output"] + 30 * PRICES["cache_read"]
    assert whole.headers["x-ccm-cost"] == f"0.{charge:09d}"
    first, second = record_of(world, whole, streamed)
    for column in ("charge", "cost", "input_tokens", "output_tokens", "usage_source", "stop_reason"):
        assert first[column] == second[column], column
    assert (first["charge"], first["usage_source"]) == (charge, "provider")
    assert fake.violations == []


def test_thinking_and_a_call_come_back_in_the_next_turn(
    world: World, key: str, served: tuple[str, FakeProvider]
) -> None:
    name, fake = served
    fake.brain = always(Reply([Thinking("Hm, hm."), ToolUse("Bash", {"command": "ls"})]))
    told: list[Any] = [{"role": "user", "content": "hello"}]
    answer = ask(world, key, name, messages=told, tools=TOOLS).json()
    assert [block["type"] for block in answer["content"]] == ["thinking", "tool_use"]
    assert answer["stop_reason"] == "tool_use"
    result = {"type": "tool_result", "tool_use_id": answer["content"][1]["id"], "content": "a.txt"}
    told += [{"role": "assistant", "content": answer["content"]}, {"role": "user", "content": [result]}]
    fake.brain = saying("Done.")
    fake.clear()
    assert ask(world, key, name, messages=told, tools=TOOLS).status_code == 200
    (sent,) = fake.requests
    assert b"Hm, hm." in sent.raw
    assert b"ccm1:" not in sent.raw
    assert b"a.txt" in sent.raw
    assert fake.violations == []


def test_a_coding_session(world: World, key: str, served: tuple[str, FakeProvider]) -> None:
    """Reads a file, runs two tools at once, starts an agent: every request is one that the vendor takes."""
    name, fake = served
    fake.brain = CodingSession()
    told: list[Any] = [{"role": "user", "content": session_prompt("a.txt")}]
    for _ in range(8):
        response = ask(world, key, name, messages=told, tools=TOOLS)
        assert response.status_code == 200, response.text
        content = response.json()["content"]
        told.append({"role": "assistant", "content": content})
        calls = [block for block in content if block["type"] == "tool_use"]
        if not calls:
            break
        results = {"Agent": "SUBAGENT-REPORT[agent-63]"}
        answers = [
            {"type": "tool_result", "tool_use_id": call["id"], "content": results.get(call["name"], "42")}
            for call in calls
        ]
        told.append(
            {"role": "user", "content": [*answers, {"type": "text", "text": "<system-reminder>x</system-reminder>"}]}
        )
    assert "CODING-SESSION-DONE" in told[-1]["content"][-1]["text"]
    assert "agent-63" in told[-1]["content"][-1]["text"]
    assert fake.violations == []


def test_a_stream_cut_after_content_ends_in_an_error_event_and_costs_what_came(
    world: World, key: str, served: tuple[str, FakeProvider]
) -> None:
    name, fake = served
    cut = []
    for end in (End.EOF, End.RESET, End.ERROR):
        fake.brain = always(Reply([Text("word " * 200, pieces=200)], events=100, end=end))
        cut.append(ask(world, key, name, stream=True))
    for response, record in zip(cut, record_of(world, *cut), strict=True):
        assert response.status_code == 200
        assert "event: error" in response.text
        assert "message_stop" not in response.text
        assert 0 < response.text.count("word ") <= record["output_tokens"] <= 400
        assert record["charge"] > 0


def test_an_overflow_and_an_outage(world: World, key: str, served: tuple[str, FakeProvider]) -> None:
    name, fake = served
    said = {
        "cohere": "too many tokens: total number of tokens in the prompt cannot exceed 128000 - received 130001.",
        "bedrock": "Input is too long for requested model.",
    }
    fake.brain = always(Failure(400, said[MODELS[name][0]], type="invalid_request_error"))
    refused = ask(world, key, name, stream=True)
    assert refused.status_code == 400
    assert refused.json()["error"]["message"].startswith("prompt is too long")
    fake.brain = always(Failure(503, "unavailable", type="overloaded_error"))
    failed = ask(world, key, name)
    assert failed.status_code == 529
    assert [record["charge"] for record in record_of(world, refused, failed)] == [0, 0]
