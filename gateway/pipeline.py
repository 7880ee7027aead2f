"""The request's whole way: authenticate -> parse -> route -> plan -> hold -> relay -> settle.

Each step is one call into the module that owns it (architecture, section 3).
"""

import asyncio
import functools
import time
from collections.abc import Mapping

import structlog
from msgspec import Struct
from msgspec.structs import replace

from accounts.keys import SHAPE
from accounts.types import Principal
from credits.types import HoldGrant
from gateway import counting, metering, metrics
from gateway.errors import GatewayError, as_gateway_error, policy_blocked
from gateway.exchange import Exchange, InProcessExchange
from gateway.explain import explanation_of
from gateway.limits import Lease
from gateway.plan import PlannedTarget, plan
from gateway.relay import StreamState, relay
from gateway.resilience import Resilience
from gateway.routing import Decision, Merged, NoModels, UnknownModel, merged_for, probe, route
from gateway.routing.names import shown
from gateway.run import Run
from gateway.runtime import Runtime
from gateway.safety import Judge, asks_for_check, judge_for
from gateway.websearch import (
    SearchLoop,
    allowed_searches,
    asks_for_search,
    bounded,
    check_can_search,
    searches_itself,
    unsearched,
    without_search,
)
from providers import tokens
from providers.search import Backend
from providers.types import Catalogue
from providers.wire.request import MessagesRequest

log = structlog.get_logger("ccm.pipeline")

NAMES_TOLD = 20


class Asked(Struct, frozen=True):
    """One request of a tenant, read, and what it is to be decided by. `estimated` is its input in tokens,
    roughly; `began` is on the monotonic clock."""

    principal: Principal
    request: MessagesRequest
    merged: Merged
    catalogue: Catalogue
    estimated: int
    body_bytes: int
    began: float = 0.0


async def authenticate(exchange: Exchange, runtime: Runtime) -> Principal:
    """Who asks. The key may stand in either header, or in both: whichever has the shape of ours."""
    bearer = exchange.headers.get("authorization", "")
    candidates = [
        bearer[7:].strip() if bearer[:7].lower() == "bearer " else "",
        exchange.headers.get("x-api-key", "").strip(),
    ]
    presented = next((c for c in candidates if SHAPE.fullmatch(c)), "") or next((c for c in candidates if c), "")
    principal = await runtime.keys.authenticate(presented)
    if principal.is_management:
        raise GatewayError(
            403,
            "permission_error",
            "This is a management key: it manages keys at /api/v1/keys and cannot send requests to models. "
            "Use an ordinary API key.",
            should_retry=False,
        )
    return principal


async def serve_messages(exchange: Exchange, runtime: Runtime) -> None:
    """POST /v1/messages, and in their own formats /v1/chat/completions and /v1/responses."""
    began = time.monotonic()
    principal = await authenticate(exchange, runtime)
    with runtime.load.serving(principal.organization_id):
        body = await exchange.body()
        if principal.keeps_text:
            exchange.record(principal.organization_id, body)
        runtime.load.check(principal.organization_id)
        request = exchange.read_request(body)
        request.check()
        catalogue = runtime.catalogue.current
        merged = merged_for(catalogue, principal.organization_id, principal.api_key_id)
        estimated = tokens.estimate(request, len(body))
        asked = Asked(principal, request, merged, catalogue, estimated, len(body), began)
        if exchange.answers_probes and probe(request):
            decision = await decide(asked, exchange.headers)
            await exchange.answer_json(await probe_answer(exchange, decision))
            return
        lease = await runtime.limiter.admit(principal, exchange.request_id, estimated)
        if lease is None:
            await serve_asked(exchange, runtime, asked)
            return
        exchange.limit_headers = lease.headers
        try:
            await serve_asked(exchange, runtime, asked, lease)
        finally:
            runtime.limiter.release(lease)


async def serve_asked(exchange: Exchange, runtime: Runtime, asked: Asked, lease: Lease | None = None) -> None:
    """Serve what was admitted."""
    decision = await decide(asked, exchange.headers)
    targets = plan_targets(decision, runtime.resilience, asked.principal)
    judge = None
    if asks_for_check(decision.request):
        judge = judge_for(
            decision,
            profile=asked.merged.profile,
            catalogue=asked.catalogue,
            organization_id=asked.principal.organization_id,
            cache=runtime.verdicts,
            serve=functools.partial(answer_in_process, asked.principal, runtime, lease),
        )
    decision, targets = for_searches(decision, targets)
    if asks_for_search(decision.request) and not searches_natively(decision, targets):
        backend, decision = search_engine(exchange, runtime, decision)
        if backend is not None:
            await search_in_steps(exchange, runtime, asked.principal, decision, targets, judge, lease, backend)
            return
    run = await begin(exchange, runtime, asked.principal, decision, targets, asked.estimated, began=asked.began)
    run.judge, run.lease = judge, lease
    await serve(run, runtime)


