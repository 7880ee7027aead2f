"""A whole answer of the Responses API as an Anthropic Message, by the rules of streamed ones."""

from typing import Any

import msgspec

from providers.errors import UpstreamError
from providers.types import Model, Target
from providers.wire.base import DecodedResponse
from providers.wire.decoder import decoded_message
from providers.wire.emitters import MessageEmitter
from providers.wire.errors import broken_answer, error_parts
from providers.wire.openai_responses.answer import Answer
from providers.wire.openai_responses.errors import failure_in_answer
from providers.wire.request import MessagesRequest


def decoded_response(body: bytes, *, request: MessagesRequest, target: Target, model: Model) -> DecodedResponse:
    """Raises UpstreamError when `body` is no answer: an error, HTML, or JSON of another shape."""
    response = _response(body, target)
    emitter = MessageEmitter(signature="")
    answer = Answer(emitter, request=request, target=target, model=model)
    failure = answer.end(response, "completed")
    if failure is not None:
        raise UpstreamError(failure)
    stop_reason, stop_sequence = answer.stop_reason()
    return decoded_message(
        emitter, answer, request=request, model=model, stop_reason=stop_reason, stop_sequence=stop_sequence
    )


def _response(body: bytes, target: Target) -> dict[str, Any]:
    try:
        told = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        what = "a web page" if body.lstrip()[:1] == b"<" else "something that is not JSON"
        text = f"answered with {what} instead of a response: check its base URL"
        raise UpstreamError(broken_answer(target, text)) from None
    if isinstance(told, dict) and isinstance(told.get("output"), list | None) and "output" in told:
        return told
    if isinstance(told, dict) and told.get("status") == "failed":
        return told
    if error_parts(body)[1]:
        error = told.get("error") if isinstance(told, dict) else None
        raise UpstreamError(failure_in_answer(error or told, target=target))
    raise UpstreamError(broken_answer(target, "answered with JSON that is not a response"))


class _Count(msgspec.Struct):
    input_tokens: int


def decoded_count(body: bytes, *, target: Target) -> int:
    """Raises UpstreamError."""
    try:
        return msgspec.json.decode(body, type=_Count).input_tokens
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise UpstreamError(broken_answer(target, "told no token count")) from None
