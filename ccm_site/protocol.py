"""HTTP/1.1 as uvicorn speaks it, with fewer system calls.

uvicorn hands an answer's head and its body to the socket one by one, and uvloop sends each at once. Here a head waits
for what else is written within the same turn of the event loop: a whole answer leaves in one packet.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD = b"HTTP/"
MOST_PIECES = 8
"""More in one turn is a stream that is there faster than it is sent: its writer is to feel the transport's brakes."""


class TurnWrites:
    """A transport that keeps an answer's head, and what is written after it, until the loop's turn ends. Everything
    else is the transport's own."""

    __slots__ = ("_call_soon", "_pieces", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._call_soon = loop.call_soon
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> None:
        if not self._pieces:
            if not data.startswith(HEAD):
                self._transport.write(data)
                return
            self._call_soon(self._flush)
        self._pieces.append(data)
        if len(self._pieces) == MOST_PIECES:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        pieces = self._pieces
        if pieces:
            self._pieces = []
            self._transport.write(pieces[0] if len(pieces) == 1 else b"".join(pieces))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Protocol(HttpToolsProtocol):
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(TurnWrites(transport, self.loop))  # type: ignore[arg-type]
