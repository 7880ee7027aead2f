"""The transport over real sockets on loopback: what fails is said in words, with what to do next."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp.client_proto import ResponseHandler
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from providers.addresses import is_public
from providers.errors import UpstreamError
from providers.transport import Transport, UpstreamResponse
from providers.types import CredentialSecret, RetryClass, Target, Timeouts, UpstreamFailure
from providers.wire.base import OutboundRequest
from tests.providers.anthropic_support import request, target

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
KEY = CredentialSecret(id=1, weight=1, secret="sk-upstream")
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX-Mixed-Case: Yes\r\nTransfer-Encoding: chunked\r\n\r\n"
)
TIMEOUTS = Timeouts(connect=2, first_byte=5, idle=5, total=20)


class Server:
    """A raw TCP server: what each connection sent, and where it is."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.connections = 0
        self.arrived = asyncio.Event()
        self.gone = asyncio.Event()
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@asynccontextmanager
async def serving(answer: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    server = Server()
    tasks: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        server.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                server.requests.append(head + await reader.readexactly(length))
                server.arrived.set()
                await answer(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            server.gone.set()
            writer.close()

    listening = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest_asyncio.fixture
async def transport() -> AsyncIterator[Transport]:
    transport = Transport(allow_private=True)
    yield transport
    await transport.close()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def answering(*parts: bytes) -> Handler:
    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()

    return answer


def then_close(*parts: bytes, reset: bool = False) -> Handler:
    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"".join(parts))
        await writer.drain()
        writer.transport.abort() if reset else writer.close()

    return answer


async def call(
    transport: Transport,
    url: str,
    *,
    stream: bool = True,
    key: CredentialSecret | None = KEY,
    kind: str = "anthropic",
    timeouts: Timeouts = TIMEOUTS,
) -> UpstreamResponse:
    where: Target = target(kind=kind, base_url=url, timeouts=timeouts)
    outbound = OutboundRequest(url=f"{url}/v1/messages", body=b"{}", headers={"content-type": "application/json"})
    return await transport.open(outbound, target=where, credential=key, messages=request(stream=stream))


async def refused(
    transport: Transport, url: str, *, stream: bool = True, timeouts: Timeouts = TIMEOUTS
) -> UpstreamFailure:
    with pytest.raises(UpstreamError) as raised:
        await call(transport, url, stream=stream, timeouts=timeouts)
    return raised.value.failure


async def broken(response: UpstreamResponse) -> tuple[bytes, UpstreamFailure]:
    """What arrived of the body, and how it ended."""
    arrived = b""
    with pytest.raises(UpstreamError) as raised:
        async for data in response.chunks():
            arrived += data
    return arrived, raised.value.failure


@pytest.mark.asyncio
async def test_a_stream_arrives_while_it_is_being_sent(transport: Transport) -> None:
    go_on = asyncio.Event()

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED + chunk(b"one"))
        await go_on.wait()
        writer.write(chunk(b"two") + b"0\r\n\r\n")

    async with serving(answer) as server:
        response = await call(transport, server.url)
        assert (response.status, response.headers["x-mixed-case"]) == (200, "Yes")
        chunks = response.chunks()
        assert await anext(chunks) == b"one"
        go_on.set()
        assert [data async for data in chunks] == [b"two"]


@pytest.mark.asyncio
@pytest.mark.parametrize("slow", [True, False])
async def test_reading_is_resumed_where_it_was_paused_and_only_there(
    transport: Transport, monkeypatch: pytest.MonkeyPatch, slow: bool
) -> None:
    """aiohttp resumes after every piece. A stream that outruns its reader by megabytes arrives whole all the same."""
    resumed = 0
    original = ResponseHandler.resume_reading

    def counted(self: ResponseHandler, resume_parser: bool = True) -> None:
        nonlocal resumed
        resumed += 1
        original(self, resume_parser)

    monkeypatch.setattr(ResponseHandler, "resume_reading", counted)
    pieces, size = (400, 64 * 1024) if slow else (50, 100)
    parts = [chunk(b"%08d" % number + b"x" * (size - 8)) for number in range(pieces)]
    async with serving(answering(CHUNKED, *parts, chunk(b""))) as server:
        response = await call(transport, server.url)
        if slow:
            await asyncio.sleep(0.2)
        arrived = b"".join([data async for data in response.chunks()])
    assert [int(arrived[at : at + 8]) for at in range(0, len(arrived), size)] == list(range(pieces))
    assert (resumed > 0) is slow


@pytest.mark.asyncio
async def test_connections_are_reused(transport: Transport) -> None:
    async with serving(answering(CHUNKED + chunk(b"x") + b"0\r\n\r\n")) as server:
        for _ in range(3):
            assert await (await call(transport, server.url)).read() == b"x"
        assert (server.connections, len(server.requests)) == (1, 3)


