"""The same answer in each wire's format: EVENTS deltas of one text, with all that the real provider sends
beside them (counts, sequence numbers, padding that differs from event to event)."""

import base64
import json
from binascii import crc32
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from struct import pack
from typing import Any

EVENTS = 200
WORDS = ("lorem ipsum dolor sit am", "lobortis", "libero ac", "ligula, sed.", "luctus et ultrices")
"""All begin with the letter that the load generator counts."""
PADDING = "aZ3kQ9xLm2Vb7TnE"
INPUT_TOKENS = 1000
FRAMES = "application/vnd.amazon.eventstream"
SSE = "text/event-stream"


@dataclass(frozen=True)
class Stream:
    """`events` as they leave the provider, one after the other."""

    events: list[bytes]
    content_type: str = SSE


def texts() -> Iterator[tuple[int, str, str]]:
    """(number, text, padding) of each delta."""
    for number in range(EVENTS):
        yield number, WORDS[number % len(WORDS)], PADDING[number % 7 : number % 7 + 4 + number % 9]


def dump(data: dict[str, Any]) -> str:
    return json.dumps(data, separators=(",", ":"))


def named(name: str, **data: Any) -> bytes:
    """An event with its name, in its line and in its data."""
    return f"event: {name}\ndata: {dump({'type': name} | data)}\n\n".encode()


def unnamed(data: dict[str, Any]) -> bytes:
    return f"data: {dump(data)}\n\n".encode()


def message(content: list[dict[str, Any]], usage: dict[str, int], stop: str | None) -> dict[str, Any]:
    head = {"id": "msg_bench", "type": "message", "role": "assistant", "model": "m", "content": content}
    return head | {"stop_reason": stop, "stop_sequence": None, "usage": usage}


def anthropic() -> Stream:
    end = {"stop_reason": "end_turn", "stop_sequence": None}
    start = message([], {"input_tokens": INPUT_TOKENS, "output_tokens": 1}, None)
    return Stream(
        [
            named("message_start", message=start),
            named("content_block_start", index=0, content_block={"type": "text", "text": ""}),
            *(named("content_block_delta", index=0, delta={"type": "text_delta", "text": t}) for _, t, _ in texts()),
            named("content_block_stop", index=0),
            named("message_delta", delta=end, usage={"output_tokens": EVENTS}),
            named("message_stop"),
        ]
    )


