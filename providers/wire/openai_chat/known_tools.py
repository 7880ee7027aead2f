"""Tools that Claude knows by their type: what they take, for models that have to be told.

Source: Anthropic's documentation of its bash, text editor and memory tools.
"""

import functools
from typing import Any

import msgspec

TEXT = {"type": "string"}
NUMBER = {"type": "integer"}
VIEW_RANGE = {"type": "array", "items": NUMBER, "description": "First and last line to show; -1 is the last one."}
EDITING: dict[str, Any] = {
    "path": TEXT, "file_text": TEXT, "old_str": TEXT, "new_str": TEXT, "insert_line": NUMBER, "insert_text": TEXT,
    "view_range": VIEW_RANGE,
}  # fmt: skip

_KNOWN: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "bash_": (
        "Runs a command in a bash session that stays open; `restart` begins a new session.",
        {"command": TEXT, "restart": {"type": "boolean"}},
        [],
    ),
    "text_editor_": (
        "Shows, creates and edits text files.",
        {"command": {"type": "string", "enum": ["view", "create", "str_replace", "insert"]}, **EDITING},
        ["command", "path"],
    ),
    "memory_": (
        "Keeps notes in files under /memories, over conversations: look there before you begin.",
        {
            "command": {"type": "string", "enum": ["view", "create", "str_replace", "insert", "delete", "rename"]},
            **EDITING,
            "old_path": TEXT,
            "new_path": TEXT,
        },
        ["command"],
    ),
}


@functools.lru_cache(maxsize=64)
def schema_of(tool_type: str) -> tuple[str, bytes] | None:
    """(description, schema as JSON) of a tool of this type; None for any other."""
    found = next((known for start, known in _KNOWN.items() if tool_type.startswith(start)), None)
    if found is None:
        return None
    description, properties, required = found
    schema = {"type": "object", "properties": properties, "required": required}
    return description, msgspec.json.encode(schema)
