"""Real recorded Chat Completions traffic, replayed through the decoder.

What the provider said is read a second time here, naively, and must all be in our blocks."""

import json
from dataclasses import dataclass, field
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from providers.types import RetryClass, Usage
from providers.wire.sse import SseParser
from tests.providers.openai_chat_support import (
    DONE,
    WIRE,
    feed,
    model,
    problem_of_events,
    request,
    stream,
    target,
    without_ids,
)


@dataclass(frozen=True)
class Recording:
    path: str
    kind: str
    stop_reason: str
    usage: Usage
    blocks: tuple[str, ...]
    tools: list[tuple[str, dict[str, Any]]] = field(default_factory=list)


BERLIN = {"query": "current Berlin weather"}
RECORDINGS = [
    Recording("openai/chat/openai-text.chunks.txt", "openai", "end_turn", Usage(16, 0, 0, None, 300, 0), ("text",)),
    Recording(
        "openai/chat/azure-model-router.1.chunks.txt", "openai", "end_turn", Usage(15, 0, 0, None, 78, 64), ("text",)
    ),
    Recording(
        "groq/groq-tool-call.chunks.txt",
        "groq",
        "tool_use",
        Usage(210, 0, 0, None, 15),
        ("tool_use",),
        [("weather", {})],
    ),
    Recording(
        "mistral/mistral-incremental-tool-call.chunks.txt",
        "mistral",
        "tool_use",
        Usage(43, 128, 0, None, 14),
        ("tool_use",),
        [("webSearchTool", BERLIN)],
    ),
    Recording(
        "alibaba/alibaba-tool-call.chunks.txt",
        "openai-compatible",
        "tool_use",
        Usage(295, 0, 0, None, 22),
        ("tool_use",),
        [("weather", {"location": "San Francisco"})],
    ),
    Recording("xai/xai-text.chunks.txt", "xai", "end_turn", Usage(1, 11, 0, None, 291, 290), ("thinking", "text")),
    Recording(
        "xai/xai-tool-call.chunks.txt",
        "xai",
        "tool_use",
        Usage(1, 290, 0, None, 222, 196),
        ("thinking", "tool_use"),
        [("weather", {"location": "San Francisco"})],
    ),
    Recording(
        "openai-compatible/chat/xai-text.chunks.txt",
        "openai-compatible",
        "end_turn",
        Usage(1, 11, 0, None, 342, 340),
        ("thinking", "text"),
    ),
    Recording(
        "openai-compatible/chat/anthropic-fallback-tool-call.sse",
        "openai-compatible",
        "tool_use",
        Usage(),
        ("text", "tool_use"),
        [("read_file", {"path": "a.txt"})],
    ),
    Recording(
        "perplexity/perplexity-citations.chunks.txt",
        "openai-compatible",
        "end_turn",
        Usage(10, 0, 0, None, 336),
        ("text",),
    ),
]


def raw_stream(path: Path) -> bytes:
    if path.suffix == ".sse":
        return path.read_bytes()
    lines = path.read_bytes().splitlines()
    return b"".join(b"data: " + line + b"\n\n" for line in lines if line.strip()) + DONE


def said(raw: bytes) -> dict[str, str]:
    """Text and reasoning of a stream, joined without any regard to blocks."""
    texts = {"text": "", "thinking": ""}
    for _, payload in SseParser().feed(raw):
        if not payload.startswith(b"{"):
            continue
        for choice in json.loads(payload).get("choices") or []:
            delta = choice.get("delta") or {}
            texts["text"] += delta.get("content") or ""
            texts["thinking"] += delta.get("reasoning_content") or delta.get("reasoning") or ""
    return texts


def joined(content: list[Any], kind: str) -> str:
    return "".join(block[kind] for block in content if block["type"] == kind)


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda recording: recording.path)
def test_a_recorded_stream(recordings: Path, recording: Recording) -> None:
    raw = raw_stream(recordings / "vercel__ai" / recording.path)
    answer = feed([raw], kind=recording.kind)
    assert answer.decoder.failure is None
    assert problem_of_events(answer.events) is None
    content = answer.content
    assert tuple(kind for kind, _ in groupby(block["type"] for block in content)) == recording.blocks
    assert [(block["name"], block["input"]) for block in content if block["type"] == "tool_use"] == recording.tools
    assert {kind: joined(content, kind) for kind in ("text", "thinking")} == said(raw)
    assert answer.message["stop_reason"] == answer.decoder.stop_reason == recording.stop_reason
    assert answer.decoder.usage == recording.usage


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda recording: recording.path)
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_recorded_stream_in_other_pieces(recordings: Path, recording: Recording, size: int) -> None:
    raw = raw_stream(recordings / "vercel__ai" / recording.path)[:60_000]
    at_once = feed([raw], kind=recording.kind)
    cut = feed((raw[start : start + size] for start in range(0, len(raw), size)), kind=recording.kind)
    assert cut.decoder.usage == at_once.decoder.usage
    assert cut.decoder.failure == at_once.decoder.failure
    assert cut.message == at_once.message


