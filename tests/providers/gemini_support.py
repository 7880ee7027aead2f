"""Targets, chunks, checkers and readers for the tests of the gemini wire."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from anthropic.lib.streaming._messages import accumulate_event

from providers.types import Model, Target
from providers.wire.gemini import GeminiWire
from providers.wire.gemini.stream import GeminiStreamDecoder
from providers.wire.request import MessagesRequest
from providers.wire.sse import SseParser
from tests.fakes.google_rules import check_body
from tests.fakes.rules import Refused
from tests.providers.anthropic_support import MODEL as ANTHROPIC_MODEL
from tests.providers.anthropic_support import TARGET as ANTHROPIC_TARGET
from tests.providers.openai_chat_support import BASH, EVENT, request, without_ids

WIRE = GeminiWire()
OLDER, NEWER = "gemini-2.5-flash", "gemini-3-pro-preview"
SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 8}


def target(actual_model: str = NEWER, kind: str = "gemini", **changes: Any) -> Target:
    base = "https://generativelanguage.googleapis.com/v1beta"
    if kind == "vertex":
        base = "https://aiplatform.googleapis.com/v1/projects/p/locations/global"
    return replace(
        ANTHROPIC_TARGET, **{"kind": kind, "wire": kind, "base_url": base, "actual_model": actual_model, **changes}
    )


def model(**changes: Any) -> Model:
    return replace(ANTHROPIC_MODEL, name="public-model", **changes)


def encoded(
    asked: MessagesRequest, *, to: Target | None = None, served: Model | None = None, max_tokens: int = 1000
) -> dict[str, Any]:
    """The body that Google gets for `asked`, which it would not refuse."""
    to = to or target()
    outbound = WIRE.encode(asked, target=to, model=served or model(), max_tokens=max_tokens, client_headers={"x": "y"})
    body: dict[str, Any] = json.loads(outbound.body)
    try:
        check_body(body, to.actual_model, vertex=to.kind == "vertex")
    except Refused as refused:
        raise AssertionError(f"Google would refuse this: {refused}\n{outbound.body!r}") from None
    return body


def contents_of(*messages: Any, to: Target | None = None, served: Model | None = None, **fields: Any) -> list[Any]:
    sent: list[Any] = encoded(request(*messages, **fields), to=to, served=served)["contents"]
    return sent


# -- answers


def chunk(*parts: dict[str, Any], finish: str | None = None, usage: Any = None, **candidate: Any) -> bytes:
    """One event of a stream."""
    return data(response(*parts, finish=finish, usage=usage, **candidate))


def response(*parts: dict[str, Any], finish: str | None = None, usage: Any = None, **candidate: Any) -> dict[str, Any]:
    told: dict[str, Any] = {"index": 0, **candidate}
    if parts:
        told["content"] = {"parts": list(parts), "role": "model"}
    if finish is not None:
        told["finishReason"] = finish
    return {"candidates": [told], **({"usageMetadata": usage} if usage is not None else {})}


def data(value: Any) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\r\n\r\n"


def says(*texts: str) -> list[bytes]:
    return [chunk({"text": text}) for text in texts]


def thought(text: str) -> dict[str, Any]:
    return {"text": text, "thought": True}


def call(name: str = "Bash", signature: str = "", **args: Any) -> dict[str, Any]:
    return {"functionCall": {"name": name, "args": args}} | ({"thoughtSignature": signature} if signature else {})


USAGE = {"promptTokenCount": 100, "candidatesTokenCount": 7, "totalTokenCount": 107}
STOP = chunk({"text": ""}, finish="STOP", usage=USAGE)


@dataclass
class Streamed:
    decoder: GeminiStreamDecoder
    bytes: bytes

    @property
    def events(self) -> list[Any]:
        """The events, each validated against the official SDK's types."""
        parsed = SseParser().feed(self.bytes)
        events = [EVENT.validate_python(json.loads(payload)) for _, payload in parsed]
        assert [name for name, _ in parsed] == [event.type for event in events]
        return events

    @property
    def message(self) -> dict[str, Any]:
        """What the official SDK makes of the events, without the ids, which are random."""
        snapshot: Any = None
        buffers: dict[int, bytes] = {}
        for event in self.events:
            snapshot = accumulate_event(event=event, current_snapshot=snapshot, json_bufs=buffers)
        return comparable(snapshot.to_dict())

    @property
    def content(self) -> list[Any]:
        content: list[Any] = self.message["content"]
        return content


def comparable(message: dict[str, Any]) -> dict[str, Any]:
    """A Message without ids, and without lists that hold nothing."""
    plain = without_ids(message)
    plain["content"] = [
        {k: v for k, v in block.items() if k != "tool_use_id" and not (k == "citations" and not v) and k != "caller"}
        for block in plain["content"]
    ]
    return plain


def stream(*chunks: bytes, **options: Any) -> Streamed:
    return feed(chunks, **options)


def feed(
    pieces: Iterable[bytes],
    *,
    to: Target | None = None,
    asked: MessagesRequest | None = None,
    close: bool = True,
) -> Streamed:
    decoder = WIRE.stream_decoder(
        request=asked or request(tools=[BASH], stream=True, thinking={"type": "adaptive"}),
        target=to or target(),
        model=model(),
    )
    out = b"".join(decoder.feed(piece) for piece in pieces)
    return Streamed(decoder, out + (decoder.close() if close else b""))


def decoded(body: Any, *, to: Target | None = None, asked: MessagesRequest | None = None) -> tuple[dict[str, Any], Any]:
    """(Message without ids, DecodedResponse) of a whole answer."""
    asked = asked or request(tools=[BASH], thinking={"type": "adaptive"})
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = WIRE.decode_response(raw, request=asked, target=to or target(), model=model())
    message = json.loads(answer.body)
    return comparable(message), answer


def problem_of_events(events: Sequence[Any]) -> str | None:
    """What breaks the rules of Anthropic's streams: one block at a time, dense indices, one end."""
    if [event.type for event in events[:1]] != ["message_start"]:
        return "no message_start first"
    if [event.type for event in events[-2:]] != ["message_delta", "message_stop"]:
        return "no message_delta and message_stop at the end"
    fitting = {
        "text": {"text_delta", "citations_delta"},
        "thinking": {"thinking_delta", "signature_delta"},
        "tool_use": {"input_json_delta"},
        "server_tool_use": {"input_json_delta"},
        "web_search_tool_result": set(),
    }
    index, kind = -1, ""
    for event in events[1:-2]:
        match event.type:
            case "content_block_start" if not kind and event.index == index + 1:
                index, kind = event.index, event.content_block.type
            case "content_block_delta" if kind and event.index == index and event.delta.type in fitting[kind]:
                pass
            case "content_block_stop" if kind and event.index == index:
                kind = ""
            case _:
                return f"a {event.type} at the wrong moment: {event}"
    return f"a {kind} block is left open" if kind else None


def whole(streamed: Streamed) -> Streamed:
    assert streamed.decoder.failure is None
    assert streamed.decoder.finished
    assert problem_of_events(streamed.events) is None
    return streamed
