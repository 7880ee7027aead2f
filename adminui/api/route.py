"""POST /api/v1/route: where a request would go, and why."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from ninja import Router, Schema

from adminui.api.auth import principal_of
from adminui.api.errors import answers
from adminui.api.render import answer
from gateway.dry_run import dry_run
from gateway.exchange import MAX_BODY_BYTES, decompressed
from gateway.runtime import running

router = Router(tags=["Routing"])


class RuleOut(Schema):
    rule: str
    matched: bool
    why: str


class TargetOut(Schema):
    provider: str
    model: str
    healthy: bool
    input: str
    """USD per million tokens, as the customer pays; `output` alike."""
    output: str


class RouteOut(Schema):
    route: str
    model: str
    provider: str | None
    targets: list[TargetOut]
    rules: list[RuleOut]
    warnings: list[str]
    request_class: str
    session_id: str
    profile: dict[str, Any]
    request: dict[str, Any]


@router.post(
    "/route",
    response=answers(RouteOut, 403, 404, 413, 429, 529),
    summary="Where a request would go",
    openapi_extra={"requestBody": {"content": {"application/json": {"schema": {"type": "object"}}}, "required": True}},
)
async def route(request: HttpRequest) -> HttpResponse:
    """Takes the body and headers of `POST /v1/messages`. Answers the route, each rule with why it matched or did
    not, the targets in their order, and the request as it would be sent on. Nothing is held, charged or sent."""
    headers = {name.lower(): value for name, value in request.headers.items()}
    body = decompressed(request.read(MAX_BODY_BYTES + 1), headers)
    return answer(await dry_run(running(), principal_of(request), headers, body))
