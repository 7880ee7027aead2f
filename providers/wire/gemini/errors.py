"""What Google's errors mean for a request: google.rpc.Status with its details (translation.md 3.2 to 3.4)."""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from providers.types import Target, UpstreamFailure
from providers.wire.errors import MAX_TEXT, context_overflow, error_parts, retry_after
from providers.wire.failures import Cause, cause_of, failure, overflow_failure

BAD_KEY = re.compile(r"api_key_invalid|api key not valid|api key expired|api_key_service_blocked")
NO_SERVICE = re.compile(r"location is not supported|billing|free tier is not available|not been used in project")
NO_MODEL = re.compile(r"models?/\S+ is not found|is not supported for generatecontent|publisher model .* not found")
DELAY = re.compile(r"(\d+(?:\.\d+)?)s")
OWN_STATUSES: dict[int, Cause] = {499: "timed_out", 503: "overloaded"}
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
    words = f"{told.message} {told.reasons} {told.status}".lower()
    overflow = context_overflow(words) if status in {400, 413, 500} else None
    if overflow is not None:
        return overflow_failure(overflow, status)
    return failure(_cause(status, told, words), target=target, status=status, said=told.message, wait=wait)


def _cause(status: int, told: Status, words: str) -> Cause:
    if status == 400 and BAD_KEY.search(words):
        return "bad_key"
    if status == 400 and NO_MODEL.search(words):
        return "no_model"
    if status == 402 or (status in {400, 429} and NO_SERVICE.search(words) and "per_minute" not in words):
        return "no_service"
    if status == 400 and "payload size exceeds" in words:
        return "too_large"
    if status == 429 and told.is_of_the_day:
        return "used_up"
    return OWN_STATUSES.get(status) or cause_of(status)


def _plain(body: bytes) -> str:
    """What a body without a status says; a page of HTML says nothing."""
    text = body[: 4 * MAX_TEXT].decode("utf-8", "replace").strip()
    return "" if text[:1] in {"<", "{", "[", ""} else text
