"""The events of a Responses stream, typed, and read with tolerance.

The strict decoder takes what nearly all servers send. What it refuses is read field by field
instead, and a field that makes no sense counts as absent.
"""

from typing import Any

import msgspec

from providers.types import Usage

MAX_COUNT = 10**12


class Event(msgspec.Struct):
    type: str = ""
    output_index: int | None = None
    item_id: str | None = None
    content_index: int = 0
    summary_index: int = 0
    delta: str | None = None
    item: dict[str, Any] | None = None
    annotation: dict[str, Any] | None = None
    response: dict[str, Any] | None = None
    error: Any = None
    code: Any = None
    message: Any = None

    @property
    def key(self) -> int | str | None:
        """What names the item: its place, since some servers change its id between events."""
        return self.item_id if self.output_index is None else self.output_index


_event = msgspec.json.Decoder(Event)


class NotAnEvent(ValueError):
    """JSON, but no object."""


def decode_event(data: bytes) -> Event:
    """Raises msgspec.DecodeError (or RecursionError) when `data` is no JSON, and NotAnEvent."""
    try:
        return _event.decode(data)
    except msgspec.ValidationError:
        told = msgspec.json.decode(data)
    if not isinstance(told, dict):
        raise NotAnEvent
    return Event(
        type=told["type"] if isinstance(told.get("type"), str) else "",
        output_index=_number(told.get("output_index")),
        item_id=told["item_id"] if isinstance(told.get("item_id"), str) else None,
        content_index=_number(told.get("content_index")) or 0,
        summary_index=_number(told.get("summary_index")) or 0,
        delta=told["delta"] if isinstance(told.get("delta"), str) else None,
        item=_object(told.get("item")),
        annotation=_object(told.get("annotation")),
        response=_object(told.get("response")),
        error=told.get("error"),
        code=told.get("code"),
        message=told.get("message"),
    )


def _object(value: Any) -> dict[str, Any] | None:
    return value if isinstance(value, dict) else None


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def objects(value: Any) -> list[dict[str, Any]]:
    """The objects in what should be a list of them."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def text_in(value: dict[str, Any], name: str) -> str:
    told = value.get(name)
    return told if isinstance(told, str) else ""


def update_usage(usage: Usage, told: Any) -> None:
    """Take over the counts of a response's `usage` (translation.md 1.7): its input holds the cached
    tokens, ours does not."""
    if not isinstance(told, dict):
        return
    prompt, output = _count(told.get("input_tokens")), _count(told.get("output_tokens"))
    if prompt is not None:
        details = _object(told.get("input_tokens_details")) or {}
        cached = min(_count(details.get("cached_tokens")) or 0, prompt)
        written = min(_count(details.get("cache_write_tokens")) or 0, prompt - cached)
        usage.input_tokens = prompt - cached - written
        usage.cache_read_tokens = cached
        usage.cache_write_tokens = written
    if output is not None:
        usage.output_tokens = output
        details = _object(told.get("output_tokens_details")) or {}
        reasoning = _count(details.get("reasoning_tokens"))
        usage.reasoning_tokens = None if reasoning is None else min(reasoning, output)


def _count(value: Any) -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_COUNT
    return value if is_count else None
