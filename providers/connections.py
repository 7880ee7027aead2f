"""Connections to providers, as aiohttp makes them, with less work for each request and each piece of an answer.

A request of ours is always the same: a POST of bytes that are there, whose answer is not followed anywhere. aiohttp's
session makes of it an object that could be sent again elsewhere, with cookies and credentials, and a task that writes
the body (here: `Connector.post`). And aiohttp 3.14 resumes reading after each piece that is taken from a stream's
buffer, whether reading was paused or not: the parser is run without data and the transport told to go on. Here what was
not paused is not resumed. Decision 0007 has the figures, and what of aiohttp's inside this relies on.
"""

import functools
from collections.abc import Mapping
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.connector import Connection
from aiohttp.helpers import TimerNoop
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL


class Handler(ResponseHandler):
    def resume_reading(self, resume_parser: bool = True) -> None:
        if self._reading_paused:
            super().resume_reading(resume_parser)

    @property
    def should_close(self) -> bool:
        """Also when it was answered before the request was heard out: the next one would queue behind the rest."""
        transport = self.transport
        return super().should_close or (transport is not None and transport.get_write_buffer_size() > 0)


def in_one_piece(content: aiohttp.StreamReader) -> None:
    """Put together what has arrived and was not read yet: aiohttp hands it over piece by piece, in some 20 steps each,
    and a stream has a piece for each of its events or few."""
    pieces = content._buffer
    if len(pieces) > 1:
        whole = b"".join(pieces)
        pieces.clear()
        pieces.append(whole)


class Destination:
    """Where requests to a URL go, as aiohttp's connector asks for it: it stands in for a `ClientRequest`, and is made
    once a URL. Credentials in the URL are sent as its `basic` authorization.

    Raises aiohttp.NonHttpUrlClientError, aiohttp.InvalidUrlClientError, ValueError."""

    ssl = True
    server_hostname = proxy = proxy_auth = proxy_headers = None

    def __init__(self, text: str) -> None:
        # What is escaped stays escaped: signatures cover the path as it is sent.
        url = URL(text, encoded="%" in text).with_fragment(None)
        host = url.raw_host
        if url.scheme not in {"http", "https"}:
            raise aiohttp.NonHttpUrlClientError(url)
        if not host:
            raise aiohttp.InvalidUrlClientError(url)
        self.basic = ""
        if url.raw_user or url.raw_password:
            self.basic = aiohttp.encode_basic_auth(url.user or "", url.password or "")
            url = url.with_user(None)
        self.url = url
        self.host, self.port = host, url.port
        self.connection_key = ConnectionKey(host, url.port, self.is_ssl(), True, None, None, None)
        # No headers: whoever tells of a failure with it tells no secret.
        self.request_info = aiohttp.RequestInfo(url, "POST", CIMultiDictProxy(CIMultiDict()), url)
        self.head = f"POST {url.raw_path_qs} HTTP/1.1\r\nHost: {url.host_port_subcomponent}"

    def is_ssl(self) -> bool:
        return self.url.scheme == "https"


_destination = functools.lru_cache(maxsize=1024)(Destination)


class _Sent:
    """In the place of what writes a request, for the response: it was written at once."""

    output_size = 0


def _head(destination: Destination, headers: Mapping[str, str], length: int) -> bytes:
    """The request's first lines. Raises ValueError when a header would be more than one line."""
    lines = [destination.head]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if destination.basic:
        if "authorization" in headers:
            raise ValueError("credentials in the URL beside an authorization header")
        lines.append(f"authorization: {destination.basic}")
    lines.append(f"Content-Length: {length}\r\n\r\n")
    head = "\r\n".join(lines)
    breaks = len(lines) + 2
    if head.count("\n") != breaks or head.count("\r") != breaks or "\0" in head:
        raise ValueError("a header with a line break in it")
    return head.encode()


class Connector(aiohttp.TCPConnector):
    """`read_bufsize`: bytes of an answer that are kept before its provider feels the brakes."""

    def __init__(self, *, read_bufsize: int = 2**16, **options: Any) -> None:
        super().__init__(**options)
        self._factory = functools.partial(Handler, loop=self._loop)  # type: ignore[assignment]
        self._read_bufsize = read_bufsize
        self._timer = TimerNoop()

    async def post(
        self, url: str, *, headers: Mapping[str, str], body: bytes, within: aiohttp.ClientTimeout
    ) -> aiohttp.ClientResponse:
        """Send the request and wait for its answer's head. `headers`: lower-case names, without those that frame the
        body. `within`: only what is about connecting counts. Raises aiohttp.ClientError, OSError, and ValueError for
        what cannot be sent."""
        destination = _destination(url)
        head = _head(destination, headers, len(body))
        try:
            connection = await self.connect(destination, traces=[], timeout=within)  # type: ignore[arg-type]
        except TimeoutError as error:
            raise aiohttp.ConnectionTimeoutError(f"Connection timeout to host {destination.url}") from error
        try:
            return await self._exchange(connection, destination, head, body)
        except BaseException:
            connection.close()
            raise

    async def _exchange(
        self, connection: Connection, destination: Destination, head: bytes, body: bytes
    ) -> aiohttp.ClientResponse:
        protocol = connection.protocol
        assert protocol is not None
        protocol.set_response_params(timer=self._timer, read_until_eof=True, read_bufsize=self._read_bufsize)
        transport = protocol.transport
        if transport is None or transport.is_closing():
            raise aiohttp.ClientConnectionResetError("Cannot write to closing transport")
        transport.writelines((head, body))
        response = aiohttp.ClientResponse(
            "POST",
            destination.url,
            writer=None,
            continue100=None,
            timer=self._timer,
            request_info=destination.request_info,
            traces=[],
            loop=self._loop,
            session=None,  # type: ignore[arg-type]
            stream_writer=_Sent,  # type: ignore[arg-type]
        )
        try:
            await response.start(connection)
        except BaseException:
            response.close()
            raise
        return response
