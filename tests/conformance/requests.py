"""What the client asks so that a recording is the answer."""

from typing import Any

from tests.conformance.recordings import Recording
from tests.conformance.told import Told

WEB_SEARCH = {"type": "web_search_20250305", "name": "web_search"}
DOCUMENT = "AI provides: 1. Automation of tasks 2. Better decision-making 3. Cost reduction"


def asking(recording: Recording, told: Told | None, model: str) -> dict[str, Any]:
    """A request of the SDK's, with the tools that the answer uses, searches included."""
    names = dict.fromkeys(name for name, _ in told.calls) if told else {}
    tools: list[dict[str, Any]] = [{"name": name, "input_schema": {"type": "object"}} for name in names]
    if told and told.queries:
        tools.append(WEB_SEARCH)
    body: dict[str, Any] = {
        "model": model,
        "max_tokens": 8000,
        "messages": [{"role": "user", "content": _content(recording)}],
    }
    if recording.format == "gemini":
        # Google tells thoughts only when they were asked for.
        body["thinking"] = {"type": "adaptive"}
    return body | ({"tools": tools} if tools else {})


def _content(recording: Recording) -> Any:
    if "citations" not in recording.id or recording.format != "cohere":
        return "hello"
    source = {"type": "text", "media_type": "text/plain", "data": DOCUMENT}
    return [{"type": "document", "title": "benefits.txt", "source": source, "citations": {"enabled": True}}]
