"""Secrets as configuration files write them: a literal, or the name of an environment variable."""

import re
from collections.abc import Mapping

from providers.config_entries import KeyEntry
from providers.config_tables import Table

ENVIRONMENT_NAME = re.compile(r"\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)\})")


def key_of(
    table: Table,
    name: str,
    *,
    provider: str,
    environ: Mapping[str, str],
    label: str,
    weight: int = 1,
    limits: Mapping[str, int] | None = None,
) -> KeyEntry | None:
    """The label of a key from the environment is its variable's name, so that an export can name it.
    None, with a warning, when the variable is not set."""
    secret = table.text(name)
    if not secret:
        return None
    if secret.startswith("$"):
        match = ENVIRONMENT_NAME.fullmatch(secret)
        if match is None:
            table.problem(name, "begins with $ but does not name an environment variable.")
            return None
        label = match[1] or match[2]
        secret = environ.get(label, "").strip()
        if not secret:
            table.findings.lacks(label)
            table.warn(
                name,
                f"environment variable {label} is not set, so {provider!r} gets no credential of this file. "
                "Set it and import again, or enter the secret in the admin.",
            )
            return None
    return KeyEntry(label=label, secret=secret, weight=weight, limits=limits or {})
