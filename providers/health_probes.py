"""Health probes: whether the providers that an operator has chosen answer, asked regularly.

Where a provider lists its models that is asked for, since it costs nothing; elsewhere the tiny request
of *Test connection* is made. What a probe finds is recorded, and changes nothing by itself.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import structlog
from django.conf import settings
from django.utils import timezone

from providers.connection import ConnectionResult, NotCallable, call, cheapest, target_at
from providers.errors import ProvidersError
from providers.models import HealthProbe, Mapping, ProbeSchedule, Provider
from providers.types import Model, Target, Timeouts

if TYPE_CHECKING:
    from providers.transport import Transport

KEPT = timedelta(days=30)
AT_ONCE = 16
MOST_BYTES = 8 * 1024 * 1024
"""A list of models; OpenRouter's has some hundred of them."""
PATIENCE = Timeouts(connect=5.0, first_byte=10.0, idle=10.0, total=20.0)
NO_LIST = frozenset({404, 405, 501})
"""Answers of a server that does not list its models: then the real request is made after all."""

# After the base URL, by wire. What is asked needs a credential wherever the provider has such a page.
LISTS = {
    "openai_chat": "/models",
    "openai_responses": "/models",
    "gemini": "/models?pageSize=1",
    "cohere": "/v1/models?page_size=1",
    "anthropic": "/v1/models?limit=1",
}
LISTS_OF_KINDS = {"openrouter": "/key"}  # its list of models is there for everybody
ANTHROPIC_LISTS = frozenset({"anthropic", "litellm"})
"""The kinds that list their models beside Anthropic's format."""
UNLISTED = frozenset({"vertex", "bedrock", "demo"})

log = structlog.get_logger("ccm.probes")


@dataclass(frozen=True, slots=True)
class Probing:
    """What to ask of a provider; `model` is None where it has no mapping and only its list can be asked
    for, `lacking` says why nothing can be."""

    provider_id: int
    target: Target | None = None
    model: Model | None = None
    path: str = ""
    lacking: str = ""


def probe_due(now: datetime | None = None) -> int:
    """Probe the providers whose time has come; how many. Takes half a minute at most. May run beside
    itself: each provider is probed by one of them."""
    now = now or timezone.now()
    due = _claim(now)
    if not due:
        return 0
    asked = [_probing(provider) for provider in due]
    results = asyncio.run(_ask_all(asked))
    HealthProbe.objects.bulk_create(
        HealthProbe(
            provider_id=probing.provider_id,
            at=now,
            ok=result.ok,
            error=result.error,
            status=result.status,
            milliseconds=result.milliseconds,
            free=free,
        )
        for probing, (result, free) in zip(asked, results, strict=True)
    )
    for provider, (result, free) in zip(due, results, strict=True):
        log.info(
            "provider_probed",
            provider=provider.name,
            ok=result.ok,
            error=result.error,
            status=result.status,
            milliseconds=result.milliseconds,
            free=free,
        )
    return len(due)


def forget_old(now: datetime | None = None) -> int:
    """How many results were too old."""
    return HealthProbe.objects.filter(at__lt=(now or timezone.now()) - KEPT).delete()[0]


def _claim(now: datetime) -> list[Provider]:
    """The enabled providers that are due, each taken by one caller: who moves its time on has it."""
    wanted = Provider.objects.filter(enabled=True, probe_every__gt=0)
    known = set(ProbeSchedule.objects.values_list("provider_id", flat=True))
    new = [ProbeSchedule(provider=provider, due_at=now) for provider in wanted if provider.pk not in known]
    ProbeSchedule.objects.bulk_create(new, ignore_conflicts=True)
    claimed = []
    for provider in wanted:
        following = now + timedelta(minutes=provider.probe_every)
        # Somebody has shortened the time between probes: what was planned before does not hold.
        ProbeSchedule.objects.filter(provider=provider, due_at__gt=following).update(due_at=following)
        if ProbeSchedule.objects.filter(provider=provider, due_at__lte=now).update(due_at=following):
            claimed.append(provider)
    return claimed


def _probing(provider: Provider) -> Probing:
    try:
        target = target_at(provider, Mapping(provider=provider, actual_model=""))
    except NotCallable as error:
        return Probing(provider.pk, lacking=str(error))
    path = _list_of(target)
    try:
        target, model = cheapest(provider)
    except NotCallable as error:
        return Probing(provider.pk, target if path else None, None, path, "" if path else str(error))
    return Probing(provider.pk, replace(target, timeouts=PATIENCE), model, path)


def _list_of(target: Target) -> str:
    if target.kind in UNLISTED or (target.wire == "anthropic" and target.kind not in ANTHROPIC_LISTS):
        return ""
    return LISTS_OF_KINDS.get(target.kind) or LISTS.get(target.wire, "")


async def _ask_all(asked: Sequence[Probing]) -> list[tuple[ConnectionResult, bool]]:
    """Each with whether it was free of charge."""
    from providers.transport import Transport

    transport = Transport(allow_private=settings.ALLOW_PRIVATE_UPSTREAMS)
    room = asyncio.Semaphore(AT_ONCE)

    async def ask(probing: Probing) -> tuple[ConnectionResult, bool]:
        async with room:
            return await _ask(transport, probing)

    try:
        return await asyncio.gather(*map(ask, asked))
    finally:
        await transport.close()


async def _ask(transport: "Transport", probing: Probing) -> tuple[ConnectionResult, bool]:
    if probing.target is None:
        return ConnectionResult(False, probing.lacking, None, 0, NotCallable.code), True
    if probing.path:
        listed = await _ask_for_list(transport, probing.target, probing.path)
        if listed.status not in NO_LIST or probing.model is None:
            return listed, True
    assert probing.model is not None
    return await call(transport, probing.target, probing.model), False


async def _ask_for_list(transport: "Transport", target: Target, path: str) -> ConnectionResult:
    from providers.transport import Call, FetchFailed, credential_headers

    credential = target.credentials[0] if target.credentials else None
    headers = {"anthropic-version": "2023-06-01"} if target.wire == "anthropic" else {}
    request = Call("GET", target.base_url + path, {**headers, **credential_headers(target, credential)})
    started = time.monotonic()
    status, error, words = None, "", ""
    try:
        status, body = await transport.fetch(request, seconds=PATIENCE.first_byte, limit=MOST_BYTES)
        if not 200 <= status < 300:
            error, words = _refusal(target, status, body)
    except FetchFailed as failed:
        error, words = "timeout_error" if failed.reason.startswith("no answer") else "unreachable", failed.reason
    return ConnectionResult(not error, words, status, round((time.monotonic() - started) * 1000), error)


def _refusal(target: Target, status: int, body: bytes) -> tuple[str, str]:
    from providers.wire.registry import WIRES

    try:
        failure = WIRES[target.wire].decode_error(status, {}, body, target=target)
    except (KeyError, ProvidersError):
        return "api_error", f"HTTP {status}"
    return failure.type, failure.message
