"""Gemini and Vertex AI through the whole gateway: what customers get, and what it costs."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from anthropic import Anthropic

from tests.fakes.answers import End, Failure, Reply, Text, Thinking, Tokens, ToolUse, WebSearch
from tests.fakes.brain import CodingSession, InOrder, always, saying, session_prompt
from tests.fakes.google import VertexClaudeFront, VertexFront, fake_gemini
from tests.fakes.server import FakeProvider
from tests.world import PRICES, World

pytestmark = pytest.mark.one_database

CONFIG = """
[[providers]]
name = "{name}"
kind = "{kind}"
base_url = "{url}"
api_key = '''{secret}'''
[[models]]
name = "{name}-model"
context_window = 1000000
max_output = 32000
tools = true
vision = true
thinking = true
input = "3"
output = "15"
cache_read = "0.3"
cache_write = "3.75"
web_search = "14"
[[models.mappings]]
provider = "{name}"
actual_model = "{actual}"
cost = {{ input = "1", output = "5", cache_read = "0.1", cache_write = "1.25" }}
"""
TOOL = {"name": "Read", "description": "Reads.", "input_schema": {"type": "object", "properties": {"p": {}}}}


@pytest.fixture(scope="module")
def fakes(world: World) -> Iterator[dict[str, FakeProvider]]:
    """gemini: the Developer API; vertex: Gemini at Vertex AI; vclaude: Claude there."""
    google, claude = VertexFront(), VertexClaudeFront()
    with fake_gemini() as gemini, FakeProvider(google) as vertex, FakeProvider(claude) as anthropic:
        rows = {
            "gemini": (gemini, "gemini", "AIza-secret-of-gemini", "gemini-3-pro-preview"),
            "vertex": (vertex, "vertex", google.service_account(vertex.origin), "gemini-2.5-pro"),
            "vclaude": (anthropic, "vertex", claude.service_account(anthropic.origin), "claude-sonnet-4-5@20250929"),
        }
        world.ccm.import_config(
            "".join(
                CONFIG.format(name=name, kind=kind, url=fake.base_url, secret=secret, actual=actual)
                for name, (fake, kind, secret, actual) in rows.items()
            )
        )
        yield {name: fake for name, (fake, *_) in rows.items()}


@pytest.fixture
def key(world: World, fakes: dict[str, FakeProvider], email: str) -> str:
    key = world.ccm.create_key(email)
    for name, fake in fakes.items():
        fake.clear()
        fake.brain = saying("Welcome.")
        world.await_model(key, f"{name}-model")
    return key


def body(name: str, **fields: Any) -> dict[str, Any]:
    return {"model": f"{name}-model", "max_tokens": 500, "messages": [{"role": "user", "content": "hello"}], **fields}


def post(world: World, key: str, told: dict[str, Any]) -> httpx.Response:
    return httpx.post(
        f"{world.ccm.url}/v1/messages", json=told, headers={"x-api-key": key}, timeout=60, trust_env=False
    )


@pytest.mark.parametrize("name", ["gemini", "vertex", "vclaude"])
def test_streamed_and_not_an_answer_is_the_same_and_costs_the_same(
    world: World, fakes: dict[str, FakeProvider], key: str, email: str, name: str
) -> None:
    tokens = Tokens(input=70, output=9, cache_read=1000)
    fakes[name].brain = always(Reply(blocks=[Text("The same either way.")], tokens=tokens))
    with Anthropic(api_key=key, base_url=world.ccm.url, max_retries=0) as client:
        whole = client.messages.create(**body(name))
        with client.messages.stream(**body(name)) as stream:
            streamed = stream.get_final_message()
    for message in (whole, streamed):
        assert [block.model_dump(exclude_none=True) for block in message.content] == [
            {"type": "text", "text": "The same either way."}
        ]
        assert message.model == f"{name}-model"
        usage = message.usage
        assert (usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens) == (70, 1000, 9)
    assert fakes[name].violations == []
    cost = 70 * PRICES["input"] + 1000 * PRICES["cache_read"] + 9 * PRICES["output"]
    records = world.ccm.usage_records(email)
    assert [record["charge"] for record in records] == [cost, cost]
    assert {record["usage_source"] for record in records} == {"provider"}


@pytest.mark.parametrize("name", ["gemini", "vertex"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_is_called_and_its_result_goes_back_with_the_signature(
    world: World, fakes: dict[str, FakeProvider], key: str, name: str, stream: bool
) -> None:
    thinking = Tokens(input=10, output=30, reasoning=20)
    fakes[name].brain = InOrder(
        Reply(
            blocks=[Thinking("I read it."), ToolUse("Read", {"p": "a"}), ToolUse("Read", {"p": "b"})], tokens=thinking
        ),
        Reply(blocks=[Text("Done.")]),
    )
    asked = body(name, tools=[TOOL], thinking={"type": "adaptive"})
    messages = list(asked["messages"])
    with Anthropic(api_key=key, base_url=world.ccm.url, max_retries=0) as client:
        first = _ask(client, asked, stream=stream)
        assert [block.type for block in first.content] == ["thinking", "tool_use", "tool_use"]
        assert first.stop_reason == "tool_use"
        assert first.usage.output_tokens_details.thinking_tokens == 20
        calls = [block for block in first.content if block.type == "tool_use"]
        assert [call.input for call in calls] == [{"p": "a"}, {"p": "b"}]
        results = [{"type": "tool_result", "tool_use_id": call.id, "content": call.input["p"]} for call in calls]
        messages += [{"role": "assistant", "content": first.content}, {"role": "user", "content": results}]
        assert _ask(client, asked | {"messages": messages}, stream=stream).content[0].text == "Done."
    assert fakes[name].violations == []
    sent = fakes[name].requests[1].body["contents"][1]["parts"]
    signatures = [part.get("thoughtSignature") for part in sent]
    assert signatures[1] is None
    assert (signatures[0] is not None) == (name == "gemini")
    assert signatures[0] != "skip_thought_signature_validator"


def _ask(client: Anthropic, told: dict[str, Any], *, stream: bool) -> Any:
    if not stream:
        return client.messages.create(**told)
    with client.messages.stream(**told) as events:
        return events.get_final_message()


@pytest.mark.parametrize("stream", [False, True])
def test_a_web_search_is_shown_and_charged(
    world: World, fakes: dict[str, FakeProvider], key: str, email: str, stream: bool
) -> None:
    found = WebSearch("prix 2024", [("Le Monde", "https://lemonde.example/1")])
    fakes["gemini"].brain = always(Reply(blocks=[found, Text("Kämel won.")], tokens=Tokens(input=10, output=5)))
    tools = [{"type": "web_search_20250305", "name": "web_search", "max_uses": 8}]
    with Anthropic(api_key=key, base_url=world.ccm.url, max_retries=0) as client:
        message = _ask(client, body("gemini", tools=tools), stream=stream)
    assert [block.type for block in message.content] == ["server_tool_use", "web_search_tool_result", "text"]
    assert message.content[1].content[0].url == "https://lemonde.example/1"
    assert message.content[2].citations[0].title == "Le Monde"
    assert message.usage.server_tool_use.web_search_requests == 1
    (record,) = world.ccm.usage_records(email)
    assert record["charge"] == 10 * PRICES["input"] + 5 * PRICES["output"] + 14_000_000


def test_a_whole_coding_session_runs_over_gemini(world: World, fakes: dict[str, FakeProvider], key: str) -> None:
    """A small client of our own plays Claude Code: it runs the tools, and an agent in a loop of its own."""
    fakes["gemini"].brain = session = CodingSession()
    text = _session(world, key, session_prompt("/tmp/some file.txt"))
    assert text.split(" | ")[-1] == "report=shell: echo agent-$((7*9))"
    assert session.steps == [
        "read", "tools", "search", "loaded", "agent", "subagent tool", "subagent report", "final",
    ]  # fmt: skip
    assert fakes["gemini"].violations == []


def _session(world: World, key: str, prompt: str) -> str:
    messages: list[dict[str, Any]] = [{"role": "user", "content": prompt}]
    names = ["Read", "Bash", "Agent", "ToolSearch", "CronList"]
    tools = [{**TOOL, "name": name} for name in names]
    for _ in range(12):
        answer = post(world, key, body("gemini", messages=messages, tools=tools, thinking={"type": "adaptive"})).json()
        calls = [block for block in answer["content"] if block["type"] == "tool_use"]
        if not calls:
            return str(answer["content"][-1]["text"])
        results = []
        for call in calls:
            match call["name"]:
                case "Agent":
                    result = _session(world, key, call["input"]["prompt"])
                case "Bash":
                    result = f"shell: {call['input']['command']}"
                case name:
                    result = {"Read": "1 hello"}.get(name, "none")
            results.append({"type": "tool_result", "tool_use_id": call["id"], "content": result})
        messages += [{"role": "assistant", "content": answer["content"]}, {"role": "user", "content": results}]
    raise AssertionError("the session did not end")


@pytest.mark.parametrize("end", [End.EOF, End.RESET, End.ERROR])
def test_a_stream_cut_after_content_ends_in_an_error_event_and_costs_what_came(
    world: World, fakes: dict[str, FakeProvider], key: str, email: str, end: End
) -> None:
    fakes["gemini"].brain = always(Reply(blocks=[Text("word " * 200, pieces=200)], events=100, end=end))
    response = post(world, key, body("gemini", max_tokens=2000, stream=True))
    assert response.status_code == 200
    assert "event: error" in response.text
    assert "message_stop" not in response.text
    (record,) = world.ccm.usage_records(email)
    assert record["charge"] > 0


@pytest.mark.parametrize(
    ("failure", "status", "kind", "words"),
    [
        (
            Failure(400, "The input token count (2000000) exceeds the maximum number of tokens allowed (1048576)."),
            400,
            "invalid_request_error",
            "prompt is too long: 2000000 tokens > 1048576 maximum",
        ),
        (Failure(429, "Resource exhausted"), 429, "rate_limit_error", "limiting"),
        (Failure(503, "The model is overloaded."), 529, "overloaded_error", "overloaded"),
        (Failure(403, "Permission denied for AIza-secret-of-gemini"), 500, "api_error", "credentials"),
    ],
)
def test_errors_reach_the_client_in_anthropic_s_form_and_cost_nothing(
    world: World,
    fakes: dict[str, FakeProvider],
    key: str,
    email: str,
    failure: Failure,
    status: int,
    kind: str,
    words: str,
) -> None:
    fakes["gemini"].brain = always(failure)
    for stream in (False, True):
        response = post(world, key, body("gemini", stream=stream))
        told = response.json()
        assert (response.status_code, told["type"], told["error"]["type"]) == (status, "error", kind)
        assert words in told["error"]["message"]
        assert "AIza" not in response.text
    assert {record["charge"] for record in world.ccm.usage_records(email)} == {0}


def test_what_a_model_cannot_do_is_refused_before_it_is_asked(
    world: World, fakes: dict[str, FakeProvider], key: str
) -> None:
    tools = [{"type": "web_search_20250305", "name": "web_search"}, TOOL]
    response = post(world, key, body("vertex", tools=tools))
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "policy_blocked"
    assert "cannot search the web for this request" in response.json()["error"]["message"]
    assert fakes["vertex"].requests == []


def test_no_credential_reaches_the_log(world: World, fakes: dict[str, FakeProvider], key: str) -> None:
    front = fakes["vertex"].front
    assert isinstance(front, VertexFront)
    front.refusal = "invalid_grant"
    try:
        for name in ("gemini", "vertex"):
            post(world, key, body(name))
    finally:
        front.refusal = ""
    log = world.ccm.log.read_text()
    for secret in ("AIza-secret-of-gemini", "ya29.fake-token", "PRIVATE KEY", json.dumps("private_key")[1:-1] + '":'):
        assert secret not in log