@pytest.mark.parametrize(
    ("kind", "key", "sent", "not_sent"),
    [
        ("anthropic", KEY, b"x-api-key: sk-upstream", b"authorization"),
        ("openai", KEY, b"authorization: bearer sk-upstream", b"x-api-key"),
        ("ollama", None, b"content-type: application/json", b"authorization"),
    ],
)
@pytest.mark.asyncio
async def test_the_credential_is_sent_as_the_kind_wants_it(
    transport: Transport, kind: str, key: CredentialSecret | None, sent: bytes, not_sent: bytes
) -> None:
    async with serving(answering(CHUNKED + b"0\r\n\r\n")) as server:
        await (await call(transport, server.url, kind=kind, key=key)).read()
        head = server.requests[0].lower()
        assert sent in head
        assert not_sent not in head
        assert b"aiohttp" not in head
        assert b"accept-encoding: identity" in head


@pytest.mark.asyncio
async def test_a_redirect_is_an_answer(transport: Transport) -> None:
    moved = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
    async with serving(answering(moved)) as server:
        response = await call(transport, server.url)
        assert response.status == 302
        assert await response.read() == b""
        assert len(server.requests) == 1


@pytest.mark.asyncio
async def test_proxies_of_the_environment_are_ignored(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    async with serving(answering(CHUNKED + b"0\r\n\r\n")) as server:
        assert (await call(transport, server.url)).status == 200


@pytest.mark.asyncio
async def test_gzip_is_decoded(transport: Transport) -> None:
    import gzip

    packed = gzip.compress(b"event: ping\n\n")
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
    async with serving(answering(head + packed)) as server:
        assert await (await call(transport, server.url)).read() == b"event: ping\n\n"


@pytest.mark.asyncio
async def test_connection_refused(transport: Transport, unused_tcp_port: int) -> None:
    failure = await refused(transport, f"http://127.0.0.1:{unused_tcp_port}")
    assert failure.message == "The provider acme could not be reached (connection refused)."
    assert (failure.status, failure.type, failure.retry) == (500, "api_error", RetryClass.NEXT_TARGET)
    assert failure.should_retry is None
    assert not failure.paid


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://no-such-host.invalid", "host name was not found"),
        ("not a url", "malformed"),
        ("ftp://127.0.0.1", "malformed"),
        ("http://127.1:80", "malformed"),
    ],
)
@pytest.mark.asyncio
async def test_a_wrong_base_url(transport: Transport, url: str, says: str) -> None:
    failure = await refused(transport, url)
    assert says in failure.message
    assert "acme" in failure.message
    assert failure.should_retry is False
    assert failure.retry is RetryClass.NEXT_TARGET


