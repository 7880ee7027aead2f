"""Reads CCM TOML, and claude-code-mux files as they are, into entries to import. No database.

The format stands in the README of this app. `""` is the same as leaving a key out.
"""

import tomllib
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from django.core.exceptions import ValidationError

from providers import fields, tiers
from providers.config_entries import (
    KEY_LIMITS,
    PATTERNS,
    ROUTES,
    TIMEOUTS,
    ConfigFile,
    KeyEntry,
    MappingEntry,
    ModelEntry,
    ProviderEntry,
    Rates,
)
from providers.config_keys import key_of
from providers.config_mux import PROVIDER, ROUTER, log_in_of, provider_of, skip_sections
from providers.config_tables import Findings, Table
from providers.errors import ConfigError
from providers.kinds import KINDS
from providers.prices import CLASSES
from providers.services import RATES
from providers.types import Policy


def parse(text: str, environ: Mapping[str, str], *, allow_private: bool) -> ConfigFile:
    """`allow_private`: whether providers may be at private addresses. Raises ConfigError with every
    problem of the file, a line each."""
    findings = Findings()
    try:
        root = Table(tomllib.loads(text, parse_float=Decimal), "", findings)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"This is not TOML: {error}.") from None
    except RecursionError:
        raise ConfigError("This is not TOML: it is nested too deeply.") from None
    skip_sections(root)
    file = ConfigFile(
        providers=tuple(_provider(table, environ, allow_private=allow_private) for table in root.tables("providers")),
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


def parse_router(text: str) -> Mapping[str, Any]:
    """The `[router]` table alone, whatever else the file holds. Raises ConfigError."""
    findings = Findings()
    try:
        root = Table(tomllib.loads(text, parse_float=Decimal), "", findings)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"This is not TOML: {error}.") from None
    table = root.table("router")
    if table is None:
        findings.problems.append("router: is required: the table [router] with the routes.")
    values = _router(table)
    findings.problems += [f"{each.path}: is no field of a profile." for each in findings.skipped]
    if findings.problems:
        raise ConfigError("\n".join(findings.problems))
    return values


def _refuse_twins(list_name: str, names: list[str], findings: Findings) -> None:
    for place, name in enumerate(names):
        if name and name in names[:place]:
            findings.problems.append(f"{list_name}[{place}].name: {name!r} is there already.")


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
    table.skip_all(ROUTER)
    table.leftovers()
    return {name: value for name, value in values.items() if value is not None or name in ROUTES}


def _pattern(table: Table, name: str, pattern: str) -> str:
    try:
        fields.regex(pattern)
    except ValidationError as error:
        table.warn(name, f"{error.messages[0]} It is left out, so the default pattern holds.")
        return ""
    return pattern


def _provider(table: Table, environ: Mapping[str, str], *, allow_private: bool) -> ProviderEntry:
    name = table.required("name")
    base_url = _base_url(table)
    kind, mux = table.text("kind"), table.text("provider_type")
    usable = True
    if mux and not kind:
        found = provider_of(table, mux, base_url, allow_private=allow_private)
        kind, base_url, usable = found.kind, found.base_url, found.usable
        usable = not log_in_of(table, name) and usable
        table.skip_all(PROVIDER)
    elif not kind:
        table.problem("kind", "is required.")
    elif kind not in KINDS:
        table.warn("kind", f"{kind!r} is not a kind that CCM knows; imported disabled.")
        usable = False
    if table.texts("models"):
        table.warn("models", "is not read: list the models under [[models]] with a mapping to this provider.")
    known = KINDS.get(kind or "")
    values: dict[str, Any] = {"kind": kind or "", "wire": table.text("wire"), "enabled": table.flag("enabled")}
    values["count_tokens"] = table.flag("count_tokens")
    values["base_url"] = "" if known is not None and base_url == known.base_url else base_url
    values |= {timeout: table.seconds(timeout) for timeout in TIMEOUTS}
    values["probe_every"] = table.whole("probe_every")
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
    keys = [key_of(table, "api_key", provider=provider, environ=environ, label="api_key")]
    for place, item in enumerate(table.tables("api_keys")):
        label, weight = f"api_keys {place + 1}", item.whole("weight", minimum=1) or 1
        limits = {limit: value for limit in KEY_LIMITS if (value := item.whole(limit, minimum=1)) is not None}
        keys.append(key_of(item, "key", provider=provider, environ=environ, label=label, weight=weight, limits=limits))
        item.leftovers()
    return tuple(key for key in keys if key is not None)


def _model(table: Table) -> ModelEntry:
    name = table.required("name")
    values: dict[str, Any] = {
        "display_name": table.text("display_name"),
        "description": table.text("description"),
        "context_window": table.whole("context_window", minimum=1),
        "max_output": table.whole("max_output", minimum=1),
    }
    values |= {flag: table.flag(flag) for flag in ("vision", "tools", "thinking", "enabled", "discoverable")}
    values["policy"] = _policy(table)
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


def _policy(table: Table) -> str | None:
    policy = table.text("policy")
    if policy and policy not in set(Policy):
        table.problem("policy", f"must be one of {', '.join(Policy)}, not {policy!r}.")
    return policy or None


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
        "extra_body": table.json("extra_body"),
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
