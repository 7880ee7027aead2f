"""What the errors of Chat Completions servers mean for a request (translation.md 3.2 to 3.4).

Messages name the provider, hold nothing that looks like a key, and are short.
"""

import re
from collections.abc import Mapping

import msgspec

from providers.types import RetryClass, Target, UpstreamFailure
from providers.wire.errors import MAX_TEXT, context_overflow, error_parts, retry_after, scrub

NO_CREDIT = re.compile(
    r"insufficient_quota|insufficient[ _]balance|insufficient credits|exceeded your current quota|billing"
)
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
    return (
        _requests_fault(status, kind, said, words, target)
        or _operators_fault(status, said, words, target)
        or _providers_fault(status, said, words, _wait(headers, body), target)
    )


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


def _requests_fault(status: int, kind: str, said: str, words: str, target: Target) -> UpstreamFailure | None:
    """The request itself is refused: no other target of the model would take it."""
    overflow = None
    if status in {400, 413, 422, 500} and not PER_MINUTE.search(words):
        overflow = context_overflow(said, f"{kind} {words}")
    if overflow is not None:
        return _refused(400, "invalid_request_error", overflow[:MAX_TEXT], status)
    if status in {400, 403, 422} and FILTERED.search(words):
        message = f"The provider {target.provider} refused the request by its content policy{_quoted(said)}"
        return _refused(400, "policy_blocked", message, status)
    if status == 413 and not PER_MINUTE.search(words):
        message = f"The request is too large for the provider {target.provider}{_quoted(said)}"
        return _refused(413, "request_too_large", message, status)
    others = (NO_CREDIT, NO_MODEL, BAD_KEY)
    if status in {400, 422} and BROKEN_CALL not in words and not any(other.search(words) for other in others):
        message = f"The provider {target.provider} refused the request (HTTP {status}){_quoted(said)}"
        return _refused(400, "invalid_request_error", message, status)
    return None


def _refused(shown: int, kind: str, message: str, status: int) -> UpstreamFailure:
    return UpstreamFailure(shown, kind, message, retry=RetryClass.NEVER, upstream_status=status)


def _operators_fault(status: int, said: str, words: str, target: Target) -> UpstreamFailure | None:
    """Only the operator can put these right: the customer's client must not repeat them."""
    name = target.provider
    if status == 402 or (status in {400, 403, 429} and NO_CREDIT.search(words)):
        message = f"The provider {name} refused CCM's account for lack of funds. Your own credits are not affected."
    elif status in {401, 403} or (status == 400 and BAD_KEY.search(words)):
        message = f"The provider {name} refused CCM's credentials (HTTP {status}). The operator must renew them."
    elif status == 404 or (status in {400, 422} and NO_MODEL.search(words)):
        message = f"The provider {name} knows no model {target.actual_model}, or its base URL is wrong (HTTP {status})."
    elif 300 <= status < 400:
        message = f"The provider {name} answered with a redirect (HTTP {status}): its base URL is wrong."
    elif status in {405, 406, 410, 415, 426, 451}:
        message = f"The provider {name} refused the request with HTTP {status}{_quoted(said)}"
    else:
        return None
    return UpstreamFailure(
        500, "api_error", message, retry=RetryClass.NEXT_TARGET, upstream_status=status, should_retry=False
    )


def _providers_fault(status: int, said: str, words: str, wait: float | None, target: Target) -> UpstreamFailure:
    name = target.provider
    retry = RetryClass.NEXT_TARGET
    if status == 429 or (status == 413 and PER_MINUTE.search(words)):
        shown, kind, message = 429, "rate_limit_error", f"The provider {name} is limiting CCM's requests"
    elif status in {498, 529} or (status == 503 and (not said or OVERLOADED.search(words))) or "overloaded" in words:
        shown, kind, message = 529, "overloaded_error", f"The provider {name} is overloaded"
    elif status in {408, 504, 524}:
        shown, kind, message = 504, "timeout_error", f"The provider {name} timed out (HTTP {status})"
    elif status == 409 or BROKEN_CALL in words:
        shown, kind, message = 500, "api_error", f"The provider {name} failed (HTTP {status})"
        retry = RetryClass.SAME_TARGET
    else:
        shown, kind, message = 500, "api_error", f"The provider {name} failed (HTTP {status})"
    return UpstreamFailure(shown, kind, message + _quoted(said), retry=retry, retry_after=wait, upstream_status=status)


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


def _quoted(said: str) -> str:
    """`: <text>`, or a full stop where the provider said nothing readable (HTML, for one)."""
    return f": {said}" if said else "."
