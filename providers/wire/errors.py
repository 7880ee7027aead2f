"""Reading a provider's error answer: what it says, what it means, and when to try again.

Sources: translation.md 3.2 (meaning), 3.3 (shapes) and 3.4 (context overflow).
"""

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from providers.types import RetryClass, Target, UpstreamFailure

MAX_TEXT = 500

# Providers quote a part of the key they refuse.
KEY_LIKE = re.compile(
    r"\b(?:sk|rk|pk|gsk|xai|nvapi|csk|fw|tgp|hf|r8|pplx)[-_][-_*.A-Za-z0-9]{8,}"
    r"|\bAIza[-_*A-Za-z0-9]{8,}"
    r"|\b(?:ya29|AQ)\.[-_.A-Za-z0-9]{8,}"
    r"|(?i:bearer)\s+[-_.A-Za-z0-9]{8,}"
    r"|\b[0-9a-f]{32,}(?:\.[A-Za-z0-9]+)?\b"
)

_WITH_NUMBERS = (
    re.compile(r"prompt is too long:? (?P<tokens>\d+) tokens? > (?P<limit>\d+)"),
    re.compile(
        r"maximum context length is (?P<limit>\d+) tokens\. however, "
        r"(?:your messages resulted in|you requested(?: about)?) (?P<tokens>\d+)"
    ),
    re.compile(r"configured limit of (?P<limit>\d+) tokens\. your messages resulted in (?P<tokens>\d+)"),
    re.compile(
        r"input token count \(?(?P<tokens>\d+)\)? exceeds the maximum number of tokens allowed \(?(?P<limit>\d+)"
    ),
    re.compile(r"current length is (?P<tokens>\d+) while limit is (?P<limit>\d+)"),
    re.compile(r"prompt is too long: (?P<tokens>\d+), model maximum context length: (?P<limit>\d+)"),
    re.compile(r"prompt contains (?P<tokens>\d+) tokens.*maximum context length[^0-9]*(?P<limit>\d+)"),
    re.compile(r"prompt contains (?P<tokens>\d+) tokens.*model with (?P<limit>\d+) maximum context length"),
    re.compile(r"maximum prompt length is (?P<limit>\d+) but the request contains (?P<tokens>\d+) tokens"),
    re.compile(r"total number of tokens in the prompt cannot exceed (?P<limit>\d+) - received (?P<tokens>\d+)"),
    re.compile(r"prompt too long:? (?P<tokens>\d+) tokens? exceeds[^0-9]*(?P<limit>\d+)"),
    re.compile(r"input \((?P<tokens>\d+) tokens\) is longer than the model's context length \(?(?P<limit>\d+)"),
)
_WITHOUT_NUMBERS = re.compile(
    r"prompt (?:is )?too long|context_length_exceeded|token_limit_exceeded|exceeds the context window|"
    r"maximum context length|input is too long for (?:the )?requested model|too many input tokens|"
    r"exceeds the maximum number of tokens allowed|"
    r"expected maxlength|input tokens exceed|"
    r"please reduce the length of the messages or completion|"
    r"`inputs` tokens \+ `max_new_tokens` must be <=|too many tokens: total number of tokens|"
    r"input token length too long|exceeded model token limit|prompt exceeds max length|"
    r"context window exceeds limit|range of input length should be|longer than the maximum model length|"
    r"maximum input length is \d+ tokens|exceeds the available context size|exceed_context_size_error|"
    r"when context the overflows"
)
# `max_tokens` on top of a prompt that fits: the client lowers it and repeats by itself.
MAX_TOKENS_OVERFLOW = "input length and `max_tokens` exceed context limit"

NO_FUNDS = re.compile(
    r"insufficient_quota|insufficient[ _]balance|insufficient credits|exceeded your current quota|"
    r"credit balance|billing"
)
"""Said of the operator's account."""
LIMITS = ("requests", "tokens")
DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)(?:s|(?![\dm.])))?(?:(\d+)ms)?")
"""`1m30s`, `12ms`, or plain seconds."""
UNITS = (3600, 60, 1, 0.001)


