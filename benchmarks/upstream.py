"""The provider of the benchmarks: answers by path, from bytes made once, as cheaply as Python can.

`python -m benchmarks.upstream PORT [BURST]`. `/v1/messages` speaks Anthropic, any other path OpenAI
chat. A stream has EVENTS deltas, of which BURST are sent at a time.
"""

import asyncio
import itertools
import json
import sys
from typing import Any, cast

import httptools
import uvloop

EVENTS = 200
TEXT = "lorem ipsum dolor sit am"
USAGE = {"input_tokens": 1000, "output_tokens": EVENTS}
CHAT_USAGE = {"prompt_tokens": 1000, "completion_tokens": EVENTS, "total_tokens": 1000 + EVENTS}
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n"
    b"request-id: req_mock\r\ntransfer-encoding: chunked\r\n\r\n"
)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _event(name: str, data: dict[str, Any]) -> bytes:
    return _chunk(f"event: {name}\ndata: {json.dumps({'type': name} | data, separators=(',', ':'))}\n\n".encode())


def _data(data: dict[str, Any]) -> bytes:
    return _chunk(f"data: {json.dumps(data, separators=(',', ':'))}\n\n".encode())


def _message(content: list[dict[str, Any]], usage: dict[str, int], stop: str | None) -> dict[str, Any]:
    head = {"id": "msg_bench", "type": "message", "role": "assistant", "model": "m", "content": content}
    return head | {"stop_reason": stop, "stop_sequence": None, "usage": usage}


def _anthropic_stream() -> list[bytes]:
    delta = {"index": 0, "delta": {"type": "text_delta", "text": TEXT}}
    end = {"stop_reason": "end_turn", "stop_sequence": None}
    return [
        STREAM_HEAD + _event("message_start", {"message": _message([], USAGE | {"output_tokens": 1}, None)}),
        _event("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}}),
        *[_event("content_block_delta", delta)] * EVENTS,
        _event("content_block_stop", {"index": 0}),
        _event("message_delta", {"delta": end, "usage": {"output_tokens": EVENTS}}),
        _event("message_stop", {}) + b"0\r\n\r\n",
    ]


def _openai_stream() -> list[bytes]:
    head = {"id": "chatcmpl-bench", "object": "chat.completion.chunk", "created": 1, "model": "m"}

    def chunk(delta: dict[str, str], finish: str | None = None) -> bytes:
        return _data(head | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})

    return [
        STREAM_HEAD + chunk({"role": "assistant", "content": ""}),
        *[chunk({"content": TEXT})] * EVENTS,
        chunk({}, "stop"),
        _data(head | {"choices": [], "usage": CHAT_USAGE}),
        _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n",
    ]


def _whole(body: dict[str, Any]) -> list[bytes]:
    text = json.dumps(body, separators=(",", ":")).encode()
    head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nrequest-id: req_mock\r\ncontent-length: "
    return [f"{head}{len(text)}\r\n\r\n".encode() + text]


CHOICE = {"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}
CHAT = {"id": "chatcmpl-bench", "object": "chat.completion", "created": 1, "model": "m", "choices": [CHOICE]}
ANSWERS = {
    ("anthropic", True): _anthropic_stream(),
    ("anthropic", False): _whole(_message([{"type": "text", "text": TEXT}], USAGE, "end_turn")),
    ("openai", True): _openai_stream(),
    ("openai", False): _whole(CHAT | {"usage": CHAT_USAGE}),
}


class Upstream(asyncio.Protocol):
    def __init__(self, burst: int) -> None:
        self.burst = burst
        self.transport: asyncio.Transport | None = None
        self.loop = asyncio.get_running_loop()
        self._reset()

    def _reset(self) -> None:
        self.parser = httptools.HttpRequestParser(self)
        self.path = b""
        self.body: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  (the protocol's name)
        self.transport = None

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self.path += url

    def on_body(self, body: bytes) -> None:
        self.body.append(body)

    def on_message_complete(self) -> None:
        body = b"".join(self.body)
        wire = "anthropic" if self.path.startswith(b"/v1/messages") else "openai"
        streamed = b'"stream":true' in body or b'"stream": true' in body
        self.path, self.body = b"", []
        self._write(iter(ANSWERS[wire, streamed]))

    def _write(self, parts: Any) -> None:
        """BURST parts a pass of the loop: what is written in one pass is sent at once."""
        part = b"".join(itertools.islice(parts, self.burst))
        if part and self.transport is not None:
            self.transport.write(part)
            self.loop.call_soon(self._write, parts)


async def serve(port: int, burst: int) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: Upstream(burst), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1))