def test_two_recorded_answers_in_one_file(recordings: Path) -> None:
    lines = (recordings / "vercel__ai/cerebras/fixtures/cererebras-structured-output-tools.1.chunks.txt").read_bytes()
    chunks = [b"data: " + line + b"\n\n" for line in lines.splitlines() if line.strip()]
    answers = [list(group) for _, group in groupby(chunks, lambda raw: json.loads(raw[6:])["id"])]
    assert len(answers) == 2
    for chunks_of_one in answers:
        answer = stream(*chunks_of_one, kind="cerebras")
        assert problem_of_events(answer.events) is None
        assert joined(answer.content, "thinking") == said(b"".join(chunks_of_one))["thinking"]
        assert answer.decoder.stop_reason == "tool_use"


# -- pydantic-ai's cassettes: real pairs of request and answer


@dataclass(frozen=True)
class Exchange:
    where: str
    url: str
    status: int
    body: bytes

    @property
    def kind(self) -> str:
        hosts = {"openai.com": "openai", "groq": "groq", "mistral": "mistral", "cerebras": "cerebras", "z.ai": "z.ai"}
        hosts |= {"openrouter": "openrouter", "googleapis": "gemini"}
        return next((kind for host, kind in hosts.items() if host in self.url), "openai-compatible")

    @property
    def is_stream(self) -> bool:
        return b"data: " in self.body


@cache
def exchanges(folder: Path) -> tuple[Exchange, ...]:
    found = []
    for path in sorted((folder / "pydantic__pydantic-ai").rglob("*.yaml")):
        raw = path.read_text()
        if "/chat/completions" not in raw:
            continue
        for interaction in yaml.load(raw, Loader=yaml.CSafeLoader)["interactions"]:
            url, answer = interaction["request"]["uri"], interaction["response"]
            if "/chat/completions" in url:
                body = _body(answer)
                found.append(Exchange(path.name, url, answer["status"]["code"], body))
    return tuple(found)


def _body(answer: dict[str, Any]) -> bytes:
    if "parsed_body" in answer:
        return msgspec.json.encode(answer["parsed_body"])
    body = answer["body"]["string"]
    return body if isinstance(body, bytes) else str(body).encode()


def test_recorded_whole_answers(recordings: Path) -> None:
    whole = [e for e in exchanges(recordings) if e.status == 200 and not e.is_stream]
    assert len(whole) > 30
    for exchange in whole:
        answer = WIRE.decode_response(exchange.body, request=request(), target=target(exchange.kind), model=model())
        told = json.loads(exchange.body)
        message = told["choices"][0]["message"]
        content = json.loads(answer.body)["content"]
        calls = message.get("tool_calls") or []
        used = [(block["name"], block["input"]) for block in content if block["type"] == "tool_use"]
        assert used == [(c["function"]["name"], json.loads(c["function"]["arguments"])) for c in calls], exchange.where
        if isinstance(message.get("content"), str):
            assert joined(content, "text") == message["content"] or not message["content"].strip(), exchange.where
        thought = message.get("reasoning_content") or message.get("reasoning")
        assert joined(content, "thinking") == (thought or joined(content, "thinking")), exchange.where
        expected = "max_tokens" if told["choices"][0]["finish_reason"] == "length" else "end_turn"
        assert answer.stop_reason == ("tool_use" if calls else expected), exchange.where
        usage = answer.usage
        counted = (usage.input_tokens or 0) + (usage.cache_read_tokens or 0) + (usage.cache_write_tokens or 0)
        assert counted == told["usage"]["prompt_tokens"], exchange.where
        assert (usage.output_tokens or 0) >= told["usage"]["completion_tokens"], exchange.where


def test_recorded_streams_with_their_whole_content(recordings: Path) -> None:
    streamed = [e for e in exchanges(recordings) if e.status == 200 and e.is_stream]
    assert len(streamed) >= 3
    for exchange in streamed:
        answer = feed([exchange.body], kind=exchange.kind)
        if answer.decoder.failure is not None:
            assert "tool_use_failed" in exchange.where
            continue
        assert problem_of_events(answer.events) is None, exchange.where
        assert joined(answer.content, "text") == said(exchange.body)["text"], exchange.where
        assert without_ids(answer.message) == answer.message


def test_a_recorded_failure_inside_a_stream(recordings: Path) -> None:
    failed = [e for e in exchanges(recordings) if "tool_use_failed" in e.where and b"event: error" in e.body]
    assert failed
    for exchange in failed:
        answer = feed([exchange.body], kind="groq")
        assert answer.decoder.failure is not None, exchange.where
        assert answer.decoder.failure.retry is RetryClass.SAME_TARGET
        assert answer.decoder.failure.upstream_status == 400
        assert not answer.decoder.finished
        assert b"message_stop" not in answer.bytes


def test_recorded_error_answers(recordings: Path) -> None:
    refused = [e for e in exchanges(recordings) if e.status >= 400]
    body = (recordings / "vercel__ai/openai/chat/reasoning-model-legacy-parameter-error.json").read_bytes()
    for exchange in [*refused, Exchange("vercel", "openai.com", 400, body)]:
        failure = WIRE.decode_error(exchange.status, {}, exchange.body, target=target(exchange.kind))
        assert failure.message.startswith("The provider acme")
        assert failure.upstream_status == exchange.status
        assert exchange.where != "vercel" or "Use 'max_completion_tokens' instead." in failure.message
