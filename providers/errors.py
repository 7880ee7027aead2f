"""Errors of the providers app.

ProvidersError
├── InvalidRequest      the client's request is malformed; says which field and what to do
│   └── RequestTooLarge it is well formed, and more than we take
├── UpstreamError       a provider did not serve the request; carries an UpstreamFailure
├── ConfigError         what an operator entered cannot work; says which entry and why
├── ProfileConflict     a router profile was changed by somebody else meanwhile
└── UnknownVersion      a router profile has no such version
"""

from providers.types import UpstreamFailure


class ProvidersError(Exception):
    status = 500
    code = "providers_error"
    retryable = False


class InvalidRequest(ProvidersError):
    status = 400
    code = "invalid_request_error"


class RequestTooLarge(InvalidRequest):
    status = 413
    code = "request_too_large"


class UpstreamError(ProvidersError):
    code = "upstream_error"

    def __init__(self, failure: UpstreamFailure) -> None:
        super().__init__(failure.message)
        self.failure = failure
        self.status = failure.status


class ConfigError(ProvidersError):
    status = 400
    code = "config_error"


class ProfileConflict(ProvidersError):
    """`newest` is the number of the version that is in force."""

    status = 409
    code = "profile_conflict"

    def __init__(self, newest: int) -> None:
        super().__init__(f"The profile was changed meanwhile: it is at version {newest} now. Read it anew first.")
        self.newest = newest


class UnknownVersion(ProvidersError):
    status = 404
    code = "unknown_version"

    def __init__(self, number: int) -> None:
        super().__init__(f"The profile has no version {number}.")
