"""Test connection: one tiny real call to a provider, and its answer or error in plain words."""

import asyncio
import json
import time
from dataclasses import dataclass, replace

import structlog
from django.conf import settings

from providers.catalogue import credential_of, model_of, target_of
from providers.errors import ProvidersError, UpstreamError
from providers.kinds import KINDS
from providers.models import Mapping, Provider
from providers.selectors import current_cost
from providers.types import CredentialSecret, Model, Target, Timeouts

MAX_TOKENS = 16
SHOWN_CHARACTERS = 120
# An operator waits in front of the page for this.
PATIENCE = Timeouts(connect=10.0, first_byte=30.0, idle=30.0, total=60.0)
REQUEST = {"max_tokens": MAX_TOKENS, "messages": [{"role": "user", "content": "Say hi"}]}

log = structlog.get_logger("ccm.connection")


@dataclass(frozen=True, slots=True)
class ConnectionResult:
    """`status` is the provider's HTTP status, None when it did not answer or was not called."""

    ok: bool
    words: str
    status: int | None
    milliseconds: int


class _NotCallable(ProvidersError):
    """Something is missing before a call makes sense; the text says what."""


def check(provider: Provider) -> ConnectionResult:
    """Ask the model of the cheapest enabled mapping of `provider` to say hi. Works for a disabled
    provider too. Costs the operator a few tokens; blocks for at most a minute. Call it outside
    any transaction."""
    started = time.monotonic()
    try:
        target, model = _cheapest(provider)
    except _NotCallable as error:
        return ConnectionResult(ok=False, words=str(error), status=None, milliseconds=0)
    ok, words, status = asyncio.run(_call(target, model))
    result = ConnectionResult(ok, words, status, round((time.monotonic() - started) * 1000))
    log.info("connection_tested", provider=provider.name, ok=ok, status=status, milliseconds=result.milliseconds)
    return result


def _cheapest(provider: Provider) -> tuple[Target, Model]:
    if provider.kind not in KINDS:
        raise _NotCallable(f"CCM does not know the kind {provider.kind!r}: choose another one.")
    mappings = list(Mapping.objects.filter(provider=provider, enabled=True).select_related("model"))
    if not mappings:
        raise _NotCallable("No model is mapped to this provider yet: add a mapping to a model, then test again.")
    mapping = min(mappings, key=_dearness)
    rows = list(provider.credentials.of_platform().filter(enabled=True).order_by("pk"))
    pool = tuple(credential for row in rows if (credential := credential_of(row)))
    if rows and not pool:
        raise _NotCallable("No credential can be decrypted with CCM_ENCRYPTION_KEYS: enter the secret again.")
    target = target_of(mapping, provider, pool or None, None)
    if target is None:
        raise _NotCallable("This provider has no enabled credential: add one, then test again.")
    return replace(target, timeouts=PATIENCE), model_of(mapping.model, None, ())


def _dearness(mapping: Mapping) -> tuple[bool, int, int]:
    """Known costs first, the lowest of them first."""
    cost = current_cost(mapping)
    return cost is None, cost.output if cost else 0, mapping.pk


async def _call(target: Target, model: Model) -> tuple[bool, str, int | None]:
    credential: CredentialSecret | None = target.credentials[0] if target.credentials else None
    try:
        async with asyncio.timeout(PATIENCE.total):
            return await _exchange(target, model, credential)
    except UpstreamError as error:
        return False, error.failure.message, error.failure.upstream_status
    except ProvidersError as error:
        return False, str(error), None
    except TimeoutError:
        return False, f"{target.provider} did not finish its answer within {PATIENCE.total:.0f} seconds.", None


async def _exchange(target: Target, model: Model, credential: CredentialSecret | None) -> tuple[bool, str, int | None]:
    from providers.transport import Transport
    from providers.wire.registry import WIRES
    from providers.wire.request import MessagesRequest

    wire = WIRES.get(target.wire)
    if wire is None:
        return False, f"CCM has no wire format named {target.wire!r}: change the provider's wire.", None
    messages = MessagesRequest.parse(json.dumps({"model": model.name, **REQUEST}).encode())
    outbound = wire.encode(messages, target=target, model=model, max_tokens=MAX_TOKENS, client_headers={})
    transport = Transport(allow_private=settings.ALLOW_PRIVATE_UPSTREAMS)
    try:
        response = await transport.open(outbound, target=target, credential=credential, messages=messages)
        try:
            body = await response.read()
        finally:
            response.close()
    finally:
        await transport.close()
    if not 200 <= response.status < 300:
        failure = wire.decode_error(response.status, response.headers, body, target=target)
        return False, failure.message, response.status
    decoded = wire.decode_response(body, request=messages, target=target, model=model)
    return True, _answer(target, decoded.body), response.status


def _answer(target: Target, message: bytes) -> str:
    blocks = json.loads(message).get("content") or []
    said = " ".join(" ".join(block["text"] for block in blocks if block.get("type") == "text").split())
    if not said:
        return f"{target.actual_model} answered, without text."
    shortened = said[:SHOWN_CHARACTERS] + ("…" if len(said) > SHOWN_CHARACTERS else "")
    return f"{target.actual_model} answered: {shortened}"
