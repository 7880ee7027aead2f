"""The demo provider answers like a real one, through the real transport and wire."""

import json
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import pytest

from providers.demo import DemoUpstream
from providers.transport import Transport
from providers.wire.anthropic import AnthropicWire
from providers.wire.base import OutboundRequest
from providers.wire.request import MessagesRequest
from tests.providers.anthropic_support import MODEL, request, target

pytestmark = pytest.mark.asyncio

DEMO = target(kind="demo", base_url="demo:", actual_model="demo-sonnet")
BASH = {"name": "Bash", "description": "Run a command", "input_schema": {"type": "object"}}
CALL = 'Please\ndemo: call Bash {"command": "echo {hi}"}\nthanks'


async def ask(messages: MessagesRequest) -> dict[str, Any]:
    """The Message that `messages` is answered with, the same streamed and not."""
    wire = AnthropicWire()
    transport = Transport(allow_private=False)
    sent = wire.encode(messages, target=DEMO, model=MODEL, max_tokens=messages.max_tokens, client_headers={})
    response = await transport.open(sent, target=DEMO, credential=None, messages=messages)
    decoded = wire.decode_response(await response.read(), request=messages, target=DEMO, model=MODEL)
    streamed = messages.with_fields(stream=True)
    sent = wire.encode(streamed, target=DEMO, model=MODEL, max_tokens=messages.max_tokens, client_headers={})
    response = await transport.open(sent, target=DEMO, credential=None, messages=streamed)
    decoder = wire.stream_decoder(request=streamed, target=DEMO, model=MODEL)
    stream = b"".join([decoder.feed(chunk) async for chunk in response.chunks()]) + decoder.close()
    await transport.close()
    assert decoder.finished
    assert decoder.usage.output_tokens == decoded.usage.output_tokens
    message: dict[str, Any] = json.loads(decoded.body)
    assert without_ids(assembled(stream)) == without_ids(message)
    return message


def assembled(stream: bytes) -> dict[str, Any]:
    """The stream put together by the official SDK."""

    def answer(_request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=stream)

    with (
        httpx2.Client(transport=httpx2.MockTransport(answer)) as http,
        anthropic.Anthropic(api_key="k", base_url="http://sdk.test", http_client=http) as client,
        client.messages.stream(model="m", max_tokens=9, messages=[{"role": "user", "content": "x"}]) as events,
    ):
        whole: dict[str, Any] = json.loads(events.get_final_message().model_dump_json(exclude_unset=True))
    return whole


def without_ids(message: dict[str, Any]) -> dict[str, Any]:
    content = [
        {name: value for name, value in block.items() if name not in {"id", "tool_use_id"}}
        for block in message["content"]
    ]
    return {"content": content, "stop_reason": message["stop_reason"], "model": message["model"]}


def follow_up(text: str, message: dict[str, Any], result: str) -> list[dict[str, Any]]:
    call = message["content"][-1]
    answer = {"type": "tool_result", "tool_use_id": call["id"], "content": [{"type": "text", "text": result}]}
    return [
        {"role": "user", "content": text},
        {"role": "assistant", "content": message["content"]},
        {"role": "user", "content": [answer, {"type": "text", "text": "<system-reminder>x</system-reminder>"}]},
        {"role": "system", "content": []},
    ]


async def test_a_greeting_names_the_model_and_echoes() -> None:
    message = await ask(request("What a fine day"))
    text = message["content"][0]["text"]
    assert "demo-sonnet" in text
    assert "What a fine day" in text
    assert message["stop_reason"] == "end_turn"
    assert message["model"] == MODEL.name
    assert message["usage"]["input_tokens"] > 0
    assert 5 < message["usage"]["output_tokens"] < 200


async def test_message_ids_are_unique() -> None:
    assert (await ask(request()))["id"] != (await ask(request()))["id"]


async def test_a_tool_is_called_and_its_result_quoted() -> None:
    message = await ask(request(CALL, tools=[BASH]))
    call = message["content"][-1]
    assert (call["type"], call["name"], call["input"]) == ("tool_use", "Bash", {"command": "echo {hi}"})
    assert message["stop_reason"] == "tool_use"
    after = await ask(request(messages=follow_up(CALL, message, "hi there"), tools=[BASH]))
    assert after["stop_reason"] == "end_turn"
    assert "hi there" in after["content"][0]["text"]


