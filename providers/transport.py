"""Calls providers over HTTP. Whatever fails is an UpstreamError that says what to do next.

One `Transport` serves a process; it keeps one aiohttp session per event loop, with
connections kept alive between requests. The kind `demo` is answered in process behind the
same interface.
"""

import asyncio
import errno
import functools
import weakref
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import aiohttp
from yarl import URL

from providers import aws
from providers.addresses import ForbiddenAddress, public_socket
from providers.connections import Connector, in_one_piece
from providers.demo import DemoUpstream
from providers.errors import ProvidersError, UpstreamError
from providers.google_tokens import GoogleTokens, is_service_account
from providers.kinds import DEMO, KINDS, Auth
from providers.types import CredentialSecret, RetryClass, Target, Timeouts, UpstreamFailure
from providers.watch import Watch
from providers.wire.base import OutboundRequest
from providers.wire.request import MessagesRequest

KEEP_ALIVE_SECONDS = 60
MAX_BODY_BYTES = 64 * 1024 * 1024
READ_BUFFER_BYTES = 256 * 1024
CLOSE_SECONDS = 0.003
GATHER_SECONDS = 0.001
"""A stream whose next piece came within CLOSE_SECONDS is read GATHER_SECONDS later: passing a piece on costs
more than what is in it. No model writes that fast, so a stream at its own pace is never held up."""
RESET_ERRORS = frozenset({errno.ECONNRESET, errno.EPIPE})
MALFORMED = "its base URL or its credential is malformed"
SKIPPED = frozenset({"User-Agent", "Accept", "Content-Type"})


class UpstreamResponse(Protocol):
    """An answer whose status and headers are known. Either read it to its end, or close it."""

    status: int

    @property
    def headers(self) -> Mapping[str, str]:
        """Lower-case names."""
        ...

    def chunks(self) -> AsyncGenerator[bytes]:
        """The body as it arrives. Raises UpstreamError when it is cut, or silent for too long."""
        ...

    @property
    def at_end(self) -> bool:
        """Whether the body was read to its end."""
        ...

    async def read(self, limit: int = MAX_BODY_BYTES) -> bytes:
        """The whole body. Raises UpstreamError like `chunks`, and beyond `limit` bytes."""
        ...

    def close(self) -> None:
        """Stop reading: closes the socket at once unless the body was read to its end."""
        ...


