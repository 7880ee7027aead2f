"""The Responses API in, through the official SDK and as Codex uses it, on every kind of target."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from tests.fakes.answers import Block, End, Failure, Reply, Text, Thinking, Tokens, ToolUse, WebSearch
from tests.fakes.brain import InOrder, always
from tests.gateway.openai_clients import TARGETS, Place, place
from tests.world import PRICES, World

pytestmark = pytest.mark.one_database

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "description": "Tells the weather.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": False,
}
PATCH: Any = {
    "type": "custom",
    "name": "apply_patch",
    "description": "Edits files.",
    "format": {"type": "grammar", "syntax": "lark", "definition": "start: begin_patch"},
}
USAGE = Tokens(input=100, output=20, cache_read=1000, reasoning=5)
COST = 100 * PRICES["input"] + 20 * PRICES["output"] + 1000 * PRICES["cache_read"]


@pytest.fixture(scope="module")
def at(world: World) -> Iterator[Place]:
    with place(world) as made:
        yield made


@pytest.fixture
def client(at: Place) -> OpenAI:
    """Of a customer whom these tests share; those that look at what was paid have one of their own."""
    at.welcome()
    return at.client(at.key)


@pytest.fixture
def payer(at: Place, email: str) -> OpenAI:
    at.welcome()
    return at.client(at.world.ccm.create_key(email))


def ask(client: OpenAI, target: str = "anthropic", **fields: Any) -> Any:
    return client.responses.create(**{"model": f"{target}-model", "input": "hello", **fields})


def post(at: Place, client: OpenAI, **fields: Any) -> httpx.Response:
    body = {"model": "anthropic-model", "input": "hello", **fields}
    headers = {"authorization": f"Bearer {client.api_key}"}
    return httpx.post(f"{at.world.ccm.url}/v1/responses", json=body, headers=headers, timeout=60, trust_env=False)


def events_of(text: str) -> list[dict[str, Any]]:
    """A stream's events, each validated by the official SDK's union, in the order that it prescribes."""
    events = []
    for part in text.split("\n\n"):
        if not part or part.startswith(":"):
            continue
        name, data = part.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        EVENT.validate_python(_with_listed_code(event))
        events.append(event)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    return events


def _with_listed_code(event: dict[str, Any]) -> dict[str, Any]:
    """OpenAI's servers send more error codes (server_is_overloaded) than the SDK's types list."""
    if event["type"] != "response.failed":
        return event
    error = event["response"]["error"] | {"code": "server_error"}
    return event | {"response": event["response"] | {"error": error}}


def without_ids(value: Any) -> Any:
    random = {"id", "call_id", "item_id", "created_at", "encrypted_content"}
    if isinstance(value, dict):
        shown = {name: without_ids(inner) for name, inner in value.items() if name not in random}
        # How a provider spaces the JSON of a streamed call is its own affair.
        return shown | ({"arguments": json.loads(value["arguments"])} if "arguments" in value else {})
    return [without_ids(inner) for inner in value] if isinstance(value, list) else value


@pytest.mark.parametrize("target", TARGETS)
def test_streamed_and_not_a_response_is_the_same_and_costs_the_same(
    at: Place, payer: OpenAI, email: str, target: str
) -> None:
    call = ToolUse("weather", {"city": "Paris"})
    blocks: list[Block] = [Thinking("Let me see."), Text("Looking it up."), call, ToolUse("weather", {})]
    at.fake(target).brain = always(Reply(blocks=blocks, tokens=USAGE))
    fields: dict[str, Any] = {"model": f"{target}-model", "tools": [WEATHER], "reasoning": {"effort": "high"}}
    whole = post(at, payer, **fields).json()
    Response.model_validate(whole)
    events = events_of(post(at, payer, **fields, stream=True).text)
    assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]
    assert events[-1]["type"] == "response.completed"
    assert without_ids(events[-1]["response"]) == without_ids(whole)
    assert [item["type"] for item in whole["output"]] == ["reasoning", "message", "function_call", "function_call"]
    assert whole["output"][0]["summary"][0]["text"] == "Let me see."
    assert whole["output"][1]["content"][0]["text"] == "Looking it up."
    assert [json.loads(item["arguments"]) for item in whole["output"][2:]] == [{"city": "Paris"}, {}]
    assert whole["usage"]["input_tokens"] == 1100
    assert whole["usage"]["input_tokens_details"]["cached_tokens"] == 1000
    added = [e["item"]["id"] for e in events if e["type"] == "response.output_item.added"]
    done = [e["item"] for e in events if e["type"] == "response.output_item.done"]
    assert added == [item["id"] for item in done]
    assert done == events[-1]["response"]["output"]
    texts = [e["delta"] for e in events if e["type"] == "response.output_text.delta"]
    assert "".join(texts) == "Looking it up."
    assert at.fake(target).violations == []
    first, second = at.world.ccm.usage_records(email)
    assert first["charge"] == second["charge"] == COST


def test_the_sdk_s_own_stream(at: Place, client: OpenAI) -> None:
    at.world.anthropic.brain = always(Reply(blocks=[Thinking("Hm."), Text("Good day, and more.")], tokens=USAGE))
    with client.responses.stream(model="anthropic-model", input="hello") as stream:
        said = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        final = stream.get_final_response()
    assert said == final.output_text == "Good day, and more."
    assert final.status == "completed"
    assert ask(client).output_text == final.output_text


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("stream", [False, True])
def test_a_conversation_as_codex_has_it(at: Place, client: OpenAI, target: str, stream: bool) -> None:
    """Stateless: every output item goes back in, reasoning too; function and custom tools; no ids needed."""
    patch = "*** Begin Patch\n*** End Patch"
    at.fake(target).brain = InOrder(
        Reply(blocks=[Thinking("Plan."), Text("On it."), ToolUse("shell", {"command": ["ls"]})]),
        Reply(blocks=[Thinking("Edit."), ToolUse("apply_patch", {"input": patch})]),
        Reply(blocks=[Text("Done.")]),
    )
    shell = {"type": "function", "name": "shell", "strict": False, "parameters": {"type": "object", "properties": {}}}
    fields: dict[str, Any] = {
        "model": f"{target}-model",
        "instructions": "You are Codex.",
        "tools": [shell, PATCH, {"type": "web_search", "external_web_access": False}],
        "tool_choice": "auto",
        "parallel_tool_calls": False,
        "reasoning": {"effort": "medium", "summary": "auto"},
        "store": False,
        "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": "0199-conversation",
        "text": {"verbosity": "low"},
    }
    told: list[Any] = [
        {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "Sandboxed."}]},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Fix it."}]},
    ]

    def turn() -> list[dict[str, Any]]:
        answer = post(at, client, **fields, input=told, stream=stream)
        assert answer.status_code == 200, answer.text
        response = events_of(answer.text)[-1]["response"] if stream else answer.json()
        output: list[dict[str, Any]] = response["output"]
        told.extend({name: value for name, value in item.items() if name != "id"} for item in output)
        return output

    reasoning, message, call = turn()
    assert (reasoning["type"], message["type"], call["type"]) == ("reasoning", "message", "function_call")
    told.append({"type": "function_call_output", "call_id": call["call_id"], "output": "a.py"})
    thought, patching = turn()
    assert (thought["type"], patching["type"]) == ("reasoning", "custom_tool_call")
    assert patching["input"] == patch
    told.append({"type": "custom_tool_call_output", "call_id": patching["call_id"], "output": "Success."})
    (final,) = turn()
    assert final["content"][0]["text"] == "Done."
    assert at.fake(target).violations == []
    body = at.fake(target).requests[-1].body
    assert "start: begin_patch" in json.dumps(body["tools"])
    if target == "anthropic":
        thinking = [b for m in body["messages"] for b in m["content"] if b["type"] == "thinking"]
        assert [block["thinking"] for block in thinking] == ["Plan.", "Edit."]
        assert all(block["signature"].startswith("fake-signature-") for block in thinking)
    if target == "responses":
        sealed = [item["encrypted_content"] for item in body["input"] if item["type"] == "reasoning"]
        assert len(sealed) == 2
        assert all(value.startswith("enc-fake-") for value in sealed)
        assert body["prompt_cache_key"] == "0199-conversation"


@pytest.mark.parametrize("target", TARGETS)
def test_images_files_and_results_with_images(at: Place, client: OpenAI, target: str) -> None:
    image = {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo=", "detail": "auto"}
    file = {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}
    told = [
        {"role": "user", "content": [{"type": "input_text", "text": "See:"}, image, file]},
        {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": [{"type": "input_text", "text": "x"}, image]},
    ]
    assert ask(client, target, input=told, tools=[WEATHER]).status == "completed"
    assert at.fake(target).violations == []
    assert at.fake(target).requests[0].raw.count(b"iVBORw0KGgo=") == 2


def test_a_web_search_on_anthropic(at: Place, client: OpenAI) -> None:
    found = [("A title", "https://example.com/a"), ("Another", "https://example.com/b")]
    at.world.anthropic.brain = always(Reply(blocks=[WebSearch("weather oslo", found), Text("Cold.")]))
    fields: dict[str, Any] = {"tools": [{"type": "web_search", "filters": {"allowed_domains": ["example.com"]}}]}
    call, message = ask(client, "native", **fields).output
    assert (call.action.query, [source.url for source in call.action.sources]) == (
        "weather oslo",
        ["https://example.com/a", "https://example.com/b"],
    )
    assert message.content[0].text == "Cold."
    kinds = [event["type"] for event in events_of(post(at, client, **fields, model="native-model", stream=True).text)]
    assert "response.web_search_call.completed" in kinds
    (tool,) = at.world.anthropic.requests[0].body["tools"]
    assert tool["type"] == "web_search_20250305"
    assert tool["allowed_domains"] == ["example.com"]


def test_a_search_that_nobody_can_make_is_not_offered_and_the_client_told(at: Place, client: OpenAI) -> None:
    """Codex offers one with every request."""
    at.world.openai.brain = always(Reply(blocks=[Text("Hello.")]))
    offered = {"type": "web_search", "external_web_access": True}
    answer = post(at, client, model="openai-model", tools=[WEATHER, offered])
    assert answer.status_code == 200, answer.text
    assert "cannot search the web here" in answer.headers["x-ccm-warning"]
    (tool,) = at.world.openai.requests[0].body["tools"]
    assert tool["function"]["name"] == "weather"
    demanded = post(at, client, model="openai-model", tools=[offered], tool_choice={"type": "web_search"})
    assert (demanded.status_code, demanded.json()["error"]["code"]) == (400, "policy_blocked")


def test_tools_in_a_namespace(at: Place, client: OpenAI) -> None:
    space = {"type": "namespace", "name": "crm", "description": "Customers.", "tools": [WEATHER]}
    at.world.anthropic.brain = always(Reply(blocks=[ToolUse("crm__weather", {"city": "Bonn"})]))
    (call,) = post(at, client, tools=[space, {"type": "tool_search"}]).json()["output"]
    assert (call["name"], call["namespace"]) == ("weather", "crm")
    answer = {"type": "function_call_output", "call_id": call["call_id"], "output": "rain"}
    post(at, client, tools=[space], input=[{"role": "user", "content": "?"}, call, answer])
    blocks = at.world.anthropic.requests[-1].body["messages"][1]["content"]
    assert blocks[0]["name"] == "crm__weather"


def test_what_the_neutral_request_holds(at: Place, client: OpenAI) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    response = ask(
        client,
        max_output_tokens=77,
        temperature=0.5,
        reasoning={"effort": "none"},
        text={"format": {"type": "json_schema", "name": "n", "schema": schema}},
        metadata={"a": "b"},
    )
    body = at.world.anthropic.requests[0].body
    assert (body["max_tokens"], body["temperature"], body["thinking"]) == (77, 0.5, {"type": "disabled"})
    assert body["output_config"] == {"format": {"type": "json_schema", "schema": schema}}
    assert (response.max_output_tokens, response.metadata, response.store) == (77, {"a": "b"}, False)


@pytest.mark.parametrize(("stop", "reason"), [("max_tokens", "max_output_tokens"), ("refusal", "content_filter")])
def test_an_answer_that_is_cut_short_is_incomplete(at: Place, client: OpenAI, stop: str, reason: str) -> None:
    at.world.anthropic.brain = always(Reply(stop=stop))
    response = ask(client)
    assert (response.status, response.incomplete_details.reason) == ("incomplete", reason)
    last = events_of(post(at, client, stream=True).text)[-1]
    assert (last["type"], last["response"]["status"]) == ("response.incomplete", "incomplete")


def test_the_demo_answers(client: OpenAI) -> None:
    assert client.responses.create(model="demo-target", input="hello").output_text
    with client.responses.stream(model="demo-target", input="hello") as stream:
        assert stream.until_done().get_final_response().output_text


# -- errors


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"background": True}, "background"),
        ({"tools": [{"type": "file_search", "vector_store_ids": ["v"]}]}, "tools[0].type"),
        ({"tools": [{"type": "local_shell"}]}, "tools[0].type"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0]"),
        ({"input": [{"type": "function_call_output", "output": "x"}]}, "input[0].call_id"),
        ({"input": []}, "messages"),
        ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(at: Place, client: OpenAI, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, **fields)
    assert caught.value.param == param
    assert at.world.anthropic.requests == []


@pytest.mark.parametrize("target", TARGETS)
def test_a_provider_s_failures(at: Place, client: OpenAI, target: str) -> None:
    fake = at.fake(target)
    fake.brain = always(Failure(400, "prompt is too long: 9 tokens > 8 maximum", type="invalid_request_error"))
    with pytest.raises(openai.BadRequestError) as long:
        ask(client, target, stream=True)
    assert long.value.code == "context_length_exceeded"
    # Last, since nobody asks this credential again for as long as the provider says.
    fake.brain = always(Failure(429, "slow down", type="rate_limit_error", headers={"retry-after": "1"}))
    with pytest.raises(openai.RateLimitError):
        ask(client, target)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("end", [End.EOF, End.RESET, End.ERROR])
def test_a_cut_stream_fails_and_costs_what_came(at: Place, payer: OpenAI, email: str, target: str, end: End) -> None:
    at.fake(target).brain = always(Reply(blocks=[Text("word " * 200, pieces=200)], events=100, end=end))
    events = events_of(post(at, payer, model=f"{target}-model", stream=True, max_output_tokens=2000).text)
    assert [event["type"] for event in events[-2:]] == ["error", "response.failed"]
    assert events[-1]["response"]["error"]["code"]
    said = "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")
    (record,) = at.world.ccm.usage_records(email)
    assert said.count("word") <= record["output_tokens"] <= 400
    assert record["charge"] > 0


def test_reasoning_of_another_account_is_dropped_and_the_request_goes_on(at: Place, client: OpenAI) -> None:
    """The provider cannot read it any more: it refuses, and gets the conversation without it."""
    refusal = {
        "error": {"message": "The encrypted content could not be verified.", "code": "invalid_encrypted_content"}
    }
    at.responses.brain = InOrder(
        Reply(blocks=[Thinking("Plan."), ToolUse("weather", {})]),
        Failure(400, body=json.dumps(refusal)),
        Reply(blocks=[Text("Dry.")]),
    )
    fields: dict[str, Any] = {"tools": [WEATHER], "reasoning": {"effort": "low"}}
    first = ask(client, "responses", **fields)
    told: list[Any] = [{"role": "user", "content": "?"}, *(item.to_dict() for item in first.output)]
    told.append({"type": "function_call_output", "call_id": first.output[-1].call_id, "output": "dry"})
    assert ask(client, "responses", input=told, **fields).output_text == "Dry."
    _, refused, repeated = at.responses.requests
    assert [item["type"] for item in refused.body["input"]].count("reasoning") == 1
    assert [item["type"] for item in repeated.body["input"]].count("reasoning") == 0
