"""Errors of the providers app.

ProvidersError
├── InvalidRequest      the client's request is malformed; says which field and what to do
│   └── RequestTooLarge it is well formed, and more than we take
├── UpstreamError       a provider did not serve the request; carries an UpstreamFailure
└── ConfigError         what an operator entered cannot work; says which entry and why
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
