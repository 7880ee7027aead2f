"""Test connection: one tiny real call to a provider, and its answer or error in plain words."""

import asyncio
import json
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import structlog
from django.conf import settings

from providers.catalogue import credential_of, model_of, target_of
from providers.errors import ProvidersError, UpstreamError
from providers.kinds import KINDS
from providers.models import Credential, Mapping, Provider
from providers.selectors import current_cost
from providers.types import CredentialSecret, Model, Target, Timeouts

if TYPE_CHECKING:
    from providers.transport import Transport

MAX_TOKENS = 16
SHOWN_CHARACTERS = 120
# An operator waits in front of the page for this.
PATIENCE = Timeouts(connect=10.0, first_byte=30.0, idle=30.0, total=60.0)
REQUEST = {"max_tokens": MAX_TOKENS, "messages": [{"role": "user", "content": "Say hi"}]}

log = structlog.get_logger("ccm.connection")


@dataclass(frozen=True, slots=True)
class ConnectionResult:
    """`status` is the provider's HTTP status, None when it did not answer or was not called; `error`
    the class of what went wrong."""

    ok: bool
    words: str
    status: int | None
    milliseconds: int
    error: str = ""


class NotCallable(ProvidersError):
    """Something is missing before a call makes sense; the text says what."""

    code = "not_callable"


def check(provider: Provider) -> ConnectionResult:
    """Ask the model of the cheapest enabled mapping of `provider` to say hi. Works for a disabled
    provider too. Costs the operator a few tokens; blocks for at most a minute. Call it outside
    any transaction."""
    try:
        target, model = cheapest(provider)
    except NotCallable as error:
        return ConnectionResult(False, str(error), None, 0, error.code)
    return _tested(provider, target, model)


def check_own(provider: Provider, credential: Credential) -> ConnectionResult:
    """As `check`, with an organisation's own key, enabled or not: at its expense."""
    try:
        mapping = _cheapest_mapping(provider)
        secret = credential_of(credential)
        if secret is None:
            raise NotCallable("This key cannot be read any more: enter the secret again.")
        target = target_of(mapping, provider, (secret,), None)
        if target is None:
            raise NotCallable(f"{provider.name} cannot be called at the moment.")
    except NotCallable as error:
        return ConnectionResult(False, str(error), None, 0, error.code)
    return _tested(provider, replace(target, timeouts=PATIENCE), model_of(mapping.model, None, ()))


def _tested(provider: Provider, target: Target, model: Model) -> ConnectionResult:
    result = asyncio.run(_check(target, model))
    log.info(
        "connection_tested",
        provider=provider.name,
        ok=result.ok,
        status=result.status,
        milliseconds=result.milliseconds,
    )
    return result


async def _check(target: Target, model: Model) -> ConnectionResult:
    from providers.transport import Transport

    transport = Transport(allow_private=settings.ALLOW_PRIVATE_UPSTREAMS)
    try:
        return await call(transport, target, model)
    finally:
        await transport.close()


def cheapest(provider: Provider) -> tuple[Target, Model]:
    """What to call for the least money. Raises NotCallable."""
    mapping = _cheapest_mapping(provider)
    return target_at(provider, mapping), model_of(mapping.model, None, ())


def _cheapest_mapping(provider: Provider) -> Mapping:
    _known_kind(provider)
    mappings = list(Mapping.objects.filter(provider=provider, enabled=True).select_related("model"))
    if not mappings:
        raise NotCallable("No model is mapped to this provider yet: add a mapping to a model, then test again.")
    return min(mappings, key=_dearness)


def target_at(provider: Provider, mapping: Mapping) -> Target:
    """`mapping` at its provider, disabled or not, with its credentials. Raises NotCallable."""
    _known_kind(provider)
    rows = list(provider.credentials.of_platform().filter(enabled=True).order_by("pk"))
    pool = tuple(credential for row in rows if (credential := credential_of(row)))
    if rows and not pool:
        raise NotCallable("No credential can be decrypted with CCM_ENCRYPTION_KEYS: enter the secret again.")
    target = target_of(mapping, provider, pool or None, None)
    if target is None:
        raise NotCallable("This provider has no enabled credential: add one, then test again.")
    return replace(target, timeouts=PATIENCE)


def _known_kind(provider: Provider) -> None:
    if provider.kind not in KINDS:
        raise NotCallable(f"CCM does not know the kind {provider.kind!r}: choose another one.")


def _dearness(mapping: Mapping) -> tuple[bool, int, int]:
    """Known costs first, the lowest of them first."""
    cost = current_cost(mapping)
    return cost is None, cost.output if cost else 0, mapping.pk


async def call(transport: "Transport", target: Target, model: Model) -> ConnectionResult:
    """One tiny real request. Takes as long as `target` has patience."""
    credential: CredentialSecret | None = target.credentials[0] if target.credentials else None
    started = time.monotonic()
    status, error = None, ""
    try:
        async with asyncio.timeout(target.timeouts.total):
            status, words = await _exchange(transport, target, model, credential)
    except UpstreamError as problem:
        status, error, words = problem.failure.upstream_status, problem.failure.type, problem.failure.message
    except ProvidersError as problem:
        error, words = problem.code, str(problem)
    except TimeoutError:
        error = "timeout_error"
        words = f"{target.provider} did not finish its answer within {target.timeouts.total:.0f} seconds."
    return ConnectionResult(not error, words, status, round((time.monotonic() - started) * 1000), error)


async def _exchange(
    transport: "Transport", target: Target, model: Model, credential: CredentialSecret | None
) -> tuple[int, str]:
    """The status and what the model said. Raises ProvidersError."""
    from providers.wire.registry import WIRES
    from providers.wire.request import MessagesRequest

    wire = WIRES.get(target.wire)
    if wire is None:
        raise NotCallable(f"CCM has no wire format named {target.wire!r}: change the provider's wire.")
    messages = MessagesRequest.parse(json.dumps({"model": model.name, **REQUEST}).encode())
    outbound = wire.encode(messages, target=target, model=model, max_tokens=MAX_TOKENS, client_headers={})
    response = await transport.open(outbound, target=target, credential=credential, messages=messages)
    try:
        body = await response.read()
    finally:
        response.close()
    if not 200 <= response.status < 300:
        raise UpstreamError(
            replace(
                wire.decode_error(response.status, response.headers, body, target=target),
                upstream_status=response.status,
            )
        )
    try:
        decoded = wire.decode_response(body, request=messages, target=target, model=model)
    except UpstreamError as error:
        raise UpstreamError(replace(error.failure, upstream_status=response.status)) from error
    return response.status, _answer(target, decoded.body)


def _answer(target: Target, message: bytes) -> str:
    blocks = json.loads(message).get("content") or []
    said = " ".join(" ".join(block["text"] for block in blocks if block.get("type") == "text").split())
    if not said:
        return f"{target.actual_model} answered, without text."
    shortened = said[:SHOWN_CHARACTERS] + ("…" if len(said) > SHOWN_CHARACTERS else "")
    return f"{target.actual_model} answered: {shortened}"
