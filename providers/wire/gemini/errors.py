"""What Google's errors mean for a request: google.rpc.Status with its details (translation.md 3.2 to 3.4)."""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from providers.types import RetryClass, Target, UpstreamFailure
from providers.wire.errors import MAX_TEXT, context_overflow, error_parts, retry_after, scrub

BAD_KEY = re.compile(r"api_key_invalid|api key not valid|api key expired|api_key_service_blocked")
NO_SERVICE = re.compile(r"location is not supported|billing|free tier is not available|not been used in project")
NO_MODEL = re.compile(r"models?/\S+ is not found|is not supported for generatecontent|publisher model .* not found")
DELAY = re.compile(r"(\d+(?:\.\d+)?)s")
STATUSES = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ABORTED": 409,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}


class _Violation(msgspec.Struct, rename="camel"):
    quota_id: str | None = None


class _Detail(msgspec.Struct, rename="camel"):
    reason: str | None = None
    retry_delay: str | None = None
    violations: list[_Violation] | None = None


class Status(msgspec.Struct):
    """google.rpc.Status, as far as it was told."""

    code: int | None = None
    message: str = ""
    status: str = ""
    details: list[Any] | None = None

    @property
    def _details(self) -> list[_Detail]:
        details: list[_Detail] = []
        for each in self.details or ():
            try:
                details.append(msgspec.convert(each, _Detail))
            except msgspec.ValidationError:
                continue
        return details

    @property
    def reasons(self) -> str:
        return " ".join(detail.reason for detail in self._details if detail.reason)

    @property
    def wait(self) -> float | None:
        """Seconds, from RetryInfo."""
        found = (DELAY.fullmatch(detail.retry_delay or "") for detail in self._details)
        return next((float(delay[1]) for delay in found if delay), None)

    @property
    def is_of_the_day(self) -> bool:
        """Whether a quota for a whole day is used up: waiting a little will not help."""
        quotas = [violation.quota_id or "" for detail in self._details for violation in detail.violations or ()]
        return any("perday" in quota.lower() for quota in quotas)


class _Envelope(msgspec.Struct):
    error: Status | str | None = None


def status_of(body: bytes) -> Status | None:
    """The status in an error's body, which may stand in a list; None when there is none."""
    try:
        one = msgspec.json.decode(body)
        one = one[0] if isinstance(one, list) and one else one
        error = msgspec.convert(one, _Envelope, strict=False).error
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError, UnicodeDecodeError):
        return None
    return Status(message=error) if isinstance(error, str) else error


def failure_of_answer(status: int, headers: Mapping[str, str], body: bytes, *, target: Target) -> UpstreamFailure:
    """What a non-2xx answer means."""
    told = status_of(body) or Status(message=error_parts(body)[1] or _plain(body))
    wait = retry_after(headers)
    return _failure(status, told, told.wait if wait is None else wait, target)


def failure_in_stream(body: bytes, *, target: Target) -> UpstreamFailure:
    """What an error object inside a 200 answer means."""
    told = status_of(body) or Status()
    code = told.code if told.code and 400 <= told.code < 600 else STATUSES.get(told.status, 500)
    return _failure(code, told, told.wait, target)


def _failure(status: int, told: Status, wait: float | None, target: Target) -> UpstreamFailure:
    said = scrub(told.message)[:MAX_TEXT]
    words = f"{told.message} {told.reasons} {told.status}".lower()
    return (
        _operators_fault(status, said, words, target)
        or _requests_fault(status, said, words, target)
        or _providers_fault(status, told, said, wait, target)
    )


def _operators_fault(status: int, said: str, words: str, target: Target) -> UpstreamFailure | None:
    """Only the operator can put these right: the customer's client must not repeat them."""
    name = target.provider
    if status in {401, 403} or (status == 400 and BAD_KEY.search(words)):
        message = f"The provider {name} refused CCM's credentials (HTTP {status}). The operator must renew them."
    elif status == 404 or (status == 400 and NO_MODEL.search(words)):
        message = f"The provider {name} knows no model {target.actual_model}, or its base URL is wrong (HTTP {status})."
    elif status == 402 or (status in {400, 429} and NO_SERVICE.search(words) and "per_minute" not in words):
        message = f"The provider {name} does not serve CCM's account (HTTP {status}){_quoted(said)}"
    elif 300 <= status < 400:
        message = f"The provider {name} answered with a redirect (HTTP {status}): its base URL is wrong."
    elif status in {405, 406, 410, 415, 426, 451}:
        message = f"The provider {name} refused the request with HTTP {status}{_quoted(said)}"
    else:
        return None
    return UpstreamFailure(
        500, "api_error", message, retry=RetryClass.NEXT_TARGET, upstream_status=status, should_retry=False
    )


def _requests_fault(status: int, said: str, words: str, target: Target) -> UpstreamFailure | None:
    """The request itself is refused: no other target of the model would take it."""
    overflow = context_overflow(words) if status in {400, 413, 500} else None
    if overflow is not None:
        return _refused(400, "invalid_request_error", overflow, status)
    if status == 413 or (status == 400 and "payload size exceeds" in words):
        message = f"The request is too large for the provider {target.provider}{_quoted(said)}"
        return _refused(413, "request_too_large", message, status)
    if status in {400, 422}:
        message = f"The provider {target.provider} refused the request (HTTP {status}){_quoted(said)}"
        return _refused(400, "invalid_request_error", message, status)
    return None


def _refused(shown: int, kind: str, message: str, status: int) -> UpstreamFailure:
    return UpstreamFailure(shown, kind, message, retry=RetryClass.NEVER, upstream_status=status)


def _providers_fault(status: int, told: Status, said: str, wait: float | None, target: Target) -> UpstreamFailure:
    name = target.provider
    should_retry = None
    retry = RetryClass.NEXT_TARGET
    if status == 429:
        # Its text is about the operator's project and plan: not for customers.
        said = ""
        shown, kind, message = 429, "rate_limit_error", f"The provider {name} is limiting CCM's requests"
        if told.is_of_the_day:
            message, should_retry, wait = f"The provider {name} serves no more of CCM's requests today", False, None
    elif status in {498, 503, 529}:
        shown, kind, message = 529, "overloaded_error", f"The provider {name} is overloaded"
    elif status in {408, 499, 504}:
        shown, kind, message = 504, "timeout_error", f"The provider {name} timed out (HTTP {status})"
    elif status == 409:
        retry = RetryClass.SAME_TARGET
        shown, kind, message = 500, "api_error", f"The provider {name} reported a conflict (HTTP 409)"
    else:
        shown, kind, message = 500, "api_error", f"The provider {name} failed (HTTP {status})"
    return UpstreamFailure(
        shown,
        kind,
        message + _quoted(said),
        retry=retry,
        retry_after=wait,
        upstream_status=status,
        should_retry=should_retry,
    )


def _plain(body: bytes) -> str:
    """What a body without a status says; a page of HTML says nothing."""
    text = body[: 4 * MAX_TEXT].decode("utf-8", "replace").strip()
    return "" if text[:1] in {"<", "{", "[", ""} else text


def _quoted(said: str) -> str:
    return f": {said}" if said else "."
