"""Chat Completions in, through the official SDK, on every kind of target."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

from tests.fakes.answers import End, Failure, Reply, Text, Thinking, Tokens, ToolUse
from tests.fakes.brain import InOrder, always
from tests.gateway.openai_clients import TARGETS, Place, place
from tests.world import PRICES, World

pytestmark = pytest.mark.one_database

PIXEL = "data:image/png;base64,iVBORw0KGgo="
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
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
    body: dict[str, Any] = {"model": f"{target}-model", "messages": [{"role": "user", "content": "hello"}], **fields}
    return client.chat.completions.create(**body)


@pytest.mark.parametrize("target", TARGETS)
def test_an_answer(at: Place, payer: OpenAI, email: str, target: str) -> None:
    at.fake(target).brain = always(Reply(blocks=[Thinking("Hm."), Text("Good day.")], tokens=USAGE))
    system = {"role": "developer", "content": "Be brief."}
    completion = ask(payer, target, messages=[system, {"role": "user", "content": "hello"}])
    (choice,) = completion.choices
    assert (choice.message.role, choice.message.content, choice.finish_reason) == ("assistant", "Good day.", "stop")
    assert completion.object == "chat.completion"
    assert completion.model == f"{target}-model"
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (1100, 20)
    assert completion.usage.prompt_tokens_details.cached_tokens == 1000
    (request,) = at.fake(target).requests
    assert "Be brief." in json.dumps(request.body)
    assert at.fake(target).violations == []
    (record,) = at.world.ccm.usage_records(email)
    assert (record["charge"], record["status"], record["usage_source"]) == (COST, 200, "provider")


@pytest.mark.parametrize("target", TARGETS)
def test_a_streamed_answer_is_the_same_and_costs_the_same(at: Place, payer: OpenAI, email: str, target: str) -> None:
    at.fake(target).brain = always(Reply(blocks=[Thinking("Let me see."), Text("Same either way.")], tokens=USAGE))
    whole = ask(payer, target, reasoning_effort="high")
    chunks = list(ask(payer, target, reasoning_effort="high", stream=True, stream_options={"include_usage": True}))
    assert [chunk.choices[0].delta.role for chunk in chunks[:1]] == ["assistant"]
    said = [chunk.choices[0] for chunk in chunks if chunk.choices]
    assert "".join(choice.delta.content or "" for choice in said) == whole.choices[0].message.content
    thought = "".join(getattr(choice.delta, "reasoning_content", "") or "" for choice in said)
    assert thought == whole.choices[0].message.reasoning_content == "Let me see."
    assert [choice.finish_reason for choice in said if choice.finish_reason] == ["stop"]
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert all(chunk.usage is None for chunk in chunks[:-1])
    first, second = at.world.ccm.usage_records(email)
    assert first["charge"] == second["charge"] == COST
    assert (first["streamed"], second["streamed"]) in {(0, 1), (False, True)}


def test_usage_comes_only_when_it_was_asked_for(client: OpenAI) -> None:
    assert all(chunk.usage is None and chunk.choices for chunk in ask(client, stream=True))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("stream", [False, True])
def test_tools_there_and_back(at: Place, client: OpenAI, target: str, stream: bool) -> None:
    calls = [ToolUse("weather", {"city": "Paris"}), ToolUse("weather", {"city": "Rome"}), ToolUse("weather", {})]
    at.fake(target).brain = InOrder(
        Reply(blocks=[Thinking("Both."), Text("Looking."), *calls]), Reply(blocks=[Text("Sunny.")])
    )
    messages: list[Any] = [{"role": "user", "content": "weather?"}]
    options: dict[str, Any] = {"tools": [WEATHER], "reasoning_effort": "low"}
    if stream:
        with client.chat.completions.stream(model=f"{target}-model", messages=messages, **options) as events:
            for _ in events:
                pass
            choice: Any = events.get_final_completion().choices[0]
    else:
        choice = ask(client, target, messages=messages, **options).choices[0]
    assert choice.finish_reason == "tool_calls"
    made = choice.message.tool_calls
    assert [json.loads(call.function.arguments) for call in made] == [{"city": "Paris"}, {"city": "Rome"}, {}]
    assert len({call.id for call in made}) == 3
    messages.append(choice.message.to_dict())
    messages += [{"role": "tool", "tool_call_id": call.id, "content": f"warm {i}"} for i, call in enumerate(made)]
    final = ask(client, target, messages=messages, **options)
    assert final.choices[0].message.content == "Sunny."
    assert at.fake(target).violations == []
    body = at.fake(target).requests[-1].body
    assert "warm 0" in json.dumps(body)
    assert "warm 2" in json.dumps(body)


@pytest.mark.parametrize("stream", [False, True])
def test_thinking_comes_back_signed_to_the_model_that_thought_it(at: Place, client: OpenAI, stream: bool) -> None:
    """Anthropic's servers refuse thinking that is not theirs; what went out as details returns as it was."""
    at.world.anthropic.brain = always(Reply(blocks=[Thinking("Deep."), ToolUse("weather", {"city": "Oslo"})]))
    message: Any
    if stream:
        with client.chat.completions.stream(
            model="anthropic-model", messages=[{"role": "user", "content": "?"}], tools=[WEATHER]
        ) as events:
            for _ in events:
                pass
            message = events.get_final_completion().choices[0].message.to_dict()
    else:
        message = ask(client, tools=[WEATHER]).choices[0].message.to_dict()
    result = {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "cold"}
    ask(client, tools=[WEATHER], messages=[{"role": "user", "content": "?"}, message, result])
    blocks = at.world.anthropic.requests[-1].body["messages"][1]["content"]
    assert [block["type"] for block in blocks] == ["thinking", "tool_use"]
    assert blocks[0]["thinking"] == "Deep."
    assert blocks[0]["signature"].startswith("fake-signature-")
    assert at.world.anthropic.violations == []


