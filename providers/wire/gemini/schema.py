"""JSON Schema as Google takes it in `parametersJsonSchema` and `responseJsonSchema`.

Kept are the keywords that Google documents; another one is refused there ("Unknown name …") or
misread. What has an equal form is rewritten. The rest only narrows what the client checks itself
when it gets the call (translation.md 1.4).
"""

from typing import Any

from providers.wire.openai_chat.tools import SCHEMA_MAPS

KEPT = frozenset(
    {
        "$ref", "$defs", "$anchor", "type", "format", "title", "description", "enum", "items", "prefixItems",
        "minItems", "maxItems", "minimum", "maximum", "anyOf", "oneOf", "properties", "additionalProperties",
        "required", "propertyOrdering", "pattern", "minLength", "maxLength", "minProperties", "maxProperties",
        "default", "nullable",
    }
)  # fmt: skip
FORMATS = frozenset({"date", "date-time", "time", "enum", "int32", "int64", "float", "double"})
DATA = frozenset({"default", "required", "type", "propertyOrdering"})
_BOUNDS = {"exclusiveMinimum": ("minimum", 1), "exclusiveMaximum": ("maximum", -1)}


def accepted(schema: Any) -> Any:
    """`schema` in Google's dialect. Idempotent."""
    if isinstance(schema, list):
        return [accepted(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        # Beside a reference Google takes nothing but `$defs`.
        return _kept({key: value for key, value in schema.items() if key in {"$ref", "$defs", "definitions"}})
    return _kept(_rewritten(_merged(schema)))


def function_parameters(schema: Any) -> dict[str, Any] | None:
    """The parameters of a function with the input `schema`: an object at the root, and None for a
    function without any."""
    if not isinstance(schema, dict):
        return None
    root = accepted(schema)
    if "$ref" in root:
        return dict(root)
    root["type"] = "object"
    says_nothing = not root.get("properties") and not any(root.get(key) for key in ("anyOf", "oneOf"))
    if says_nothing and not root.get("additionalProperties"):
        return None
    root.setdefault("properties", {})
    return dict(root)


def _kept(schema: dict[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for key, value in schema.items():
        name = "$defs" if key == "definitions" else key
        if name not in KEPT or (name == "format" and value not in FORMATS):
            continue
        if name in SCHEMA_MAPS and isinstance(value, dict):
            kept[name] = {inner: accepted(part) for inner, part in value.items()}
        elif name == "enum":
            kept |= _enum(value)
        else:
            kept[name] = value if name in DATA else _reference(accepted(value), name)
    return kept


def _reference(value: Any, name: str) -> Any:
    """`definitions` are called `$defs` here, so references to them are too."""
    prefix = "#/definitions/"
    if name == "$ref" and isinstance(value, str) and value.startswith(prefix):
        return "#/$defs/" + value.removeprefix(prefix)
    return value


def _enum(values: Any) -> dict[str, Any]:
    """Texts and numbers only, and no empty text; null is said by the type."""
    if not isinstance(values, list):
        return {}
    told = [v for v in values if isinstance(v, str | int | float) and not isinstance(v, bool) and v != ""]
    return {"enum": told} if told and len(told) >= len([v for v in values if v not in ("", None)]) else {}


def _rewritten(schema: dict[str, Any]) -> dict[str, Any]:
    changed = dict(schema)
    if "const" in changed and "enum" not in changed:
        changed["enum"] = [changed["const"]]
    for exclusive, (inclusive, step) in _BOUNDS.items():
        bound = changed.get(exclusive)
        if isinstance(bound, int | float) and not isinstance(bound, bool) and inclusive not in changed:
            changed[inclusive] = bound + step if changed.get("type") == "integer" else bound
    return changed


def _merged(schema: dict[str, Any]) -> dict[str, Any]:
    """`allOf` folded into the schema around it: properties and what is required add up."""
    parts = schema.get("allOf")
    if not isinstance(parts, list):
        return schema
    merged = {key: value for key, value in schema.items() if key != "allOf"}
    for part in parts:
        inner = _merged(part) if isinstance(part, dict) else {}
        for key, value in inner.items():
            known = merged.get(key)
            if isinstance(known, dict) and isinstance(value, dict):
                merged[key] = {**value, **known}
            elif isinstance(known, list) and isinstance(value, list) and key == "required":
                merged[key] = [*known, *(name for name in value if name not in known)]
            elif known is None:
                merged[key] = value
    return merged
