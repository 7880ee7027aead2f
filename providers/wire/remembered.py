"""What is made of a client's tools, request after request the same."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from msgspec import Raw

MOST = 32
LARGEST = 128 * 1024
"""Bytes of JSON that are remembered."""

Functions = Sequence[dict[str, Any]]
_made: dict[tuple[object, ...], tuple[Functions, Raw]] = {}


def encoded(functions: Functions, form: Callable[[Functions], Any] = list) -> Raw:
    """`form` of `functions` as JSON. For functions that are remembered themselves and not changed: they are known again
    by their identity. `form` is a function of a module."""
    key = (form, *map(id, functions))
    known = _made.get(key)
    if known is not None:
        return known[1]
    json = msgspec.json.encode(form(functions))
    raw = Raw(json)
    if len(json) <= LARGEST:
        if len(_made) >= MOST:
            _made.clear()
        # The functions are kept too: as long as they are, nothing else has their identity.
        _made[key] = functions, raw
    return raw
