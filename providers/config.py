"""Imports configuration files into the catalogue (`config_formats` tells the formats, `config_export`
writes the one of CCM).

An import creates and changes, it never deletes: what a file does not name stays as it is.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from providers import profiles, tiers
from providers.catalogue import profile_of
from providers.config_entries import ROUTES, MappingEntry, ModelEntry, ProviderEntry, Rates
from providers.config_formats import Format, parse
from providers.config_tables import Skipped
from providers.errors import ConfigError
from providers.kinds import KINDS
from providers.models import CatalogueEntry, DatedRates, Model, Provider, RouterProfile, Scope, one_change
from providers.models import Mapping as MappingRow
from providers.prices import plain
from providers.profiles import Author
from providers.selectors import current_cost, current_price, model_warnings
from providers.services import RATES, put_credential, set_cost, set_price

ROUTER_SEPARATORS = ("/", ",")
LONGEST_SHOWN = 60


class Outcome(StrEnum):
    CREATED = "created"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Change:
    """`detail` says what changes, or why not; it never holds a secret."""

    outcome: Outcome
    what: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.outcome:<9} {self.what}" + (f": {self.detail}" if self.detail else "")


@dataclass(slots=True)
class ImportReport:
    """`variables` are environment variables that the file names and that are not set."""

    format: Format
    changes: list[Change] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    variables: list[str] = field(default_factory=list)

    def add(self, outcome: str, what: str, detail: str = "") -> None:
        self.changes.append(Change(Outcome(outcome), what, detail))

    def of(self, outcome: Outcome) -> list[Change]:
        """The changes with this outcome; entries of the file that were skipped are among them."""
        found = [change for change in self.changes if change.outcome == outcome]
        if outcome is Outcome.SKIPPED:
            found += [Change(outcome, skipped.path, skipped.reason) for skipped in self.skipped]
        return found

    def count(self, outcome: Outcome) -> int:
        return len(self.of(outcome))

    @property
    def digest(self) -> str:
        """The same for reports that say the same."""
        lines = [*map(str, self.changes), *self.warnings, *map(str, self.skipped), *self.variables]
        return hashlib.sha256(json.dumps(lines).encode()).hexdigest()


class ReportDiffers(ConfigError):
    """What an import would do now is not what was expected of it; nothing was changed."""

    code = "import_differs"


def import_config(
    text: str,
    *,
    environ: Mapping[str, str],
    format: Format | None = None,  # noqa: A002 - the option's name
    markup: Decimal | None = None,
    dry_run: bool = False,
    expected: str | None = None,
) -> ImportReport:
    """Bring the database to what `text` says; all of it or, on ConfigError, nothing.

    `$NAME` secrets come from `environ`. `format` None: told by the text itself. `markup` is what
    models get that the file gives no price and that have none yet. A dry run reports the same and
    changes nothing. With `expected`, the digest of a report, ReportDiffers when this one differs."""
    file, known_format = parse(text, environ, format=format, allow_private=settings.ALLOW_PRIVATE_UPSTREAMS)
    findings = file.findings
    report = ImportReport(known_format, [], [*findings.warnings], [*findings.skipped], [*findings.variables])
    now = timezone.now()
    with one_change():
        for provider in file.providers:
            _import_provider(provider, report)
        for model in file.models:
            _import_model(model, markup, report, now)
        if file.router:
            _import_router(file.router, report)
        report.warnings += model_warnings({model.name for model in file.models})
        if expected is not None and report.digest != expected:
            raise ReportDiffers("The catalogue has changed since this import was looked at. Look at it again.")
        transaction.set_rollback(dry_run)
    return report


def _import_provider(entry: ProviderEntry, report: ImportReport) -> None:
    row = Provider.objects.filter(name__iexact=entry.name).first()
    # Decided once: an operator who made it work since is not overruled by importing again.
    first_values = {"enabled": False} if entry.disabled and row is None else {}
    row = row or Provider(name=entry.name)
    exclude = ("kind",) if entry.disabled else ()
    outcome, detail = _put(row, {**entry.values, **first_values}, entry.path, exclude=exclude)
    if outcome is Outcome.CREATED:
        kind = KINDS.get(row.kind)
        where = row.base_url or (kind.base_url if kind else "")
        detail = ", ".join(filter(None, (row.kind, where, "" if row.enabled else "disabled")))
    report.add(outcome, f"provider {row.name}", detail)
    for key in entry.keys:
        try:
            stored = put_credential(
                provider=row, label=key.label, secret=key.secret, weight=key.weight, limits=key.limits
            )
        except ValidationError as error:
            raise ConfigError(f"{entry.path}.api_key: {'; '.join(error.messages)}") from None
        report.add(stored, f"credential {row.name}/{key.label}")


def _import_model(entry: ModelEntry, markup: Decimal | None, report: ImportReport, now: datetime) -> None:
    row = Model.objects.filter(name=entry.name).first()
    values = dict(entry.values)
    if row is None:
        values = {**entry.first_values, **values}
    if markup is not None and _lacks_price(entry, row):
        values["markup"] = markup
    row = row or Model(name=entry.name)
    report.add(*_change(_put(row, values, entry.path), f"model {row.name}"))
    if entry.rates is not None:
        before = current_price(row, now)
        with _naming(entry.path):
            is_set = set_price(model=row, rates=entry.rates, now=now)
        report.add(*_rates_change(f"price of {row.name}", before, entry.rates, is_set))
    listed = [_import_mapping(row, mapping, report, now) for mapping in entry.mappings]
    for other in MappingRow.objects.filter(model=row).exclude(pk__in=listed).select_related("provider", "model"):
        report.add(Outcome.SKIPPED, f"mapping {other}", "the file does not list it, so it stays")


def _lacks_price(entry: ModelEntry, row: Model | None) -> bool:
    if entry.rates is not None or entry.values.get("markup") is not None:
        return False
    return row is None or (row.markup is None and not row.prices.exists())


def _import_mapping(model: Model, entry: MappingEntry, report: ImportReport, now: datetime) -> int:
    provider = Provider.objects.filter(name__iexact=entry.provider).first()
    if provider is None:
        raise ConfigError(f"{entry.path}.provider: no provider is named {entry.provider!r}.")
    row = MappingRow.objects.filter(model=model, provider=provider, actual_model=entry.actual_model).first()
    row = row or MappingRow(model=model, provider=provider, actual_model=entry.actual_model)
    report.add(*_change(_put(row, entry.values, entry.path), f"mapping {row}"))
    if entry.rates is not None:
        before = current_cost(row, now)
        with _naming(f"{entry.path}.cost"):
            is_set = set_cost(mapping=row, rates=entry.rates, now=now)
        report.add(*_rates_change(f"cost of {row}", before, entry.rates, is_set))
    return int(row.pk)


def _change(put: tuple[Outcome, str], what: str) -> tuple[Outcome, str, str]:
    outcome, detail = put
    return outcome, what, detail if outcome is Outcome.CHANGED else ""


def _rates_change(what: str, before: DatedRates | None, rates: Rates, is_set: bool) -> tuple[Outcome, str, str]:
    if not is_set:
        return Outcome.UNCHANGED, what, ""
    if before is None:
        return Outcome.CREATED, what, ""
    wanted = {**rates, "web_search": rates["web_search"] or Decimal(0)}
    return Outcome.CHANGED, what, _differences(before, {name: wanted[name] for name in (*RATES, "tiers")})


@contextmanager
def _naming(path: str) -> Iterator[None]:
    """What is wrong with rates becomes a ConfigError that names the entry and the column."""
    try:
        yield
    except ValidationError as error:
        where = [f"{path}.{column}: {' '.join(texts)}" for column, texts in error.message_dict.items()]
        raise ConfigError("\n".join(where)) from None


def _import_router(values: Mapping[str, Any], report: ImportReport) -> None:
    row = RouterProfile.objects.filter(scope=Scope.PLATFORM).first() or RouterProfile(scope=Scope.PLATFORM)
    outcome, detail = _edit(row, values, "router")
    if outcome is not Outcome.UNCHANGED:
        profiles.set_profile(owner=profiles.PLATFORM, profile=profile_of(row), by=Author(None, "import_config"))
    report.add(outcome, "router profile of the platform", detail)
    names = set(Model.objects.values_list("name", flat=True))
    for route, name in values.items():
        unknown = route in ROUTES and name and name not in names
        if unknown and not any(separator in name for separator in ROUTER_SEPARATORS):
            report.warnings.append(
                f"router.{route}: no model is named {name!r}; the route is skipped until there is one."
            )


def _put(
    row: CatalogueEntry, values: Mapping[str, Any], path: str, *, exclude: tuple[str, ...] = ()
) -> tuple[Outcome, str]:
    """Save `row` with `values`, if it is new or they change it; what they change, in words. Raises
    ConfigError, naming the column."""
    outcome, detail = _edit(row, values, path, exclude=exclude)
    if outcome is not Outcome.UNCHANGED:
        row.save()
    return outcome, detail


def _edit(
    row: CatalogueEntry, values: Mapping[str, Any], path: str, *, exclude: tuple[str, ...] = ()
) -> tuple[Outcome, str]:
    """As `_put`, without saving."""
    changed = {column: value for column, value in values.items() if getattr(row, column) != value}
    if row.pk and not changed:
        return Outcome.UNCHANGED, ""
    outcome = Outcome.CHANGED if row.pk else Outcome.CREATED
    detail = _differences(row, changed)
    for column, value in changed.items():
        setattr(row, column, value)
    with _naming(path):
        row.full_clean(exclude=exclude)
    return outcome, detail


def _differences(row: Any, values: Mapping[str, Any]) -> str:
    different = ((name, getattr(row, name), value) for name, value in values.items())
    return ", ".join(f"{name} {_shown(old)} → {_shown(new)}" for name, old, new in different if old != new)


def _shown(value: Any) -> str:
    if value is None or value == "":
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list) and value and isinstance(value[0], dict):
        value = tiers.lines(value).replace("\n", "; ")
    text = plain(value) if isinstance(value, Decimal) else " ".join(str(value).split())
    return text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 1] + "…"
