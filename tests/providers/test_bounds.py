"""How large a request may be, and that what is larger is refused in words."""

import time
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.errors import InvalidRequest, RequestTooLarge
from providers.types import Target
from providers.wire import bounds
from providers.wire.registry import WIRES
from providers.wire.request import MessagesRequest
from tests.providers.anthropic_support import MODEL, request, target

TARGETS = [
    target(),
    target(kind="z.ai", actual_model="glm-5"),
    target(kind="mistral", wire="openai_chat", actual_model="mistral-large"),
    target(kind="openai", wire="openai_responses", actual_model="gpt-5.1"),
    target(kind="gemini", wire="gemini", actual_model="gemini-2.5-pro"),
    target(kind="cohere", wire="cohere", actual_model="command-a"),
    target(kind="bedrock", wire="bedrock", actual_model="amazon.nova-pro-v1:0"),
    target(kind="bedrock", wire="bedrock", actual_model="anthropic.claude-sonnet-4-6-v1:0"),
]


def tool(number: int = 0, schema: Any = None) -> dict[str, Any]:
    return {"name": f"tool_{number}", "description": "d", "input_schema": schema or {"type": "object"}}


def nested(levels: int) -> dict[str, Any]:
    """A schema of `levels` levels (two each: `properties` and the property)."""
    schema: dict[str, Any] = {"type": "object"}
    for _ in range((levels - 1) // 2):
        schema = {"type": "object", "properties": {"p": schema}}
    return schema


def refusal(asked: MessagesRequest) -> str:
    with pytest.raises(InvalidRequest) as caught:
        asked.check()
    return str(caught.value)


json_values = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=30,
)


def levels(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max((levels(inner) for inner in value.values()), default=0)
    if isinstance(value, list):
        return 1 + max((levels(inner) for inner in value), default=0)
    return 0


@given(value=json_values)
def test_depth_is_the_depth(value: Any) -> None:
    assert bounds.depth(msgspec.json.encode(value), 1000) == levels(value)


@pytest.mark.parametrize("of", TARGETS, ids=lambda of: f"{of.kind} {of.wire}")
def test_the_deepest_schema_that_is_taken_passes_every_wire(of: Target) -> None:
    call = {"type": "tool_use", "id": "t", "name": "tool_0", "input": nested(bounds.MAX_DEPTH)}
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": [call]}]
    asked = request(messages=messages, tools=[tool(schema=nested(bounds.MAX_DEPTH))])
    asked.check()
    WIRES[of.wire].encode(asked, target=of, model=MODEL, max_tokens=100, client_headers={})


def test_a_deeper_schema_is_named() -> None:
    asked = request(tools=[tool(), tool(1, nested(bounds.MAX_DEPTH + 3))])
    assert refusal(asked) == "tools: the schema of tool 1 is nested too deeply: 100 levels are supported."
    brackets_in_texts = tool(schema={"type": "object", "description": "[{" * 500 + '\\"'})
    request(tools=[brackets_in_texts]).check()


@pytest.mark.parametrize("field", ["messages", "tools", "system", "metadata", "anything"])
def test_a_body_of_brackets_is_refused(field: str) -> None:
    body = b'{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"hi"}],"%s":%s}' % (
        field.encode(),
        b"[" * 200_000 + b"]" * 200_000,
    )
    with pytest.raises(InvalidRequest, match="nested too deeply"):
        MessagesRequest.parse(body)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"tools": [tool(n) for n in range(bounds.MOST_TOOLS + 1)]}, "tools: 2001 tools; 2000 are allowed"),
        ({"tools": [tool(), tool(1, {"description": "x" * 600_000})]}, "tools.1: 6000"),
        ({"tools": [tool(n, {"d": "x" * 400_000}) for n in range(11)]}, "tools: 44"),
        ({"system": [{"type": "text", "text": "s"}] * 1001}, "system: 1001 blocks; 1000 are allowed"),
        ({"stop_sequences": ["s"] * 65}, "stop_sequences: 65 stop sequences; 64 are allowed"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "t"}] * (bounds.MOST_BLOCKS + 1)}]},
            "messages: 200001 content blocks; 200000 are allowed",
        ),
        ({"messages": [{"role": "user", "content": "t"}] * (bounds.MOST_MESSAGES + 1)}, "messages: 100001 messages"),
    ],
    ids=["tools", "tool", "tools' size", "system", "stops", "blocks", "messages"],
)
def test_too_many_are_named_with_the_limit(fields: dict[str, Any], told: str) -> None:
    assert refusal(request(**fields)).startswith(told)


def test_too_many_images_are_413_so_that_the_client_takes_old_ones_out() -> None:
    shown = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aaaa"}}
    asked = request(messages=[{"role": "user", "content": [shown] * (bounds.MOST_IMAGES + 1)}])
    with pytest.raises(RequestTooLarge, match="601 images and documents; 600 are allowed"):
        asked.check()


def test_the_largest_sessions_of_claude_code_pass() -> None:
    """A million tokens, three hundred tools, hundreds of screenshots."""
    text = {"type": "text", "text": "word " * 800}
    call = {"type": "tool_use", "id": "t", "name": "Read", "input": {"file_path": "/a"}}
    shown = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "a" * 4000}}
    result = {"type": "tool_result", "tool_use_id": "t", "content": [text, shown]}
    turns = [{"role": "assistant", "content": [text, call]}, {"role": "user", "content": [result]}]
    properties = {f"p{n}": {"type": "string", "description": "d" * 200} for n in range(20)}
    tools = [tool(n, {"type": "object", "properties": properties}) for n in range(300)]
    first = {"role": "user", "content": "go"}
    request(messages=[first, *turns * 500], tools=tools).check()
    with pytest.raises(RequestTooLarge):
        request(messages=[first, *turns * 601], tools=tools).check()


def test_the_same_tools_are_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    real = bounds.depth

    def depth(raw: bytes, limit: int) -> int:
        seen.append(len(raw))
        return real(raw, limit)

    monkeypatch.setattr(bounds, "depth", depth)
    unique = tool(schema={"type": "object", "title": str(time.monotonic_ns())})
    for _ in range(3):
        request(tools=[unique]).check()
    assert len(seen) == 1