@pytest.mark.parametrize("target", TARGETS)
def test_images_and_files(at: Place, client: OpenAI, target: str) -> None:
    content = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": PIXEL, "detail": "low"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}},
    ]
    ask(client, target, messages=[{"role": "user", "content": content}])
    assert at.fake(target).violations == []
    sent = at.fake(target).requests[0].raw
    assert b"iVBORw0KGgo=" in sent
    assert target == "openai" or b"JVBERi0=" in sent  # an unknown make of server reads no PDFs


def test_what_the_neutral_request_holds(at: Place, client: OpenAI) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    ask(
        client,
        max_completion_tokens=77,
        temperature=1.7,
        top_p=0.5,
        stop=["END", ""],
        reasoning_effort="minimal",
        parallel_tool_calls=False,
        tools=[WEATHER],
        tool_choice={"type": "function", "function": {"name": "weather"}},
        response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": schema}},
        user="u-1",
        prompt_cache_key="conversation-1",
        n=1,
        presence_penalty=0,
        seed=3,
    )
    body = at.world.anthropic.requests[0].body
    assert body["max_tokens"] == 77
    assert (body["temperature"], body["top_p"], body["stop_sequences"]) == (1.0, 0.5, ["END"])
    assert body["thinking"] == {"type": "adaptive"}
    assert body["output_config"] == {"effort": "low", "format": {"type": "json_schema", "schema": schema}}
    assert body["tool_choice"] == {"type": "tool", "name": "weather", "disable_parallel_tool_use": True}
    assert json.loads(body["metadata"]["user_id"]) == {"session_id": "conversation-1", "user": "u-1"}
    assert body["tools"][0]["input_schema"] == WEATHER["function"]["parameters"]


