"""A whole Chat Completions answer as an Anthropic Message, by the rules of streamed ones."""

import msgspec

from providers.errors import UpstreamError
from providers.types import Model, Target, UpstreamFailure
from providers.wire.base import DecodedResponse
from providers.wire.decoder import decoded_message
from providers.wire.emitters import MessageEmitter
from providers.wire.errors import broken_answer, error_parts
from providers.wire.openai_chat.answer import Answer
from providers.wire.openai_chat.chunks import Chunk, NotAChunk, decode_chunk
from providers.wire.openai_chat.errors import failure_in_stream
from providers.wire.openai_chat.reasoning import signature
from providers.wire.request import MessagesRequest


def decoded_response(body: bytes, *, request: MessagesRequest, target: Target, model: Model) -> DecodedResponse:
    """Raises UpstreamError when `body` is no answer: an error, HTML, or JSON of another shape."""
    emitter = MessageEmitter(signature=signature(target, model))
    answer = Answer(emitter, request=request, target=target, model=model)
    failure = answer.add(_chunk(body, target), body)
    if failure is not None:
        raise UpstreamError(failure)
    stop_reason, stop_sequence = answer.end()
    return decoded_message(
        emitter, answer, request=request, model=model, stop_reason=stop_reason, stop_sequence=stop_sequence
    )


def _chunk(body: bytes, target: Target) -> Chunk:
    try:
        chunk = decode_chunk(body)
    except NotAChunk:
        chunk = None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise UpstreamError(_no_json(body, target)) from None
    if chunk is not None and chunk.error:
        raise UpstreamError(failure_in_stream(body, target=target))
    if chunk is None or not chunk.choices or not (chunk.choices[0].message or chunk.choices[0].delta):
        said = error_parts(body)[1]
        raise UpstreamError(failure_in_stream(body, target=target) if said else _no_answer(target))
    return chunk


def _no_json(body: bytes, target: Target) -> UpstreamFailure:
    what = "a web page" if body.lstrip()[:1] == b"<" else "something that is not JSON"
    return broken_answer(target, f"answered with {what} instead of a completion: check its base URL")


def _no_answer(target: Target) -> UpstreamFailure:
    return broken_answer(target, "answered with JSON that is not a completion")
