"""What is written within one turn of the loop leaves in one piece, in its order, and before a close."""

import asyncio
from typing import Any

import pytest

from ccm_site.protocol import MOST_PIECES, TurnWrites


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
    transport.write(b"head")
    transport.write(b"body")
    assert sink.done == []
    await asyncio.sleep(0)
    assert sink.done == [b"headbody"]
    transport.write(b"more")
    await asyncio.sleep(0)
    assert sink.done == [b"headbody", b"more"]


@pytest.mark.asyncio
async def test_nothing_is_lost_by_a_close(sink: Sink) -> None:
    transport = TurnWrites(sink, asyncio.get_running_loop())  # type: ignore[arg-type]
    transport.write(b"last words")
    transport.close()
    assert sink.done == [b"last words", "closed"]
    assert transport.is_closing()
    await asyncio.sleep(0)
    assert sink.done == [b"last words", "closed"]


@pytest.mark.asyncio
async def test_a_stream_that_never_waits_is_not_kept(sink: Sink) -> None:
    """Else a slow client's brakes would not reach who writes."""
    transport = TurnWrites(sink, asyncio.get_running_loop())  # type: ignore[arg-type]
    for _ in range(2 * MOST_PIECES + 1):
        transport.write(b"x")
    assert sink.done == [b"x" * MOST_PIECES] * 2
    await asyncio.sleep(0)
    assert b"".join(sink.done) == b"x" * (2 * MOST_PIECES + 1)
