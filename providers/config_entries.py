"""What a file of any format comes down to: entries to import. No database."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from providers.config_tables import Findings

ROUTES = ("default", "think", "websearch", "image", "long_context", "background", "subagent", "safety")
PATTERNS = ("auto_map_regex", "background_regex")
KEY_LIMITS = ("requests_per_minute", "concurrency")
TIMEOUTS = ("connect_timeout", "first_byte_timeout", "idle_timeout", "total_timeout")

Rates = Mapping[str, Any]
"""RATES as Decimals or None, and `tiers` as stored."""


@dataclass(frozen=True, slots=True)
class KeyEntry:
    label: str
    secret: str = field(repr=False)
    weight: int = 1
    limits: Mapping[str, int] = field(default_factory=dict)


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
    """`first_values` are columns that the file does not set, for a model that is not there yet."""

    path: str
    name: str
    values: Mapping[str, Any]
    rates: Rates | None
    mappings: tuple[MappingEntry, ...]
    first_values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ConfigFile:
    providers: tuple[ProviderEntry, ...]
    models: tuple[ModelEntry, ...]
    router: Mapping[str, Any]
    findings: Findings
