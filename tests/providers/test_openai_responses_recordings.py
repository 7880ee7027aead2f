"""Real recorded Responses traffic, replayed through the decoder.

What the provider said is read a second time here, naively, and must all be in our blocks."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from providers.types import Usage
from providers.wire.sse import SseParser
from tests.providers.openai_chat_support import BASH, model, request
from tests.providers.openai_responses_support import SEARCH, WIRE, decoded, feed, target, whole

FILES = [
    "azure/azure-tool-call.1.chunks.txt",
    "open-responses/responses/lmstudio-tool-call.1.chunks.txt",
    "open-responses/responses/openai-pdf-input-file.1.chunks.txt",
    "openai/responses/openai-compaction.1.chunks.txt",
    "openai/responses/openai-custom-tool.1.chunks.txt",
    "openai/responses/openai-reasoning-encrypted-content.1.chunks.txt",
    "openai/responses/openai-web-search-tool.1.chunks.txt",
    "openai/responses/programmatic-tool-calling.1.chunks.txt",
    "xai/responses/xai-text-with-reasoning-streaming-store-false.1.chunks.txt",
    "xai/responses/xai-text-with-reasoning-streaming.1.chunks.txt",
    "xai/responses/xai-web-search-tool.1.chunks.txt",
]


@dataclass(frozen=True)
class Recording:
    where: str
    raw: bytes

    @property
    def told(self) -> list[dict[str, Any]]:
        return [json.loads(payload) for _, payload in SseParser().feed(self.raw) if payload.startswith(b"{")]


def answers(recordings: Path) -> Iterator[Recording]:
    """Every recorded stream; one file may hold several answers."""
    for name in FILES:
        events: list[bytes] = []
        for line in (recordings / "vercel__ai" / name).read_bytes().splitlines():
            if not line.strip():
                continue
            kind = json.loads(line)["type"]
            if kind == "response.created" and events:
                yield Recording(name, b"".join(events))
                events = []
            events.append(b"event: " + kind.encode() + b"\ndata: " + line + b"\n\n")
        yield Recording(name, b"".join(events))
    for path in sorted((recordings / "pydantic__pydantic-ai/test_openai_responses").glob("*.yaml")):
        for interaction in yaml.load(path.read_text(), Loader=yaml.CSafeLoader)["interactions"]:
            body = interaction["response"].get("body", {}).get("string", "")
            raw = body if isinstance(body, bytes) else str(body).encode()
            if b"response.completed" in raw:
                yield Recording(path.name, raw)


def expected(events: list[dict[str, Any]]) -> dict[str, Any]:
    """Text, reasoning, calls, usage and citations, joined without any regard to blocks."""
    deltas = {"text": "", "summary": "", "content": ""}
    names = {
        "response.output_text.delta": "text",
        "response.reasoning_summary_text.delta": "summary",
        "response.reasoning_text.delta": "content",
    }
    calls, notes = [], 0
    for event in events:
        if event["type"] in names:
            deltas[names[event["type"]]] += event["delta"]
        item = event.get("item") or {}
        if event["type"] == "response.output_item.done" and item.get("type") == "function_call":
            calls.append((item["name"], json.loads(item["arguments"])))
        elif event["type"] == "response.output_item.done" and item.get("type") == "custom_tool_call":
            calls.append((item["name"], {"input": item["input"]}))
        notes += event["type"] == "response.output_text.annotation.added"
    usage = next(event for event in reversed(events) if event["type"] == "response.completed")["response"]["usage"]
    return {"deltas": deltas, "calls": calls, "notes": notes, "usage": usage}


def joined(content: list[Any], kind: str) -> str:
    return "".join(block[kind] for block in content if block["type"] == kind)


def test_recorded_streams_lose_nothing(recordings: Path) -> None:
    found = list(answers(recordings))
    assert len(found) >= len(FILES) + 5
    for recording in found:
        is_search = "web" in recording.where
        asked = request(tools=[SEARCH] if is_search else [BASH], stream=True)
        answer = whole(feed([recording.raw], asked=asked))
        content, told = answer.content, expected(recording.told)
        assert joined(content, "text") == told["deltas"]["text"], recording.where
        thought = joined(content, "thinking").replace("\n", "")
        assert thought in {told["deltas"][form].replace("\n", "") for form in ("summary", "content")}, recording.where
        used = [(block["name"], block["input"]) for block in content if block["type"] == "tool_use"]
        assert used == told["calls"], recording.where
        assert answer.decoder.stop_reason == ("tool_use" if used else "end_turn"), recording.where
        cited = sum(len(block.get("citations") or []) for block in content)
        assert cited == told["notes"], recording.where
        usage: Usage = answer.decoder.usage
        prompt = (usage.input_tokens or 0) + (usage.cache_read_tokens or 0) + (usage.cache_write_tokens or 0)
        assert (prompt, usage.output_tokens) == (told["usage"]["input_tokens"], told["usage"]["output_tokens"])
        assert (usage.web_searches > 0) == is_search, recording.where
        if told["notes"] or b'"sources":[{"type":"url"' in recording.raw:
            assert any(block["type"] == "web_search_tool_result" and block["content"] for block in content)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_recorded_streams_in_other_pieces(recordings: Path, size: int) -> None:
    for recording in answers(recordings):
        raw = recording.raw if len(recording.raw) < 40_000 or size > 7 else b""
        at_once = feed([raw])
        cut = feed(raw[start : start + size] for start in range(0, len(raw), size))
        assert cut.decoder.usage == at_once.decoder.usage, recording.where
        assert (cut.decoder.failure is None) == (at_once.decoder.failure is None) == bool(raw)
        assert not raw or cut.message == at_once.message, recording.where


def test_recorded_answers_are_the_same_whole(recordings: Path) -> None:
    """Encrypted content is left out: the servers encrypt it anew each time that they tell it."""
    for recording in answers(recordings):
        finished = recording.told[-1].get("response") or {}
        if not finished.get("output"):
            continue
        asked = request(tools=[SEARCH] if "web" in recording.where else [BASH])
        streamed = feed([recording.raw], asked=asked).message
        made = decoded(finished, asked=asked)
        for message in (streamed, made):
            for block in message["content"]:
                block.pop("signature", None)
                block.pop("data", None)
        assert made == streamed, recording.where


def test_a_recorded_error(recordings: Path) -> None:
    body = (recordings / "vercel__ai/openai/responses/reasoning-model-temperature-error.json").read_bytes()
    failure = WIRE.decode_error(400, {}, body, target=target())
    assert failure.type == "invalid_request_error"
    assert "temperature" in failure.message
    assert model().name not in failure.message
