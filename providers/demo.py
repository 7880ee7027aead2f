"""The demo provider: answers in process, so that the whole path can be seen without any
provider's key. It speaks the anthropic wire and understands, in the user's last text:

    demo: call NAME {"input": …}    call the tool NAME (several lines: one after the other)
    demo: think                     think before answering
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import msgspec

from providers.errors import InvalidRequest, UpstreamError
from providers.tokens import estimate
from providers.types import Target, UpstreamFailure
from providers.wire.base import OutboundRequest
from providers.wire.request import Block, MessagesRequest
from providers.wire.sse import render

CALL = re.compile(r"demo:\s*call\s+([\w.:-]+)\s*")
THINK = re.compile(r"demo:\s*think\b")
REMINDER = re.compile(r"<system-reminder>.*?</system-reminder>", re.DOTALL)
TAG = re.compile(r"<[^>]*>")
PIECE = re.compile(r"\s*\S+\s*")
ECHO_CHARS = 200
EXAMPLE = 'Write a line like  demo: call Bash {"command": "echo hi"}  and I call that tool.'

_json = msgspec.json.Decoder()


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call that the user's text asks for."""

    name: str
    input: dict[str, Any]


@dataclass(slots=True)
class Answer:
    """Content blocks as a Message holds them, and how the answer ends."""

    blocks: list[dict[str, Any]]
    stop_reason: str = "end_turn"
    stop_sequence: str | None = None
    output_tokens: int = 0
    web_searches: int = 0


class DemoUpstream:
    """Stands in for a provider's server. `pause` is the seconds between two pieces of a stream."""

    def __init__(self, pause: float = 0.005) -> None:
        self._pause = pause

    async def open(self, request: OutboundRequest, *, target: Target) -> "DemoResponse":
        try:
            messages = MessagesRequest.parse(request.body)
        except InvalidRequest as error:
            raise UpstreamError(_unreadable(target)) from error
        answer = limited(compose(messages), messages)
        usage = _usage(answer, estimate(messages, len(request.body)))
        message = {
            "id": f"msg_demo_{uuid4().hex}",
            "type": "message",
            "role": "assistant",
            "model": target.actual_model,
            "content": answer.blocks,
            "stop_reason": answer.stop_reason,
            "stop_sequence": answer.stop_sequence,
            "usage": usage,
        }
        if messages.stream:
            return DemoResponse("text/event-stream", list(stream(message)), self._pause)
        return DemoResponse("application/json", [msgspec.json.encode(message)], 0)


@dataclass(slots=True)
class DemoResponse:
    """See `providers.transport.UpstreamResponse`."""

    content_type: str
    pieces: list[bytes]
    pause: float
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    closed: bool = False

    def __post_init__(self) -> None:
        self.headers = {"content-type": self.content_type, "request-id": f"req_demo_{uuid4().hex}"}

    async def chunks(self) -> AsyncGenerator[bytes]:
        while self.pieces and not self.closed:
            yield self.pieces.pop(0)
            await asyncio.sleep(self.pause)

    @property
    def at_end(self) -> bool:
        return not self.pieces

    async def read(self, limit: int = 0) -> bytes:  # noqa: ARG002  what it says is short
        return b"".join(self.pieces)

    def close(self) -> None:
        self.closed = True


def _unreadable(target: Target) -> UpstreamFailure:
    return UpstreamFailure(
        500, "api_error", f"The provider {target.provider} is a demo and speaks the anthropic wire only."
    )


def compose(messages: MessagesRequest) -> Answer:
    """The answer to `messages` before its limits."""
    if any((tool.type or "").startswith("web_search") for tool in messages.tools):
        return _search(messages)
    schema = _schema(messages)
    text = _last_text(messages)
    if schema is not None:
        return Answer([_text(msgspec.json.encode(_example(schema, text)).decode())])
    blocks = [_thinking(text)] if THINK.search(text) else []
    calls, results = _calls(text), _results(messages)
    if len(results) < len(calls):
        return _call(calls[len(results)], messages, blocks)
    blocks.append(_text(_report(results[-1]) if results else _greeting(messages.model, text)))
    return Answer(blocks)


def _greeting(model: str, text: str) -> str:
    said = f" You said: “{text[-ECHO_CHARS:]}”." if text else ""
    return f"Hello from CCM's demo provider, which served this as {model}.{said} {EXAMPLE}"


