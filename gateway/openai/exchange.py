"""HTTP exchanges with OpenAI's clients: what the pipeline writes is rendered on its way out.

The relay settles before it hands over the last bytes; rendering comes after that, so an answer
that arrives whole is paid here too.
"""

from collections.abc import MutableMapping
from typing import Any, Protocol

import msgspec

from gateway.errors import GatewayError
from gateway.exchange import Exchange, Headers, Receive, Send
from gateway.openai.chat_answer import ChatAnswer
from gateway.openai.chat_request import chat_request
from gateway.openai.conversation import decoded
from gateway.openai.errors import openai_error
from gateway.openai.responses_answer import ResponsesAnswer
from gateway.openai.responses_request import responses_request
from providers.wire.request import MessagesRequest

CHAT = "/v1/chat/completions"
RESPONSES = "/v1/responses"
ANTHROPIC = "/v1/messages"


class Answer(Protocol):
    """Renders one answer for one format of clients."""

    def feed(self, data: bytes) -> bytes:
        """Whole events of Anthropic's stream, rendered."""
        ...

    def whole(self, body: bytes) -> bytes:
        """A Message (JSON), rendered."""
        ...


class OpenAIExchange(Exchange):
    """Errors are OpenAI's. What a subclass has read sets how answers look."""

    __slots__ = ("_answer",)

    answers_probes = False
    offers_searches = True

    def __init__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        super().__init__(scope, receive, send)
        self._answer: Answer | None = None

    async def start(self, status: int, headers: Headers) -> None:
        await super().start(status, [*headers, (b"x-request-id", self.request_id.encode())])

    async def write(self, data: bytes) -> None:
        rendered = self._answer.feed(data) if self._answer else data
        if rendered:
            await super().write(rendered)

    async def finish(self, data: bytes = b"") -> None:
        await super().finish(self._answer.feed(data) if self._answer and data else data)

    async def answer(self, status: int, body: bytes, headers: Headers | None = None) -> None:
        answer, self._answer = self._answer, None
        await super().answer(status, answer.whole(body) if answer and status == 200 else body, headers)

    async def answer_error(self, error: GatewayError, headers: Headers | None = None) -> None:
        told = openai_error(error.status, error.type, error.message, error.code)
        body = msgspec.json.encode({"error": told.content})
        await self.answer(told.status, body, [*(headers or []), *error.headers()])

    @property
    def _answer_id(self) -> str:
        return self.request_id.removeprefix("req_")


class ChatExchange(OpenAIExchange):
    """POST /v1/chat/completions."""

    __slots__ = ()

    def read_request(self, body: bytes) -> MessagesRequest:
        request = chat_request(decoded(body))
        self._answer = ChatAnswer(request, self._answer_id)
        return request.messages


class ResponsesExchange(OpenAIExchange):
    """POST /v1/responses."""

    __slots__ = ()

    def read_request(self, body: bytes) -> MessagesRequest:
        request = responses_request(decoded(body))
        self._answer = ResponsesAnswer(request, self._answer_id)
        return request.messages


def exchange_for(path: str, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> Exchange:
    """The exchange that speaks the client's format. Paths that both kinds of clients ask for (the
    model list) are Anthropic's for those who say their version of the API, or send their key its way."""
    if path.startswith(ANTHROPIC):
        return Exchange(scope, receive, send)
    if path == CHAT:
        return ChatExchange(scope, receive, send)
    if path == RESPONSES:
        return ResponsesExchange(scope, receive, send)
    names = {name for name, _ in scope["headers"]}
    is_openai = b"authorization" in names and not names & {b"anthropic-version", b"x-api-key"}
    return OpenAIExchange(scope, receive, send) if is_openai else Exchange(scope, receive, send)
