"""A whole answer of Cohere's as an Anthropic Message, by the rules of streamed ones."""

import msgspec

from providers.errors import UpstreamError
from providers.types import Model, Target
from providers.wire.base import DecodedResponse
from providers.wire.cohere.answer import Answer, WholeAnswer
from providers.wire.cohere.errors import failure_in_answer
from providers.wire.decoder import decoded_message
from providers.wire.emitters import MessageEmitter
from providers.wire.errors import broken_answer, error_parts
from providers.wire.openai_chat.reasoning import signature
from providers.wire.request import MessagesRequest

_answer = msgspec.json.Decoder(WholeAnswer)


def decoded_response(body: bytes, *, request: MessagesRequest, target: Target, model: Model) -> DecodedResponse:
    """Raises UpstreamError when `body` is no answer, or one that ended in an error."""
    emitter = MessageEmitter(signature=signature(target, model))
    answer = Answer(emitter, request=request, target=target, model=model)
    failure = answer.add_whole(_decoded(body, target))
    if failure is not None:
        raise UpstreamError(failure)
    stop_reason, stop_sequence = answer.end()
    return decoded_message(
        emitter, answer, request=request, model=model, stop_reason=stop_reason, stop_sequence=stop_sequence
    )


def _decoded(body: bytes, target: Target) -> WholeAnswer:
    try:
        return _answer.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        said = error_parts(body)[1]
    if said:
        raise UpstreamError(failure_in_answer(said, target=target))
    raise UpstreamError(broken_answer(target, "answered with something that is not a chat answer: check its base URL"))