@dataclass(frozen=True, slots=True)
class Call:
    """A small HTTP exchange beside the wires. `headers` hold its credential, if it needs one."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | None = None


class FetchFailed(ProvidersError):
    """A `Call` that got no whole answer; `reason` names no address and no content."""

    code = "fetch_failed"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Fetched:
    status: int
    location: str
    """Where a redirect leads, "" for none."""
    body: bytes


class Transport:
    """`allow_private`: upstreams may have loopback and private addresses. `allow_private_media`: so may
    addresses that customers give, which is for tests alone."""

    def __init__(self, *, allow_private: bool, allow_private_media: bool = False) -> None:
        self._allow_private = allow_private
        self.allow_private_media = allow_private_media
        self._calling: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Calling] = weakref.WeakKeyDictionary()
        self._public: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, aiohttp.ClientSession] = (
            weakref.WeakKeyDictionary()
        )
        self._latest: tuple[asyncio.AbstractEventLoop, _Calling] | None = None
        self._demo = DemoUpstream()
        self._google = GoogleTokens()

    async def start(self) -> None:
        """Make this event loop's session now rather than on first use."""
        self._here()

    async def close(self) -> None:
        """Close this event loop's session and its connections."""
        calling = self._calling.pop(asyncio.get_running_loop(), None)
        self._latest = None
        if calling is not None:
            await calling.session.close()
        public = self._public.pop(asyncio.get_running_loop(), None)
        if public is not None:
            await public.close()

    def _here(self) -> "_Calling":
        loop = asyncio.get_running_loop()
        latest = self._latest  # once: loops of other threads change it
        if latest is not None and latest[0] is loop:
            return latest[1]
        calling = self._calling.get(loop)
        if calling is None:
            connector = _connector(allow_private=self._allow_private)
            calling = self._calling[loop] = _Calling(connector, _session(connector), Watch())
        self._latest = (loop, calling)
        return calling

    def _public_session(self) -> aiohttp.ClientSession:
        """This event loop's session for addresses that customers give."""
        loop = asyncio.get_running_loop()
        session = self._public.get(loop)
        if session is None:
            connector = _connector(allow_private=self.allow_private_media)
            session = self._public[loop] = _session(connector, decompress=False)
        return session

    async def open(
        self,
        request: OutboundRequest,
        *,
        target: Target,
        credential: CredentialSecret | None,
        messages: MessagesRequest,
    ) -> UpstreamResponse:
        """Send `request` and wait for the answer's status line, whatever the status is.

        Raises UpstreamError when none arrives. Redirects are answers, never followed."""
        if target.kind == DEMO:
            return await self._demo.open(request, target=target)
        timeouts = target.timeouts
        connector, session, watch = self._here()
        auth = _auth(target)
        started = asyncio.get_running_loop().time()
        try:
            with watch.until(started + timeouts.connect + timeouts.first_byte):
                token = await self._google_token(session, target, credential) if auth == "google-oauth" else ""
                headers = _headers(request, auth, credential, token)
                if credential is not None and auth == "aws":
                    headers |= await aws.authorization(request.url, headers, request.body, credential.secret)
                response = await connector.post(
                    request.url, headers=headers, body=request.body, within=_client_timeout(timeouts.connect)
                )
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise UpstreamError(_open_failure(error, target, streamed=messages.stream)) from error
        if token and credential is not None and response.status == 401:
            self._google.forget(credential)
        deadline = started + timeouts.total
        return _HttpResponse(response, target, streamed=messages.stream, deadline=deadline, watch=watch)

    async def fetch(self, call: Call, *, seconds: float, limit: int) -> tuple[int, bytes]:
        """Make `call` and read its answer whole: status and body. Redirects are answers. A connection
        that was closed under it is tried once more. Raises FetchFailed: no answer within `seconds`,
        or one of more than `limit` bytes."""
        fetched = await self._fetched(self._here().session, call, seconds, limit)
        return fetched.status, fetched.body

    async def fetch_public(self, call: Call, *, seconds: float, limit: int) -> Fetched:
        """As `fetch`, of an address that a customer gave: never one in a private network, whatever holds
        for upstreams. Checked of each address right before it is connected to."""
        return await self._fetched(self._public_session(), call, seconds, limit)

    async def _fetched(self, session: aiohttp.ClientSession, call: Call, seconds: float, limit: int) -> Fetched:
        try:
            async with asyncio.timeout(seconds):
                try:
                    return await _fetch(session, call, seconds, limit)
                except (aiohttp.ClientError, OSError) as error:
                    if not _is_reset(error):
                        raise
                    return await _fetch(session, call, seconds, limit)
        except TimeoutError:
            raise FetchFailed(f"no answer within {seconds:g} seconds") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise FetchFailed(_unreachable(error, Timeouts(connect=seconds))[0]) from error

    async def _google_token(
        self, session: aiohttp.ClientSession, target: Target, credential: CredentialSecret | None
    ) -> str:
        """The access token for a service account; "" for every other credential."""
        if credential is None or not is_service_account(credential.secret):
            return ""
        return await self._google.token(session, credential, target)


class _Calling(NamedTuple):
    """What one event loop calls providers with; the session, for small calls beside the wires, has the connector."""

    connector: Connector
    session: aiohttp.ClientSession
    watch: Watch


def _connector(*, allow_private: bool) -> Connector:
    return Connector(
        read_bufsize=READ_BUFFER_BYTES,
        limit=0,
        keepalive_timeout=KEEP_ALIVE_SECONDS,
        ttl_dns_cache=30,
        socket_factory=None if allow_private else public_socket,
    )


def _session(connector: Connector, *, decompress: bool = True) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        auto_decompress=decompress,
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        read_bufsize=READ_BUFFER_BYTES,
        skip_auto_headers=SKIPPED,
    )