def test_json_mode_and_allowed_tools(at: Place, client: OpenAI) -> None:
    other = {"type": "function", "function": {"name": "other"}}
    allowed = {"mode": "required", "tools": [{"type": "function", "function": {"name": "other"}}]}
    ask(
        client,
        response_format={"type": "json_object"},
        tools=[WEATHER, other],
        tool_choice={"type": "allowed_tools", "allowed_tools": allowed},
    )
    body = at.world.anthropic.requests[0].body
    assert "JSON object" in body["system"][-1]["text"]
    assert [tool["name"] for tool in body["tools"]] == ["other"]
    assert body["tool_choice"] == {"type": "any"}


def test_a_late_system_message_stays_in_its_place(at: Place, client: OpenAI) -> None:
    messages = [
        {"role": "system", "content": "First."},
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "developer", "content": "Now in French."},
        {"role": "user", "content": "c"},
    ]
    ask(client, messages=messages)
    body = at.world.anthropic.requests[0].body
    assert [block["text"] for block in body["system"]] == ["First."]
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
    assert "Now in French." in body["messages"][2]["content"][0]["text"]


@pytest.mark.parametrize(
    ("stop", "finish"), [("max_tokens", "length"), ("refusal", "content_filter"), ("stop_sequence", "stop")]
)
def test_why_an_answer_ended(at: Place, client: OpenAI, stop: str, finish: str) -> None:
    at.world.anthropic.brain = always(Reply(stop=stop))
    assert ask(client).choices[0].finish_reason == finish
    assert [c.choices[0].finish_reason for c in ask(client, stream=True)][-1] == finish


def test_a_custom_tool_gets_plain_text(at: Place, client: OpenAI) -> None:
    at.world.anthropic.brain = always(Reply(blocks=[ToolUse("patch", {"input": "*** Begin Patch"})]))
    custom = {"type": "custom", "custom": {"name": "patch", "description": "Applies a patch."}}
    (call,) = ask(client, tools=[custom]).choices[0].message.tool_calls
    assert (call.type, call.custom.name, call.custom.input) == ("custom", "patch", "*** Begin Patch")
    told = {"role": "assistant", "tool_calls": [call.to_dict()]}
    result = {"role": "tool", "tool_call_id": call.id, "content": [{"type": "text", "text": "done"}]}
    ask(client, tools=[custom], messages=[{"role": "user", "content": "go"}, told, result])
    blocks = at.world.anthropic.requests[-1].body["messages"]
    assert blocks[1]["content"][0]["input"] == {"input": "*** Begin Patch"}


