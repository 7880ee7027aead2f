"""What the errors of Chat Completions servers mean for a request (translation.md 3.2 to 3.4)."""

import re
from collections.abc import Mapping

import msgspec

from providers.types import Target, UpstreamFailure
from providers.wire.errors import MAX_TEXT, NO_FUNDS, context_overflow, error_parts, retry_after, scrub
from providers.wire.failures import Cause, cause_of, failure, overflow_failure

NO_MODEL = re.compile(r"model_not_found|model_not_exist|no endpoints found|model\b.{0,120}(?:does not exist|not found)")
BAD_KEY = re.compile(r"invalid_api_key|incorrect api key|invalid api key")
FILTERED = re.compile(r"content_filter|content_policy_violation|responsibleaipolicyviolation|data_inspection_failed")
PER_MINUTE = re.compile(r"tokens per minute|rate_limit_exceeded|\btpm\b")
OVERLOADED = re.compile(r"overloaded|capacity exceeded|at capacity|over capacity|unavailable|loading model")
BROKEN_CALL = "tool_use_failed"
WAIT = re.compile(r'(?:try again in |"retrydelay"\s*:\s*")(?:(\d+)m)?(\d+(?:\.\d+)?)(ms|s)', re.IGNORECASE)


def failure_of_answer(status: int, headers: Mapping[str, str], body: bytes, *, target: Target) -> UpstreamFailure:
    """What a non-2xx answer means."""
    kind, said = _read(body)
    words = f"{kind} {said} {_codes(body)}".lower()
    overflow = None
    if status in {400, 413, 422, 500} and not PER_MINUTE.search(words):
        overflow = context_overflow(said, f"{kind} {words}")
    if overflow is not None:
        return overflow_failure(overflow, status)
    return failure(_cause(status, said, words), target=target, status=status, said=said, wait=_wait(headers, body))


def failure_in_stream(body: bytes, *, target: Target) -> UpstreamFailure:
    """What an error object inside a 200 answer means. Its code may be an HTTP status."""
    _, said = _read(body)
    status = _status_in(body)
    if status is None:
        words = f"{said} {_codes(body)}".lower()
        if "rate_limit" in words or "rate limit" in words:
            status = 429
        elif "invalid_request" in words or context_overflow(said, words) or FILTERED.search(words):
            status = 400
        else:
            status = 500
    return failure_of_answer(status, {}, body, target=target)


def _cause(status: int, said: str, words: str) -> Cause:
    if status in {400, 403, 422} and FILTERED.search(words):
        return "filtered"
    if status in {400, 403, 429} and NO_FUNDS.search(words):
        return "no_funds"
    if status == 400 and BAD_KEY.search(words):
        return "bad_key"
    if status in {400, 422} and NO_MODEL.search(words):
        return "no_model"
    if status == 413 and PER_MINUTE.search(words):
        return "limited"
    if BROKEN_CALL in words and status not in {401, 402, 403, 404, 413, 429}:
        return "broken_call"
    if status >= 498 and ("overloaded" in words or (status == 503 and (not said or OVERLOADED.search(words)))):
        return "overloaded"
    return cause_of(status)


def _read(body: bytes) -> tuple[str, str]:
    """(type, message); plain text is its own message, a page of HTML has none."""
    kind, said = error_parts(body)
    if said or kind:
        return kind, scrub(said)
    text = body[: 4 * MAX_TEXT].decode("utf-8", "replace").strip()
    return "", "" if text[:1] in {"<", "{", "[", ""} else scrub(text)[:MAX_TEXT]


def _codes(body: bytes) -> str:
    """The codes that stand beside an error's message, and what a router quotes of the provider behind it."""
    error = _error_object(body)
    metadata = error.get("metadata")
    quoted = metadata if isinstance(metadata, dict) else {}
    inner = error.get("innererror")
    parts = [error.get("code"), error.get("type"), quoted.get("error_type"), quoted.get("raw")]
    parts.append(inner.get("code") if isinstance(inner, dict) else None)
    return " ".join(part[:MAX_TEXT] for part in parts if isinstance(part, str))


def _status_in(body: bytes) -> int | None:
    error = _error_object(body)
    for name in ("status_code", "code", "status"):
        value = error.get(name)
        if isinstance(value, str) and value.isdecimal():
            value = int(value)
        if isinstance(value, int) and 400 <= value < 600:
            return value
    return None


def _error_object(body: bytes) -> dict[str, object]:
    try:
        told = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return {}
    if isinstance(told, list) and told:
        told = told[0]
    if not isinstance(told, dict):
        return {}
    error = told.get("error")
    return error if isinstance(error, dict) else told


def _wait(headers: Mapping[str, str], body: bytes) -> float | None:
    """Seconds to wait, from the headers or else from the words."""
    told = retry_after(headers, _error_object(body))
    if told is not None:
        return told
    found = WAIT.search(body[: 16 * MAX_TEXT].decode("utf-8", "replace"))
    if found is None:
        return None
    seconds = float(found[2]) / (1000 if found[3] == "ms" else 1)
    return int(found[1] or 0) * 60 + seconds
