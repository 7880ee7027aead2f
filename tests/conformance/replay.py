"""A provider that says again what was recorded, and a running CCM with it behind every kind."""

import asyncio
import json
import re
import threading
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from tests.conformance.recordings import Format, Recording
from tests.fakes.bedrock import ACCESS_KEY
from tests.processes import Ccm

WAIT_SECONDS = 30.0
PRICES = {"input": 3000, "output": 15000, "cache_read": 300, "cache_write": 3750}
"""Nano-USD a token, of every model here."""
PROVIDER = """
[[providers]]
name = "{name}"
kind = "{kind}"
wire = "{wire}"
base_url = "{url}"
api_key = '{secret}'
"""
MODEL = """
[[models]]
name = "{name}"
context_window = 10000000
max_output = 100000
tools = true
vision = true
thinking = true
input = "3"
output = "15"
cache_read = "0.3"
cache_write = "3.75"
[[models.mappings]]
provider = "{provider}"
actual_model = "{actual}"
cost = {{ input = "1", output = "5", cache_read = "0.1", cache_write = "1.25" }}
"""
TWO_TARGETS = """
[[models]]
name = "two-targets"
max_output = 32000
tools = true
input = "3"
output = "15"
[[models.mappings]]
provider = "groq-openai-chat"
actual_model = "first"
priority = 1
[[models.mappings]]
provider = "anthropic-anthropic"
actual_model = "second"
priority = 2
"""
BASES = {"openai_chat": "/v1", "openai_responses": "/v1", "gemini": "/v1beta"}
"""What a base URL of the format has after its host."""


@dataclass(frozen=True)
class Answer:
    """What the provider answers next, in these pieces."""

    pieces: tuple[bytes, ...]
    content_type: str = "application/json"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    hold_before: int | None = None
    """The number of a piece that is not sent until the server is told to `resume`."""

    def encoded(self) -> bytes:
        size = sum(map(len, self.pieces))
        told = {"content-type": self.content_type, "content-length": str(size), **self.headers}
        lines = [f"HTTP/1.1 {self.status} Recorded", *(f"{name}: {value}" for name, value in told.items()), "", ""]
        return "\r\n".join(lines).encode()


@dataclass(frozen=True)
class Asked:
    path: str
    headers: dict[str, str]
    body: Any


class ReplayServer:
    """An HTTP server in a thread. It answers every request with the answers of `play`, each once and
    the last one for ever, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.port = 0
        self._answers: list[Answer] = []
        self._resume: asyncio.Event | None = None
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="replay", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(WAIT_SECONDS):
            raise RuntimeError("The replaying server did not start.")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._loop is not None
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(WAIT_SECONDS)

    def play(self, *answers: Answer) -> None:
        self._answers = list(answers)
        self.asked.clear()

    def resume(self) -> None:
        assert self._loop is not None
        assert self._resume is not None
        self._loop.call_soon_threadsafe(self._resume.set)

    async def _serve(self) -> None:
        self._loop, self._stop, self._resume = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0, limit=2**20)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await self._request(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        pairs = (line.partition(":") for line in head[1:] if line)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        self.asked.append(Asked(head[0].split()[1], headers, json.loads(body) if body else None))
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        writer.write(answer.encoded())
        for number, piece in enumerate(answer.pieces):
            if number == answer.hold_before:
                assert self._resume is not None
                await self._resume.wait()
                self._resume.clear()
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)


def provider_of(form: Format, kind: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", f"{kind}-{form}")


def model_of(recording: Recording) -> str:
    """The public name of the model that answered `recording`."""
    return provider_of(recording.format, recording.kind) + "/" + re.sub(r"[^A-Za-z0-9.-]+", "-", recording.model)


class Stage:
    """A CCM whose providers all are one ReplayServer. There is a model for every recorded one."""

    def __init__(self, recordings: Iterable[Recording]) -> None:
        self._recordings = tuple(recordings)
        self._stack = ExitStack()
        self.server = ReplayServer()
        self.key = ""

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self.server)
            self.ccm = stack.enter_context(Ccm())
            self.ccm.import_config(self._config())
            self.key = self.ccm.create_key("conformance@example.com", usd="10000")
            self.ccm.start()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _config(self) -> str:
        providers: dict[str, str] = {}
        models: dict[str, str] = {}
        for recording in self._recordings:
            name = provider_of(recording.format, recording.kind)
            providers[name] = PROVIDER.format(
                name=name,
                kind=recording.kind,
                wire=recording.format,
                url=f"http://127.0.0.1:{self.server.port}/{name}{BASES.get(recording.format, '')}",
                secret=json.dumps(ACCESS_KEY) if recording.kind == "bedrock" else "secret",
            )
            public = model_of(recording)
            models[public] = MODEL.format(name=public, provider=name, actual=recording.model)
        return "".join((*providers.values(), *models.values(), TWO_TARGETS))
