"""Targets, requests and streams for the tests of the anthropic wire, transport and demo."""

from dataclasses import replace
from typing import Any

import msgspec

from providers.types import Model, Price, Target, Timeouts
from providers.wire.request import MessagesRequest
from providers.wire.sse import SseParser, render

FREE = Price(input=0, output=0, cache_read=0, cache_write=0, cache_write_1h=0)
TARGET = Target(
    mapping_id=1,
    provider_id=1,
    provider="acme",
    kind="anthropic",
    wire="anthropic",
    base_url="https://api.anthropic.com",
    actual_model="claude-actual",
    priority=1,
    weight=1,
    cost=FREE,
    timeouts=Timeouts(connect=2, first_byte=5, idle=5, total=20),
)
MODEL = Model(
    id=1,
    name="claude-public",
    display_name="Claude",
    description="",
    context_window=200_000,
    max_output=64_000,
    vision=True,
    tools=True,
    thinking=True,
    price=FREE,
    targets=(TARGET,),
)


def target(**changes: Any) -> Target:
    return replace(TARGET, **changes)


def request(text: str = "hi", **fields: Any) -> MessagesRequest:
    body = {"model": MODEL.name, "max_tokens": 1000, "messages": [{"role": "user", "content": text}], **fields}
    return MessagesRequest.parse(msgspec.json.encode(body))


def event(name: str, **fields: Any) -> bytes:
    return render(name, msgspec.json.encode({"type": name, **fields}))


def message_start(**usage: Any) -> bytes:
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-actual", "content": []}
    return event("message_start", message={**message, "usage": usage or {"input_tokens": 9, "output_tokens": 1}})


def text_block(index: int, *texts: str) -> bytes:
    start = event("content_block_start", index=index, content_block={"type": "text", "text": ""})
    deltas = [event("content_block_delta", index=index, delta={"type": "text_delta", "text": text}) for text in texts]
    return start + b"".join(deltas) + event("content_block_stop", index=index)


def message_delta(stop_reason: str | None = "end_turn", **usage: Any) -> bytes:
    told = usage or {"output_tokens": 7}
    return event("message_delta", delta={"stop_reason": stop_reason, "stop_sequence": None}, usage=told)


STOP = event("message_stop")


def parsed(stream: bytes) -> list[tuple[str, Any]]:
    """The events of `stream` as (name, decoded data)."""
    return [(name, msgspec.json.decode(data)) for name, data in SseParser().feed(stream)]
