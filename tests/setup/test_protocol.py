"""An answer's head leaves with what is written in the same turn of the loop, in its order, and before a close."""

import asyncio
from typing import Any

import pytest

from ccm_site.protocol import HEAD, MOST_PIECES, TurnWrites


class Sink:
    def __init__(self) -> None:
        self.done: list[Any] = []

    def write(self, data: bytes) -> None:
        self.done.append(data)

    def close(self) -> None:
        self.done.append("closed")

    def is_closing(self) -> bool:
        return "closed" in self.done


@pytest.fixture
def sink() -> Sink:
    return Sink()


@pytest.mark.asyncio
async def test_an_answer_s_head_and_body_leave_together(sink: Sink) -> None:
    transport = TurnWrites(sink, asyncio.get_running_loop())  # type: ignore[arg-type]
    transport.write(HEAD + b"1.1 200 OK")
    transport.write(b"body")
    assert sink.done == []
    await asyncio.sleep(0)
    assert sink.done == [HEAD + b"1.1 200 OKbody"]
    transport.write(b"more")
    assert sink.done == [HEAD + b"1.1 200 OKbody", b"more"]
    await asyncio.sleep(0)
    assert len(sink.done) == 2


@pytest.mark.asyncio
async def test_nothing_is_lost_by_a_close(sink: Sink) -> None:
    transport = TurnWrites(sink, asyncio.get_running_loop())  # type: ignore[arg-type]
    transport.write(HEAD + b" and last words")
    transport.close()
    assert sink.done == [HEAD + b" and last words", "closed"]
    assert transport.is_closing()
    await asyncio.sleep(0)
    assert sink.done == [HEAD + b" and last words", "closed"]


@pytest.mark.asyncio
async def test_a_stream_that_never_waits_is_not_kept(sink: Sink) -> None:
    """Else a slow client's brakes would not reach who writes."""
    transport = TurnWrites(sink, asyncio.get_running_loop())  # type: ignore[arg-type]
    transport.write(HEAD)
    for _ in range(MOST_PIECES):
        transport.write(b"x")
    assert sink.done == [HEAD + b"x" * (MOST_PIECES - 1), b"x"]
    await asyncio.sleep(0)
    assert len(sink.done) == 2
