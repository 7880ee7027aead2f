"""What Bedrock's errors mean for a request: an exception's name in a header (or in a frame of the
stream) and a message (translation.md 3.2 and 3.3).

Amazon's texts name the operator's account and roles, so customers are told them only where they are
about the request.
"""

import re
from collections.abc import Mapping
from dataclasses import replace

import msgspec

from providers.types import RetryClass, Target, UpstreamFailure
from providers.wire.errors import broken_answer, error_parts, retry_after
from providers.wire.failures import failure
from providers.wire.openai_chat import errors as usual

STATUSES = {
    "accessdenied": 403,
    "expiredtoken": 403,
    "incompletesignature": 403,
    "internalserver": 500,
    "invalidsignature": 403,
    "missingauthenticationtoken": 403,
    "modelerror": 424,
    "modelnotready": 529,
    "modelstreamerror": 424,
    "modeltimeout": 408,
    "resourcenotfound": 404,
    "servicequotaexceeded": 429,
    "serviceunavailable": 529,
    "throttling": 429,
    "toomanyrequests": 429,
    "unrecognizedclient": 403,
    "validation": 400,
}
"""By the exception's name, lower-case and without its ending. Its own status may mislead: a model
that is still being loaded answers 429, a quota that is used up 400."""
ONCE_MORE = frozenset({"modelerror", "modelnotready", "modelstreamerror"})
OPERATORS = re.compile(
    r"model identifier is invalid|on-demand throughput|inference profile|(?:not|isn.t) supported in (?:this|the|your) "
    r"region|end of its life|marked by provider as legacy|security token|use case details|"
    r"(?:model|streaming)[^.]{0,40} (?:is not|isn.t|not) (?:supported|available)"
)
ENDING = re.compile(r"(?:exception|error|fault)$")


def failure_of_answer(status: int, headers: Mapping[str, str], body: bytes, *, target: Target) -> UpstreamFailure:
    """What a non-2xx answer means."""
    kind, said = error_parts(body)
    name = headers.get("x-amzn-errortype") or _type_in(body) or kind
    return _failure(name, said, target, told=status, headers=headers)


def failure_in_stream(name: str, said: str, *, target: Target) -> UpstreamFailure:
    """What an exception inside a stream (or inside a 200 answer) means."""
    return _failure(name, said, target, told=None, headers={})


def malformed(target: Target, what: str) -> UpstreamFailure:
    """The model wrote something that Bedrock cannot read: the next time it may do better."""
    failure = broken_answer(target, f"could not read its model's answer ({what})")
    return replace(failure, retry=RetryClass.SAME_TARGET)


def _failure(name: str, said: str, target: Target, *, told: int | None, headers: Mapping[str, str]) -> UpstreamFailure:
    short = _short(name)
    status = STATUSES.get(short, told or 500)
    told = told or status
    if status in {401, 403} or (status == 400 and OPERATORS.search(said.lower())):
        # Amazon's text names accounts and roles: the exception's name is told instead.
        return failure("no_access", target=target, status=told, said=short or f"HTTP {told}")
    if status == 429:
        used_up = "per day" in said.lower() or short == "servicequotaexceeded"
        found = failure("used_up" if used_up else "limited", target=target, status=told, wait=retry_after(headers))
    else:
        found = usual.failure_of_answer(status, headers, msgspec.json.encode({"message": said}), target=target)
    if short in ONCE_MORE and found.retry is RetryClass.NEXT_TARGET:
        found = replace(found, retry=RetryClass.SAME_TARGET)
    return replace(found, upstream_status=told)


def _short(name: str) -> str:
    """`ThrottlingException:http://…` and `com.amazon.coral#ThrottlingException` as `throttling`."""
    return ENDING.sub("", name.partition(":")[0].rpartition("#")[2].lower())


def _type_in(body: bytes) -> str:
    try:
        told = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return ""
    return str(told.get("__type") or "") if isinstance(told, dict) else ""
