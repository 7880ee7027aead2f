"""What a provider cannot be told, held to in its answer: stop sequences, and one tool call an answer.

Works on Anthropic's form of the answer, whichever wire decoded it, and only for requests that need it.
"""

from typing import Any, cast

import msgspec

from providers.types import UpstreamFailure, Usage
from providers.wire.base import DecodedResponse, StreamDecoder
from providers.wire.request import MessagesRequest
from providers.wire.sse import SseParser, render
from providers.wire.stops import StopSequences


def wants_one_call(request: MessagesRequest) -> bool:
    """Whether the client takes one tool call an answer."""
    if "tool_choice" not in request.fields:
        return False
    choice = request.value("tool_choice")
    return isinstance(choice, dict) and choice.get("disable_parallel_tool_use") is True


class EnforcedDecoder:
    """A StreamDecoder around another one. Nothing after a stop sequence passes, nor any call but the first;
    the provider is read to its end all the same, since only there it tells what the answer cost."""

    def __init__(self, inner: StreamDecoder, *, stops: list[str], one_call: bool) -> None:
        self._inner = inner
        self._parser = SseParser()
        self._stops = StopSequences(stops)
        self._one_call = one_call
        self._called = False
        self._indexes: dict[int, int] = {}
        """The places of the blocks that pass, by those they had."""
        self._texts: set[int] = set()

    # -- what the relay reads

    @property
    def usage(self) -> Usage:
        return self._inner.usage

    @property
    def has_content(self) -> bool:
        return self._inner.has_content

    @property
    def finished(self) -> bool:
        return self._inner.finished

    @property
    def failure(self) -> UpstreamFailure | None:
        return self._inner.failure

    @failure.setter
    def failure(self, failure: UpstreamFailure | None) -> None:
        self._inner.failure = failure

    @property
    def stop_reason(self) -> str | None:
        return self._inner.stop_reason if self._stops.hit is None else "stop_sequence"

    @property
    def output_chars(self) -> int:
        return self._inner.output_chars

    @property
    def open_thinking_index(self) -> int | None:
        index = self._inner.open_thinking_index
        return None if index is None else self._indexes.get(index)

    def feed(self, data: bytes) -> bytes:
        return self._passed(self._inner.feed(data))

    def close(self) -> bytes:
        return self._passed(self._inner.close())

    # -- the events

    def _passed(self, data: bytes) -> bytes:
        return b"".join(self._event(name, told) for name, told in self._parser.feed(data)) if data else b""

    def _event(self, name: str, data: bytes) -> bytes:
        match name:
            case "content_block_start":
                return self._start(msgspec.json.decode(data))
            case "content_block_delta":
                return self._delta(msgspec.json.decode(data))
            case "content_block_stop":
                return self._stop(msgspec.json.decode(data)["index"])
            case "message_delta" if self._stops.hit is not None:
                told = msgspec.json.decode(data)
                told["delta"] |= {"stop_reason": "stop_sequence", "stop_sequence": self._stops.hit}
                return _rendered(told)
            case _:
                return render(name, data)

    def _start(self, event: dict[str, Any]) -> bytes:
        kind = event["content_block"]["type"]
        if self._stops.hit is not None or (kind == "tool_use" and self._one_call and self._called):
            return b""
        self._called = self._called or kind == "tool_use"
        index = self._indexes[event["index"]] = len(self._indexes)
        if kind == "text":
            self._texts.add(index)
        return _rendered(event | {"index": index})

    def _delta(self, event: dict[str, Any]) -> bytes:
        index = self._indexes.get(event["index"])
        if index is None:
            return b""
        if event["delta"]["type"] == "text_delta" and self._stops:
            return self._text(index, self._stops.feed(event["delta"]["text"]))
        return _rendered(event | {"index": index})

    def _text(self, index: int, text: str) -> bytes:
        delta = {"type": "text_delta", "text": text}
        return _rendered({"type": "content_block_delta", "index": index, "delta": delta}) if text else b""

    def _stop(self, told: int) -> bytes:
        index = self._indexes.get(told)
        if index is None:
            return b""
        rest = self._text(index, self._stops.rest()) if index in self._texts and self._stops.hit is None else b""
        return rest + _rendered({"type": "content_block_stop", "index": index})


def _rendered(event: dict[str, Any]) -> bytes:
    return render(event["type"], msgspec.json.encode(event))


def enforced(decoder: StreamDecoder, *, stops: list[str], one_call: bool) -> StreamDecoder:
    """`decoder` itself where there is nothing to hold to."""
    if not stops and not one_call:
        return decoder
    # Of a decoder's attributes only `failure` is ever set from outside.
    return cast("StreamDecoder", EnforcedDecoder(decoder, stops=stops, one_call=one_call))


def enforced_response(response: DecodedResponse, *, stops: list[str], one_call: bool) -> DecodedResponse:
    """As `enforced`, of a whole answer."""
    if not stops and not one_call:
        return response
    message = msgspec.json.decode(response.body)
    content: list[dict[str, Any]] = []
    watch = StopSequences(stops)
    for block in message["content"]:
        if block["type"] == "text":
            text = watch.feed(block["text"])
            text += watch.rest() if watch.hit is None else ""
            content.append(block | {"text": text})
            if watch.hit is not None:
                break
        elif block["type"] != "tool_use" or not one_call or all(each["type"] != "tool_use" for each in content):
            content.append(block)
    message["content"] = content
    if watch.hit is None:
        return _with(response, message, response.stop_reason)
    message |= {"stop_reason": "stop_sequence", "stop_sequence": watch.hit}
    return _with(response, message, "stop_sequence")


def _with(response: DecodedResponse, message: dict[str, Any], stop_reason: str | None) -> DecodedResponse:
    return DecodedResponse(
        body=msgspec.json.encode(message),
        usage=response.usage,
        stop_reason=stop_reason,
        output_chars=response.output_chars,
    )