async def _fetch(session: aiohttp.ClientSession, call: Call, seconds: float, limit: int) -> Fetched:
    async with session.request(
        call.method,
        # The query is encoded already, and is to arrive as it is.
        URL(call.url, encoded=True),
        data=call.body,
        headers={"accept-encoding": "identity", "user-agent": "ccm", **call.headers},
        allow_redirects=False,
        timeout=_client_timeout(seconds),
    ) as response:
        body = bytearray()
        async for piece in response.content.iter_any():
            body += piece
            if len(body) > limit:
                response.close()
                raise FetchFailed(f"an answer of more than {limit} bytes")
        return Fetched(response.status, response.headers.get("location", ""), bytes(body))


@functools.lru_cache(maxsize=64)
def _client_timeout(connect: float) -> aiohttp.ClientTimeout:
    """Only for connections that have to be opened: a pooled one needs no timer."""
    return aiohttp.ClientTimeout(total=None, sock_connect=connect)


def _auth(target: Target) -> Auth:
    """How the target's credential is sent. Google's OpenAI endpoint takes its keys as OpenAI's."""
    kind = KINDS.get(target.kind)
    auth: Auth = kind.auth if kind else "bearer"
    return "bearer" if auth == "x-goog-api-key" and target.wire == "openai_chat" else auth


def _headers(request: OutboundRequest, auth: Auth, credential: CredentialSecret | None, token: str) -> dict[str, str]:
    """`token` stands for a credential that is only good for getting one."""
    # Identity: some providers compress a stream in a way that holds events back.
    headers = {"accept-encoding": "identity", **request.headers}
    if credential is None or auth in {"none", "aws"}:
        return headers
    if auth in {"x-api-key", "api-key"}:
        headers[auth] = credential.secret
    elif auth == "x-goog-api-key" or (auth == "google-oauth" and not token):
        headers["x-goog-api-key"] = credential.secret
    else:
        headers["authorization"] = f"Bearer {token or credential.secret}"
    return headers


def credential_headers(target: Target, credential: CredentialSecret | None) -> dict[str, str]:
    """How `target` is told the credential, for a `Call` beside the wires. Not for kinds whose requests
    are signed or need a token first."""
    return _headers(OutboundRequest("", b""), _auth(target), credential, "")


class _HttpResponse:
    __slots__ = (
        "_deadline",
        "_expired",
        "_idle",
        "_response",
        "_streamed",
        "_target",
        "_waiting_since",
        "_watch",
        "status",
    )

    def __init__(
        self, response: aiohttp.ClientResponse, target: Target, *, streamed: bool, deadline: float, watch: Watch
    ) -> None:
        self.status = response.status
        self._response = response
        self._target = target
        self._streamed = streamed
        self._idle = target.timeouts.idle
        self._deadline = deadline
        self._waiting_since: float | None = None
        self._expired = ""
        self._watch = watch

    @property
    def headers(self) -> Mapping[str, str]:
        return {name.lower(): value for name, value in self._response.headers.items()}

    async def chunks(self) -> AsyncGenerator[bytes]:
        now = asyncio.get_running_loop().time
        content = self._response.content
        waited = CLOSE_SECONDS
        self._watch.add(self)
        try:
            while True:
                self._waiting_since = began = now()
                if waited < CLOSE_SECONDS and self._streamed:
                    await asyncio.sleep(GATHER_SECONDS)
                    in_one_piece(content)
                data = await content.readany()
                self._waiting_since = None
                if not data:
                    break
                waited = now() - began
                yield data
        except (aiohttp.ClientError, OSError) as error:
            raise UpstreamError(self._failure()) from error
        finally:
            self._end()

    @property
    def at_end(self) -> bool:
        return self._response.content.at_eof()

    async def read(self, limit: int = MAX_BODY_BYTES) -> bytes:
        parts: list[bytes] = []
        size = 0
        content = self._response.content
        now = asyncio.get_running_loop().time
        self._watch.add(self)
        try:
            while True:
                self._waiting_since = now()
                part = await content.readany()
                self._waiting_since = None
                if not part:
                    return b"".join(parts)
                size += len(part)
                if size > limit:
                    text = f"The provider {self._target.provider} sent an answer of more than {limit} bytes."
                    raise UpstreamError(_failure(text, paid=True))
                parts.append(part)
        except (aiohttp.ClientError, OSError) as error:
            raise UpstreamError(self._failure()) from error
        finally:
            self._end()

    def _end(self) -> None:
        self._watch.remove(self)
        if not self._response.content.at_eof():
            self._response.close()

    def close(self) -> None:
        self._response.close()

    def expire(self, now: float) -> None:
        """Abort the body if it is overdue: silent for too long, or under way for too long."""
        waiting = self._waiting_since
        if now >= self._deadline:
            self._expired = f"took longer than {self._target.timeouts.total:g} seconds"
        elif waiting is not None and now >= waiting + self._idle:
            self._expired = f"was silent for {self._idle:g} seconds"
        if self._expired:
            self._response.close()

    def _failure(self) -> UpstreamFailure:
        # A whole answer is generated before its first byte, so a provider that was cut in it
        # may charge; of a stream the relay knows whether anything was generated.
        paid = not self._streamed
        if self._expired:
            text = f"The provider {self._target.provider} {self._expired} in the middle of its answer."
            return _failure(text, status=504, paid=paid)
        return _failure(f"The provider {self._target.provider} cut its answer off before the end.", paid=paid)


