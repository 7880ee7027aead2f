"""What an answer says, in terms that no format owns: what a recording tells, by a plain reading of
it, and what the client has received, are held against each other in these terms."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any


@dataclass
class Counts:
    """Tokens of an answer, in Anthropic's classes; None in `thinking`: it was not told."""

    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    output: int = 0
    thinking: int | None = None


@dataclass
class Told:
    text: str = ""
    thinking: str = ""
    calls: list[tuple[str, Any]] = field(default_factory=list)
    order: list[str] = field(default_factory=list)
    """The kinds of what was said, in its order: thinking, text, call."""
    cited: list[str] = field(default_factory=list)
    """What each citation points at: an address, or the cited words."""
    queries: list[str] = field(default_factory=list)
    """The web searches that the provider made."""
    found: set[str] = field(default_factory=set)
    """The addresses that they found."""
    sealed: list[str] = field(default_factory=list)
    """Opaque state that the provider wants back: signatures, encrypted reasoning."""
    counts: Counts | None = None
    """None: the provider told none."""
    stop_reason: str = ""
    failure: str = ""
    """What the provider said about an answer that failed."""

    def say(self, kind: str, text: str) -> None:
        if not text:
            return
        self.order.append(kind)
        if kind == "text":
            self.text += text
        else:
            self.thinking += text

    def call(self, name: str, arguments: Any) -> None:
        self.order.append("call")
        self.calls.append((name, arguments))


def steps(order: Iterable[str]) -> list[str]:
    """`order` with neighbours of one kind as one."""
    return [kind for kind, _ in groupby(order)]


def received(message: dict[str, Any]) -> Told:
    """What Anthropic's Message `message` says."""
    told = Told(stop_reason=message["stop_reason"])
    for block in message["content"]:
        match block["type"]:
            case "text":
                told.say("text", block["text"])
                told.cited += [target_of(citation) for citation in block.get("citations") or []]
            case "thinking":
                told.say("thinking", block["thinking"])
                told.sealed.append(block["signature"])
            case "redacted_thinking":
                told.sealed.append(block["data"])
            case "tool_use":
                told.call(block["name"], block["input"])
            case "server_tool_use":
                told.queries.append(block["input"]["query"])
            case "web_search_tool_result":
                told.found |= {result["url"] for result in block["content"]}
            case other:
                raise AssertionError(f"no other format has a block of the type {other}")
    usage = message["usage"]
    details = usage.get("output_tokens_details") or {}
    told.counts = Counts(
        usage["input_tokens"],
        usage["cache_read_input_tokens"],
        usage["cache_creation_input_tokens"],
        usage["output_tokens"],
        details.get("thinking_tokens"),
    )
    return told


def target_of(citation: dict[str, Any]) -> str:
    return str(citation.get("url") or citation.get("cited_text") or "")


def without_ids(message: dict[str, Any]) -> dict[str, Any]:
    """`message` without what is made up anew for each answer, and what is null. OpenAI encrypts the same
    reasoning anew every time that it tells it."""
    text = json.dumps({name: value for name, value in message.items() if name != "id" and value is not None})
    text = re.sub(r"gAAAAA[-_=A-Za-z0-9]{20,}", "encrypted", text)
    fresh = re.compile(r"(?:toolu_|srvtoolu_ccm)[0-9a-f]{20,24}")
    names: dict[str, str] = {}
    stable: dict[str, Any] = json.loads(fresh.sub(lambda found: names.setdefault(found[0], f"id-{len(names)}"), text))
    return stable
