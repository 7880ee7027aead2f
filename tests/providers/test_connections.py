"""Reading with less work reads the same."""

import asyncio
from unittest import mock

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.connections import in_one_piece


@given(pieces=st.lists(st.binary(min_size=1, max_size=9), max_size=9), read=st.integers(0, 30))
def test_what_is_put_together_is_what_was_left(pieces: list[bytes], read: int) -> None:
    async def rest() -> bytes:
        loop = asyncio.get_running_loop()
        content = aiohttp.StreamReader(mock.Mock(_reading_paused=False), limit=2**16, loop=loop)
        content.begin_http_chunk_receiving()
        for piece in pieces:
            content.feed_data(piece)
            content.end_http_chunk_receiving()
        begun = await content.read(read) if pieces else b""
        in_one_piece(content)
        content.feed_eof()
        whole = begun + await content.readany()
        assert content.at_eof()
        return whole

    assert asyncio.run(rest()) == b"".join(pieces)


@pytest.mark.asyncio
async def test_many_pieces_are_read_in_one_step() -> None:
    content = aiohttp.StreamReader(mock.Mock(), limit=2**16, loop=asyncio.get_running_loop())
    for number in range(50):
        content.feed_data(b"%d" % number)
    in_one_piece(content)
    with mock.patch.object(
        aiohttp.StreamReader, "_read_nowait_chunk", autospec=True, side_effect=aiohttp.StreamReader._read_nowait_chunk
    ) as step:
        assert content.read_nowait() == b"".join(b"%d" % number for number in range(50))
    assert step.call_count == 1
