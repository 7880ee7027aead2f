"""`$VAR` and `${VAR}` anywhere in claude-code-router's file: replaced where the variable is set, kept as
they stand where it is not, as claude-code-router does."""

import re
from collections.abc import Mapping
from typing import Any

from providers.config_tables import Findings

SECRETS = frozenset({"api_key", "apiKey", "APIKEY"})
"""Keys whose values are read as secrets, never by their text."""

_VARIABLE = re.compile(r"\$\{([^{}\s]+)\}|\$([A-Z_][A-Z0-9_]*)")


def interpolated(value: Any, environ: Mapping[str, str], path: str, findings: Findings) -> Any:
    """`value` with the variables of its texts filled in; secrets stay as they are."""
    if isinstance(value, dict):
        return {
            key: inner if key in SECRETS else interpolated(inner, environ, f"{path}.{key}", findings)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [interpolated(inner, environ, f"{path}[{place}]", findings) for place, inner in enumerate(value)]
    return filled_in(value, environ, path, findings) if isinstance(value, str) else value


def filled_in(text: str, environ: Mapping[str, str], path: str, findings: Findings) -> str:
    def value_of(match: "re.Match[str]") -> str:
        name = match[1] or match[2]
        if found := environ.get(name):
            return found
        findings.lacks(name)
        findings.warnings.append(f"{path}: environment variable {name} is not set, so it stands there as it is.")
        return match[0]

    return _VARIABLE.sub(value_of, text)


def has_variables(text: str) -> bool:
    return _VARIABLE.search(text) is not None
