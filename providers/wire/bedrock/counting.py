"""CountTokens: what a request would be charged as input (botocore's model of bedrock-runtime, 2023-09-30)."""

import re
from typing import Any

import msgspec

from providers.errors import InvalidRequest, UpstreamError
from providers.types import Target
from providers.wire.base import OutboundRequest
from providers.wire.bedrock.families import model_id
from providers.wire.bedrock.urls import outbound
from providers.wire.errors import broken_answer

COUNTING_TOKENS = 64_000
"""The limit of output in a request that is only counted, which must have one."""
REGION = re.compile(r"^(?:us|us-gov|eu|apac|ap|jp|au|ca|sa|global)\.")


class _Count(msgspec.Struct):
    inputTokens: int  # noqa: N815  Amazon's word


def counting(target: Target, told: dict[str, Any]) -> OutboundRequest:
    """The request for a count. Raises InvalidRequest for a model without a name of its own: the operation
    takes foundation models, and no inference profiles."""
    name = model_id(target.actual_model)
    if name.startswith("arn:"):
        raise InvalidRequest("model: Amazon Bedrock counts no tokens for an inference profile's ARN.")
    return outbound(target, REGION.sub("", name), "count-tokens", msgspec.json.encode({"input": told}), streamed=False)


def decoded_count(body: bytes, target: Target) -> int:
    """Raises UpstreamError."""
    try:
        return msgspec.json.decode(body, type=_Count).inputTokens
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise UpstreamError(broken_answer(target, "told no token count")) from None
