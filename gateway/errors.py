"""Every error a client of `/v1` can meet, in the envelope of the Anthropic API (interfaces.md, Errors).

`as_gateway_error` is the one place that knows what an error of a lower app means to a client.
"""

import math
from typing import Any

import msgspec
from django.conf import settings

from accounts.errors import AccountsUnavailable, InvalidKey
from credits.errors import (
    BudgetExceeded,
    HoldClosed,
    HoldConflict,
    InsufficientCredits,
    KeyNoLongerValid,
    LedgerBusy,
    LedgerUnavailable,
    OutstandingDebt,
    WalletFrozen,
)
from providers.errors import InvalidRequest, RequestTooLarge, UpstreamError
from providers.types import UpstreamFailure

RETRY_SOON = 5
"""Seconds a client waits before it repeats a request that our own infrastructure failed."""

LONGEST_WAIT = 60
"""Seconds. With a longer `retry-after` Claude Code gives up at once and shows the message."""


class GatewayError(Exception):
    """An answer that is an error: HTTP status, error type, a text for the person at the keyboard."""

    def __init__(
        self,
        status: int,
        type_: str,
        message: str,
        *,
        retry_after: float | None = None,
        should_retry: bool | None = None,
        body: bytes | None = None,
        code: str = "",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.type = type_
        self.message = message
        self.retry_after = retry_after
        self.should_retry = should_retry
        self.body = body
        self.code = code or type_

    def headers(self) -> list[tuple[bytes, bytes]]:
        headers = []
        if self.retry_after is not None:
            headers.append((b"retry-after", str(max(1, math.ceil(self.retry_after))).encode()))
        if self.should_retry is not None:
            headers.append((b"x-should-retry", b"true" if self.should_retry else b"false"))
        return headers

    def envelope(self, request_id: str) -> bytes:
        """The response body; a provider's own error body where it must reach the client unmodified."""
        if self.body is not None:
            return self.body
        return msgspec.json.encode(self._content(request_id))

    def event_data(self, request_id: str) -> bytes:
        """The data of an SSE `error` event."""
        return msgspec.json.encode(self._content(request_id))

    def _content(self, request_id: str) -> dict[str, Any]:
        return {"type": "error", "error": {"type": self.type, "message": self.message}, "request_id": request_id}


def invalid_request(message: str) -> GatewayError:
    return GatewayError(400, "invalid_request_error", message)


def policy_blocked(message: str, code: str) -> GatewayError:
    """Our own refusal. The newest client repeats any other 400 six times, and hides a 404's text."""
    return GatewayError(400, "policy_blocked", message, should_retry=False, code=code)


def not_found(message: str) -> GatewayError:
    return GatewayError(404, "not_found_error", message, should_retry=False)


def unavailable(message: str) -> GatewayError:
    return GatewayError(503, "api_error", message, retry_after=RETRY_SOON)


def from_failure(failure: UpstreamFailure) -> GatewayError:
    retry_after = failure.retry_after
    should_retry = failure.should_retry
    if retry_after is not None and retry_after > LONGEST_WAIT:
        should_retry = False
    return GatewayError(
        failure.status,
        failure.type,
        failure.message,
        retry_after=retry_after,
        should_retry=should_retry,
        body=failure.body,
        code=f"upstream_{failure.upstream_status}" if failure.upstream_status else f"upstream_{failure.type}",
    )


WINDOW_NAMES = {"total": "total", "day": "daily", "week": "weekly", "month": "monthly"}


def dollars(nanos: int) -> str:
    """Nano-USD as a person reads it: rounded up to the hundredth of a cent, never to zero."""
    units = -(-nanos // 100_000)
    return f"${units // 10_000}.{units % 10_000:04d}"


def as_gateway_error(error: Exception) -> GatewayError:
    """What `error` means to the client; an unknown one is a plain 500 without details."""
    match error:
        case GatewayError():
            return error
        case RequestTooLarge():
            return GatewayError(413, "request_too_large", str(error), should_retry=False)
        case InvalidRequest():
            return invalid_request(str(error))
        case UpstreamError():
            return from_failure(error.failure)
        case InvalidKey():
            return GatewayError(401, "authentication_error", str(error), should_retry=False)
        case KeyNoLongerValid():
            text = "This API key was revoked or has expired. Make a new one on the CCM site."
            return GatewayError(401, "authentication_error", text, should_retry=False)
        case AccountsUnavailable() | LedgerUnavailable() | LedgerBusy():
            text = "CCM is briefly unable to serve requests; nothing was charged. Please try again."
            return GatewayError(503, "api_error", text, retry_after=RETRY_SOON, code=error.code)
        case InsufficientCredits() | BudgetExceeded() | OutstandingDebt() | WalletFrozen():
            return _billing_error(error)
        case HoldConflict() | HoldClosed():
            return GatewayError(409, "invalid_request_error", "This request id is in use already.", should_retry=False)
        case _:
            return GatewayError(500, "api_error", "CCM met an internal error; nothing was charged for this request.")


def _billing_error(error: InsufficientCredits | BudgetExceeded | OutstandingDebt | WalletFrozen) -> GatewayError:
    where = f"{settings.PUBLIC_URL}/"
    if isinstance(error, InsufficientCredits):
        text = (
            f"CCM: not enough credits. This request needs {dollars(error.needed)} and "
            f"{dollars(error.available)} is available. Top up at {where}"
        )
    elif isinstance(error, BudgetExceeded):
        text = _budget_text(error) + f" An owner can raise it at {where}"
    elif isinstance(error, OutstandingDebt):
        text = f"CCM: {dollars(error.debt)} is owed from earlier usage. Top up at {where} to go on."
    else:
        text = f"CCM: this organisation's credits are frozen. See {where} or contact support."
    return GatewayError(402, "billing_error", text, should_retry=False, code=error.code)


def _budget_text(error: BudgetExceeded) -> str:
    limit = f"{WINDOW_NAMES[error.window]} limit of {dollars(error.limit)}"
    resets = f" It resets at {error.resets_at:%Y-%m-%d %H:%M} UTC." if error.resets_at else ""
    return (
        f"CCM: this API key's {limit} is used up. This request needs {dollars(error.needed)} and "
        f"{dollars(error.available)} is left.{resets}"
    )
