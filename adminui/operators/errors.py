"""Errors of the operators' API: `{"error": {"code": …, "message": …, "fields": {…}}}`."""

from typing import Any

import structlog
from django.core.exceptions import ValidationError as DjangoValidationError
from django.db import IntegrityError
from rest_framework import status
from rest_framework.exceptions import APIException, ValidationError
from rest_framework.response import Response
from rest_framework.views import exception_handler

from accounts.errors import AccountsError
from credits.errors import CreditsError
from gateway.profiles import InvalidProfile
from providers.errors import ProvidersError

log = structlog.get_logger("ccm.operators")


def handle(error: Exception, context: dict[str, Any]) -> Response | None:
    """What nobody foresaw stays Django's affair: a 500 without details, and a line in the log."""
    if isinstance(error, DjangoValidationError):
        error = refused(error)
    if isinstance(error, ValidationError):
        fields = _fields(error.detail)
        message = " ".join(f"{name}: {text}" for name, text in fields.items())
        return _answer(status.HTTP_400_BAD_REQUEST, "invalid", message, fields)
    if isinstance(error, InvalidProfile):
        fields = {problem.field: problem.text for problem in error.problems}
        return _answer(error.status, error.code, str(error), fields)
    if isinstance(error, IntegrityError):
        return _answer(
            status.HTTP_409_CONFLICT, "conflict", "Somebody else was faster, or other rows refer to this one."
        )
    if isinstance(error, AccountsError | CreditsError | ProvidersError):
        known = (
            error.status
            if error.status < status.HTTP_500_INTERNAL_SERVER_ERROR
            else status.HTTP_503_SERVICE_UNAVAILABLE
        )
        return _answer(known, error.code, str(error))
    response = exception_handler(error, context)
    if response is None:
        return None
    detail = error.detail if isinstance(error, APIException) else "There is no such thing."
    code = error.get_codes() if isinstance(error, APIException) else "not_found"
    response.data = _content(str(code), str(detail), {})
    return response


def refused(error: DjangoValidationError) -> ValidationError:
    """What a model's own checks say, as REST framework says it."""
    return ValidationError(error.message_dict if hasattr(error, "error_dict") else {"__all__": error.messages})


def _fields(detail: Any, place: str = "") -> dict[str, str]:
    """`{"tiers.0.above": "…"}`."""
    if isinstance(detail, dict):
        pairs = list(detail.items())
    elif isinstance(detail, list) and any(isinstance(each, dict | list) for each in detail):
        pairs = list(enumerate(detail))
    else:
        texts = detail if isinstance(detail, list) else [detail]
        return {place or "body": " ".join(map(str, texts))} if texts else {}
    found: dict[str, str] = {}
    for name, inner in pairs:
        own = "" if name in {"non_field_errors", "__all__"} else str(name)
        found |= _fields(inner, ".".join(part for part in (place, own) if part))
    return found


def _answer(known: int, code: str, message: str, fields: dict[str, str] | None = None) -> Response:
    return Response(_content(code, message, fields or {}), status=known)


def _content(code: str, message: str, fields: dict[str, str]) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "fields": fields}}
