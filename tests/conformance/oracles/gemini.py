"""A plain reading of Google's answers. It shares no code with the wire."""

import json
import re
from itertools import pairwise
from typing import Any

from tests.conformance.oracles.sse import payloads
from tests.conformance.told import Counts, Told

STOPS = {"MAX_TOKENS": "max_tokens", "SAFETY": "refusal"}
STEP = re.compile(r"\.(\w+)|\[(\d+)\]")


def told(body: bytes, *, streamed: bool, kind: str) -> Told:
    response = [chunk for _, chunk in payloads(body)] if streamed else json.loads(body)
    chunks = response if isinstance(response, list) else [response]
    answer = Told()
    usage: dict[str, int] = {}
    growing: dict[str, Any] | None = None
    finish = ""
    for chunk in chunks:
        usage |= {name: count for name, count in chunk.get("usageMetadata", {}).items() if isinstance(count, int)}
        for candidate in chunk.get("candidates") or []:
            for part in candidate.get("content", {}).get("parts", []):
                growing = _part(answer, part, growing)
            finish = candidate.get("finishReason") or finish
            _grounding(answer, candidate.get("groundingMetadata") or {})
    answer.counts = counts(usage)
    answer.stop_reason = "tool_use" if answer.calls else STOPS.get(finish, "end_turn")
    return answer


def _part(answer: Told, part: dict[str, Any], growing: dict[str, Any] | None) -> dict[str, Any] | None:
    """Read a part; `growing` is the input of a call that is told in pieces."""
    call = part.get("functionCall")
    if part.get("thoughtSignature") and (call or part.get("text")):
        # What signs the very end of an answer is not wanted back.
        answer.sealed.append(part["thoughtSignature"])
    if call is None:
        answer.say("thinking" if part.get("thought") else "text", part.get("text", ""))
        return growing
    if "args" in call:
        answer.call(call["name"], call["args"])
        return growing
    if call.get("name"):
        growing = {}
        answer.call(call["name"], growing)
    for piece in call.get("partialArgs", []):
        assert growing is not None
        _put(growing, piece)
    return growing


def _put(place: Any, piece: dict[str, Any]) -> None:
    steps = [name or int(index) for name, index in STEP.findall(piece["jsonPath"].removeprefix("$"))]
    for step, following in pairwise(steps):
        new: Any = [] if isinstance(following, int) else {}
        if isinstance(step, int):
            place.extend([new] if step == len(place) else [])
            place = place[step]
        else:
            place = place.setdefault(step, new)
    (value,) = [piece[name] for name in piece if name.endswith("Value")]
    place[steps[-1]] = place.get(steps[-1], "") + value if isinstance(value, str) else value


def _grounding(answer: Told, grounding: dict[str, Any]) -> None:
    answer.queries += grounding.get("webSearchQueries", [])
    chunks = [chunk["web"]["uri"] for chunk in grounding.get("groundingChunks", [])]
    answer.found |= set(chunks)
    for support in grounding.get("groundingSupports", []):
        answer.cited += [chunks[index] for index in support["groundingChunkIndices"]]


def counts(usage: dict[str, int]) -> Counts:
    cached = usage.get("cachedContentTokenCount", 0)
    asked = usage["promptTokenCount"] - cached + usage.get("toolUsePromptTokenCount", 0)
    thought = usage.get("thoughtsTokenCount")
    return Counts(asked, cached, 0, usage.get("candidatesTokenCount", 0) + (thought or 0), thought)


def whole(body: bytes) -> bytes:
    """The chunks as the list that Google answers to a request without `alt=sse`."""
    return json.dumps([chunk for _, chunk in payloads(body)]).encode()


def stream(body: bytes) -> bytes:
    """A stream of one event."""
    return b"data: " + json.dumps(json.loads(body)).encode() + b"\r\n\r\n"