def test_the_demo_answers(client: OpenAI) -> None:
    body: Any = {"model": "demo-target", "messages": [{"role": "user", "content": "hello"}]}
    whole = client.chat.completions.create(**body)
    assert whole.choices[0].message.content
    chunks = list(client.chat.completions.create(**body, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


def test_one_token_is_answered_by_the_model(at: Place, client: OpenAI) -> None:
    """Claude Code's probes look like this; OpenAI's clients mean it."""
    ask(client, max_tokens=1)
    assert len(at.world.anthropic.requests) == 1


# -- errors


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"messages": [{"role": "narrator", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages[0].content[0].type"),
        ({"messages": []}, "messages"),
        ({"reasoning_effort": "enormous"}, "reasoning_effort"),
        ({"tools": [{"type": "file_search"}]}, "tools[0].type"),
        ({"tool_choice": {"type": "function", "function": {"name": "none"}}, "tools": [WEATHER]}, "tool_choice"),
        ({"max_tokens": 0}, "max_tokens"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(at: Place, client: OpenAI, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, **fields)
    assert caught.value.param == param
    assert caught.value.type == "invalid_request_error"
    assert at.world.anthropic.requests == []


def test_our_errors_are_the_sdk_s(at: Place, payer: OpenAI, email: str) -> None:
    with pytest.raises(openai.AuthenticationError) as refused:
        ask(at.client("sk-ccm-nobody"))
    assert refused.value.code == "invalid_api_key"
    with pytest.raises(openai.NotFoundError) as missing:
        ask(payer, model="no-such-model")
    assert missing.value.code == "model_not_found"
    assert "no-such-model" in missing.value.message
    poor = at.client(at.world.ccm.create_key(f"poor-{email}", usd=""))
    with pytest.raises(openai.APIStatusError) as broke:
        ask(poor)
    assert (broke.value.status_code, broke.value.code) == (402, "insufficient_quota")
    with pytest.raises(openai.NotFoundError):
        payer.embeddings.create(model="x", input="y")


@pytest.mark.parametrize("target", TARGETS)
def test_a_provider_s_failures(at: Place, payer: OpenAI, email: str, target: str) -> None:
    fake = at.fake(target)
    fake.brain = always(Failure(529, "busy", type="overloaded_error"))
    with pytest.raises(openai.InternalServerError) as busy:
        ask(payer, target, stream=True)
    assert (busy.value.status_code, busy.value.code) == (503, "server_is_overloaded")
    fake.brain = always(Failure(400, "prompt is too long: 9 tokens > 8 maximum", type="invalid_request_error"))
    with pytest.raises(openai.BadRequestError) as long:
        ask(payer, target)
    assert long.value.code == "context_length_exceeded"
    # Last, since nobody asks this credential again for as long as the provider says.
    fake.brain = always(Failure(429, "slow down", type="rate_limit_error", headers={"retry-after": "1"}))
    with pytest.raises(openai.RateLimitError) as limited:
        ask(payer, target)
    assert limited.value.response.headers["retry-after"] == "1"
    assert at.world.ccm.usage_records(email)
    assert all(record["charge"] == 0 for record in at.world.ccm.usage_records(email))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("end", [End.EOF, End.RESET, End.ERROR])
def test_a_cut_stream_raises_and_costs_what_came(at: Place, payer: OpenAI, email: str, target: str, end: End) -> None:
    at.fake(target).brain = always(Reply(blocks=[Text("word " * 200, pieces=200)], events=100, end=end))
    said = []
    with pytest.raises(openai.APIError):
        for chunk in ask(payer, target, stream=True, max_tokens=2000):
            said.append(chunk.choices[0].delta.content or "")  # noqa: PERF401  what came before the error counts
    assert "".join(said).startswith("word word")
    (record,) = at.world.ccm.usage_records(email)
    assert "".join(said).count("word") <= record["output_tokens"] <= 400
    assert record["charge"] > 0


def test_the_bytes_of_a_stream(at: Place, client: OpenAI) -> None:
    headers = {"authorization": f"Bearer {client.api_key}"}
    body = {"model": "anthropic-model", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    url = f"{at.world.ccm.url}/v1/chat/completions"
    response = httpx.post(url, json=body, headers=headers, timeout=60, trust_env=False)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["x-request-id"] == response.headers["request-id"]
    assert response.headers["x-ccm-provider"] == "anthropic"
    assert response.text.endswith("data: [DONE]\n\n")
    assert "event:" not in response.text
    whole = httpx.post(url, json=body | {"stream": False}, headers=headers, timeout=60, trust_env=False)
    assert float(whole.headers["x-ccm-cost"]) > 0
    assert httpx.get(url, headers=headers, timeout=60, trust_env=False).status_code == 405


# -- models


def test_models_are_listed_for_openai_s_clients(at: Place, client: OpenAI) -> None:
    models = list(client.models.list())
    ids = {model.id for model in models}
    assert {"anthropic-model", "openai-model", "responses-model", "demo-target"} <= ids
    assert {model.object for model in models} == {"model"}
    assert client.models.retrieve("openai-model").id == "openai-model"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("no-such-model")
    with pytest.raises(openai.AuthenticationError):
        at.client("sk-ccm-nobody").models.list()
    headers = {"authorization": f"Bearer {client.api_key}", "anthropic-version": "2023-06-01"}
    theirs = httpx.get(f"{at.world.ccm.url}/v1/models", headers=headers, timeout=60, trust_env=False).json()
    assert "has_more" in theirs
