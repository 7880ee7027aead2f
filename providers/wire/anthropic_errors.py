"""What the errors of Anthropic, and of servers that speak its format, mean for a request."""

import re
from collections.abc import Mapping

import msgspec

from providers.types import RetryClass, Target, UpstreamFailure
from providers.wire.errors import context_overflow, error_parts, retry_after, scrub

OVERLOADED = "overloaded_error"
NO_CREDIT = ("credit balance", "insufficient balance", "insufficient_quota", "billing_error")

REFUSED_THINKING = re.compile(
    r"invalid .?signature.? in .?thinking|.?signature.?.{0,40}thinking.{0,40}(?:invalid|not valid)|"
    r"expected .?thinking.? or .?redacted_thinking"
)
"""Thinking that another server or another account has signed."""


class _Envelope(msgspec.Struct):
    type: str
    error: dict[str, msgspec.Raw]


def failure_of_answer(status: int, headers: Mapping[str, str], body: bytes, *, target: Target) -> UpstreamFailure:
    """What a non-2xx answer means (translation.md 3.2)."""
    kind, said = error_parts(body)
    failure = _operators_fault(status, kind, said, target) or _requests_fault(status, kind, said, body, target)
    return failure or _providers_fault(status, kind, said, headers, target)


def failure_in_stream(kind: str, said: str, *, target: Target) -> UpstreamFailure:
    """What an error inside a stream (or inside a 200 answer) means: `kind` is its type."""
    statuses = {
        OVERLOADED: 529,
        "rate_limit_error": 429,
        "invalid_request_error": 400,
        "request_too_large": 413,
        "authentication_error": 401,
        "permission_error": 403,
        "billing_error": 402,
        "not_found_error": 404,
        "timeout_error": 504,
    }
    body = msgspec.json.encode({"type": "error", "error": {"type": kind, "message": said}})
    return failure_of_answer(statuses.get(kind, 500), {}, body, target=target)


def broken_answer(target: Target, what: str, *, paid: bool = False) -> UpstreamFailure:
    """An answer that is none of this wire: `what` completes "The provider X …"."""
    retry = RetryClass.NEVER if paid else RetryClass.NEXT_TARGET
    return UpstreamFailure(500, "api_error", f"The provider {target.provider} {what}.", retry=retry, paid=paid)


def _operators_fault(status: int, kind: str, said: str, target: Target) -> UpstreamFailure | None:
    """Only the operator can put these right: the customer's client must not repeat them."""
    name = target.provider
    text = f"{kind} {said}".lower()
    if status == 402 or (status in {400, 403, 429} and any(words in text for words in NO_CREDIT)):
        message = f"The provider {name} refused CCM's account for lack of funds. Your own credits are not affected."
    elif status in {401, 403}:
        message = f"The provider {name} refused CCM's credentials (HTTP {status}). The operator must renew them."
    elif status == 404:
        message = f"The provider {name} knows no model {target.actual_model}, or its base URL is wrong (HTTP 404)."
    elif 300 <= status < 400:
        message = f"The provider {name} answered with a redirect (HTTP {status}): its base URL is wrong."
    elif status in {405, 406, 410, 415, 426, 451}:
        message = f"The provider {name} refused the request with HTTP {status}{_quoted(said)}"
    else:
        return None
    return UpstreamFailure(
        500, "api_error", message, retry=RetryClass.NEXT_TARGET, upstream_status=status, should_retry=False
    )


def _requests_fault(status: int, kind: str, said: str, body: bytes, target: Target) -> UpstreamFailure | None:
    """The request itself is refused: no other target of the model would take it."""
    overflow = context_overflow(said, kind) if status in {400, 413, 422, 500} else None
    if overflow is None and status not in {400, 413, 422}:
        return None
    too_large = status == 413 and overflow is None
    message = overflow or scrub(said) or f"The provider {target.provider} refused the request (HTTP {status})."
    verbatim = status != 500 and _is_anthropic_error(body) and (overflow is None or overflow in said)
    return UpstreamFailure(
        413 if too_large else 400,
        "request_too_large" if too_large else "invalid_request_error",
        message,
        retry=RetryClass.NEVER,
        upstream_status=status,
        body=scrub(body.decode("utf-8", "replace")).encode() if verbatim else None,
        drop_reasoning=status == 400 and REFUSED_THINKING.search(said.lower()) is not None,
    )


def _providers_fault(status: int, kind: str, said: str, headers: Mapping[str, str], target: Target) -> UpstreamFailure:
    name = target.provider
    if status == 429:
        # Its text is about the operator's organisation and its limits: not for customers.
        said = ""
        shown, shown_kind, message = 429, "rate_limit_error", f"The provider {name} is limiting CCM's requests"
    elif kind == OVERLOADED or status in {498, 529} or (status == 503 and _says_full(said)):
        shown, shown_kind, message = 529, OVERLOADED, f"The provider {name} is overloaded"
    elif status in {408, 504, 524}:
        shown, shown_kind, message = 504, "timeout_error", f"The provider {name} timed out (HTTP {status})"
    elif status == 409:
        shown, shown_kind, message = 500, "api_error", f"The provider {name} reported a conflict (HTTP 409)"
    else:
        shown, shown_kind, message = 500, "api_error", f"The provider {name} failed (HTTP {status})"
    return UpstreamFailure(
        shown,
        shown_kind,
        message + _quoted(said),
        retry=RetryClass.SAME_TARGET if status == 409 else RetryClass.NEXT_TARGET,
        retry_after=retry_after(headers),
        upstream_status=status,
    )


def _says_full(said: str) -> bool:
    lowered = said.lower()
    return not lowered or "overload" in lowered or "capacity" in lowered or "unavailable" in lowered


def _quoted(said: str) -> str:
    """`: <text>`, or a full stop where the provider said nothing readable (HTML, for one)."""
    return f": {scrub(said)}" if said else "."


def _is_anthropic_error(body: bytes) -> bool:
    try:
        envelope = msgspec.json.decode(body, type=_Envelope)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return False
    return envelope.type == "error" and "message" in envelope.error