async def test_several_calls_follow_each_other() -> None:
    text = 'demo: call Bash {"command": "one"}\ndemo: call Bash {"command": "two"}'
    first = await ask(request(text, tools=[BASH]))
    assert first["content"][-1]["input"] == {"command": "one"}
    second = await ask(request(messages=follow_up(text, first, "1"), tools=[BASH]))
    assert second["content"][-1]["input"] == {"command": "two"}


async def test_a_call_inside_anothers_input_is_left_alone() -> None:
    inner = json.dumps({"prompt": 'demo: call Bash {"command": "x"}'})
    agent = {**BASH, "name": "Agent"}
    text = f"demo: call Agent {inner}"
    first = await ask(request(text, tools=[agent, BASH]))
    assert first["content"][-1]["name"] == "Agent"
    after = await ask(request(messages=follow_up(text, first, "done"), tools=[agent, BASH]))
    assert after["stop_reason"] == "end_turn"


async def test_an_unknown_tool_is_explained() -> None:
    message = await ask(request("demo: call Nope {}", tools=[BASH]))
    assert message["stop_reason"] == "end_turn"
    assert "Nope" in message["content"][0]["text"]
    assert "Bash" in message["content"][0]["text"]


async def test_thinking_comes_first() -> None:
    message = await ask(request("demo: think about it"))
    assert [block["type"] for block in message["content"]] == ["thinking", "text"]
    assert message["content"][0]["signature"]


async def test_a_title_fits_its_schema() -> None:
    schema = {"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]}
    form = {"effort": "high", "format": {"type": "json_schema", "schema": schema}}
    message = await ask(request("<session>\nplease say ping\n</session>", output_config=form))
    assert json.loads(message["content"][0]["text"]) == {"title": "Demo: please say ping"}


async def test_a_web_search_has_the_expected_shape() -> None:
    tool = {"type": "web_search_20250305", "name": "web_search", "max_uses": 8}
    message = await ask(request("Perform a web search for the query: foo bar", tools=[tool]))
    search, result, text = message["content"]
    assert (search["type"], search["input"]) == ("server_tool_use", {"query": "foo bar"})
    assert result["tool_use_id"] == search["id"]
    assert "Demo result" in result["content"][0]["title"]
    assert text["type"] == "text"
    assert message["usage"]["server_tool_use"]["web_search_requests"] == 1


@pytest.mark.parametrize("limit", [1, 3, 10])
async def test_max_tokens_is_kept(limit: int) -> None:
    message = await ask(request("hello", max_tokens=limit))
    assert message["stop_reason"] == "max_tokens"
    assert message["usage"]["output_tokens"] <= limit


async def test_a_call_that_does_not_fit_is_not_made() -> None:
    message = await ask(request(CALL, tools=[BASH], max_tokens=6))
    assert message["stop_reason"] == "max_tokens"
    assert all(block["type"] != "tool_use" for block in message["content"])


async def test_stop_sequences_are_kept() -> None:
    message = await ask(request("hello", stop_sequences=["served", "provider"]))
    assert (message["stop_reason"], message["stop_sequence"]) == ("stop_sequence", "provider")
    assert message["content"][0]["text"].strip() == "Hello from CCM's demo"


@pytest.mark.parametrize("folder", ["claude-code", "claude-code-2.1.330"])
async def test_every_captured_request_of_claude_code_is_answered(recordings: Path, folder: str) -> None:
    for file in sorted((recordings / folder).glob("*.json")):
        captured = json.loads(file.read_bytes())
        if "/messages" not in captured["path"] or "max_tokens" not in captured["body"]:
            continue
        upstream = DemoUpstream(pause=0)
        sent = OutboundRequest(url="demo:", body=json.dumps(captured["body"]).encode())
        response = await upstream.open(sent, target=DEMO)
        assert await response.read(), file.name
