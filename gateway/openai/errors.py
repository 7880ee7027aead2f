"""Our errors in OpenAI's envelope, with the codes that its clients act on."""

import re
from dataclasses import dataclass
from typing import Any

from gateway.errors import GatewayError

OVERFLOW = "prompt is too long"
PARAM = re.compile(r"([a-z_]+(?:\[\d+\]|\.[a-z_]+)*): ")
NO_SUCH_MODEL = frozenset({"unknown_model", "no_target", "no_price"})

# Anthropic's type: OpenAI's type and code.
KINDS: dict[str, tuple[str, str | None]] = {
    "invalid_request_error": ("invalid_request_error", None),
    "authentication_error": ("invalid_request_error", "invalid_api_key"),
    "permission_error": ("invalid_request_error", "permission_denied"),
    "not_found_error": ("invalid_request_error", "not_found"),
    "request_too_large": ("invalid_request_error", "request_too_large"),
    "billing_error": ("insufficient_quota", "insufficient_quota"),
    "rate_limit_error": ("rate_limit_error", "rate_limit_exceeded"),
    "timeout_error": ("server_error", "timeout"),
    "overloaded_error": ("server_error", "server_is_overloaded"),
    "policy_blocked": ("invalid_request_error", "policy_blocked"),
}
SERVER_ERROR = ("server_error", "server_error")


@dataclass(frozen=True, slots=True)
class OpenAIError:
    status: int
    message: str
    type: str
    code: str | None
    param: str | None

    @property
    def content(self) -> dict[str, Any]:
        return {"message": self.message, "type": self.type, "param": self.param, "code": self.code}


def bad(param: str, text: str) -> GatewayError:
    """A field that is wrong, or that asks for what CCM cannot do."""
    return GatewayError(400, "invalid_request_error", f"{param}: {text}", should_retry=False)


def openai_error(status: int, type_: str, message: str, code: str = "") -> OpenAIError:
    """What an error of ours is to a client of OpenAI. 529 is no status of theirs: 503 says it."""
    kind, named = KINDS.get(type_, SERVER_ERROR)
    if code in NO_SUCH_MODEL:
        status, named = 404, "model_not_found"
    elif kind == "invalid_request_error" and OVERFLOW in message:
        named = "context_length_exceeded"
    found = PARAM.match(message) if kind == "invalid_request_error" else None
    return OpenAIError(503 if status == 529 else status, message, kind, named, found[1] if found else None)
