"""A whole answer of Converse's as an Anthropic Message, by the rules of streamed ones."""

from typing import Any

import msgspec

from providers.errors import UpstreamError
from providers.types import Model, Target, UpstreamFailure
from providers.wire.base import DecodedResponse
from providers.wire.bedrock.converse_answer import Answer, Content, Counts, update_usage
from providers.wire.bedrock.errors import failure_in_stream
from providers.wire.bedrock.signatures import prefix
from providers.wire.decoder import decoded_message
from providers.wire.emitters import MessageEmitter
from providers.wire.errors import broken_answer, error_parts
from providers.wire.request import MessagesRequest


class _Message(msgspec.Struct):
    content: list[Content] = []


class _Output(msgspec.Struct):
    message: _Message


class WholeAnswer(msgspec.Struct, rename="camel"):
    output: _Output
    stop_reason: str = ""
    usage: Counts | None = None
    additional_model_response_fields: Any = None


_answer = msgspec.json.Decoder(WholeAnswer)


def decoded_response(body: bytes, *, request: MessagesRequest, target: Target, model: Model) -> DecodedResponse:
    """Raises UpstreamError when `body` is no answer, or one that cannot be used."""
    emitter = MessageEmitter(signature=prefix(model))
    answer = Answer(emitter, request=request, target=target, model=model)
    failure = add_whole(answer, body, target)
    if failure is not None:
        raise UpstreamError(failure)
    stop_reason, stop_sequence = answer.end()
    return decoded_message(
        emitter, answer, request=request, model=model, stop_reason=stop_reason, stop_sequence=stop_sequence
    )


def add_whole(answer: Answer, body: bytes, target: Target) -> UpstreamFailure | None:
    """Take over the answer in `body`; a failure when there is none."""
    try:
        told = _answer.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        kind, said = error_parts(body)
        if said:
            return failure_in_stream(kind, said, target=target)
        return broken_answer(target, "answered with something that is not a Converse answer: check its base URL")
    if told.usage is not None:
        update_usage(answer.usage, told.usage)
    for index, content in enumerate(told.output.message.content):
        answer.add_whole(index, content)
    return answer.stop(told.stop_reason, told.additional_model_response_fields)
