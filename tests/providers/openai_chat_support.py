"""Targets, chunks, checkers and readers for the tests of the openai_chat wire."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import msgspec
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import RawMessageStreamEvent
from pydantic import TypeAdapter

from providers.types import Model, Target
from providers.wire.base import StreamDecoder
from providers.wire.openai_chat import OpenAIChatWire
from providers.wire.request import MessagesRequest
from providers.wire.sse import SseParser
from tests.providers.anthropic_support import MODEL as ANTHROPIC_MODEL
from tests.providers.anthropic_support import TARGET as ANTHROPIC_TARGET

WIRE = OpenAIChatWire()
DONE = b"data: [DONE]\n\n"
EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
BASH = {"name": "Bash", "description": "Runs.", "input_schema": {"type": "object", "properties": {}}}


def target(kind: str = "openai", actual_model: str = "gpt-4.1", **changes: Any) -> Target:
    base = replace(ANTHROPIC_TARGET, wire="openai_chat", base_url="https://api.example/v1")
    return replace(base, kind=kind, actual_model=actual_model, **changes)


def model(**changes: Any) -> Model:
    return replace(ANTHROPIC_MODEL, name="public-model", **changes)


def request(*messages: Any, **fields: Any) -> MessagesRequest:
    """A request with `messages`, each a (role, content) pair; "hi" of the user when there are none."""
    told = [{"role": role, "content": content} for role, content in messages or [("user", "hi")]]
    body = {"model": "public-model", "max_tokens": 1000, "messages": told, **fields}
    return MessagesRequest.parse(msgspec.json.encode(body))


def encoded(
    asked: MessagesRequest, *, to: Target | None = None, served: Model | None = None, max_tokens: int = 1000
) -> dict[str, Any]:
    """The body that the provider gets for `asked`."""
    outbound = WIRE.encode(
        asked, target=to or target(), model=served or model(), max_tokens=max_tokens, client_headers={"x-app": "cli"}
    )
    body: dict[str, Any] = json.loads(outbound.body)
    return body


def messages_of(*messages: Any, kind: str = "openai", served: Model | None = None, **fields: Any) -> list[Any]:
    sent: list[Any] = encoded(request(*messages, **fields), to=target(kind), served=served)["messages"]
    return sent


def text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def use(call_id: str, name: str = "Bash", **tool_input: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": call_id, "name": name, "input": tool_input}


def result(call_id: str, content: Any = "ok", **fields: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": call_id, "content": content, **fields}


def order_problem(messages: list[dict[str, Any]]) -> str | None:
    """What Chat Completions servers would refuse in the order of `messages`, if anything."""
    waiting: list[str] = []
    for index, message in enumerate(messages):
        if message["role"] == "tool":
            if not waiting or message["tool_call_id"] != waiting.pop(0):
                return f"messages[{index}] answers no call, or not in the calls' order"
            continue
        if waiting:
            return f"messages[{index}] stands before the results of {waiting}"
        waiting = [call["id"] for call in message.get("tool_calls", [])]
        if not message.get("content") and not message.get("tool_calls"):
            return f"messages[{index}] is empty"
    if waiting:
        return f"no results for {waiting}"
    doubled = [
        a["role"] for a, b in pairwise(messages) if a["role"] == b["role"] and a["role"] in {"user", "assistant"}
    ]
    return f"two messages of {doubled[0]} in a row" if doubled else None


# -- answers


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **fields: Any) -> bytes:
    choice = {"index": 0, "delta": delta or {}, "logprobs": None, "finish_reason": finish}
    return data({"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [choice], **fields})


def data(value: Any) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def says(*texts: str) -> list[bytes]:
    return [chunk({"content": text}) for text in texts]


def call(index: int | None = 0, call_id: str | None = None, name: str | None = None, arguments: Any = None) -> bytes:
    told: dict[str, Any] = {"function": {}}
    told |= {} if index is None else {"index": index}
    told |= {} if call_id is None else {"id": call_id, "type": "function"}
    told["function"] |= {} if name is None else {"name": name}
    told["function"] |= {} if arguments is None else {"arguments": arguments}
    return chunk({"tool_calls": [told]})


def usage_chunk(prompt: int = 100, cached: int = 40, output: int = 7, reasoning: int = 0) -> bytes:
    return data(
        {
            "choices": [],
            "usage": {
                "prompt_tokens": prompt,
                "completion_tokens": output,
                "total_tokens": prompt + output,
                "prompt_tokens_details": {"cached_tokens": cached},
                "completion_tokens_details": {"reasoning_tokens": reasoning},
            },
        }
    )


@dataclass
class Streamed:
    decoder: StreamDecoder
    bytes: bytes

    @property
    def events(self) -> list[Any]:
        """The events, each validated against the official SDK's types."""
        parsed = SseParser().feed(self.bytes)
        events = [EVENT.validate_python(json.loads(payload)) for _, payload in parsed]
        assert [name for name, _ in parsed] == [event.type for event in events]
        return events

    @property
    def message(self) -> dict[str, Any]:
        """What the official SDK makes of the events, without the ids, which are random."""
        snapshot: Any = None
        buffers: dict[int, bytes] = {}
        for event in self.events:
            snapshot = accumulate_event(event=event, current_snapshot=snapshot, json_bufs=buffers)
        return without_ids(snapshot.to_dict())

    @property
    def content(self) -> list[Any]:
        content: list[Any] = self.message["content"]
        return content


