"""The request's whole way: authenticate -> parse -> route -> plan -> hold -> relay -> settle.

Each step is one call into the module that owns it (architecture, section 3).
"""

import asyncio
import functools
import time
from dataclasses import replace

import structlog

from accounts.keys import SHAPE
from accounts.types import Principal
from credits.types import HoldGrant
from gateway import counting, metering, metrics
from gateway.errors import GatewayError, as_gateway_error, policy_blocked
from gateway.exchange import Exchange, InProcessExchange
from gateway.plan import PlannedTarget, plan
from gateway.relay import StreamState, relay
from gateway.routing import Decision, NoModels, UnknownModel, probe, profile_for, route
from gateway.run import Run
from gateway.runtime import Runtime
from gateway.safety import Judge, asks_for_check, judge_for
from gateway.websearch import SearchLoop, asks_for_search, check_can_search, searches_itself, without_search
from providers import tokens
from providers.types import Catalogue, Profile
from providers.wire.request import MessagesRequest

log = structlog.get_logger("ccm.pipeline")


async def authenticate(exchange: Exchange, runtime: Runtime) -> Principal:
    """Who asks. The key may stand in either header, or in both: whichever has the shape of ours."""
    bearer = exchange.headers.get("authorization", "")
    candidates = [
        bearer[7:].strip() if bearer[:7].lower() == "bearer " else "",
        exchange.headers.get("x-api-key", "").strip(),
    ]
    presented = next((c for c in candidates if SHAPE.fullmatch(c)), "") or next((c for c in candidates if c), "")
    return await runtime.keys.authenticate(presented)


async def serve_messages(exchange: Exchange, runtime: Runtime) -> None:
    """POST /v1/messages, and in their own formats /v1/chat/completions and /v1/responses."""
    began = time.monotonic()
    principal = await authenticate(exchange, runtime)
    body = await exchange.body()
    request = exchange.read_request(body)
    request.check()
    catalogue = runtime.catalogue.current
    profile = profile_for(catalogue, principal.organization_id, principal.api_key_id)
    estimated = tokens.estimate(request, len(body))
    decision = await decide(exchange, request, profile, catalogue, estimated, len(body))
    if exchange.answers_probes and probe(request):
        await exchange.answer_json(await probe_answer(exchange, decision))
        return
    targets = plan_targets(decision)
    judge = None
    if asks_for_check(decision.request):
        judge = judge_for(
            decision,
            profile=profile,
            catalogue=catalogue,
            organization_id=principal.organization_id,
            cache=runtime.verdicts,
            serve=functools.partial(answer_in_process, principal, runtime),
        )
    if asks_for_search(decision.request):
        native = tuple(
            planned for planned in targets if searches_itself(decision.request, planned.target, decision.model)
        )
        decision = decision if native else replace(decision, request=without_search(decision.request))
        if not native and asks_for_search(decision.request):
            await search_in_steps(exchange, runtime, principal, decision, targets, judge)
            return
        targets = native or targets
    run = await begin(exchange, runtime, principal, decision, targets, estimated, began=began)
    run.judge = judge
    await serve(run, runtime)


async def answer_in_process(
    principal: Principal, runtime: Runtime, decision: Decision, body_bytes: int
) -> tuple[int, bytes]:
    """Serve a request of our own on the tenant's behalf, paid like theirs: status and body of the
    whole answer. Raises what `hold` and `plan_targets` raise."""
    exchange = InProcessExchange()
    estimated = tokens.estimate(decision.request, body_bytes)
    await serve(await begin(exchange, runtime, principal, decision, plan_targets(decision), estimated), runtime)
    return exchange.status, exchange.answered


async def search_in_steps(
    exchange: Exchange,
    runtime: Runtime,
    principal: Principal,
    decision: Decision,
    targets: tuple[PlannedTarget, ...],
    judge: Judge | None,
) -> None:
    """Serve a request for web searches by a model whose provider makes none."""
    backend = check_can_search(decision.model, runtime.search)

    async def step(exchange: Exchange, decision: Decision) -> Run:
        estimated = tokens.estimate(decision.request, len(decision.request.encode()))
        run = await begin(exchange, runtime, principal, decision, targets, estimated)
        run.judge = judge
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
) -> Run:
    """Hold, and make the run that is served under the hold."""
    began = time.monotonic() if began is None else began
    return Run(
        exchange=exchange,
        decision=decision,
        plan=targets,
        grant=await hold(exchange, runtime, principal, decision, targets, estimated),
        estimated_input=estimated,
        writer=runtime.writer,
        transport=runtime.transport,
        media=runtime.media,
        began=began,
    )


async def decide(
    exchange: Exchange,
    request: MessagesRequest,
    profile: Profile,
    catalogue: Catalogue,
    estimated: int,
    body_bytes: int,
) -> Decision:
    threshold = profile.long_context_threshold or 0
    # Two bytes a token is denser than any prose or code: below that no exact count is needed.
    counts = bool(profile.long_context) and body_bytes > 2 * threshold
    measured = (await tokens.count_async(request)).total if counts else estimated
    try:
        return route(
            request, headers=exchange.headers, profile=profile, catalogue=catalogue, tokens=measured, counted=counts
        )
    except UnknownModel as error:
        raise policy_blocked(str(error), "unknown_model") from None
    except NoModels as error:
        raise GatewayError(503, "api_error", str(error), retry_after=30, code="no_models") from None


def plan_targets(decision: Decision) -> tuple[PlannedTarget, ...]:
    """The targets to try; refuses a model that cannot be priced or served, before anything is held."""
    model = decision.model
    if model.price is None:
        raise policy_blocked(
            f"The model {model.name!r} has no price yet and cannot be used; the operator has to set one.", "no_price"
        )
    targets = plan(model, provider=decision.provider, session_id=decision.session_id)
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
        run.slot = runtime.journal.open()
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
        try:
            await run.settle()
        finally:
            if run.unsettled is not None:
                runtime.keep_unsettled(run)
        runtime.learner.answered(run)
        metrics.request(run.decision.route, run.model.name, run.target.provider if run.target else "", run.status)


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
    profile = profile_for(catalogue, principal.organization_id, principal.api_key_id)
    try:
        decision = await decide(exchange, request, profile, catalogue, tokens.estimate(request, len(body)), len(body))
    except GatewayError:
        # No model serves it: what it would count is still a fair question.
        counted = (await tokens.count_async(request)).total
    else:
        counted = await counting.input_tokens(decision, exchange.headers, runtime.provider_counts)
    await exchange.answer_json({"input_tokens": counted})