def for_searches(decision: Decision, targets: tuple[PlannedTarget, ...]) -> tuple[Decision, tuple[PlannedTarget, ...]]:
    """Of a request for web searches: the targets that make them, where there are any, and the request with a bound
    on their number; else all of them, and the request without a search that it only offers."""
    if not asks_for_search(decision.request):
        return decision, targets
    native = tuple(planned for planned in targets if searches_itself(decision.request, planned.target, decision.model))
    within = bounded if native else without_search
    return replace(decision, request=within(decision.request)), native or targets


def searches_natively(decision: Decision, targets: tuple[PlannedTarget, ...]) -> bool:
    return any(searches_itself(decision.request, planned.target, decision.model) for planned in targets)


async def answer_in_process(
    principal: Principal, runtime: Runtime, lease: Lease | None, decision: Decision, body_bytes: int
) -> tuple[int, bytes]:
    """Serve a request of our own on the tenant's behalf, paid like theirs: status and body of the
    whole answer. Raises what `hold` and `plan_targets` raise."""
    exchange = InProcessExchange()
    estimated = tokens.estimate(decision.request, body_bytes)
    targets = plan_targets(decision, runtime.resilience, principal)
    run = await begin(exchange, runtime, principal, decision, targets, estimated)
    run.lease = lease
    await serve(run, runtime)
    return exchange.status, exchange.answered


def search_engine(exchange: Exchange, runtime: Runtime, decision: Decision) -> tuple[Backend | None, Decision]:
    """What CCM searches with for a model that cannot. Where there is nothing, a client that offers a search with
    each of its requests (Codex) gets an answer without one, and a warning; who demands one is refused."""
    try:
        return check_can_search(decision.model, runtime.search), decision
    except GatewayError:
        request = unsearched(decision.request) if exchange.offers_searches else None
        if request is None:
            raise
        warning = f"The model {shown(decision.model.name)} cannot search the web here: it was not offered the search."
        return None, replace(decision, request=request, warnings=(*decision.warnings, warning))


async def search_in_steps(
    exchange: Exchange,
    runtime: Runtime,
    principal: Principal,
    decision: Decision,
    targets: tuple[PlannedTarget, ...],
    judge: Judge | None,
    lease: Lease | None,
    backend: Backend,
) -> None:
    """Serve a request for web searches by a model whose provider makes none."""

    async def step(exchange: Exchange, decision: Decision, searches: int) -> Run:
        estimated = tokens.estimate(decision.request, len(decision.request.encode()))
        run = await begin(exchange, runtime, principal, decision, targets, estimated, searches=searches)
        run.judge, run.lease = judge, lease
        return run

    loop = SearchLoop(exchange, decision, backend=backend, begin=step, serve=lambda run: serve(run, runtime))
    await loop.run()


async def begin(
    exchange: Exchange,
    runtime: Runtime,
    principal: Principal,
    decision: Decision,
    targets: tuple[PlannedTarget, ...],
    estimated: int,
    *,
    began: float | None = None,
    searches: int | None = None,
) -> Run:
    """Hold, and make the run that is served under the hold. The request enters the journal first: from then on
    this process answers for the hold, and no sweep takes it for left behind. `searches` are those that CCM may
    make for it; None: the provider makes them."""
    searches = allowed_searches(decision.request) if searches is None else searches
    began = time.monotonic() if began is None else began
    slot = runtime.journal.claim(exchange.request_id)
    try:
        grant = await hold(exchange, runtime, principal, decision, targets, estimated, searches)
    except BaseException:  # whether there is a hold or not, nothing was sent to a provider
        slot.close()
        raise
    return Run(
        exchange=exchange,
        decision=decision,
        plan=targets,
        grant=grant,
        slot=slot,
        estimated_input=estimated,
        writer=runtime.writer,
        transport=runtime.transport,
        resilience=runtime.resilience,
        media=runtime.media,
        began=began,
        explanation=explanation_of(decision, targets, runtime.resilience),
    )


async def decide(asked: Asked, headers: Mapping[str, str]) -> Decision:
    """Which model serves, of those that the key may use. Raises GatewayError."""
    decision = await decide_freely(asked, headers)
    check_allowed(decision, asked.principal)
    return decision


async def decide_freely(asked: Asked, headers: Mapping[str, str]) -> Decision:
    request, profile = asked.request, asked.merged.profile
    threshold = profile.long_context_threshold or 0
    # Two bytes a token is denser than any prose or code: below that no exact count is needed.
    counts = bool(profile.long_context) and asked.body_bytes > 2 * threshold
    measured = (await tokens.count_async(request)).total if counts else asked.estimated
    try:
        decision = route(
            request, headers=headers, profile=profile, catalogue=asked.catalogue, tokens=measured, counted=counts
        )
    except UnknownModel as error:
        raise policy_blocked(str(error), "unknown_model") from None
    except NoModels as error:
        raise GatewayError(503, "api_error", str(error), retry_after=30, code="no_models") from None
    origin = asked.merged.origins.get(decision.route, "")
    return replace(decision, origin=origin) if origin else decision


