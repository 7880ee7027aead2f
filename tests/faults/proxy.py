"""A proxy in front of PostgreSQL that loses connections at the worst moment: at COMMIT."""

import asyncio
import contextlib
import struct
import threading
from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Self
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

WAIT_SECONDS = 30.0
LENGTH = struct.Struct("!i")
HARMLESS = {"sslmode": "disable", "gssencmode": "disable"}
"""So that the messages can be read on their way."""


class Cut(StrEnum):
    """When the connection is lost."""

    BEFORE = "before COMMIT"
    """COMMIT never reaches the server: nothing is stored."""
    DURING = "with COMMIT"
    """COMMIT is sent on, and nobody waits for what becomes of it."""
    AFTER = "after COMMIT"
    """The server has committed and said so; the answer is lost."""


@dataclass
class Armed:
    cut: Cut
    fired: threading.Event


class CommitProxy:
    """`with` starts it. `url` is `target` as seen through the proxy."""

    def __init__(self, target: str) -> None:
        self._target = urlsplit(target)
        self._armed: deque[Armed] = deque()
        self._away = False
        self._open: set[asyncio.StreamWriter] = set()
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="commit-proxy", daemon=True)
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(WAIT_SECONDS):
            raise RuntimeError("the proxy did not start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(WAIT_SECONDS)

    @property
    def url(self) -> str:
        parts = self._target
        user = parts.netloc.rpartition("@")[0]
        options = {name: value for name, value in parse_qsl(parts.query) if name != "host"} | HARMLESS
        host = f"{user}@127.0.0.1:{self.port}" if user else f"127.0.0.1:{self.port}"
        return urlunsplit((parts.scheme, host, parts.path, urlencode(options), ""))

    def cut_next_commit(self, cut: Cut) -> threading.Event:
        """Lose the connection of the next COMMIT, whoever sends it; the event says that it has happened."""
        armed = Armed(cut, threading.Event())
        self._armed.append(armed)
        return armed.fired

    def disarm(self) -> None:
        self._armed.clear()

    def leave(self) -> None:
        """Lose every connection and take no new one until `come_back`."""
        self._away = True
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._abort_all)

    def come_back(self) -> None:
        self._away = False

    # -- in the thread

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        self._abort_all()

    def _abort_all(self) -> None:
        for writer in tuple(self._open):
            writer.transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        directory = dict(parse_qsl(self._target.query)).get("host", "")
        port = self._target.port or 5432
        if directory.startswith("/"):
            return await asyncio.open_unix_connection(f"{directory}/.s.PGSQL.{port}")
        return await asyncio.open_connection(self._target.hostname or directory or "127.0.0.1", port)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._away:
            writer.transport.abort()
            return
        try:
            server_reader, server_writer = await self._connect()
        except OSError:
            writer.transport.abort()
            return
        pair = (writer, server_writer)
        self._open.update(pair)
        session = _Session(self._armed, writer, server_writer)
        try:
            await asyncio.wait(
                [
                    asyncio.create_task(session.from_client(reader)),
                    asyncio.create_task(session.from_server(server_reader)),
                ],
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            self._open.difference_update(pair)
            writer.transport.abort()
            server_writer.close()  # what was sent on still arrives


class _Session:
    def __init__(self, armed: deque[Armed], client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self._armed = armed
        self._client, self._server = client, server
        self._lost_answer: Armed | None = None

    async def from_client(self, reader: asyncio.StreamReader) -> None:
        """Message by message; the first one has no type. Ends when the connection does, or is to."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await self._pass_on(await _message(reader, b""))
            while True:
                kind = await reader.readexactly(1)
                message = await _message(reader, kind)
                armed = self._armed.popleft() if self._armed and is_commit(message) else None
                if armed is not None and armed.cut is Cut.BEFORE:
                    armed.fired.set()
                    return
                if armed is not None and armed.cut is Cut.AFTER:
                    self._lost_answer = armed
                await self._pass_on(message)
                if armed is not None and armed.cut is Cut.DURING:
                    armed.fired.set()
                    return

    async def _pass_on(self, message: bytes) -> None:
        self._server.write(message)
        await self._server.drain()

    async def from_server(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if self._lost_answer is not None:
                    self._lost_answer.fired.set()
                    return
                self._client.write(data)
                await self._client.drain()


async def _message(reader: asyncio.StreamReader, kind: bytes) -> bytes:
    head = await reader.readexactly(LENGTH.size)
    return kind + head + await reader.readexactly(LENGTH.unpack(head)[0] - LENGTH.size)


def is_commit(message: bytes) -> bool:
    """Whether this message of the client's has the server commit (a simple query, or one to prepare)."""
    body = message[1 + LENGTH.size :]
    match message[:1]:
        case b"Q":
            query = body
        case b"P":
            query = body.partition(b"\0")[2].partition(b"\0")[0]
        case _:
            return False
    return query.strip(b"\0 ;").upper() == b"COMMIT"
