"""The load generator: a closed loop over keep-alive connections, every answer checked.

`python -m benchmarks.load` reads one `Load` as JSON on stdin and prints one `Result` as JSON.
"""

import asyncio
import sys
import time
from dataclasses import dataclass, field
from typing import cast

import httptools
import msgspec
import uvloop

from benchmarks.processes import cpu_seconds


@dataclass(frozen=True)
class Load:
    """`needle` must occur `count` times in each answer's body, and `ends` near its end."""

    port: int
    path: str
    headers: dict[str, str]
    body: str
    needle: str
    count: int
    ends: str
    pid: int
    """Of the server: the CPU time of it and its children is measured."""
    connections: int = 16
    warm_up: float = 0.7
    seconds: float = 2.5


@dataclass
class Result:
    """`requests`, `cpu`, `latencies` are of the measured time; `sent` counts every request."""

    requests: int = 0
    sent: int = 0
    cpu: float = 0.0
    seconds: float = 0.0
    latencies: list[int] = field(default_factory=list)
    """Microseconds."""
    failures: list[str] = field(default_factory=list)


class Client(asyncio.Protocol):
    """One connection: sends the request, checks the answer, sends again."""

    def __init__(self, generator: "Generator") -> None:
        self.generator = generator
        self.transport: asyncio.Transport | None = None
        self.done = asyncio.get_running_loop().create_future()
        self.body: list[bytes] = []
        self.began = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._send()

    def _send(self) -> None:
        assert self.transport is not None
        self.body = []
        self.parser = httptools.HttpResponseParser(self)
        self.began = time.perf_counter_ns()
        self.generator.result.sent += 1
        self.transport.write(self.generator.request)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self.body.append(body)

    def on_message_complete(self) -> None:
        took = time.perf_counter_ns() - self.began
        self.generator.finished(self.parser.get_status_code(), b"".join(self.body), took // 1000)
        if self.generator.stopping:
            assert self.transport is not None
            self.transport.close()
        else:
            # The parser is still at work on the present answer.
            asyncio.get_running_loop().call_soon(self._send)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.generator.stopping:
            self.generator.result.failures.append(f"connection lost: {exc}")
        if not self.done.done():
            self.done.set_result(None)


class Generator:
    def __init__(self, load: Load) -> None:
        self.load = load
        self.result = Result()
        self.measuring = False
        self.stopping = False
        body = load.body.encode()
        lines = [f"POST {load.path} HTTP/1.1", f"host: 127.0.0.1:{load.port}", f"content-length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in load.headers.items()]
        self.request = "\r\n".join(lines).encode() + b"\r\n\r\n" + body
        self.needle, self.ends = load.needle.encode(), load.ends.encode()

    def finished(self, status: int, body: bytes, microseconds: int) -> None:
        if status != 200 or body.count(self.needle) != self.load.count or self.ends not in body[-400:]:
            self.result.failures.append(f"{status}, {len(body)} bytes: {body[-300:]!r}")
        if self.measuring:
            self.result.requests += 1
            self.result.latencies.append(microseconds)

    async def run(self) -> Result:
        loop = asyncio.get_running_loop()
        made = [
            await loop.create_connection(lambda: Client(self), "127.0.0.1", self.load.port)
            for _ in range(self.load.connections)
        ]
        await asyncio.sleep(self.load.warm_up)
        cpu, began, self.measuring = cpu_seconds(self.load.pid), time.perf_counter(), True
        await asyncio.sleep(self.load.seconds)
        self.measuring = False
        self.result.cpu = cpu_seconds(self.load.pid) - cpu
        self.result.seconds = time.perf_counter() - began
        self.stopping = True
        await asyncio.wait_for(asyncio.gather(*(client.done for _, client in made)), 30)
        return self.result


if __name__ == "__main__":
    load = msgspec.json.decode(sys.stdin.buffer.read(), type=Load)
    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(Generator(load).run())))
