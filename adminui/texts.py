"""Prompts and answers that were kept, as people read them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gateway.texts import Text

DELTAS = ("text", "thinking", "partial_json")


@dataclass(frozen=True, slots=True)
class ReadableText:
    request: str
    answer: str
    cut: bool


def readable(text: Text) -> ReadableText:
    return ReadableText(_indented(text.request), _streamed(text.answer) or _indented(text.answer), text.cut)


def _indented(text: str) -> str:
    """JSON with line ends; anything else as it is."""
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except ValueError:
        return text


def _streamed(text: str) -> str:
    """What the deltas of a stream come to, block by block; "" for what is no stream of Anthropic's."""
    parts: list[str] = []
    for event in _events(text):
        if event.get("type") == "content_block_start":
            block = event.get("content_block") or {}
            parts.append(f"\n\n[{block.get('type')}{' ' + block['name'] if block.get('name') else ''}]\n")
        elif event.get("type") == "content_block_delta":
            delta = event.get("delta") or {}
            parts += [delta[name] for name in DELTAS if isinstance(delta.get(name), str)]
    return "".join(parts).strip()


def _events(text: str) -> Iterator[dict[str, Any]]:
    for line in text.splitlines():
        if line.startswith("data: {"):
            try:
                yield json.loads(line.removeprefix("data: "))
            except ValueError:
                return  # cut
