"""What errors mean for a request: one table for all wires (translation.md 3.2).

A wire reads the provider's error and names its cause; what the client gets, and whether another attempt may
help, is the same whoever said it. Messages name the provider, hold nothing that looks like a key, and are short.
"""

from dataclasses import dataclass
from typing import Literal

from providers.types import RetryClass, Target, UpstreamFailure
from providers.wire.errors import MAX_TEXT, scrub

Cause = Literal[
    "no_funds", "bad_key", "no_access", "no_model", "redirect", "odd_status", "no_service",
    "filtered", "too_large", "refused",
    "limited", "used_up", "overloaded", "timed_out", "conflict", "broken_call", "failed",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Meaning:
    """`status` and `type` are what the client gets. `text` completes "The provider X …"; where it `quotes`,
    the provider's own words follow."""

    status: int
    type: str
    text: str
    retry: RetryClass = RetryClass.NEXT_TARGET
    should_retry: bool | None = None
    quotes: bool = False


def _operators(text: str, *, quotes: bool = False) -> Meaning:
    """Only the operator can put it right: the customer's client must not repeat it."""
    return Meaning(500, "api_error", text, should_retry=False, quotes=quotes)


def _requests(status: int, kind: str, text: str) -> Meaning:
    """The request itself is refused: no other target of the model would take it."""
    return Meaning(status, kind, text, retry=RetryClass.NEVER, quotes=True)


MEANINGS: dict[Cause, Meaning] = {
    "no_funds": _operators("refused CCM's account for lack of funds. Your own credits are not affected"),
    "bad_key": _operators("refused CCM's credentials (HTTP {status}). The operator must renew them"),
    "no_access": _operators(
        "refused CCM's credentials, or has no access to the model {model} ({said}). The operator must look into it"
    ),
    "no_model": _operators("knows no model {model}, or its base URL is wrong (HTTP {status})"),
    "redirect": _operators("answered with a redirect (HTTP {status}): its base URL is wrong"),
    "odd_status": _operators("refused the request with HTTP {status}", quotes=True),
    "no_service": _operators("does not serve CCM's account (HTTP {status})", quotes=True),
    "filtered": _requests(400, "policy_blocked", "refused the request by its content policy"),
    "too_large": _requests(413, "request_too_large", "refused the request as too large"),
    "refused": _requests(400, "invalid_request_error", "refused the request (HTTP {status})"),
    # What is said of limits is about the operator's organisation and plan: not for customers.
    "limited": Meaning(429, "rate_limit_error", "is limiting CCM's requests"),
    "used_up": Meaning(429, "rate_limit_error", "serves no more of CCM's requests today", should_retry=False),
    "overloaded": Meaning(529, "overloaded_error", "is overloaded", quotes=True),
    "timed_out": Meaning(504, "timeout_error", "timed out (HTTP {status})", quotes=True),
    "conflict": Meaning(500, "api_error", "reported a conflict (HTTP 409)", retry=RetryClass.SAME_TARGET, quotes=True),
    "broken_call": Meaning(500, "api_error", "failed (HTTP {status})", retry=RetryClass.SAME_TARGET, quotes=True),
    "failed": Meaning(500, "api_error", "failed (HTTP {status})", quotes=True),
}
BY_STATUS: dict[int, Cause] = {
    400: "refused",
    401: "bad_key",
    402: "no_funds",
    403: "bad_key",
    404: "no_model",
    408: "timed_out",
    409: "conflict",
    413: "too_large",
    422: "refused",
    429: "limited",
    498: "overloaded",
    504: "timed_out",
    524: "timed_out",
    529: "overloaded",
    **dict.fromkeys((405, 406, 410, 415, 426, 451), "odd_status"),
}
"""What a status means where a provider's words say nothing else."""


def cause_of(status: int) -> Cause:
    return "redirect" if 300 <= status < 400 else BY_STATUS.get(status, "failed")


def failure(cause: Cause, *, target: Target, status: int, said: str = "", wait: float | None = None) -> UpstreamFailure:
    """What `cause` means. `said` are the provider's words, `wait` the seconds that it asks to wait."""
    meaning = MEANINGS[cause]
    words = scrub(said)[:MAX_TEXT]
    text = meaning.text.format(status=status, model=target.actual_model, said=words)
    ending = f": {words}" if meaning.quotes and words else "."
    return UpstreamFailure(
        meaning.status,
        meaning.type,
        f"The provider {target.provider} {text}{ending}",
        retry=meaning.retry,
        retry_after=None if cause == "used_up" else wait,
        upstream_status=status,
        should_retry=meaning.should_retry,
    )


def overflow_failure(message: str, status: int) -> UpstreamFailure:
    """A prompt beyond the model's window; `message` has Anthropic's wording."""
    return UpstreamFailure(
        400, "invalid_request_error", message[:MAX_TEXT], retry=RetryClass.NEVER, upstream_status=status
    )