def _failure(
    message: str,
    *,
    status: int = 500,
    retry: RetryClass = RetryClass.NEXT_TARGET,
    should_retry: bool | None = None,
    paid: bool = False,
) -> UpstreamFailure:
    kind = "timeout_error" if status == 504 else "api_error"
    retry = RetryClass.NEVER if paid else retry
    return UpstreamFailure(status, kind, message, retry=retry, should_retry=should_retry, paid=paid)


def _open_failure(error: Exception, target: Target, *, streamed: bool) -> UpstreamFailure:
    """What it means that no status line came. The client's own retries are stopped where
    only the operator can help (`should_retry` False)."""
    name = target.provider
    if _is_reset(error):
        # Most often a kept-alive connection that the provider was just closing.
        text = f"The provider {name} closed the connection without an answer."
        return _failure(text, retry=RetryClass.SAME_TARGET)
    if isinstance(error, TimeoutError) and not isinstance(error, aiohttp.ConnectionTimeoutError):
        text = f"The provider {name} did not answer within {target.timeouts.first_byte:g} seconds."
        return _failure(text, status=504, paid=not streamed)
    reason, transient = _unreachable(error, target.timeouts)
    text = f"The provider {name} could not be reached ({reason})."
    return _failure(text, should_retry=None if transient else False)


def _is_reset(error: Exception) -> bool:
    """Whether an open connection was closed by the other side, instead of never coming about."""
    if isinstance(error, aiohttp.ClientConnectorError):
        return False
    closed = (
        aiohttp.ServerDisconnectedError | aiohttp.ClientConnectionResetError | ConnectionResetError | BrokenPipeError
    )
    return isinstance(error, closed) or (isinstance(error, OSError) and error.errno in RESET_ERRORS)


def _unreachable(error: Exception, timeouts: Timeouts) -> tuple[str, bool]:
    """Why no connection came about, and whether trying again later may help."""
    match error:
        case aiohttp.ConnectionTimeoutError():
            return f"no connection within {timeouts.connect:g} seconds", True
        case aiohttp.ClientConnectorCertificateError():
            return "its TLS certificate is not valid", False
        case aiohttp.ClientConnectorSSLError():
            return "the TLS handshake failed", False
        case aiohttp.ClientConnectorDNSError():
            return "its host name was not found", False
        case aiohttp.ClientConnectorError(os_error=ForbiddenAddress()):
            return "its address is in a private network, which this installation does not allow", False
        case aiohttp.ClientConnectorError(os_error=ConnectionRefusedError()):
            return "connection refused", True
        case aiohttp.ClientResponseError():
            return "it did not answer in HTTP", False
        case aws.MalformedSecret():
            return f"its credential is malformed: {error}", False
        case aiohttp.NonHttpUrlClientError() | ValueError():
            return MALFORMED, False
    return "the network failed", True
