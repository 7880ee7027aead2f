"""Asking the model of the `safety` route about one tool call: a request of its own, held, settled
and recorded like any other, answered in process."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import structlog

from gateway.errors import GatewayError, as_gateway_error
from gateway.routing import Decision, Rule, find_model
from gateway.safety.calls import ToolCall
from gateway.safety.check import Judge, Unavailable
from gateway.safety.prompt import Verdict, context_of, question, read_verdict
from gateway.safety.verdicts import VerdictCache
from providers.types import Catalogue, Profile
from providers.wire.request import MessagesRequest

log = structlog.get_logger("ccm.safety")

Serve = Callable[[Decision, int], Awaitable[tuple[int, bytes]]]
"""Serves a decision in process, given its body's size in bytes; the answer's status and body."""


def judge_for(
    decision: Decision,
    *,
    profile: Profile,
    catalogue: Catalogue,
    organization_id: int,
    cache: VerdictCache,
    serve: Serve,
) -> Judge | None:
    """What judges the tool calls of the answer to `decision`; None without a servable safety route
    or when the client asked for no check that we know."""
    context = context_of(decision.request)
    found = find_model(catalogue, profile.safety) if profile.safety else None
    if context is None or found is None:
        return None

    async def judge(call: ToolCall) -> Verdict | Unavailable:
        asked = question(context, decision.request, call, model=found.model.name)
        if asked is None:
            return "input_too_long"
        key = cache.key(organization_id, asked)
        known = cache.get(key)
        if known is not None:
            return known
        inner = Decision(
            route="safety",
            model=found.model,
            requested=found.model.name,
            request=MessagesRequest.parse(asked),
            provider=found.provider,
            trail=(Rule("safety_check", True, "CCM checks a tool call of an answer in auto mode."),),
            session_id=decision.session_id,
            agent_id=decision.agent_id,
            parent_agent_id=decision.parent_agent_id,
            request_class="auxiliary",
        )
        try:
            status, body = await serve(inner, len(asked))
        except Exception as error:
            known_error = as_gateway_error(error)
            log.warning("safety_check_failed", code=known_error.code, known=isinstance(known_error, GatewayError))
            return "error"
        verdict = _verdict(status, body)
        if isinstance(verdict, Verdict):
            cache.put(key, verdict)
        return verdict

    return judge


def _verdict(status: int, body: bytes) -> Verdict | Unavailable:
    if status != 200:
        return "error"
    message: Any = msgspec.json.decode(body)
    texts = [str(block.get("text", "")) for block in message["content"] if block.get("type") == "text"]
    verdict = read_verdict("".join(texts))
    if verdict is not None:
        return verdict
    match message.get("stop_reason"):
        case "max_tokens":
            return "truncated"
        case "refusal":
            return "refused"
        case _:
            return "error"