def without_ids(message: dict[str, Any]) -> dict[str, Any]:
    """A Message's fields that say something, without ids."""
    known = ("model", "role", "stop_reason", "stop_sequence", "type", "usage")
    fields = {name: message.get(name) for name in known}
    return {**fields, "content": [{k: v for k, v in block.items() if k != "id"} for block in message["content"]]}


def stream(
    *chunks: bytes,
    kind: str = "openai",
    name: str = "gpt-4.1",
    asked: MessagesRequest | None = None,
    close: bool = True,
    done: bool = True,
) -> Streamed:
    return feed([*chunks, DONE] if done else chunks, kind=kind, name=name, asked=asked, close=close)


def feed(
    pieces: Iterable[bytes],
    *,
    kind: str = "openai",
    name: str = "gpt-4.1",
    asked: MessagesRequest | None = None,
    close: bool = True,
) -> Streamed:
    decoder = WIRE.stream_decoder(
        request=asked or request(tools=[BASH], stream=True), target=target(kind, name), model=model()
    )
    out = b"".join(decoder.feed(piece) for piece in pieces)
    return Streamed(decoder, out + (decoder.close() if close else b""))


def problem_of_events(events: list[Any]) -> str | None:
    """What breaks the rules of Anthropic's streams: one block at a time, dense indices, one end."""
    if [event.type for event in events[:1]] != ["message_start"]:
        return "no message_start first"
    if [event.type for event in events[-2:]] != ["message_delta", "message_stop"]:
        return "no message_delta and message_stop at the end"
    index, is_open, kind = -1, False, ""
    for event in events[1:-2]:
        if event.type == "content_block_start":
            if is_open or event.index != index + 1:
                return f"block {event.index} starts at the wrong moment"
            index, is_open, kind = event.index, True, event.content_block.type
        elif event.type == "content_block_delta":
            fitting = {
                "text": {"text_delta", "citations_delta"},
                "thinking": {"thinking_delta", "signature_delta"},
                "tool_use": {"input_json_delta"},
            }
            if not is_open or event.index != index or event.delta.type not in fitting[kind]:
                return f"a {event.delta.type} for block {event.index} at the wrong moment"
        elif event.type == "content_block_stop":
            if not is_open or event.index != index:
                return f"block {event.index} stops at the wrong moment"
            is_open = False
        else:
            return f"a {event.type} in the middle"
    return "a block is left open" if is_open else None


STOP = chunk({}, "stop")
TOOL_CALLS = chunk({}, "tool_calls")


def tool(name: str = "Bash", **tool_input: Any) -> dict[str, Any]:
    return {"type": "tool_use", "name": name, "input": tool_input}


def words(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def thinking(text: str, kind: str = "openai") -> dict[str, Any]:
    return {"type": "thinking", "thinking": text, "signature": f"ccm1:{kind}:public-model"}


def whole(streamed: Streamed) -> Streamed:
    assert streamed.decoder.failure is None
    assert streamed.decoder.finished
    assert problem_of_events(streamed.events) is None
    return streamed