@pytest.mark.asyncio
async def test_tls_against_a_plain_server(transport: Transport) -> None:
    async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    listening = await asyncio.start_server(talk, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    failure = await refused(transport, f"https://127.0.0.1:{port}")
    listening.close()
    assert "TLS" in failure.message
    assert failure.should_retry is False


@pytest.fixture
def self_signed(tmp_path: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(
        name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(1)
    )
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    file = tmp_path / "server.pem"
    file.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        + builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


@pytest.mark.asyncio
async def test_over_tls(
    transport: Transport, self_signed: ssl.SSLContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As to all real providers: a request larger than any buffer, the answer as it comes, and the connection again."""
    trusting = ssl.create_default_context(cafile=tmp_path / "server.pem")
    monkeypatch.setattr("aiohttp.connector._SSL_CONTEXT_VERIFIED", trusting)
    body = bytes(range(256)) * 20_000
    async with serving(answering(CHUNKED, chunk(b"one"), chunk(b"two"), chunk(b"")), tls=self_signed) as server:
        url = f"https://localhost:{server.port}"
        for _ in range(2):
            outbound = OutboundRequest(url=f"{url}/v1/messages", body=body, headers={})
            where = target(base_url=url, timeouts=TIMEOUTS)
            response = await transport.open(outbound, target=where, credential=KEY, messages=request(stream=True))
            assert b"".join([piece async for piece in response.chunks()]) == b"onetwo"
        assert server.connections == 1
    assert [sent.partition(b"\r\n\r\n")[2] for sent in server.requests] == [body, body]
    assert server.requests[0].startswith(b"POST /v1/messages HTTP/1.1\r\nHost: localhost:")


@pytest.mark.asyncio
async def test_a_certificate_that_nobody_vouches_for(transport: Transport, self_signed: ssl.SSLContext) -> None:
    async with serving(silence, tls=self_signed) as server:
        failure = await refused(transport, f"https://localhost:{server.port}")
        assert not server.requests
    assert "TLS certificate is not valid" in failure.message
    assert failure.should_retry is False


@pytest.mark.parametrize("reset", [True, False])
@pytest.mark.asyncio
async def test_a_connection_closed_before_the_answer(transport: Transport, reset: bool) -> None:
    async with serving(then_close(reset=reset)) as server:
        failure = await refused(transport, server.url)
    assert failure.message == "The provider acme closed the connection without an answer."
    assert failure.retry is RetryClass.SAME_TARGET
    assert not failure.paid


@pytest.mark.asyncio
async def test_an_answer_that_is_not_http(transport: Transport) -> None:
    async with serving(then_close(b"SSH-2.0-OpenSSH\r\n")) as server:
        failure = await refused(transport, server.url)
    assert "did not answer in HTTP" in failure.message


@pytest.mark.parametrize("reset", [True, False])
@pytest.mark.asyncio
async def test_a_stream_that_is_cut(transport: Transport, reset: bool) -> None:
    async with serving(then_close(CHUNKED + chunk(b"one"), reset=reset)) as server:
        arrived, failure = await broken(await call(transport, server.url))
    assert arrived in {b"one", b""} if reset else arrived == b"one"
    assert "cut its answer off" in failure.message
    assert failure.retry is RetryClass.NEXT_TARGET
    assert not failure.paid


@pytest.mark.asyncio
async def test_a_whole_answer_that_is_cut_may_be_charged(transport: Transport) -> None:
    """It was generated before its first byte came, so another attempt would be paid twice."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"
    async with serving(then_close(head)) as server:
        response = await call(transport, server.url, stream=False)
        with pytest.raises(UpstreamError) as raised:
            await response.read()
    assert raised.value.failure.paid
    assert raised.value.failure.retry is RetryClass.NEVER


async def silence(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await reader.read()


@pytest.mark.parametrize(("stream", "paid"), [(True, False), (False, True)])
@pytest.mark.asyncio
async def test_no_first_byte(transport: Transport, stream: bool, paid: bool) -> None:
    short = Timeouts(connect=0.05, first_byte=0.05, idle=5, total=5)
    async with serving(silence) as server:
        failure = await refused(transport, server.url, stream=stream, timeouts=short)
        await asyncio.wait_for(server.gone.wait(), 5)
    assert (failure.status, failure.type) == (504, "timeout_error")
    assert "did not answer within 0.05 seconds" in failure.message
    assert failure.paid is paid


@pytest.mark.parametrize(
    ("timeouts", "says"),
    [
        (Timeouts(connect=2, first_byte=5, idle=0.05, total=20), "was silent for 0.05 seconds"),
        (Timeouts(connect=2, first_byte=5, idle=20, total=0.2), "took longer than 0.2 seconds"),
    ],
)
@pytest.mark.asyncio
async def test_a_stream_that_stalls(transport: Transport, timeouts: Timeouts, says: str) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED + chunk(b"one"))
        await reader.read()

    async with serving(answer) as server:
        arrived, failure = await broken(await call(transport, server.url, timeouts=timeouts))
        await asyncio.wait_for(server.gone.wait(), 5)
    assert arrived == b"one"
    assert failure.status == 504
    assert says in failure.message


@pytest.mark.asyncio
async def test_a_slow_reader_is_not_taken_for_a_silent_provider(transport: Transport) -> None:
    timeouts = Timeouts(connect=2, first_byte=5, idle=0.05, total=20)
    async with serving(answering(CHUNKED + chunk(b"one"), chunk(b"two") + b"0\r\n\r\n")) as server:
        response = await call(transport, server.url, timeouts=timeouts)
        chunks = response.chunks()
        arrived = await anext(chunks)
        # The customer reads slowly: several idle times pass before the next read.
        back = asyncio.Event()
        asyncio.get_running_loop().call_later(4 * timeouts.idle, back.set)
        await back.wait()
        arrived += b"".join([data async for data in chunks])
    assert arrived == b"onetwo"


@pytest.mark.asyncio
async def test_close_closes_the_socket_at_once(transport: Transport) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED + chunk(b"one"))
        await reader.read()

    async with serving(answer) as server:
        response = await call(transport, server.url)
        async for _ in response.chunks():
            break
        response.close()
        await asyncio.wait_for(server.gone.wait(), 5)


@pytest.mark.asyncio
async def test_cancelling_while_waiting_closes_the_socket(transport: Transport) -> None:
    async with serving(silence) as server:
        waiting = asyncio.create_task(call(transport, server.url))
        await server.arrived.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await asyncio.wait_for(server.gone.wait(), 5)


@pytest.mark.asyncio
async def test_an_answer_without_end_is_refused(transport: Transport) -> None:
    async with serving(then_close(CHUNKED + chunk(b"x" * 5000))) as server:
        response = await call(transport, server.url)
        with pytest.raises(UpstreamError) as raised:
            await response.read(limit=1000)
    assert "more than 1000 bytes" in raised.value.failure.message


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]"])
@pytest.mark.asyncio
async def test_private_addresses_are_refused_at_connect_time(host: str) -> None:
    async with serving(silence) as server:
        transport = Transport(allow_private=False)
        failure = await refused(transport, f"http://{host}:{server.port}")
        await transport.close()
        assert server.connections == 0
    assert "private network" in failure.message
    assert failure.should_retry is False


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "255.255.255.255", "240.0.0.1", "::", "::1", "fe80::1%eth0", "fd00::1", "::ffff:10.0.0.1", "64:ff9b::a00:1",
        "2002:7f00:1::", "ff02::1", "fec0::1",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "160.79.104.10", "2606:4700::1111", "64:ff9b::101:101"])
def test_addresses_that_are_public(address: str) -> None:
    assert is_public(address)
