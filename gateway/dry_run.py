"""Where a request would go, without going there: no hold, no limit, no provider (`POST /api/v1/route`)."""

from collections.abc import Mapping
from typing import Any

from msgspec import Raw

from accounts.types import Principal
from gateway.errors import GatewayError, invalid_request
from gateway.explain import target_lines
from gateway.pipeline import Asked, check_allowed, decide_freely, for_searches, plan_targets, searches_natively
from gateway.routing import Merged, merged_for
from gateway.runtime import Runtime
from gateway.websearch import asks_for_search, check_can_search
from providers import tokens
from providers.errors import InvalidRequest
from providers.profiles import values_of
from providers.wire.request import MessagesRequest


class Refused(GatewayError):
    """The request would be refused; `rules` say how it came to that."""

    def __init__(self, error: GatewayError, rules: tuple[Any, ...]) -> None:
        super().__init__(error.status, error.type, error.message, should_retry=error.should_retry, code=error.code)
        self.rules = rules


async def dry_run(runtime: Runtime, principal: Principal, headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
    """What `/v1/messages` would do with this body and these headers (in lower case). Raises GatewayError
    as it would."""
    try:
        request = MessagesRequest.parse(body)
        request.check()
    except InvalidRequest as error:
        raise invalid_request(str(error)) from None
    catalogue = runtime.catalogue.current
    merged = merged_for(catalogue, principal.organization_id, principal.api_key_id)
    asked = Asked(principal, request, merged, catalogue, tokens.estimate(request, len(body)), len(body))
    decision = await decide_freely(asked, headers)
    try:
        check_allowed(decision, principal)
        decision, targets = for_searches(decision, plan_targets(decision, runtime.resilience, principal))
        if asks_for_search(decision.request) and not searches_natively(decision, targets):
            check_can_search(decision.model, runtime.search)
    except GatewayError as error:
        raise Refused(error, decision.trail) from None
    sent_on = decision.request.with_fields(model=targets[0].target.actual_model)
    return {
        "route": decision.route,
        "model": decision.model.name,
        "provider": decision.provider,
        "targets": target_lines(decision, targets, runtime.resilience),
        "rules": decision.trail,
        "warnings": decision.warnings,
        "request_class": decision.request_class,
        "session_id": decision.session_id,
        "profile": profile_lines(merged),
        "request": Raw(sent_on.encode()),
    }


def profile_lines(merged: Merged) -> dict[str, dict[str, Any]]:
    """Each field that is set, with its value and whose profile it comes from."""
    return {
        name: {"value": value, "from": merged.origins.get(name)} for name, value in values_of(merged.profile).items()
    }
