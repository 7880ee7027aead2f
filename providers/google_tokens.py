"""Access tokens for Google Cloud, from a service account's key (RFC 7523; Google's "OAuth 2.0 for server to
server applications"): the key signs a short claim, the account's token server gives a token for an hour.

Neither keys nor tokens are ever logged or shown.
"""

import asyncio
import base64
import functools
import hashlib
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import aiohttp
import msgspec

from providers.errors import UpstreamError
from providers.types import CredentialSecret, RetryClass, Target, UpstreamFailure

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
CLAIM_SECONDS = 3600
MARGIN_SECONDS = 120.0
"""A token this close to its end is renewed: a request may take a while until Google looks at it."""
PATIENCE_SECONDS = 30.0
GOOGLE_TOKENS = "https://oauth2.googleapis.com/token"
MAX_ANSWER_BYTES = 64 * 1024


class _Key(msgspec.Struct):
    """The JSON file that Google gives out."""

    type: str = ""
    client_email: str = ""
    private_key: str = ""
    private_key_id: str = ""
    token_uri: str = GOOGLE_TOKENS

    def __repr__(self) -> str:
        return f"_Key({self.client_email})"


class _Granted(msgspec.Struct):
    access_token: str
    expires_in: float = CLAIM_SECONDS

    def __repr__(self) -> str:
        return "_Granted()"


class _Refused(msgspec.Struct):
    error: str = ""


@dataclass(frozen=True, slots=True)
class _Token:
    value: str = field(repr=False)
    until: float
    """On the monotonic clock."""


def is_service_account(secret: str) -> bool:
    """Whether `secret` is meant as a service account's JSON key; an API key is not."""
    return secret.lstrip().startswith("{")


class GoogleTokens:
    """The tokens of a process, fetched on first use and kept until shortly before their end. Requests that
    need the same token at once wait for one fetch."""

    def __init__(self, *, now: Callable[[], float] = time.monotonic, wall_clock: Callable[[], float] = time.time):
        self._now = now
        self._wall_clock = wall_clock
        self._tokens: dict[bytes, _Token] = {}
        self._fetches: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[bytes, asyncio.Task[_Token]]] = (
            weakref.WeakKeyDictionary()
        )

    async def token(self, session: aiohttp.ClientSession, credential: CredentialSecret, target: Target) -> str:
        """A token for `credential`. Raises UpstreamError when none is to be had."""
        key = _digest(credential)
        known = self._tokens.get(key)
        if known is not None and known.until - MARGIN_SECONDS > self._now():
            return known.value
        fetches = self._fetches.setdefault(asyncio.get_running_loop(), {})
        fetch = fetches.get(key)
        if fetch is None:
            fetch = fetches[key] = asyncio.create_task(self._fetch(session, credential, target))
            fetch.add_done_callback(functools.partial(_done, fetches, key))
        # Shielded: a client that leaves must not end the fetch for the others.
        return (await asyncio.shield(fetch)).value

    def forget(self, credential: CredentialSecret) -> None:
        """Google did not take the token: the next request fetches another."""
        self._tokens.pop(_digest(credential), None)

    async def _fetch(self, session: aiohttp.ClientSession, credential: CredentialSecret, target: Target) -> _Token:
        try:
            key = msgspec.json.decode(credential.secret, type=_Key)
            _check_address(key.token_uri)
            # Loading a key checks it, which takes a while.
            claim = await asyncio.to_thread(_signed_claim, key, int(self._wall_clock()))
        except (msgspec.DecodeError, ValueError, TypeError):
            raise UpstreamError(_failure(target, "has a credential that is no service account's key")) from None
        asked = self._now()
        granted = await _granted(session, key.token_uri, claim, target)
        token = _Token(granted.access_token, asked + granted.expires_in)
        self._tokens[_digest(credential)] = token
        return token


def _done(fetches: dict[bytes, "asyncio.Task[_Token]"], key: bytes, fetch: "asyncio.Task[_Token]") -> None:
    fetches.pop(key, None)
    if not fetch.cancelled():
        fetch.exception()  # everyone who waited for it has it, or has left


def _digest(credential: CredentialSecret) -> bytes:
    return hashlib.sha256(credential.secret.encode()).digest()


def _check_address(url: str) -> None:
    """A claim is as good as the key for an hour: it leaves this machine encrypted only. Raises ValueError."""
    parts = urlsplit(url)
    if parts.scheme != "https" and parts.hostname not in {"127.0.0.1", "::1", "localhost"}:
        raise ValueError("no https address")


def _signed_claim(key: _Key, now: int) -> str:
    """A JWT (RS256) that asks for a token. Raises ValueError or TypeError when the key is none."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    private = load_pem_private_key(key.private_key.encode(), password=None)
    if key.type != "service_account" or not isinstance(private, rsa.RSAPrivateKey):
        raise ValueError("no service account's key")
    header: dict[str, str] = {"alg": "RS256", "typ": "JWT"}
    if key.private_key_id:
        header["kid"] = key.private_key_id
    claims = {
        "iss": key.client_email,
        "scope": SCOPE,
        "aud": key.token_uri,
        "iat": now,
        "exp": now + CLAIM_SECONDS,
    }
    signing = f"{_base64url(msgspec.json.encode(header))}.{_base64url(msgspec.json.encode(claims))}"
    return f"{signing}.{_base64url(private.sign(signing.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


async def _granted(session: aiohttp.ClientSession, url: str, claim: str, target: Target) -> _Granted:
    form: Mapping[str, str] = {"grant_type": GRANT, "assertion": claim}
    timeout = aiohttp.ClientTimeout(total=PATIENCE_SECONDS, sock_connect=target.timeouts.connect)
    headers = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json", "user-agent": "ccm"}
    try:
        async with session.post(url, data=form, headers=headers, allow_redirects=False, timeout=timeout) as answer:
            body = await answer.content.read(MAX_ANSWER_BYTES)
            status = answer.status
    except (aiohttp.ClientError, OSError, ValueError):
        raise UpstreamError(_failure(target, "has a token server that could not be reached", again=True)) from None
    if status == 200:
        try:
            return msgspec.json.decode(body, type=_Granted)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise UpstreamError(_failure(target, "has a token server that gave no token")) from None
    what = f"did not take CCM's service account ({_reason(body) or 'no reason given'}, HTTP {status})"
    raise UpstreamError(_failure(target, what, status=status, again=status >= 500 or status == 429))


def _reason(body: bytes) -> str:
    """OAuth's error code (RFC 6749, 5.2): a word, nothing secret."""
    try:
        reason = msgspec.json.decode(body, type=_Refused).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    return reason if reason.replace("_", "").isalpha() else ""


def _failure(target: Target, what: str, *, status: int | None = None, again: bool = False) -> UpstreamFailure:
    """`again`: the client may try once more; else only the operator can help."""
    return UpstreamFailure(
        500,
        "api_error",
        f"The provider {target.provider} {what}.",
        retry=RetryClass.NEXT_TARGET,
        upstream_status=status,
        should_retry=None if again else False,
    )
