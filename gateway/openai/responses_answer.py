"""Anthropic's answer as a response: typed events with sequence numbers, or one object."""

import secrets
import time
from typing import Any
from urllib.parse import urlsplit

import msgspec

from gateway.openai.chat_answer import free_text
from gateway.openai.errors import openai_error
from gateway.openai.events import Delta, Event, Tokens, events_in, events_of
from gateway.openai.responses_request import REDACTED, SIGNED, ResponsesRequest
from providers.wire.sse import SseParser, render

PING = b": ping\n\n"
INCOMPLETE = {
    "max_tokens": "max_output_tokens",
    "model_context_window_exceeded": "max_output_tokens",
    "refusal": "content_filter",
}
"""Every other stop reason completes the response."""

Fields = dict[str, Any]


class ResponsesAnswer:
    """Renders one answer. `feed` gets whole events, `whole` a Message.

    Texts that follow one another are one message, as OpenAI's are."""

    def __init__(self, request: ResponsesRequest, answer_id: str) -> None:
        self._request = request
        self._id = f"resp_{answer_id}"
        self._created = int(time.time())
        self._parser = SseParser()
        self._model = ""
        self._tokens = Tokens()
        self._sequence = -1
        self._output: list[Fields] = []
        self._item: Fields | None = None
        """The item that is open; it is put into the output when it is done."""
        self._pieces: list[str] = []
        self._block = ""
        self._searches: dict[str, Fields] = {}
        self._stop_reason: str | None = None

    def feed(self, data: bytes) -> bytes:
        return b"".join(piece for event in events_in(self._parser, data) for piece in self._event(event))

    def whole(self, body: bytes) -> bytes:
        for event in events_of(msgspec.json.decode(body)):
            self._event(event)
        return msgspec.json.encode(self._response(self._status))

    # -- Anthropic's events

    def _event(self, event: Event) -> list[bytes]:
        match event.type:
            case "message_start":
                message = event.message or {}
                self._model = str(message.get("model") or "")
                self._tokens.add(message.get("usage"))
                started = self._response("in_progress")
                return [self._send(f"response.{name}", response=started) for name in ("created", "in_progress")]
            case "content_block_start":
                return self._block_start(event.content_block or {})
            case "content_block_delta" if event.delta is not None:
                return self._block_delta(event.delta)
            case "content_block_stop":
                return [] if self._block == "text" else self._close()
            case "message_delta":
                self._tokens.add(event.usage)
                self._stop_reason = event.delta.stop_reason if event.delta else None
            case "message_stop":
                closed = self._close()
                return [*closed, self._send(f"response.{self._status}", response=self._response(self._status))]
            case "ping":
                return [self._ping()]
            case "error":
                return self._failed(event.error or {})
        return []

    def _ping(self) -> bytes:
        """What keeps a client waiting: a real event as soon as there can be one, since clients that
        watch for silence count no comments."""
        if self._sequence < 0:
            return PING
        return self._send("response.in_progress", response=self._response("in_progress"))

    def _failed(self, told: Fields) -> list[bytes]:
        error = openai_error(500, str(told.get("type")), str(told.get("message")))
        code = error.code or "server_error"
        response = self._response("failed") | {"error": {"code": code, "message": error.message}}
        shown = {"code": code, "message": error.message, "param": error.param}
        return [self._send("error", **shown), self._send("response.failed", response=response)]

    # -- items

    def _block_start(self, block: Fields) -> list[bytes]:
        self._block = str(block.get("type"))
        if self._block == "text":
            return self._open_message()
        out = self._close()
        match self._block:
            case "thinking" | "redacted_thinking":
                sealed = f"{REDACTED}{block['data']}" if block.get("data") else None
                item: Fields = {"type": "reasoning", "id": _new("rs"), "summary": [], "encrypted_content": sealed}
                return [*out, self._open(item)]
            case "tool_use":
                return [*out, self._open(self._call(block))]
            case "server_tool_use" if block.get("name") == "web_search":
                action = {"type": "search", "query": "", "queries": [], "sources": []}
                item = {"type": "web_search_call", "id": _new("ws"), "status": "in_progress", "action": action}
                self._searches[str(block.get("id"))] = item
                opened = self._open(item)
                return [*out, opened, *(self._progress(name) for name in ("in_progress", "searching"))]
            case "web_search_tool_result":
                self._found(block)
        return out

    def _call(self, block: Fields) -> Fields:
        name = str(block.get("name"))
        head = {"call_id": block.get("id"), "status": "in_progress", **self._request.names.client_name(name)}
        if name in self._request.names.custom:
            return {"type": "custom_tool_call", "id": _new("ctc"), "input": "", **head}
        return {"type": "function_call", "id": _new("fc"), "arguments": "", **head}

    def _block_delta(self, delta: Delta) -> list[bytes]:
        item = self._item
        if item is None:
            return []
        match delta.type, item["type"]:
            case "text_delta", "message" if delta.text:
                self._pieces.append(delta.text)
                part = self._part(item) | {"delta": delta.text, "logprobs": []}
                return [self._send("response.output_text.delta", **part)]
            case "citations_delta", "message" if delta.citation and delta.citation.get("url"):
                return [self._annotate(item, delta.citation)]
            case "thinking_delta", "reasoning" if delta.thinking:
                return self._think(item, delta.thinking)
            case "signature_delta", "reasoning" if delta.signature:
                item["encrypted_content"] = SIGNED + delta.signature
            case "input_json_delta", "function_call" if delta.partial_json:
                self._pieces.append(delta.partial_json)
                return [
                    self._send("response.function_call_arguments.delta", **self._at(item), delta=delta.partial_json)
                ]
            case "input_json_delta", _:
                self._pieces.append(delta.partial_json)
        return []

    def _close(self) -> list[bytes]:
        """The open item is complete."""
        item, self._item = self._item, None
        if item is None:
            return []
        text, self._pieces = "".join(self._pieces), []
        at, out = self._at(item), []
        match item["type"]:
            case "message":
                out = self._end_message(item, text)
            case "reasoning" if item["summary"]:
                item["summary"][0]["text"] = text
                summary = at | {"summary_index": 0}
                out = [
                    self._send("response.reasoning_summary_text.done", **summary, text=text),
                    self._send("response.reasoning_summary_part.done", **summary, part=item["summary"][0]),
                ]
            case "function_call":
                item["arguments"] = text or "{}"
                done = at | {"arguments": item["arguments"], "name": item["name"]}
                out = [self._send("response.function_call_arguments.done", **done)]
            case "custom_tool_call":
                item["input"] = free_text(text)
                out = [
                    self._send("response.custom_tool_call_input.delta", **at, delta=item["input"]),
                    self._send("response.custom_tool_call_input.done", **at, input=item["input"]),
                ]
            case "web_search_call":
                query = _query(text)
                item["action"] |= {"query": query, "queries": [query]}
                out = [self._send("response.web_search_call.completed", **at)]
        if "status" in item:
            item["status"] = "completed"
        out.append(self._send("response.output_item.done", output_index=len(self._output), item=item))
        self._output.append(item)
        return out

    # -- messages

    def _open_message(self) -> list[bytes]:
        if self._item is not None and self._item["type"] == "message":
            return []
        out = self._close()
        item: Fields = {
            "type": "message",
            "id": _new("msg"),
            "status": "in_progress",
            "role": "assistant",
            "content": [],
        }
        out.append(self._open(item))
        part: Fields = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        out.append(self._send("response.content_part.added", **self._part(item), part=part))
        item["content"] = [part]
        return out

    def _end_message(self, item: Fields, text: str) -> list[bytes]:
        part = item["content"][0]
        part["text"] = text
        at = self._part(item)
        return [
            self._send("response.output_text.done", **at, text=text, logprobs=[]),
            self._send("response.content_part.done", **at, part=part),
        ]

    def _annotate(self, item: Fields, citation: Fields) -> bytes:
        end = sum(map(len, self._pieces))
        cited = {"url": citation["url"], "title": citation.get("title") or ""}
        annotation = {"type": "url_citation", "start_index": end, "end_index": end, **cited}
        known = item["content"][0]["annotations"]
        known.append(annotation)
        return self._send(
            "response.output_text.annotation.added",
            **self._part(item),
            annotation_index=len(known) - 1,
            annotation=annotation,
        )

    # -- reasoning and searches

    def _think(self, item: Fields, text: str) -> list[bytes]:
        at = self._at(item) | {"summary_index": 0}
        out = []
        if not item["summary"]:
            part = {"type": "summary_text", "text": ""}
            out.append(self._send("response.reasoning_summary_part.added", **at, part=part))
            item["summary"] = [part]
        self._pieces.append(text)
        return [*out, self._send("response.reasoning_summary_text.delta", **at, delta=text)]

    def _progress(self, name: str) -> bytes:
        assert self._item is not None
        return self._send(f"response.web_search_call.{name}", **self._at(self._item))

    def _found(self, block: Fields) -> None:
        """A search's results come after its call is done: the finished response lists them."""
        item = self._searches.get(str(block.get("tool_use_id")))
        content = block.get("content")
        if item is not None and isinstance(content, list):
            urls = [result["url"] for result in content if isinstance(result, dict) and _is_url(result.get("url"))]
            item["action"]["sources"] = [{"type": "url", "url": url} for url in urls]

    # -- rendering

    def _open(self, item: Fields) -> bytes:
        self._item, self._pieces = item, []
        return self._send("response.output_item.added", output_index=len(self._output), item=item)

    def _at(self, item: Fields) -> Fields:
        return {"item_id": item["id"], "output_index": len(self._output)}

    def _part(self, item: Fields) -> Fields:
        return self._at(item) | {"content_index": 0}

    def _send(self, kind: str, **fields: Any) -> bytes:
        self._sequence += 1
        return render(kind, msgspec.json.encode({"type": kind, "sequence_number": self._sequence, **fields}))

    @property
    def _status(self) -> str:
        return "incomplete" if self._stop_reason in INCOMPLETE else "completed"

    def _response(self, status: str) -> Fields:
        ended = status in {"completed", "incomplete"}
        incomplete = {"reason": INCOMPLETE[self._stop_reason or ""]} if status == "incomplete" else None
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "status": status,
            "error": None,
            "incomplete_details": incomplete,
            "model": self._model,
            "output": self._output,
            "usage": self._usage() if ended else None,
            **self._request.echo,
        }

    def _usage(self) -> Fields:
        tokens = self._tokens
        return {
            "input_tokens": tokens.prompt,
            "input_tokens_details": {"cached_tokens": tokens.cached, "cache_write_tokens": tokens.written},
            "output_tokens": tokens.output,
            "output_tokens_details": {"reasoning_tokens": tokens.reasoning},
            "total_tokens": tokens.prompt + tokens.output,
        }


def _new(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(16)}"


def _query(arguments: str) -> str:
    try:
        told = msgspec.json.decode(arguments)
    except (msgspec.DecodeError, RecursionError):
        return ""
    return str(told.get("query") or "") if isinstance(told, dict) else ""


def _is_url(value: Any) -> bool:
    return isinstance(value, str) and bool(urlsplit(value).scheme)
