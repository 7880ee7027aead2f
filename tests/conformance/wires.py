"""Every wire, and a fake provider that speaks it: one thing said in all formats at once."""

import json
from dataclasses import dataclass
from typing import Any

from providers.types import Target
from providers.wire.base import StreamDecoder, Wire
from providers.wire.registry import WIRES
from providers.wire.request import MessagesRequest
from tests.fakes.answers import Reply
from tests.fakes.anthropic import AnthropicFront
from tests.fakes.bedrock import BedrockFront
from tests.fakes.cohere import CohereFront
from tests.fakes.google import GeminiFront
from tests.fakes.openai import OpenAIFront
from tests.fakes.responses import ResponsesFront
from tests.providers.openai_chat_support import BASH, Streamed, model, request, target

Body = dict[str, Any]


@dataclass(frozen=True)
class Speaker:
    """A wire with the target and the fake that belong to it."""

    name: str
    wire: Wire
    target: Target
    front: Any
    is_native: bool = False
    """Answers in Anthropic's own format, which passes through."""

    def sent(self, asked: MessagesRequest, *, max_tokens: int = 4096, thinking: bool = True) -> Body:
        """The body that the provider gets."""
        outbound = self.wire.encode(
            asked,
            target=self.target,
            model=model(thinking=thinking),
            max_tokens=max_tokens,
            client_headers={"anthropic-version": "2023-06-01"},
        )
        told: Body = json.loads(outbound.body)
        return told

    def _asked(self, *, stream: bool) -> Body:
        name = self.target.actual_model
        action = {"bedrock-claude": "invoke"}.get(self.name, "converse")
        options = {"stream_options": {"include_usage": True}} if stream else {}
        return {"model": name, "modelId": name, "action": action, "stream": stream, "messages": [], **options}

    def events(self, reply: Reply) -> list[bytes]:
        """The provider's stream, event by event, without pings."""
        told: list[bytes] = self.front.events(reply, self._asked(stream=True))
        return [event for event in told if not event.startswith(b"event: ping")]

    def streamed(self, reply: Reply, asked: MessagesRequest | None = None) -> Streamed:
        return self.fed(self.events(reply), asked)

    def decoder(self, asked: MessagesRequest | None = None) -> StreamDecoder:
        return self.wire.stream_decoder(
            request=asked or request(tools=[BASH], stream=True), target=self.target, model=model()
        )

    def fed(self, pieces: list[bytes], asked: MessagesRequest | None = None) -> Streamed:
        decoder = self.decoder(asked)
        out = b"".join(decoder.feed(piece) for piece in pieces)
        return Streamed(decoder, out + decoder.close())

    def whole(self, reply: Reply, asked: MessagesRequest | None = None) -> Body:
        """The Message of an answer that is not streamed."""
        body = json.dumps(self.front.whole(reply, self._asked(stream=False))).encode()
        decoded = self.wire.decode_response(
            body, request=asked or request(tools=[BASH]), target=self.target, model=model()
        )
        message: Body = json.loads(decoded.body)
        return message

    def failure(self, status: int, body: Any) -> Any:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.wire.decode_error(status, {}, raw, target=self.target)

    def __str__(self) -> str:
        return self.name


def _target(wire: str, kind: str, name: str) -> Target:
    return target(kind, name, wire=wire)


SPEAKERS = (
    Speaker("openai_chat", WIRES["openai_chat"], _target("openai_chat", "openai", "gpt-4.1"), OpenAIFront()),
    Speaker(
        "openai_responses",
        WIRES["openai_responses"],
        _target("openai_responses", "openai", "gpt-5.2"),
        ResponsesFront(),
    ),
    Speaker("gemini", WIRES["gemini"], _target("gemini", "gemini", "gemini-3-pro"), GeminiFront()),
    Speaker("cohere", WIRES["cohere"], _target("cohere", "cohere", "command-a-03-2025"), CohereFront()),
    Speaker("bedrock", WIRES["bedrock"], _target("bedrock", "bedrock", "openai.gpt-oss-120b-1:0"), BedrockFront()),
    Speaker(
        "bedrock-claude",
        WIRES["bedrock"],
        _target("bedrock", "bedrock", "us.anthropic.claude-sonnet-4-6-v1:0"),
        BedrockFront(),
        is_native=True,
    ),
    Speaker(
        "anthropic",
        WIRES["anthropic"],
        _target("anthropic", "anthropic", "claude-sonnet-4-6"),
        AnthropicFront(),
        is_native=True,
    ),
)
TRANSLATING = tuple(speaker for speaker in SPEAKERS if not speaker.is_native)
BY_NAME = {speaker.name: speaker for speaker in SPEAKERS}
"""The wires by what is fed to them."""
