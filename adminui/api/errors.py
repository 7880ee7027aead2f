"""Errors in OpenRouter's envelope: `{"error": {"code": <status>, "message": …, "metadata": {…}}}`."""

from typing import Any

import structlog
from django.http import Http404, HttpRequest, HttpResponse
from ninja import NinjaAPI, Schema
from ninja.errors import HttpError, ValidationError

from accounts.errors import InvalidAccountData, NotAllowed
from adminui.api.render import answer
from credits.errors import InvalidAmount
from gateway.dry_run import Refused
from gateway.errors import GatewayError, as_gateway_error, invalid_request, not_found
from gateway.exchange import new_request_id
from gateway.profiles import InvalidProfile
from providers.errors import ConfigError, ProfileConflict, UnknownVersion

ALWAYS = (400, 401, 503)
"""The refusals that any resource may answer with a key: bad input, a bad key, a database that is away."""


class Refusal(Schema):
    code: int
    """The HTTP status again."""
    message: str
    metadata: dict[str, Any]


class ErrorOut(Schema):
    error: Refusal
    request_id: str


def answers(out: Any, *refusals: int, status: int = 200) -> dict[int, Any]:
    """For an operation's `response`: `out` when all is well, the envelope for ALWAYS and `refusals`."""
    return {status: out, **dict.fromkeys(sorted({*ALWAYS, *refusals}), ErrorOut)}


log = structlog.get_logger("ccm.api")


def handle_errors(api: NinjaAPI) -> None:
    for kind in (Exception, GatewayError, InvalidProfile, ValidationError, HttpError, Http404):
        api.add_exception_handler(kind, respond)


def respond(request: HttpRequest, error: Any) -> HttpResponse:
    """Whatever went wrong; what nobody foresaw is a 500 without details, and a line in the log."""
    known, metadata = _known(error)
    request_id = new_request_id()
    if known.status >= 500 and not isinstance(error, GatewayError):
        log.error("api_failed", request_id=request_id, path=request.path, code=known.code, exc_info=error)
    content = {"code": known.status, "message": known.message, "metadata": {"type": known.type, **metadata}}
    response = answer({"error": content, "request_id": request_id}, known.status)
    response["request-id"] = request_id
    for name, value in known.headers():
        response[name.decode()] = value.decode()
    return response


def unknown(request: HttpRequest) -> HttpResponse:
    """An address that no resource has: said in JSON too."""
    return respond(request, Http404("There is no such resource; /api/v1/docs lists them all."))


def _known(error: Any) -> tuple[GatewayError, dict[str, Any]]:
    match error:
        case Refused():
            return error, {"code": error.code, "rules": error.rules}
        case InvalidProfile():
            fields = {problem.field: problem.text for problem in error.problems}
            return invalid_request(str(error)), {"fields": fields}
        case ProfileConflict():
            return GatewayError(409, "conflict_error", str(error), should_retry=False), {"version": error.newest}
        case UnknownVersion() | Http404():
            return not_found(str(error) or "There is no such thing."), {}
        case NotAllowed():
            return GatewayError(409, "conflict_error", str(error), should_retry=False), {"code": error.code}
        case ConfigError() | InvalidAccountData() | InvalidAmount():
            return invalid_request(str(error)), {}
        case ValidationError():
            fields = {_place(each["loc"]): _text(each["msg"]) for each in error.errors}
            return invalid_request(" ".join(f"{name}: {text}" for name, text in fields.items())), {"fields": fields}
        case HttpError():
            return GatewayError(error.status_code, "invalid_request_error", str(error), should_retry=False), {}
        case _:
            known = as_gateway_error(error)
            return known, {"code": known.code}


def _place(location: tuple[Any, ...]) -> str:
    """`("body", "change", "profile", "think")` is "profile.think": the first two are ninja's own."""
    inner = [str(part) for part in location[1:]]
    return ".".join(inner[1:] or inner) or "body"


def _text(message: str) -> str:
    return message if message.endswith(".") else f"{message}."
