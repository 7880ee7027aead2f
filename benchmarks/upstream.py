"""The provider of the benchmarks: answers by path, from bytes made once, as cheaply as Python can.

`python -m benchmarks.upstream PORT [BURST]`. The path says in which format (`benchmarks/streams.py`). A stream
has EVENTS deltas, of which BURST are sent at a time.
"""

import asyncio
import itertools
import sys
from typing import Any, cast

import httptools
import uvloop

from benchmarks.streams import EVENTS, INPUT_TOKENS, STREAMS, WORDS, Stream, dump, message

TEXT = WORDS[0]
USAGE = {"input_tokens": INPUT_TOKENS, "output_tokens": EVENTS}
CHAT_USAGE = {"prompt_tokens": INPUT_TOKENS, "completion_tokens": EVENTS, "total_tokens": INPUT_TOKENS + EVENTS}
PATHS = {
    b"/chat/completions": "openai_chat",
    b"/responses": "openai_responses",
    b":streamGenerateContent": "gemini",
    b"/v2/chat": "cohere",
    b"/converse-stream": "converse",
    b"/invoke-with-response-stream": "invoke",
}
"""How the paths of the formats end; any other path is Anthropic's."""


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _streamed(stream: Stream) -> list[bytes]:
    head = (
        f"HTTP/1.1 200 OK\r\ncontent-type: {stream.content_type}\r\ncache-control: no-cache\r\n"
        "request-id: req_mock\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    first, *others = map(_chunk, stream.events)
    return [head.encode() + first, *others, b"0\r\n\r\n"]


def _whole(body: dict[str, Any]) -> list[bytes]:
    text = dump(body).encode()
    head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nrequest-id: req_mock\r\ncontent-length: "
    return [f"{head}{len(text)}\r\n\r\n".encode() + text]


CHOICE = {"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}
CHAT = {"id": "chatcmpl-bench", "object": "chat.completion", "created": 1, "model": "m", "choices": [CHOICE]}
STREAMED = {name: _streamed(stream) for name, stream in STREAMS.items()}
WHOLE = {
    "anthropic": _whole(message([{"type": "text", "text": TEXT}], USAGE, "end_turn")),
    "openai_chat": _whole(CHAT | {"usage": CHAT_USAGE}),
}


def _format_of(path: bytes) -> str:
    path = path.partition(b"?")[0]
    return next((name for ending, name in PATHS.items() if path.endswith(ending)), "anthropic")


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
        name = _format_of(self.path)
        streamed = name not in WHOLE or b'"stream":true' in body or b'"stream": true' in body
        self.path, self.body = b"", []
        self._write(iter((STREAMED if streamed else WHOLE)[name]))

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
