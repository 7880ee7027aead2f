"""One HTTP exchange over ASGI: reading the body, answering, noticing that the client left."""

import asyncio
import random
import time
import zlib
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

import msgspec

from gateway.errors import GatewayError, invalid_request
from gateway.texts import Recording
from providers.wire.request import MessagesRequest

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

MAX_BODY_BYTES = 32 * 1024 * 1024
# A refused body is read to its end, up to this size, so that the client reads our answer
# instead of a connection reset.
MAX_DRAINED_BYTES = 256 * 1024 * 1024

JSON = (b"content-type", b"application/json")
EVENT_STREAM = (b"content-type", b"text/event-stream; charset=utf-8")


def new_request_id() -> str:
    """Sorts by time: `req_`, milliseconds since 1970 in 11 hexadecimal digits, 64 random bits (unique, not secret)."""
    return f"req_{time.time_ns() // 1_000_000:011x}{random.getrandbits(64):016x}"


class Exchange:
    answers_probes = True
    """Whether the client asks for a single token to learn something else than the answer."""
    offers_searches = False
    """Whether its clients offer a web search to the model with every request, needed or not."""

    __slots__ = (
        "_receive",
        "_send",
        "disconnected",
        "finished",
        "headers",
        "limit_headers",
        "method",
        "path",
        "query",
        "recording",
        "request_id",
        "started",
    )

    def __init__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.query: bytes = scope.get("query_string", b"")
        self.headers: dict[str, str] = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        self.request_id = new_request_id()
        self.limit_headers: Headers = []
        """What every answer tells of the client's limits."""
        self.recording: Recording | None = None
        """For organisations with prompt logging."""
        self.started = False
        self.finished = False
        self.disconnected = False
        self._receive = receive
        self._send = send

    def record(self, organization_id: int, body: bytes) -> None:
        """From now on what is sent is kept as well."""
        self.recording = Recording(self._send, self.request_id, organization_id, body)
        self._send = self.recording

    async def body(self) -> bytes:
        """The request's body, decompressed; raises GatewayError 413 beyond 32 MB."""
        pieces: list[bytes] = []
        size = 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self.disconnected = True
                raise asyncio.CancelledError
            piece = message.get("body", b"")
            size += len(piece)
            if size <= MAX_BODY_BYTES:
                pieces.append(piece)
            elif size > MAX_DRAINED_BYTES:
                break
            if not message.get("more_body"):
                break
        if size > MAX_BODY_BYTES:
            raise _too_large()
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return decompressed(body, self.headers)

    def read_request(self, body: bytes) -> MessagesRequest:
        """The request in `body`. Raises InvalidRequest."""
        return MessagesRequest.parse(body)

    async def watch_disconnect(self, task: "asyncio.Task[Any]") -> None:
        """Cancels `task` when the client goes away."""
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                if not self.finished:  # else: the server only says that the exchange is over
                    self.disconnected = True
                    task.cancel()
                return

    async def start(self, status: int, headers: Headers) -> None:
        """Send the status line and headers; `request-id` is always among them."""
        self.started = True
        request_id = self.request_id.encode()
        await self._send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [
                    *headers,
                    *self.limit_headers,
                    (b"request-id", request_id),
                    (b"x-ccm-request-id", request_id),
                ],
            }
        )

    async def write(self, data: bytes) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def finish(self, data: bytes = b"") -> None:
        self.finished = True
        await self._send({"type": "http.response.body", "body": data, "more_body": False})

    async def answer(self, status: int, body: bytes, headers: Headers | None = None) -> None:
        length = (b"content-length", str(len(body)).encode())
        await self.start(status, [JSON, length, *(headers or [])])
        await self.finish(b"" if self.method == "HEAD" else body)

    async def answer_json(self, value: Any, headers: Headers | None = None) -> None:
        await self.answer(200, msgspec.json.encode(value), headers)

    async def answer_error(self, error: GatewayError, headers: Headers | None = None) -> None:
        await self.answer(error.status, error.envelope(self.request_id), [*(headers or []), *error.headers()])


class InProcessExchange(Exchange):
    """An exchange without a client: the answer to a request that the gateway makes itself."""

    __slots__ = ("answered", "status")

    def __init__(self) -> None:
        super().__init__({"method": "POST", "path": "/v1/messages", "headers": []}, self._nothing_more, self._keep)
        self.status = 0
        self.answered = b""

    async def _nothing_more(self) -> MutableMapping[str, Any]:
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    async def _keep(self, message: MutableMapping[str, Any]) -> None:
        self.status = message.get("status", self.status)
        self.answered += message.get("body", b"")


def decompressed(body: bytes, headers: Mapping[str, str]) -> bytes:
    """A request's body as its headers (in lower case) say that it is packed. Raises GatewayError."""
    encoding = headers.get("content-encoding", "identity").lower()
    if len(body) > MAX_BODY_BYTES:
        raise _too_large()
    if encoding == "identity":
        return body
    if encoding != "gzip":
        raise invalid_request(f"content-encoding: {encoding!r} is not supported; send gzip or none.")
    return _gunzip(body)


def _too_large() -> GatewayError:
    text = f"The request body is larger than {MAX_BODY_BYTES // (1024 * 1024)} MB."
    return GatewayError(413, "request_too_large", text, should_retry=False)


def _gunzip(body: bytes) -> bytes:
    """Decompress without ever holding more than the limit, whatever the body claims to be."""
    inflater = zlib.decompressobj(wbits=31)
    try:
        plain = inflater.decompress(body, MAX_BODY_BYTES + 1)
    except zlib.error:
        raise invalid_request("content-encoding: the body is not valid gzip.") from None
    if len(plain) > MAX_BODY_BYTES:
        raise _too_large()
    if not inflater.eof:
        raise invalid_request("content-encoding: the gzip body is cut short.")
    return plain
