"""Reads CCM TOML, and claude-code-mux files as they are, into entries to import. No database.

The format stands in the README of this app. `""` is the same as leaving a key out.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

from django.core.exceptions import ValidationError

from providers import fields, tiers
from providers.config_tables import Findings, Table
from providers.errors import ConfigError
from providers.kinds import KINDS
from providers.prices import CLASSES
from providers.services import RATES

ROUTES = ("default", "think", "websearch", "image", "long_context", "background", "subagent", "safety")
PATTERNS = ("auto_map_regex", "background_regex")
TIMEOUTS = ("connect_timeout", "first_byte_timeout", "idle_timeout", "total_timeout")
MUX_KINDS = {"kimi-coding": "kimi"}
# claude-code-mux writes these for any server of the format; only the kind itself gets client headers.
MUX_ELSEWHERE = {"anthropic": "anthropic-compatible", "openai": "openai-compatible"}
NOT_SUPPORTED = {
    "vertex-ai": "Vertex AI comes in disabled (a service-account key would be needed). Enter the key at /admin/ and "
    "choose the kind vertex."
}
ENVIRONMENT_NAME = re.compile(r"\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)\})")


Rates = Mapping[str, Any]
"""RATES as Decimals or None, and `tiers` as stored."""


@dataclass(frozen=True, slots=True)
class KeyEntry:
    label: str
    secret: str = field(repr=False)
    weight: int = 1


@dataclass(frozen=True, slots=True)
class ProviderEntry:
    """`values` are columns that the file sets; `disabled` means that it cannot work as imported."""

    path: str
    name: str
    values: Mapping[str, Any]
    keys: tuple[KeyEntry, ...]
    disabled: bool = False


@dataclass(frozen=True, slots=True)
class MappingEntry:
    path: str
    provider: str
    actual_model: str
    values: Mapping[str, Any]
    rates: Rates | None = None


@dataclass(frozen=True, slots=True)
class ModelEntry:
    path: str
    name: str
    values: Mapping[str, Any]
    rates: Rates | None
    mappings: tuple[MappingEntry, ...]


@dataclass(frozen=True, slots=True)
class ConfigFile:
    providers: tuple[ProviderEntry, ...]
    models: tuple[ModelEntry, ...]
    router: Mapping[str, Any]
    findings: Findings


def parse(text: str, environ: Mapping[str, str]) -> ConfigFile:
    """Raises ConfigError with every problem of the file, a line each."""
    findings = Findings()
    try:
        root = Table(tomllib.loads(text, parse_float=Decimal), "", findings)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"This is not TOML: {error}.") from None
    _server(root)
    file = ConfigFile(
        providers=tuple(_provider(table, environ) for table in root.tables("providers")),
        models=tuple(_model(table) for table in root.tables("models")),
        router=_router(root.table("router")),
        findings=findings,
    )
    root.leftovers()
    _refuse_twins("providers", [entry.name.lower() for entry in file.providers], findings)
    _refuse_twins("models", [entry.name for entry in file.models], findings)
    if findings.problems:
        raise ConfigError("\n".join(findings.problems))
    return file


def _refuse_twins(list_name: str, names: list[str], findings: Findings) -> None:
    for place, name in enumerate(names):
        if name and name in names[:place]:
            findings.problems.append(f"{list_name}[{place}].name: {name!r} is there already.")


def _server(root: Table) -> None:
    server = root.table("server")
    if server is not None:
        if server.text("api_key"):
            server.warn(
                "api_key", "was never enforced by claude-code-mux. Give each client a key of its own: create_key."
            )
        server.leftovers()


def _router(table: Table | None) -> Mapping[str, Any]:
    if table is None:
        return {}
    values: dict[str, Any] = {}
    for name in ROUTES:
        if (route := table.text(name)) is not None:
            values[name] = route or None
            if not route:
                table.warn(name, "is empty: treated as unset.")
    for name in PATTERNS:
        if (pattern := table.text(name)) is not None:
            values[name] = _pattern(table, name, pattern)
    values["long_context_threshold"] = table.whole("long_context_threshold", minimum=1)
    values["think_efforts"] = table.texts("think_efforts")
    for name in ("think_in_plan_mode", "pin_explicit_model"):
        values[name] = table.flag(name)
    table.leftovers()
    return {name: value for name, value in values.items() if value is not None or name in ROUTES}


def _pattern(table: Table, name: str, pattern: str) -> str:
    try:
        fields.regex(pattern)
    except ValidationError as error:
        table.warn(name, f"{error.messages[0]} It is left out, so the default pattern holds.")
        return ""
    return pattern


def _provider(table: Table, environ: Mapping[str, str]) -> ProviderEntry:
    name = table.required("name")
    base_url = _base_url(table)
    kind, usable = _kind(table, base_url)
    if table.text("auth_type") == "oauth" and usable:
        usable = False
        table.warn("auth_type", f"{name!r} uses a subscription log-in, which is not imported; it needs an API key.")
    table.ignore("oauth_provider", "project_id", "location")
    if table.texts("models"):
        table.warn("models", "is not read: list the models under [[models]] with a mapping to this provider.")
    known = KINDS.get(kind)
    values: dict[str, Any] = {"kind": kind, "wire": table.text("wire"), "enabled": table.flag("enabled")}
    values["count_tokens"] = table.flag("count_tokens")
    values["base_url"] = "" if known is not None and base_url == known.base_url else base_url
    values |= {timeout: table.seconds(timeout) for timeout in TIMEOUTS}
    if not usable:
        values.pop("enabled")
    entry = ProviderEntry(
        path=table.path,
        name=name,
        values={column: value for column, value in values.items() if value is not None},
        keys=_keys(table, name, environ),
        disabled=not usable,
    )
    table.leftovers()
    return entry


def _kind(table: Table, base_url: str | None) -> tuple[str, bool]:
    """The kind, and whether a provider of it can be called."""
    mux = table.text("provider_type")
    kind = table.text("kind")
    if not kind and mux:
        kind = MUX_KINDS.get(mux, mux)
        if base_url and kind in MUX_ELSEWHERE and _host(base_url) != _host(KINDS[kind].base_url):
            kind = MUX_ELSEWHERE[kind]
    if not kind:
        table.problem("kind", "is required.")
        return "", False
    if kind in KINDS:
        return kind, True
    key = "kind" if not mux else "provider_type"
    table.warn(key, NOT_SUPPORTED.get(kind, f"{kind!r} is not a kind that CCM knows; imported disabled."))
    return kind, False


def _host(url: str) -> str | None:
    return urlsplit(url).hostname


def _base_url(table: Table) -> str | None:
    url = table.text("base_url")
    if url is None:
        return None
    url = url.rstrip("/")
    try:
        if url:
            fields.base_url(url)
    except ValidationError as error:
        table.problem("base_url", error.messages[0])
    return url


def _keys(table: Table, provider: str, environ: Mapping[str, str]) -> tuple[KeyEntry, ...]:
    keys = [_key(table, "api_key", provider, environ, label="api_key")]
    for place, item in enumerate(table.tables("api_keys")):
        keys.append(_key(item, "key", provider, environ, label=f"api_keys {place + 1}"))
        item.leftovers()
    return tuple(key for key in keys if key is not None)


def _key(table: Table, name: str, provider: str, environ: Mapping[str, str], *, label: str) -> KeyEntry | None:
    """The label of a key from the environment is its variable's name, so that an export can name it."""
    secret = table.text(name)
    weight = table.whole("weight", minimum=1) if name == "key" else None
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
            table.warn(
                name,
                f"environment variable {label} is not set, so {provider!r} gets no credential of this file. "
                "Set it and import again, or enter the secret in the admin.",
            )
            return None
    return KeyEntry(label=label, secret=secret, weight=weight or 1)


