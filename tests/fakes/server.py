"""A fake provider on a real socket: an HTTP server in a thread, driven by a brain.

It speaks one wire (`Front`), refuses what the real provider would refuse, and records every
request. `with` starts and stops it.
"""

import asyncio
import contextlib
import json
import socket
import struct
import sys
import threading
import time
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, runtime_checkable

from aiohttp import web

from tests.fakes.answers import Answer, End, Failure, Reply, Reset, Silence, Tokens
from tests.fakes.brain import Brain, Conversation, always

WAIT_SECONDS = 30.0
LARGEST_BODY = 64 * 1024 * 1024


class Front(Protocol):
    """One wire of the fake providers: pure functions over parsed requests."""

    name: str
    base_path: str
    """What a provider's base URL has after the host."""

    @property
    def paths(self) -> Container[str]: ...

    def violation(self, body: Any, headers: dict[str, str]) -> str | None:
        """Why the real provider would answer 400, or None."""
        ...

    def conversation(self, body: dict[str, Any], size: int) -> Conversation: ...

    def events(self, reply: Reply, body: dict[str, Any]) -> list[bytes]: ...

    def whole(self, reply: Reply, body: dict[str, Any]) -> dict[str, Any]: ...

    def error(self, failure: Failure) -> dict[str, Any]: ...

    def error_event(self, failure: Failure) -> bytes: ...

    def other(self, method: str, path: str, body: Any) -> dict[str, Any] | Failure | None:
        """The answer to a request beside the wire's own path (a model list, a count), or None."""
        ...


@runtime_checkable
class AddressedFront(Protocol):
    """A wire whose requests say in their address what others say in their body."""

    def told(self, path: str, raw: bytes) -> Any:
        """The parsed body, with the address's `model` and `stream`."""
        ...


@dataclass
class Received:
    """A request as it came, and what became of it."""

    method: str
    path: str
    headers: dict[str, str]
    """Lower-case names."""
    raw: bytes
    body: Any
    answer: Answer | None = None
    violation: str | None = None
    cancelled: bool = False
    """The client left before the answer's end."""
    sent: int = 0
    """How many events of a stream have been sent, or were being sent when the client left."""
    complete: bool = False
    """The answer has been sent to its regular end, or its end was being sent when the client left."""
    finished: threading.Event = field(default_factory=threading.Event)

    @property
    def tokens(self) -> Tokens | None:
        return self.answer.tokens if isinstance(self.answer, Reply) else None