def openai_chat() -> Stream:
    head = {"id": "chatcmpl-bench", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    head |= {"service_tier": "default", "system_fingerprint": "fp_bench"}
    usage = {"prompt_tokens": INPUT_TOKENS, "completion_tokens": EVENTS, "total_tokens": INPUT_TOKENS + EVENTS}

    def chunk(delta: dict[str, str], padding: str, finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return unnamed(head | {"choices": [choice], "usage": None, "obfuscation": padding})

    return Stream(
        [
            chunk({"role": "assistant", "content": ""}, PADDING),
            *(chunk({"content": text}, padding) for _, text, padding in texts()),
            chunk({}, PADDING, "stop"),
            unnamed(head | {"choices": [], "usage": usage, "obfuscation": PADDING}),
            b"data: [DONE]\n\n",
        ]
    )


def openai_responses() -> Stream:
    item = {"id": "msg_bench", "type": "message", "status": "in_progress", "content": [], "role": "assistant"}
    whole = "".join(text for _, text, _ in texts())
    part = {"type": "output_text", "annotations": [], "logprobs": [], "text": whole}
    done = item | {"status": "completed", "content": [part]}
    usage = {"input_tokens": INPUT_TOKENS, "output_tokens": EVENTS, "total_tokens": INPUT_TOKENS + EVENTS}
    usage_details = {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
    response = {"id": "resp_bench", "object": "response", "status": "in_progress", "model": "m", "output": []}
    place = {"item_id": "msg_bench", "output_index": 0, "content_index": 0}

    def delta(number: int, text: str, padding: str) -> bytes:
        told = {"sequence_number": 4 + number, **place, "delta": text, "logprobs": [], "obfuscation": padding}
        return named("response.output_text.delta", **told)

    ended = response | {"status": "completed", "output": [done], "usage": usage | usage_details}
    return Stream(
        [
            named("response.created", sequence_number=0, response=response),
            named("response.in_progress", sequence_number=1, response=response),
            named("response.output_item.added", sequence_number=2, output_index=0, item=item),
            named("response.content_part.added", sequence_number=3, **place, part=part | {"text": ""}),
            *(delta(*told) for told in texts()),
            named("response.output_text.done", sequence_number=EVENTS + 4, **place, text=whole, logprobs=[]),
            named("response.content_part.done", sequence_number=EVENTS + 5, **place, part=part),
            named("response.output_item.done", sequence_number=EVENTS + 6, output_index=0, item=done),
            named("response.completed", sequence_number=EVENTS + 7, response=ended),
        ]
    )


def gemini() -> Stream:
    def chunk(number: int, text: str, **more: str) -> bytes:
        candidate = {"content": {"parts": [{"text": text}], "role": "model"}, "index": 0, **more}
        counts = {
            "promptTokenCount": INPUT_TOKENS,
            "candidatesTokenCount": number,
            "totalTokenCount": INPUT_TOKENS + number,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": INPUT_TOKENS}],
        }
        told = {"candidates": [candidate], "usageMetadata": counts, "modelVersion": "m", "responseId": "bench"}
        return f"data: {dump(told)}\r\n\r\n".encode()

    return Stream([*(chunk(number + 1, text) for number, text, _ in texts()), chunk(EVENTS, "", finishReason="STOP")])


def cohere() -> Stream:
    def content(name: str, **told: str) -> bytes:
        return named(name, index=0, delta={"message": {"content": told}})

    usage = {"tokens": {"input_tokens": INPUT_TOKENS, "output_tokens": EVENTS}}
    start = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
    return Stream(
        [
            named("message-start", id="bench", delta={"message": start}),
            content("content-start", type="text", text=""),
            *(content("content-delta", text=text) for _, text, _ in texts()),
            named("content-end", index=0),
            named("message-end", delta={"finish_reason": "COMPLETE", "usage": usage}),
        ]
    )


def _header(name: str, value: str) -> bytes:
    return bytes([len(name)]) + name.encode() + b"\x07" + pack("!H", len(value)) + value.encode()


def _frame(name: str, payload: dict[str, Any]) -> bytes:
    told = {":event-type": name, ":content-type": "application/json", ":message-type": "event"}
    headers = b"".join(_header(*each) for each in told.items())
    body = dump(payload).encode()
    lengths = pack("!II", 16 + len(headers) + len(body), len(headers))
    start = lengths + pack("!I", crc32(lengths)) + headers + body
    return start + pack("!I", crc32(start))


def converse() -> Stream:
    def delta(text: str, padding: str) -> bytes:
        return _frame("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": text}, "p": padding})

    usage = {"inputTokens": INPUT_TOKENS, "outputTokens": EVENTS, "totalTokens": INPUT_TOKENS + EVENTS}
    return Stream(
        [
            _frame("messageStart", {"p": PADDING, "role": "assistant"}),
            *(delta(text, padding) for _, text, padding in texts()),
            _frame("contentBlockStop", {"contentBlockIndex": 0, "p": PADDING}),
            _frame("messageStop", {"p": PADDING, "stopReason": "end_turn"}),
            _frame("metadata", {"metrics": {"latencyMs": 1}, "p": PADDING, "usage": usage}),
        ],
        FRAMES,
    )


def invoke() -> Stream:
    """Bedrock's InvokeModel: Anthropic's events in frames."""
    told = [event.partition(b"data: ")[2].strip() for event in anthropic().events]
    padded = zip(told, (*(padding for *_, padding in texts()), *[PADDING] * len(told)), strict=False)
    frames = [_frame("chunk", {"bytes": base64.b64encode(data).decode(), "p": p}) for data, p in padded]
    return Stream(frames, FRAMES)


STREAMS = {
    "anthropic": anthropic(),
    "openai_chat": openai_chat(),
    "openai_responses": openai_responses(),
    "gemini": gemini(),
    "cohere": cohere(),
    "converse": converse(),
    "invoke": invoke(),
}


def pieces(events: list[bytes], burst: int) -> Iterator[bytes]:
    """`burst` events at a time."""
    left = iter(events)
    while piece := b"".join(islice(left, burst)):
        yield piece
