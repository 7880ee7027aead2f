"""Request bodies in the shape of Claude Code's, made up here: sizes count, words do not."""

import json
from typing import Any

WORDS = "the tool reads a file from the local file system and returns its lines with numbers so that it can be edited "
TOOLS = 25
TOOL_BYTES = 2400
SYSTEM_BYTES = 7000
CONTEXT_BYTES = 10100


def prose(size: int) -> str:
    return (WORDS * (size // len(WORDS) + 1))[:size]


def tool(number: int) -> dict[str, Any]:
    text = {"type": "string", "description": prose(120)}
    properties = {"file_path": text, "pattern": text, "limit": {"type": "integer", "minimum": 0}}
    schema = {"type": "object", "properties": properties, "required": ["file_path"], "additionalProperties": False}
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    made = {"name": f"Tool{number}", "description": "", "input_schema": schema}
    return made | {"description": prose(TOOL_BYTES - len(json.dumps(made)))}


def small(model: str) -> dict[str, Any]:
    """About 100 bytes."""
    return {"model": model, "max_tokens": 64, "messages": [{"role": "user", "content": "Say hello to me."}]}


def large(model: str, *, stream: bool) -> dict[str, Any]:
    """The first turn of a session: about 77 KB, most of it tools."""
    cached = {"cache_control": {"type": "ephemeral"}}
    context = f"<system-reminder>\n{prose(CONTEXT_BYTES)}\n</system-reminder>"
    body: dict[str, Any] = {
        "model": model,
        "max_tokens": 32000,
        "system": [
            {"type": "text", "text": "You are a benchmark's idea of Claude Code.", **cached},
            {"type": "text", "text": prose(SYSTEM_BYTES), **cached},
        ],
        "tools": [tool(number) for number in range(TOOLS)],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": context}, {"type": "text", "text": "Go.", **cached}]}
        ],
        "metadata": {"user_id": json.dumps({"device_id": "0" * 64, "session_id": "bench"})},
    }
    return body | ({"stream": True} if stream else {})
