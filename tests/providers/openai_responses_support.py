"""Targets, events and readers for the tests of the openai_responses wire."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from anthropic.lib.streaming._messages import accumulate_event

from providers.types import Target
from providers.wire.base import StreamDecoder
from providers.wire.openai_responses import OpenAIResponsesWire
from providers.wire.request import MessagesRequest
from providers.wire.sse import SseParser
from tests.providers import openai_chat_support as chat
from tests.providers.openai_chat_support import BASH, EVENT, model, request

WIRE = OpenAIResponsesWire()
SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 8}
DELTAS = {
    "text": {"text_delta", "citations_delta"},
    "thinking": {"thinking_delta", "signature_delta"},
    "tool_use": {"input_json_delta"},
    "server_tool_use": {"input_json_delta"},
}


def target(kind: str = "openai", actual_model: str = "gpt-5.2", **changes: Any) -> Target:
    return chat.target(kind, actual_model, wire="openai_responses", **changes)


def encoded(asked: MessagesRequest, *, to: Target | None = None, max_tokens: int = 1000, **changes: Any) -> Any:
    """The body that the provider gets for `asked`."""
    outbound = WIRE.encode(
        asked, target=to or target(), model=model(**changes), max_tokens=max_tokens, client_headers={"x-app": "cli"}
    )
    return json.loads(outbound.body)


def items_of(*messages: Any, kind: str = "openai", **fields: Any) -> list[Any]:
    sent: list[Any] = encoded(request(*messages, **fields), to=target(kind))["input"]
    return sent


# -- answers


def event(kind: str, **fields: Any) -> bytes:
    data = json.dumps({"type": kind, **fields}, ensure_ascii=False)
    return f"event: {kind}\ndata: {data}\n\n".encode()


def added(index: int, kind: str, **fields: Any) -> bytes:
    return event("response.output_item.added", output_index=index, item={"type": kind, **fields})


def done(index: int, kind: str, **fields: Any) -> bytes:
    return event("response.output_item.done", output_index=index, item={"type": kind, **fields})


def says(index: int, *texts: str, part: int = 0) -> list[bytes]:
    kind = "response.output_text.delta"
    return [event(kind, output_index=index, content_index=part, delta=text, logprobs=[]) for text in texts]


def argues(index: int, *pieces: str) -> list[bytes]:
    return [event("response.function_call_arguments.delta", output_index=index, delta=piece) for piece in pieces]


def ends(status: str = "completed", **fields: Any) -> bytes:
    usage = {
        "input_tokens": 100,
        "input_tokens_details": {"cached_tokens": 30, "cache_write_tokens": 20},
        "output_tokens": 9,
        "output_tokens_details": {"reasoning_tokens": 4},
    }
    return event(f"response.{status}", response={"status": status, "usage": usage, **fields})


@dataclass
class Streamed:
    decoder: StreamDecoder
    bytes: bytes

    @property
    def events(self) -> list[Any]:
        """The events, each validated against the official SDK's types."""
        parsed = SseParser().feed(self.bytes)
        events = [EVENT.validate_python(json.loads(payload)) for _, payload in parsed]
        assert [name for name, _ in parsed] == [told.type for told in events]
        return events

    @property
    def message(self) -> dict[str, Any]:
        """What the official SDK makes of the events, without what is random."""
        snapshot: Any = None
        buffers: dict[int, bytes] = {}
        for told in self.events:
            snapshot = accumulate_event(event=told, current_snapshot=snapshot, json_bufs=buffers)
        return without_ids(snapshot.to_dict())

    @property
    def content(self) -> list[Any]:
        content: list[Any] = self.message["content"]
        return content


def without_ids(message: dict[str, Any]) -> dict[str, Any]:
    shown = chat.without_ids(message)
    for block in shown["content"]:
        block.pop("tool_use_id", None)
    return shown


def feed(pieces: Iterable[bytes], *, to: Target | None = None, asked: MessagesRequest | None = None) -> Streamed:
    decoder = WIRE.stream_decoder(
        request=asked or request(tools=[BASH], stream=True), target=to or target(), model=model()
    )
    out = b"".join(decoder.feed(piece) for piece in pieces)
    return Streamed(decoder, out + decoder.close())


def whole(streamed: Streamed) -> Streamed:
    """`streamed`, which came to its regular end by the rules of Anthropic's streams."""
    assert streamed.decoder.failure is None
    assert streamed.decoder.finished
    assert problem_of_events(streamed.events) is None
    return streamed


def problem_of_events(events: list[Any]) -> str | None:
    """What breaks the rules of Anthropic's streams: one block at a time, dense indices, one end."""
    kinds = [told.type for told in events]
    if kinds[:1] != ["message_start"] or kinds[-2:] != ["message_delta", "message_stop"]:
        return "no regular beginning or end"
    index, open_kind = -1, None
    for told in events[1:-2]:
        if told.type == "content_block_start" and open_kind is None and told.index == index + 1:
            index, open_kind = told.index, told.content_block.type
        elif told.type == "content_block_delta" and told.index == index and open_kind is not None:
            if told.delta.type not in DELTAS.get(open_kind, set()):
                return f"a {told.delta.type} in a {open_kind}"
        elif told.type == "content_block_stop" and told.index == index and open_kind is not None:
            open_kind = None
        else:
            return f"a {told.type} at the wrong moment"
    return "a block is left open" if open_kind else None


def decoded(response: dict[str, Any], *, to: Target | None = None, asked: MessagesRequest | None = None) -> Any:
    """A whole response as a Message, without what is random."""
    answer = WIRE.decode_response(
        json.dumps(response).encode(), request=asked or request(tools=[BASH]), target=to or target(), model=model()
    )
    return without_ids(json.loads(answer.body))