def check_allowed(decision: Decision, principal: Principal) -> None:
    """Raises GatewayError when the key may not use the model: no route widens what it may."""
    allowed, name = principal.allowed_models, decision.model.name
    if not allowed or name in allowed:
        return
    chosen = "" if decision.route == "explicit" else f" (the {decision.route} route's)"
    more = "" if len(allowed) <= NAMES_TOLD else ", …"
    told = ", ".join(sorted(allowed)[:NAMES_TOLD]) + more
    text = f"This API key may not use the model {name!r}{chosen}. The models it may use: {told}."
    raise policy_blocked(text, "model_not_allowed")


def plan_targets(decision: Decision, standing: Resilience, principal: Principal) -> tuple[PlannedTarget, ...]:
    """The targets to try; refuses a model that cannot be priced or served, before anything is held."""
    model = decision.model
    if model.price is None:
        raise policy_blocked(
            f"The model {model.name!r} has no price yet and cannot be used; the operator has to set one.", "no_price"
        )
    targets = plan(
        model,
        provider=decision.provider,
        session_id=decision.session_id,
        standing=standing,
        organization_id=principal.organization_id,
        own_keys_only=principal.own_keys_only,
    )
    if not targets:
        raise policy_blocked(
            f"No provider serves the model {model.name!r} at present; GET /v1/models lists the models.", "no_target"
        )
    return targets


async def hold(
    exchange: Exchange,
    runtime: Runtime,
    principal: Principal,
    decision: Decision,
    targets: tuple[PlannedTarget, ...],
    estimated: int,
    searches: int,
) -> HoldGrant:
    price = decision.model.price
    assert price is not None
    return await runtime.writer.hold(
        metering.hold_request(
            request_id=exchange.request_id,
            organization_id=principal.organization_id,
            api_key_id=principal.api_key_id,
            model=decision.model,
            price=price,
            input_tokens=tokens.hold_tokens(estimated, decision.model.token_factors.estimated),
            max_tokens=decision.request.max_tokens,
            web_searches=searches,
            context={
                "requested_model": decision.requested,
                "route": decision.route,
                "provider": targets[0].target.provider,
                "actual_model": targets[0].target.actual_model,
                "session_id": decision.session_id,
                "agent_id": decision.agent_id,
                "parent_agent_id": decision.parent_agent_id,
                "request_class": decision.request_class,
                "streamed": decision.request.stream,
            },
        )
    )


async def serve(run: Run, runtime: Runtime) -> None:
    """Relay under the hold, and end the hold whatever happens: an answer, a failure, a client
    that left, a shutdown."""
    run.task = task = asyncio.current_task()
    assert task is not None
    if run.request.stream:
        run.stream = StreamState(run)
    runtime.active.add(run)
    try:
        await relay(run)
    except asyncio.CancelledError:
        if not run.exchange.disconnected:
            run.cancelled("shutdown")
            raise
        run.cancelled("client_disconnected")
        task.uncancel()
    except Exception as error:
        run.failed(as_gateway_error(error))
        raise
    finally:
        runtime.active.discard(run)
        run.stop_watching()
        if run.lease is not None:
            run.lease.add(run.reading())
        try:
            await run.settle()
        finally:
            if run.unsettled is not None:
                runtime.keep_unsettled(run)
        runtime.learner.answered(run)
        metrics.request(run.decision.route, run.model.name, run.target.provider if run.target else "", run.status)
        run.let_go()


async def probe_answer(exchange: Exchange, decision: Decision) -> dict[str, object]:
    """`/model` validation and the client's own token counting: answered here, free of charge."""
    return {
        "id": exchange.request_id.replace("req_", "msg_"),
        "type": "message",
        "role": "assistant",
        "model": decision.model.name,
        "content": [{"type": "text", "text": "OK"}],
        "stop_reason": "max_tokens",
        "stop_sequence": None,
        "usage": {"input_tokens": await counting.counted_here(decision.request, decision.model), "output_tokens": 1},
    }


async def serve_count_tokens(exchange: Exchange, runtime: Runtime) -> None:
    """POST /v1/messages/count_tokens: never billed, never limited (the client fires 15 at once)."""
    principal = await authenticate(exchange, runtime)
    body = await exchange.body()
    request = MessagesRequest.parse(body, counting=True)
    request.check()
    catalogue = runtime.catalogue.current
    merged = merged_for(catalogue, principal.organization_id, principal.api_key_id)
    asked = Asked(principal, request, merged, catalogue, tokens.estimate(request, len(body)), len(body))
    await exchange.answer_json({"input_tokens": await counted_input(asked, exchange.headers, runtime)})


async def counted_input(asked: Asked, headers: Mapping[str, str], runtime: Runtime) -> int:
    """The request's input in tokens of the model that would serve it. Where none does it is a fair question still."""
    try:
        decision = await decide(asked, headers)
    except GatewayError:
        return (await tokens.count_async(asked.request)).total
    try:
        targets = plan_targets(decision, runtime.resilience, asked.principal)
    except GatewayError:
        targets = ()
    return await counting.input_tokens(decision, targets, headers, runtime.provider_counts)
