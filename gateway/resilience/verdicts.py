"""What a failed attempt says about the target, and about the credential it was made with. Pure."""

from enum import StrEnum

from providers.types import UpstreamFailure

CREDENTIAL_STATUSES = frozenset({401, 402, 403})
ACCOUNT_STATUSES = frozenset({400, 429})
"""With these some providers say that the account is out of funds, or that a key is none."""
PROVIDERS_OWN = frozenset({408, 498, 499})
"""Statuses below 500 with which a provider tells of its own trouble: time-outs, no capacity."""
WHOLE_CREDENTIAL = frozenset({401, 402})


class Verdict(StrEnum):
    ANSWERED = "answered"
    """It works; the request was at fault, or the target's configuration."""
    LIMITED = "limited"
    """It limits the credential's requests."""
    REFUSED = "refused"
    """It refuses the credential, or the account behind it."""
    DOWN = "down"


def verdict(failure: UpstreamFailure) -> Verdict:
    """Nothing that a client can bring about by what it sends is held against the target."""
    status = failure.upstream_status
    if failure.type == "rate_limit_error":
        return Verdict.LIMITED
    operators_fault = failure.status == 500 and failure.should_retry is False
    if operators_fault and status is not None and status in CREDENTIAL_STATUSES | ACCOUNT_STATUSES:
        return Verdict.REFUSED
    if failure.type == "overloaded_error" or status is None or status in PROVIDERS_OWN:
        return Verdict.ANSWERED if failure.status in {400, 413} else Verdict.DOWN
    if status < 500 or failure.status in {400, 413} or failure.drop_reasoning:
        return Verdict.ANSWERED
    return Verdict.DOWN


def concerns_whole_credential(failure: UpstreamFailure) -> bool:
    """Else only its use for this target: limits and access are often a model's."""
    return failure.upstream_status in WHOLE_CREDENTIAL
