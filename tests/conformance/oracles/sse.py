"""Server-sent events, read line by line."""

import json
from typing import Any


def payloads(body: bytes) -> list[tuple[str, Any]]:
    """The events with JSON in them, as (name, payload)."""
    events: list[tuple[str, Any]] = []
    name = ""
    for line in body.decode().splitlines():
        field, _, value = line.partition(":")
        if not line:
            name = ""
        elif field == "event":
            name = value.strip()
        elif field == "data" and value.strip().startswith("{"):
            events.append((name, json.loads(value)))
    return events