def _report(result: str) -> str:
    return f"The tool answered: {result[:ECHO_CHARS] or '(nothing)'}"


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _thinking(text: str) -> dict[str, Any]:
    thought = f"The user wants me to think. They wrote {len(text)} characters. I shall answer in a friendly way."
    return {"type": "thinking", "thinking": thought, "signature": "ccm-demo"}


def _call(call: Call, messages: MessagesRequest, blocks: list[dict[str, Any]]) -> Answer:
    names = [tool.name for tool in messages.tools]
    if call.name not in names:
        offered = ", ".join(names[:20]) or "none"
        return Answer([*blocks, _text(f"There is no tool {call.name} in this request. It offers: {offered}.")])
    tool_use = {"type": "tool_use", "id": f"toolu_demo{uuid4().hex[:20]}", "name": call.name, "input": call.input}
    return Answer([*blocks, _text(f"I call {call.name}."), tool_use], stop_reason="tool_use")


def _calls(text: str) -> list[Call]:
    """The calls `text` asks for, in order. A call named inside another's input is not ours:
    it is meant for whoever reads that input (a subagent)."""
    calls = []
    position = 0
    while found := CALL.search(text, position):
        tool_input, position = _json_object(text, found.end())
        calls.append(Call(found[1], tool_input))
    return calls


def _json_object(text: str, start: int) -> tuple[dict[str, Any], int]:
    """The JSON object that begins at `start`, and where it ends; {} when there is none."""
    if not text.startswith("{", start):
        return {}, start
    end = start
    while (end := text.find("}", end) + 1) > 0:
        try:
            value = _json.decode(text[start:end].encode("utf-8", "replace"))
        except msgspec.DecodeError:
            continue
        return value, end
    return {}, start


def _turn(messages: MessagesRequest) -> tuple[list[Block], list[Block]]:
    """The blocks of the newest user text, and the tool results since."""
    results: list[Block] = []
    for message in reversed(messages.messages):
        if message.role != "user":
            continue
        own = [block for block in message.blocks if block.type == "tool_result"]
        results = own + results
        if not own and _joined(message.blocks):
            return message.blocks, results
    return [], results


def _joined(blocks: list[Block]) -> str:
    texts = (REMINDER.sub("", block.text).strip() for block in blocks if block.type == "text")
    return "\n".join(text for text in texts if text)


def _last_text(messages: MessagesRequest) -> str:
    return _joined(_turn(messages)[0])


def _results(messages: MessagesRequest) -> list[str]:
    return [_result_text(block) for block in _turn(messages)[1]]


def _result_text(block: Block) -> str:
    content = _json.decode(bytes(block.content)) if isinstance(block.content, msgspec.Raw) else ""
    if isinstance(content, str):
        return content
    return "\n".join(str(part.get("text", "")) for part in content or () if isinstance(part, dict))


def _schema(messages: MessagesRequest) -> dict[str, Any] | None:
    form = messages.output_config.format
    if not isinstance(form, msgspec.Raw):
        return None
    decoded = _json.decode(bytes(form))
    schema = decoded.get("schema") if isinstance(decoded, dict) else None
    return schema if isinstance(schema, dict) else None


def _example(schema: dict[str, Any], text: str) -> Any:
    """A value that fits `schema`; strings say what the user's text is about."""
    if schema.get("enum"):
        return schema["enum"][0]
    if "const" in schema:
        return schema["const"]
    match schema.get("type"):
        case "object":
            return {name: _example(part, text) for name, part in schema.get("properties", {}).items()}
        case "array":
            return [_example(schema.get("items", {}), text)] if schema.get("minItems") else []
        case "integer" | "number":
            return schema.get("minimum", 0)
        case "boolean":
            return False
        case "null":
            return None
    words = re.findall(r"\w+", TAG.sub(" ", text))
    return " ".join(["Demo:", *words[:5]]).strip(": ")


def _search(messages: MessagesRequest) -> Answer:
    query = _last_text(messages).rpartition("query:")[2].strip()[:ECHO_CHARS] or "demo"
    search_id = f"srvtoolu_demo{uuid4().hex[:17]}"
    found = {
        "type": "web_search_result",
        "url": "https://example.com/ccm-demo",
        "title": "Demo result (no search was made)",
        "encrypted_content": "",
        "page_age": None,
    }
    return Answer(
        [
            {"type": "server_tool_use", "id": search_id, "name": "web_search", "input": {"query": query}},
            {"type": "web_search_tool_result", "tool_use_id": search_id, "content": [found]},
            _text(f"This is a demo: no search was made for “{query}”."),
        ],
        web_searches=1,
    )


