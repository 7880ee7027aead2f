"""A whole generateContent answer as an Anthropic Message, by the rules of streamed ones."""

import msgspec

from providers.errors import UpstreamError
from providers.types import Model, Target
from providers.wire.base import DecodedResponse
from providers.wire.decoder import decoded_message
from providers.wire.emitters import MessageEmitter
from providers.wire.errors import broken_answer
from providers.wire.gemini.answer import Answer, Ending
from providers.wire.gemini.chunks import decode_chunks
from providers.wire.gemini.errors import failure_in_stream, status_of
from providers.wire.openai_chat.reasoning import signature
from providers.wire.request import MessagesRequest


class _Count(msgspec.Struct, rename="camel"):
    total_tokens: int


def decoded_response(body: bytes, *, request: MessagesRequest, target: Target, model: Model) -> DecodedResponse:
    """Raises UpstreamError when `body` is no answer: an error, HTML, or JSON of another shape."""
    try:
        chunks = decode_chunks(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        what = "a web page" if body.lstrip()[:1] == b"<" else "something that is not an answer"
        raise UpstreamError(broken_answer(target, f"answered with {what}: check its base URL")) from None
    emitter = MessageEmitter(signature=signature(target, model))
    answer = Answer(emitter, request=request, target=target, model=model)
    for chunk in chunks:
        failure = answer.add(chunk, body)
        if failure is not None:
            raise UpstreamError(failure)
    ending = answer.end()
    if not isinstance(ending, Ending):
        raise UpstreamError(ending)
    return decoded_message(
        emitter,
        answer,
        request=request,
        model=model,
        stop_reason=ending.stop_reason,
        stop_sequence=None,
        details=ending.details,
    )


def decoded_count(body: bytes, *, target: Target) -> int:
    """The tokens that countTokens told. Raises UpstreamError."""
    try:
        return msgspec.json.decode(body, type=_Count, strict=False).total_tokens
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        told = status_of(body)
        failure = failure_in_stream(body, target=target) if told else broken_answer(target, "told no token count")
        raise UpstreamError(failure) from None