class FakeProvider:
    """`brain` may be replaced at any time; it decides the answers to requests from then on."""

    def __init__(self, front: Front, brain: Brain | None = None) -> None:
        self.front = front
        self.brain: Brain = brain or always(Reply())
        self.received: list[Received] = []
        self.port = 0
        self._changed = threading.Condition()
        self._ready = threading.Event()
        self._resume: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name=f"fake-{front.name}", daemon=True)

    # -- life

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(WAIT_SECONDS):
            raise RuntimeError(f"The fake {self.front.name} server did not start.")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(WAIT_SECONDS)

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        """What a provider's row has as base URL."""
        return self.origin + self.front.base_path

    # -- what tests look at

    @property
    def requests(self) -> list[Received]:
        """The requests on the wire's own path, in order of arrival."""
        return [entry for entry in self.received if entry.method == "POST" and _path(entry) in self.front.paths]

    @property
    def violations(self) -> list[str]:
        return [entry.violation for entry in self.received if entry.violation]

    def wait_for(self, count: int, seconds: float = WAIT_SECONDS) -> list[Received]:
        """The first `count` requests, once they have come; raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.requests) >= count, seconds):
                raise TimeoutError(f"{len(self.requests)} of {count} requests came: {self.requests}")
        return self.requests[:count]

    def clear(self) -> None:
        self.received.clear()

    def resume(self) -> None:
        """End every stall, present and future."""
        assert self._loop is not None
        assert self._resume is not None
        self._loop.call_soon_threadsafe(self._resume.set)

    def stall(self) -> None:
        """Let stalls hold again, after `resume`."""
        assert self._loop is not None
        assert self._resume is not None
        self._loop.call_soon_threadsafe(self._resume.clear)

    # -- the server

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._stop, self._resume = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
        app = web.Application(client_max_size=LARGEST_BODY)
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.port = runner.addresses[0][1]
        self._ready.set()
        await self._stop.wait()
        await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        entry = Received(
            method=request.method,
            path=request.path_qs,
            headers={name.lower(): value for name, value in request.headers.items()},
            raw=raw,
            body=_told(self.front, request.path_qs, raw),
        )
        with self._changed:
            self.received.append(entry)
            self._changed.notify_all()
        try:
            return await self._answer(request, entry)
        except (asyncio.CancelledError, ConnectionError):
            entry.cancelled = True
            raise
        finally:
            entry.finished.set()

    async def _answer(self, request: web.Request, entry: Received) -> web.StreamResponse:
        if entry.method != "POST" or _path(entry) not in self.front.paths:
            other = self.front.other(entry.method, _path(entry), entry.body)
            if other is None:
                return self._fail(Failure(404, "Not found", type="not_found_error"))
            return self._fail(other) if isinstance(other, Failure) else web.json_response(other)
        entry.violation = self.front.violation(entry.body, entry.headers)
        if entry.violation:
            return self._fail(Failure(400, entry.violation, type="invalid_request_error"))
        entry.answer = answer = self.brain(self.front.conversation(entry.body, len(entry.raw)))
        match answer:
            case Failure():
                return self._fail(answer)
            case Reset(after_headers=False):
                return _reset(request)
            case Reset():
                return await self._stream(request, entry, Reply(events=0, end=End.RESET))
            case Silence():
                await self._stalled()
                return self._fail(Failure(504))
            case Reply() if entry.body.get("stream"):
                return await self._stream(request, entry, answer)
            case Reply():
                return await self._whole(request, entry, answer)

    def _fail(self, failure: Failure) -> web.Response:
        body = failure.body if failure.body is not None else json.dumps(self.front.error(failure))
        headers = {"content-type": failure.content_type, "request-id": "req_fake", **failure.headers}
        return web.Response(status=failure.status, body=body.encode(), headers=headers)

    async def _whole(self, request: web.Request, entry: Received, reply: Reply) -> web.StreamResponse:
        if reply.first_byte_after:
            await asyncio.sleep(reply.first_byte_after)
        match reply.end:
            case End.RESET | End.EOF:
                return _reset(request)
            case End.STALL:
                await self._stalled()
            case End.ERROR:
                return self._fail(reply.error or Failure(529, type="overloaded_error"))
        entry.complete = True
        return web.json_response(self.front.whole(reply, entry.body), headers={"request-id": "req_fake"})

    async def _stream(self, request: web.Request, entry: Received, reply: Reply) -> web.StreamResponse:
        if reply.first_byte_after:
            await asyncio.sleep(reply.first_byte_after)
        stream_type = getattr(self.front, "stream_type", "text/event-stream")
        response = web.StreamResponse(headers={"content-type": stream_type, "request-id": "req_fake"})
        await response.prepare(request)
        events = self.front.events(reply, entry.body)
        cut = len(events) if reply.events is None else reply.events
        try:
            await _write(response, entry, events[:cut], reply.between)
        finally:
            entry.complete = entry.sent == len(events)
        match reply.end:
            case End.RESET:
                if events[:cut]:
                    await _until_read(request)
                return _reset(request, response)
            case End.STALL:
                await self._stalled()
                await _write(response, entry, events[cut:], reply.between)
            case End.ERROR:
                await response.write(self.front.error_event(reply.error or Failure(529, type="overloaded_error")))
            case End.TWICE:
                await response.write(b"".join(events[-2:]))
        entry.complete = entry.sent == len(events)
        await response.write_eof()
        return response

    async def _stalled(self) -> None:
        assert self._resume is not None
        await self._resume.wait()


async def _write(response: web.StreamResponse, entry: Received, events: list[bytes], between: float) -> None:
    for event in events:
        entry.sent += 1
        await response.write(event)
        if between:
            await asyncio.sleep(between)


async def _until_read(request: web.Request) -> None:
    """Wait until the peer has read what was sent: a reset takes with it what still lies in its kernel's queue."""
    assert request.transport is not None
    sock: socket.socket = request.transport.get_extra_info("socket")
    ours, theirs = _in_table(sock.getsockname()), _in_table(sock.getpeername())
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        if not any(row[1:3] == [theirs, ours] and not row[4].endswith(":00000000") for row in _connections()):
            return
        await asyncio.sleep(0.01)


def _connections() -> list[list[str]]:
    return [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]


def _in_table(address: tuple[str, int]) -> str:
    """As /proc/net/tcp writes an IPv4 address."""
    host, port = address
    return f"{int.from_bytes(socket.inet_aton(host), sys.byteorder):08X}:{port:04X}"


def _reset(request: web.Request, response: web.StreamResponse | None = None) -> web.StreamResponse:
    """Close the connection by RST, as a dying peer does."""
    assert request.transport is not None
    sock: socket.socket = request.transport.get_extra_info("socket")
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.transport.abort()
    return response or web.Response()


def _path(entry: Received) -> str:
    return entry.path.partition("?")[0]


def _told(front: Front, path: str, raw: bytes) -> Any:
    return front.told(path, raw) if isinstance(front, AddressedFront) else _parsed(raw)


def _parsed(raw: bytes) -> Any:
    try:
        return json.loads(raw) if raw else None
    except ValueError:
        return None


@contextlib.contextmanager
def gone(provider: FakeProvider) -> Iterator[str]:
    """The base URL of a provider that is down: a port that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{listener.getsockname()[1]}{provider.front.base_path}"
