"""What the errors of Anthropic, and of servers that speak its format, mean for a request."""

import re
from collections.abc import Mapping
from dataclasses import replace

import msgspec

from providers.types import Target, UpstreamFailure
from providers.wire.errors import NO_FUNDS, context_overflow, error_parts, retry_after, scrub
from providers.wire.failures import cause_of, failure, overflow_failure

OVERLOADED = "overloaded_error"

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
    words = f"{kind} {said}".lower()
    if status in {400, 403, 429} and NO_FUNDS.search(words):
        return failure("no_funds", target=target, status=status)
    overflow = context_overflow(said, kind) if status in {400, 413, 422, 500} else None
    if overflow is not None or status in {400, 413, 422}:
        return _refusal(status, said, overflow, body, target)
    cause = cause_of(status)
    if status >= 500 and (kind == OVERLOADED or (status == 503 and _says_full(said))):
        cause = "overloaded"
    return failure(cause, target=target, status=status, said=said, wait=retry_after(headers))


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


def _refusal(status: int, said: str, overflow: str | None, body: bytes, target: Target) -> UpstreamFailure:
    """Anthropic's own words reach the client unmodified: it knows them."""
    refused = failure(cause_of(status), target=target, status=status)
    if overflow is not None:
        refused = overflow_failure(overflow, status)
    elif said:
        refused = replace(refused, message=scrub(said))
    verbatim = status != 500 and _is_anthropic_error(body) and (overflow is None or overflow in said)
    return replace(
        refused,
        body=scrub(body.decode("utf-8", "replace")).encode() if verbatim else None,
        drop_reasoning=status == 400 and REFUSED_THINKING.search(said.lower()) is not None,
    )


def _says_full(said: str) -> bool:
    lowered = said.lower()
    return not lowered or "overload" in lowered or "capacity" in lowered or "unavailable" in lowered


def _is_anthropic_error(body: bytes) -> bool:
    try:
        envelope = msgspec.json.decode(body, type=_Envelope)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return False
    return envelope.type == "error" and "message" in envelope.error