def _model(table: Table) -> ModelEntry:
    name = table.required("name")
    values: dict[str, Any] = {
        "display_name": table.text("display_name"),
        "description": table.text("description"),
        "context_window": table.whole("context_window", minimum=1),
        "max_output": table.whole("max_output", minimum=1),
    }
    values |= {flag: table.flag(flag) for flag in ("vision", "tools", "thinking", "enabled", "discoverable")}
    rates, markup = _rates(table), table.decimal("markup")
    if rates is not None and markup is not None:
        table.problem("markup", "stands instead of the prices: give one or the other.")
    if rates is not None or markup is not None:
        values["markup"] = markup
    entry = ModelEntry(
        path=table.path,
        name=name,
        values={column: value for column, value in values.items() if value is not None or column == "markup"},
        rates=rates,
        mappings=tuple(_mapping(mapping) for mapping in table.tables("mappings")),
    )
    table.leftovers()
    return entry


def _rates(table: Table) -> Rates | None:
    """The rates in a table (a model's prices, a mapping's cost); None when it has none."""
    rates: dict[str, Any] = {rate: table.decimal(rate) for rate in RATES}
    rates["tiers"] = _tiers(table)
    if not any(value is not None and value != [] for value in rates.values()):
        return None
    for rate in ("input", "output"):
        if rates[rate] is None:
            table.problem(rate, "is required beside the other prices.")
    return rates


def _tiers(table: Table) -> tiers.Tiers:
    rows = []
    for item in table.tables("tiers"):
        rows.append({"above": item.whole("above", minimum=1), **{rate: item.decimal(rate) for rate in CLASSES}})
        item.leftovers()
    try:
        return tiers.stored(rows)
    except ValueError as error:
        table.problem("tiers", str(error))
        return []


def _mapping(table: Table) -> MappingEntry:
    cost = table.table("cost")
    values: dict[str, Any] = {
        "priority": table.whole("priority"),
        "weight": table.whole("weight", minimum=1),
        "enabled": table.flag("enabled"),
    }
    rates = _rates(cost) if cost is not None else None
    if cost is not None:
        cost.leftovers()
    entry = MappingEntry(
        path=table.path,
        provider=table.required("provider"),
        actual_model=table.required("actual_model"),
        values={column: value for column, value in values.items() if value is not None},
        rates=rates,
    )
    table.leftovers()
    return entry