def broken_answer(target: Target, what: str, *, again: bool = False) -> UpstreamFailure:
    """An answer that is none of its wire: `what` completes "The provider X …". `again`: the same target
    may do better the next time."""
    retry = RetryClass.SAME_TARGET if again else RetryClass.NEXT_TARGET
    return UpstreamFailure(500, "api_error", f"The provider {target.provider} {what}.", retry=retry)


def scrub(text: str) -> str:
    """`text` with everything that looks like a credential replaced."""
    return KEY_LIKE.sub("[secret]", text)


def context_overflow(text: str, kind: str = "") -> str | None:
    """Anthropic's wording for a prompt beyond the model's window, if an error's `text` or its
    type says that; the client compacts its conversation when it reads that wording."""
    lowered = f"{text} {kind}".lower()
    if MAX_TOKENS_OVERFLOW in lowered:
        return text
    for pattern in _WITH_NUMBERS:
        if found := pattern.search(lowered):
            return f"prompt is too long: {found['tokens']} tokens > {found['limit']} maximum"
    if _WITHOUT_NUMBERS.search(lowered):
        return "prompt is too long: the conversation exceeds the model's context window"
    return None


def error_parts(body: bytes) -> tuple[str, str]:
    """(type, message) of a provider's error `body`, whatever its shape; both "" when it is
    no JSON that holds a message."""
    try:
        data = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return "", ""
    if isinstance(data, list) and data:
        data = data[0]
    if not isinstance(data, dict):
        return "", ""
    error = data.get("error")
    inner: dict[str, Any] = error if isinstance(error, dict) else data
    kind = inner.get("type") or inner.get("code") or ""
    return str(kind), _message(error, data)[:MAX_TEXT]


def _message(error: Any, data: dict[str, Any]) -> str:
    if isinstance(error, dict) and isinstance(error.get("message"), str):
        return str(error["message"])
    if isinstance(error, str):
        return error
    for name in ("message", "Message", "detail", "errors"):
        value = data.get(name)
        if isinstance(value, list) and value:
            value = value[0]
        if isinstance(value, dict):
            value = value.get("msg") or value.get("message") or value.get("detail")
        if isinstance(value, str) and value:
            return value
    return ""


def retry_after(headers: Mapping[str, str], error: Mapping[str, Any] | None = None) -> float | None:
    """Seconds to wait that an answer asks for: in its `headers` (lower-case names), or else in its `error`
    object, or by when a limit that is used up is lifted.

    A date is taken relative to the answer's own Date header, not to this machine's clock."""
    milliseconds = headers.get("retry-after-ms", "")
    if milliseconds.replace(".", "", 1).isdecimal():
        return float(milliseconds) / 1000
    value = headers.get("retry-after", "").strip()
    if value.replace(".", "", 1).isdecimal():
        return float(value)
    told = _seconds_until(headers, value)
    if told is None and error is not None:
        told = _told_reset(headers, error)
    return _used_up(headers) if told is None else told


def _seconds_until(headers: Mapping[str, str], date: str) -> float | None:
    try:
        return max(0.0, (parsedate_to_datetime(date) - parsedate_to_datetime(headers["date"])).total_seconds())
    except (ValueError, KeyError, TypeError):
        return None


def _told_reset(headers: Mapping[str, str], error: Mapping[str, Any]) -> float | None:
    """`resets_in_seconds`, or `resets_at` (Unix seconds), as OpenAI tells of a limit of usage."""
    seconds, moment = error.get("resets_in_seconds"), error.get("resets_at")
    if isinstance(seconds, int | float):
        return max(0.0, float(seconds))
    try:
        now = parsedate_to_datetime(headers["date"]).timestamp()
    except (ValueError, KeyError, TypeError):
        return None
    return max(0.0, moment - now) if isinstance(moment, int | float) else None


def _used_up(headers: Mapping[str, str]) -> float | None:
    """The longest wait for a limit of which nothing remains."""
    waits = []
    for name in LIMITS:
        if headers.get(f"x-ratelimit-remaining-{name}") == "0":
            told = DURATION.fullmatch(headers.get(f"x-ratelimit-reset-{name}", ""))
            if told is not None and any(told.groups()):
                waits.append(sum(float(part or 0) * unit for part, unit in zip(told.groups(), UNITS, strict=True)))
    return max(waits, default=None)