def limited(answer: Answer, messages: MessagesRequest) -> Answer:
    """`answer` cut at the first stop sequence and at max_tokens, with its tokens counted."""
    stops = [stop for stop in messages.value("stop_sequences") or () if isinstance(stop, str) and stop]
    kept: list[dict[str, Any]] = []
    budget = messages.max_tokens
    for block in answer.blocks:
        stop = _first_stop(block, stops)
        cut = block if stop is None else {**block, "text": block["text"].partition(stop)[0]}
        fitting, used = _fit(cut, budget)
        budget -= used
        if fitting is not None:
            kept.append(fitting)
        if fitting != cut:
            return Answer(kept, "max_tokens", None, messages.max_tokens - budget, answer.web_searches)
        if stop is not None:
            return Answer(kept, "stop_sequence", stop, messages.max_tokens - budget, answer.web_searches)
    used = messages.max_tokens - budget
    return Answer(kept, answer.stop_reason, answer.stop_sequence, used, answer.web_searches)


def _first_stop(block: dict[str, Any], stops: list[str]) -> str | None:
    text = block["text"] if block["type"] == "text" else ""
    found = [(text.index(stop), stop) for stop in stops if stop in text]
    return min(found)[1] if found else None


def _fit(block: dict[str, Any], budget: int) -> tuple[dict[str, Any] | None, int]:
    """As much of `block` as `budget` tokens hold (None: nothing), and the tokens it takes."""
    name = block["type"] if block["type"] in {"text", "thinking"} else ""
    if not name:
        tokens = _count(msgspec.json.encode(block.get("input", "")).decode())
        return (block, tokens) if tokens <= budget else (None, 0)
    kept: list[str] = []
    used = 0
    for piece in PIECE.findall(block[name]):
        tokens = _count(piece)
        if used + tokens > budget:
            break
        kept.append(piece)
        used += tokens
    text = "".join(kept)
    return ({**block, name: text} if text else None), used


def _count(text: str) -> int:
    """Tokens, at about four characters each: the demo need not load a vocabulary of 80 MiB."""
    return -(-len(text) // 4)


def _usage(answer: Answer, input_tokens: int) -> dict[str, Any]:
    return {
        "input_tokens": input_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": answer.output_tokens,
        "server_tool_use": {"web_search_requests": answer.web_searches, "web_fetch_requests": 0},
    }


def stream(message: dict[str, Any]) -> Iterator[bytes]:
    """`message` as the pieces of an event stream."""
    usage = message["usage"]
    started = {**message, "content": [], "stop_reason": None, "stop_sequence": None}
    started["usage"] = {**usage, "output_tokens": 0}
    yield _event("message_start", message=started) + _event("ping")
    for index, block in enumerate(message["content"]):
        start, deltas = _streamed(block)
        yield _event("content_block_start", index=index, content_block=start)
        for delta in deltas:
            yield _event("content_block_delta", index=index, delta=delta)
        yield _event("content_block_stop", index=index)
    ending = {"stop_reason": message["stop_reason"], "stop_sequence": message["stop_sequence"]}
    yield _event("message_delta", delta=ending, usage=usage)
    yield _event("message_stop")


def _streamed(block: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """How `block` starts, and the deltas that fill it."""
    match block["type"]:
        case "text":
            pieces = PIECE.findall(block["text"])
            return _text(""), [{"type": "text_delta", "text": piece} for piece in pieces]
        case "thinking":
            pieces = PIECE.findall(block["thinking"])
            deltas = [{"type": "thinking_delta", "thinking": piece} for piece in pieces]
            deltas.append({"type": "signature_delta", "signature": block["signature"]})
            return {**block, "thinking": "", "signature": ""}, deltas
        case "tool_use" | "server_tool_use":
            text = msgspec.json.encode(block["input"]).decode()
            pieces = [text[at : at + 40] for at in range(0, len(text), 40)]
            return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
    return block, []


def _event(name: str, **fields: Any) -> bytes:
    return render(name, msgspec.json.encode({"type": name, **fields}))
