"""Every recorded answer in the fixtures, with the wire that it fits.

The recordings are third-party data and lie beside the project: read in place, never copied.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

import yaml

from tests.conftest import RECORDINGS
from tests.fakes.bedrock import event as bedrock_frame

Format = Literal["openai_chat", "openai_responses", "gemini", "cohere", "bedrock", "anthropic"]

FOLDERS: dict[str, tuple[Format, str]] = {
    "alibaba": ("openai_chat", "openai-compatible"),
    "amazon-bedrock": ("bedrock", "bedrock"),
    "anthropic": ("anthropic", "anthropic"),
    "azure": ("openai_responses", "azure"),
    "cerebras": ("openai_chat", "cerebras"),
    "cohere": ("cohere", "cohere"),
    "google": ("gemini", "gemini"),
    "groq": ("openai_chat", "groq"),
    "mistral": ("openai_chat", "mistral"),
    "open-responses": ("openai_responses", "openai-compatible"),
    "openai-compatible": ("openai_chat", "openai-compatible"),
    "openai/chat": ("openai_chat", "openai"),
    "openai/responses": ("openai_responses", "openai"),
    "perplexity": ("openai_chat", "openai-compatible"),
    "xai": ("openai_chat", "xai"),
    "xai/responses": ("openai_responses", "xai"),
}
"""Format and kind by the folder under vercel__ai; the longest one that fits counts."""
STATUSES = {
    "google/google-429-retry-info.json": 429,
    "openai/chat/reasoning-model-legacy-parameter-error.json": 400,
    "openai/responses/reasoning-model-temperature-error.json": 400,
}
"""Refusals: their files do not tell the status."""
PATHS: dict[str, Format] = {
    "/chat/completions": "openai_chat",
    "/responses": "openai_responses",
    ":generateContent": "gemini",
    ":streamGenerateContent": "gemini",
    "/v2/chat": "cohere",
    "/converse": "bedrock",
    "/converse-stream": "bedrock",
    "/v1/messages": "anthropic",
}
"""Format by the end of the address that a cassette was recorded from."""
HOSTS = {
    "api.anthropic.com": "anthropic",
    "api.cerebras.ai": "cerebras",
    "api.cohere.com": "cohere",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral",
    "api.openai.com": "openai",
    "api.z.ai": "z.ai",
    "bedrock-runtime.us-east-1.amazonaws.com": "bedrock",
    "generativelanguage.googleapis.com": "gemini",
    "openrouter.ai": "openrouter",
    "router.huggingface.co": "openai-compatible",
}
EXCEPTIONS = {
    r"\.xai\.yaml$": "dumps of gRPC messages: CCM calls xAI over HTTP, in both of OpenAI's formats",
}
"""Recordings that fit no wire (patterns of their paths), each with the reason."""
CONTENT_TYPES = {"bedrock": "application/vnd.amazon.eventstream"}


@dataclass(frozen=True)
class Recording:
    """One answer. `asked` is the request that it answers, where that was recorded."""

    id: str
    format: Format
    kind: str
    model: str
    body: bytes = field(repr=False)
    streamed: bool
    status: int = 200
    asked: Any = field(default=None, repr=False)

    @property
    def content_type(self) -> str:
        return CONTENT_TYPES.get(self.format, "text/event-stream") if self.streamed else "application/json"

    def __str__(self) -> str:
        return self.id


def files() -> list[Path]:
    """Every file of the third-party recordings."""
    folders = [RECORDINGS / "vercel__ai", RECORDINGS / "pydantic__pydantic-ai"]
    return sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())


def name_of(path: Path) -> str:
    return str(path.relative_to(RECORDINGS))


@cache
def recordings() -> tuple[Recording, ...]:
    """All of them; none where the fixtures are absent."""
    return tuple(recording for path in files() for recording in read(path))


def read(path: Path) -> Iterator[Recording]:
    """The answers in a file; none when it fits no wire."""
    if path.is_relative_to(RECORDINGS / "vercel__ai"):
        yield from _chunks(path)
    elif path.suffix == ".yaml":
        yield from _cassette(path)


# -- vercel/ai: a JSON payload a line, or a whole body


def _chunks(path: Path) -> Iterator[Recording]:
    folder = str(path.parent.relative_to(RECORDINGS / "vercel__ai")) + "/"
    fitting = [name for name in FOLDERS if folder.startswith(name + "/")]
    if not fitting:
        return
    form, kind = FOLDERS[max(fitting, key=len)]
    raw = path.read_bytes()
    if path.suffix == ".json":
        status = STATUSES.get(str(path.relative_to(RECORDINGS / "vercel__ai")), 200)
        yield Recording(name_of(path), form, kind, _model(form, [json.loads(raw)]), raw, streamed=False, status=status)
        return
    if path.suffix == ".sse":
        yield Recording(name_of(path), form, kind, "recorded", raw, streamed=True)
        return
    answers = _answers(form, [line for line in raw.decode().splitlines() if line.strip()])
    for number, lines in enumerate(answers):
        payloads = [json.loads(line) for line in lines]
        where = name_of(path) + (f"#{number}" if len(answers) > 1 else "")
        body = b"".join(_event(form, line, payload) for line, payload in zip(lines, payloads, strict=True))
        ending = b"data: [DONE]\n\n" if form == "openai_chat" else b""
        yield Recording(where, form, kind, _model(form, payloads), body + ending, streamed=True)


def _answers(form: Format, lines: list[str]) -> list[list[str]]:
    """The answers in one file apart: each has an id, or an event that it begins with."""
    answers: list[list[str]] = []
    latest = ""
    for line in lines:
        payload = json.loads(line)
        begins = form == "openai_responses" and payload["type"] == "response.created"
        if form == "openai_chat":
            # Azure's first chunk has no id: it belongs to the answer that follows.
            name = payload.get("id") or latest
            begins, latest = bool(latest) and name != latest, name
        if begins or not answers:
            answers.append([])
        answers[-1].append(line)
    return answers


def _event(form: Format, line: str, payload: Any) -> bytes:
    if form == "bedrock":
        ((name, fields),) = payload.items()
        return bedrock_frame(name, **fields)
    name = f"event: {payload['type']}\n" if form in {"anthropic", "openai_responses", "cohere"} else ""
    return f"{name}data: {line}\n\n".encode()


def _model(form: Format, payloads: list[Any]) -> str:
    if form == "bedrock":
        return "converse/anthropic.claude-sonnet-4-6-v1:0"
    if form == "cohere":
        return "command-a-03-2025"
    for payload in payloads:
        inner = payload.get("response") or payload.get("message") or payload
        told = payload.get("modelVersion") or payload.get("model") or (isinstance(inner, dict) and inner.get("model"))
        if told:
            return str(told)
    return "gemini-2.5-flash" if form == "gemini" else "recorded"


# -- pydantic-ai: VCR cassettes, pairs of request and answer


def _cassette(path: Path) -> Iterator[Recording]:
    told = yaml.load(path.read_text(), Loader=yaml.CSafeLoader)
    interactions = told["interactions"]
    for number, interaction in enumerate(interactions):
        if "request" not in interaction:
            return
        asked, answer = interaction["request"], interaction["response"]
        url = urlsplit(asked["uri"])
        form = next((form for end, form in PATHS.items() if url.path.endswith(end)), None)
        kind = HOSTS.get(url.hostname or "")
        if form is None or kind is None:
            return
        body, streamed = _answer(answer)
        request = asked.get("parsed_body") or asked.get("body")
        yield Recording(
            name_of(path) + (f"#{number}" if len(interactions) > 1 else ""),
            form,
            kind,
            _asked_model(form, url.path, request),
            body,
            streamed=streamed,
            status=answer["status"]["code"],
            asked=json.loads(request) if isinstance(request, str) else request,
        )


def _answer(answer: dict[str, Any]) -> tuple[bytes, bool]:
    if "parsed_body" in answer:
        return json.dumps(answer["parsed_body"]).encode(), False
    text = answer["body"]["string"]
    body = text if isinstance(text, bytes) else str(text).encode()
    kinds = {name.lower(): value for name, value in answer["headers"].items()}
    return body, "stream" in str(kinds.get("content-type", ""))


def _asked_model(form: Format, path: str, request: Any) -> str:
    if form == "bedrock":
        name = unquote(path.split("/model/")[1].split("/")[0])
        return f"converse/{name}" if "anthropic" in name else name
    if form == "gemini":
        return path.split("/models/")[1].split(":")[0]
    return str(request["model"])
