"""Sending and reading with less work sends and reads the same."""

import asyncio
from collections.abc import AsyncIterator
from unittest import mock

import aiohttp
import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from providers.connections import Connector, in_one_piece
from tests.providers.test_transport import answering, serving

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=2)


@pytest_asyncio.fixture
async def connector() -> AsyncIterator[Connector]:
    connector = Connector(limit=0)
    yield connector
    await connector.close()


async def post(connector: Connector, url: str, body: bytes = b"{}", /, **headers: str) -> aiohttp.ClientResponse:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with asyncio.timeout(10):
        return await connector.post(url, headers=named, body=body, within=TIMEOUT)


@pytest.mark.asyncio
async def test_what_is_sent(connector: Connector) -> None:
    async with serving(answering(OK)) as server:
        url = f"{server.url}/a%2Fb/ü?q=1#part"
        response = await post(connector, url.replace("ü", "%C3%BC"), b'{"a":1}', x_api_key="k", x_empty="")
        assert (response.status, await response.read()) == (200, b"ok")
    assert server.requests == [
        b"POST /a%%2Fb/%%C3%%BC?q=1 HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nx-api-key: k\r\nx-empty: \r\n"
        b'Content-Length: 7\r\n\r\n{"a":1}' % server.port
    ]


@pytest.mark.asyncio
async def test_it_is_sent_as_aiohttps_own_session_sends_it(connector: Connector) -> None:
    headers = {"x-one": "1", "x-two": "zwei \u00fc"}
    automatic = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")
    async with serving(answering(OK)) as server, aiohttp.ClientSession(skip_auto_headers=automatic) as session:
        url = f"{server.url}/v1/messages/ü"
        await (await session.post(url, data=b"x" * 100_000, headers=headers)).read()
        await (await connector.post(url, headers=headers, body=b"x" * 100_000, within=TIMEOUT)).read()
    theirs, ours = (request.partition(b"\r\n\r\n") for request in server.requests)
    assert ours[2] == theirs[2]
    assert ours[0].split(b"\r\n") == theirs[0].split(b"\r\n")


@pytest.mark.parametrize("value", ["a\r\nx-b: c", "a\nb", "a\rb", "a\0b", "\r\n"])
@pytest.mark.asyncio
async def test_a_header_is_one_line_or_nothing_is_sent(connector: Connector, value: str) -> None:
    async with serving(answering(OK)) as server:
        for headers in ({"x_a": value}, {value: "x"}):
            with pytest.raises(ValueError, match="line break"):
                await post(connector, server.url, **headers)
    assert (server.connections, server.requests) == (0, [])


@pytest.mark.asyncio
async def test_credentials_in_the_url_are_sent_as_basic_authorization(connector: Connector) -> None:
    async with serving(answering(OK)) as server:
        url = server.url.replace("//", "//me:s%3Acret@")
        await (await post(connector, url)).read()
        with pytest.raises(ValueError, match="credentials in the URL"):
            await post(connector, url, authorization="Bearer k")
    (sent,) = server.requests
    assert b"\r\nauthorization: Basic bWU6czpjcmV0\r\n" in sent
    assert b"\r\nHost: 127.0.0.1:" in sent


@pytest.mark.asyncio
async def test_a_hint_before_the_answer_is_passed_over(connector: Connector) -> None:
    async with serving(answering(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n", OK)) as server:
        response = await post(connector, server.url)
        assert (response.status, await response.read()) == (200, b"ok")


@pytest.mark.asyncio
async def test_a_connection_whose_request_was_not_heard_out_is_not_used_again(connector: Connector) -> None:
    """A provider that refuses what is too large before it has read it: what comes next must not queue behind it."""
    body, connections, over = b"x" * 20_000_000, 0, asyncio.Event()

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        head = await reader.readuntil(b"\r\n\r\n")
        if b"Content-Length: %d" % len(body) in head:
            writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
            await over.wait()
        writer.write(OK)
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        refused = await post(connector, url, body)
        assert (refused.status, await refused.read()) == (413, b"no")
        assert (await post(connector, url)).status == 200
        over.set()
        assert connections == 2


@pytest.mark.asyncio
async def test_a_failed_exchange_closes_its_connection(connector: Connector) -> None:
    async with serving(answering(b"SSH-2.0\r\n\r\n")) as server:
        with pytest.raises(aiohttp.ClientResponseError) as failed:
            await post(connector, server.url, x_api_key="secret")
        await asyncio.wait_for(server.gone.wait(), 5)
    assert "secret" not in repr(failed.value)


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
