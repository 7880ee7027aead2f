"""Anthropic's answer as Chat Completions: chunks, or one completion."""

import time
from typing import Any

import msgspec

from gateway.openai.chat_request import ChatRequest
from gateway.openai.errors import openai_error
from gateway.openai.events import Delta, Event, Tokens, events_in, events_of
from providers.wire.sse import SseParser

DONE = b"data: [DONE]\n\n"
PING = b": ping\n\n"
FINISH = {
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
}
"""Every other stop reason is "stop"."""


class ChatAnswer:
    """Renders one answer. `feed` gets whole events, `whole` a Message."""

    def __init__(self, request: ChatRequest, answer_id: str) -> None:
        self._request = request
        self._head = {"id": f"chatcmpl-{answer_id}", "object": "chat.completion.chunk", "created": int(time.time())}
        self._parser = SseParser()
        self._model = ""
        self._tokens = Tokens()
        self._block: dict[str, Any] = {}
        self._calls = -1
        self._thoughts = -1
        self._arguments: list[str] = []
        self._chars = 0
        self._stop_reason: str | None = None

    def feed(self, data: bytes) -> bytes:
        return b"".join(self._rendered(event) for event in events_in(self._parser, data))

    def whole(self, body: bytes) -> bytes:
        """A completion, put together from the same deltas that a stream would have."""
        message: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None}
        for event in events_of(msgspec.json.decode(body)):
            for delta in self._deltas(event):
                _join(message, delta)
        for call in message.get("tool_calls", []):
            del call["index"]
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self._finish}
        head = self._head | {"object": "chat.completion", "model": self._model}
        return msgspec.json.encode(head | {"choices": [choice], "usage": self._usage()})

    # -- the stream

    def _rendered(self, event: Event) -> bytes:
        if event.type == "ping":
            return PING
        if event.type == "error":
            told = event.error or {}
            error = openai_error(500, str(told.get("type")), str(told.get("message")))
            return _data({"error": error.content})
        out = b"".join(self._chunk(delta) for delta in self._deltas(event))
        if event.type != "message_stop":
            return out
        out += self._chunk({}, self._finish)
        if self._request.include_usage:
            out += _data(self._head | {"model": self._model, "choices": [], "usage": self._usage()})
        return out + DONE

    def _chunk(self, delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        usage = {"usage": None} if self._request.include_usage else {}
        return _data(self._head | {"model": self._model, "choices": [choice]} | usage)

    @property
    def _finish(self) -> str:
        return FINISH.get(self._stop_reason or "", "stop")

    def _usage(self) -> dict[str, Any]:
        tokens = self._tokens
        return {
            "prompt_tokens": tokens.prompt,
            "completion_tokens": tokens.output,
            "total_tokens": tokens.prompt + tokens.output,
            "prompt_tokens_details": {"cached_tokens": tokens.cached, "cache_write_tokens": tokens.written},
            "completion_tokens_details": {"reasoning_tokens": tokens.reasoning},
        }

    # -- deltas

    def _deltas(self, event: Event) -> list[dict[str, Any]]:
        match event.type:
            case "message_start":
                message = event.message or {}
                self._model = str(message.get("model") or "")
                self._tokens.add(message.get("usage"))
                return [{"role": "assistant", "content": ""}]
            case "content_block_start":
                return self._block_start(event.content_block or {})
            case "content_block_delta" if event.delta is not None:
                return self._block_delta(event.delta)
            case "content_block_stop":
                return self._block_stop()
            case "message_delta":
                self._tokens.add(event.usage)
                self._stop_reason = event.delta.stop_reason if event.delta else None
        return []

    def _block_start(self, block: dict[str, Any]) -> list[dict[str, Any]]:
        self._block = block
        match block.get("type"):
            case "tool_use":
                self._calls += 1
                self._arguments = []
                if block.get("name") in self._request.custom_tools:
                    return []
                function = {"name": block.get("name"), "arguments": ""}
                return [_call(self._calls, id=block.get("id"), type="function", function=function)]
            case "thinking" | "redacted_thinking":
                self._thoughts += 1
                if block.get("data"):
                    return [self._thought("reasoning.encrypted", data=block["data"])]
        return []

    def _block_delta(self, delta: Delta) -> list[dict[str, Any]]:
        match delta.type:
            case "text_delta" if delta.text:
                self._chars += len(delta.text)
                return [{"content": delta.text}]
            case "thinking_delta" if delta.thinking:
                thought = self._thought("reasoning.text", text=delta.thinking)
                return [{"reasoning_content": delta.thinking, **thought}]
            case "signature_delta" if delta.signature:
                return [self._thought("reasoning.text", signature=delta.signature)]
            case "input_json_delta" if self._block.get("type") == "tool_use" and delta.partial_json:
                self._arguments.append(delta.partial_json)
                if self._block.get("name") in self._request.custom_tools:
                    return []
                return [_call(self._calls, function={"arguments": delta.partial_json})]
            case "citations_delta" if delta.citation and delta.citation.get("url"):
                return [{"annotations": [self._annotation(delta.citation)]}]
        return []

    def _block_stop(self) -> list[dict[str, Any]]:
        block, self._block = self._block, {}
        if block.get("type") != "tool_use":
            return []
        if block.get("name") in self._request.custom_tools:
            custom = {"name": block.get("name"), "input": free_text("".join(self._arguments))}
            return [_call(self._calls, id=block.get("id"), type="custom", custom=custom)]
        # Clients parse the arguments: of a call without any, too.
        return [] if self._arguments else [_call(self._calls, function={"arguments": "{}"})]

    def _thought(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Reasoning with its signature, in the shape that OpenRouter's clients send back."""
        return {"reasoning_details": [{"type": kind, "index": self._thoughts, **fields}]}

    def _annotation(self, citation: dict[str, Any]) -> dict[str, Any]:
        cited = {"url": citation["url"], "title": citation.get("title") or ""}
        return {"type": "url_citation", "url_citation": {"start_index": self._chars, "end_index": self._chars, **cited}}


def free_text(arguments: str) -> str:
    """The text that a custom tool was called with."""
    try:
        told = msgspec.json.decode(arguments)
    except (msgspec.DecodeError, RecursionError):
        return arguments
    text = told.get("input") if isinstance(told, dict) else None
    return text if isinstance(text, str) else arguments


def _call(index: int, **fields: Any) -> dict[str, Any]:
    return {"tool_calls": [{"index": index, **fields}]}


def _data(value: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


def _join(message: dict[str, Any], delta: dict[str, Any]) -> None:
    """Add a delta to the message, as clients do."""
    for name in ("content", "reasoning_content"):
        if delta.get(name):
            message[name] = (message.get(name) or "") + delta[name]
    message.setdefault("annotations", []).extend(delta.get("annotations", []))
    for name in ("tool_calls", "reasoning_details"):
        for piece in delta.get(name, []):
            known = message.setdefault(name, [])
            if piece["index"] >= len(known):
                known.append(piece)
                continue
            whole = known[piece["index"]]
            if name == "tool_calls":
                whole["function"]["arguments"] += piece["function"]["arguments"]
            else:
                whole |= piece | {"text": (whole.get("text") or "") + piece.get("text", "")}
