"""Imports and exports the catalogue as CCM TOML (`config_file` reads, `config_export` writes).

An import creates and changes, it never deletes: what a file does not name stays as it is.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from providers import profiles
from providers.catalogue import profile_of
from providers.config_file import ROUTES, MappingEntry, ModelEntry, ProviderEntry, parse
from providers.errors import ConfigError
from providers.models import CatalogueEntry, Model, Provider, RouterProfile, Scope, one_change
from providers.models import Mapping as MappingRow
from providers.profiles import Author
from providers.selectors import model_warnings
from providers.services import put_credential, set_cost, set_price

ROUTER_SEPARATORS = ("/", ",")


class Outcome(StrEnum):
    CREATED = "created"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Change:
    outcome: Outcome
    what: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.outcome:<9} {self.what}" + (f": {self.detail}" if self.detail else "")


@dataclass(slots=True)
class ImportReport:
    changes: list[Change] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)

    def add(self, outcome: str, what: str, detail: str = "") -> None:
        self.changes.append(Change(Outcome(outcome), what, detail))

    def count(self, outcome: Outcome) -> int:
        return sum(change.outcome == outcome for change in self.changes)


def import_config(text: str, *, environ: Mapping[str, str], dry_run: bool = False) -> ImportReport:
    """Bring the database to what `text` (TOML) says; all of it or, on ConfigError, nothing.

    `$NAME` secrets come from `environ`. A dry run reports the same and changes nothing."""
    file = parse(text, environ)
    report = ImportReport(warnings=list(file.findings.warnings), ignored=list(file.findings.ignored))
    now = timezone.now()
    with one_change():
        for provider in file.providers:
            _import_provider(provider, report)
        for model in file.models:
            _import_model(model, report, now)
        if file.router:
            _import_router(file.router, report)
        report.warnings += model_warnings({model.name for model in file.models})
        transaction.set_rollback(dry_run)
    return report


def _import_provider(entry: ProviderEntry, report: ImportReport) -> None:
    row = Provider.objects.filter(name__iexact=entry.name).first()
    # Decided once: an operator who made it work since is not overruled by importing again.
    first_values = {"enabled": False} if entry.disabled and row is None else {}
    row = row or Provider(name=entry.name)
    exclude = ("kind",) if entry.disabled else ()
    outcome = _put(row, {**entry.values, **first_values}, entry.path, exclude=exclude)
    report.add(outcome, f"provider {row.name}", "disabled" if not row.enabled else "")
    for key in entry.keys:
        try:
            stored = put_credential(
                provider=row, label=key.label, secret=key.secret, weight=key.weight, limits=key.limits
            )
        except ValidationError as error:
            raise ConfigError(f"{entry.path}.api_key: {'; '.join(error.messages)}") from None
        report.add(stored, f"credential {row.name}/{key.label}")


def _import_model(entry: ModelEntry, report: ImportReport, now: datetime) -> None:
    row = Model.objects.filter(name=entry.name).first() or Model(name=entry.name)
    report.add(_put(row, entry.values, entry.path), f"model {row.name}")
    if entry.rates is not None:
        is_new = not row.prices.exists()
        with _naming(entry.path):
            is_set = set_price(model=row, rates=entry.rates, now=now)
        report.add(_outcome(is_set, is_new), f"price of {row.name}")
    listed = [_import_mapping(row, mapping, report, now) for mapping in entry.mappings]
    for other in MappingRow.objects.filter(model=row).exclude(pk__in=listed).select_related("provider", "model"):
        report.add(Outcome.SKIPPED, f"mapping {other}", "the file does not list it, so it stays")


def _import_mapping(model: Model, entry: MappingEntry, report: ImportReport, now: datetime) -> int:
    provider = Provider.objects.filter(name__iexact=entry.provider).first()
    if provider is None:
        raise ConfigError(f"{entry.path}.provider: no provider is named {entry.provider!r}.")
    row = MappingRow.objects.filter(model=model, provider=provider, actual_model=entry.actual_model).first()
    row = row or MappingRow(model=model, provider=provider, actual_model=entry.actual_model)
    report.add(_put(row, entry.values, entry.path), f"mapping {row}")
    if entry.rates is not None:
        is_new = not row.costs.exists()
        with _naming(f"{entry.path}.cost"):
            is_set = set_cost(mapping=row, rates=entry.rates, now=now)
        report.add(_outcome(is_set, is_new), f"cost of {row}")
    return int(row.pk)


def _outcome(is_set: bool, is_new: bool) -> Outcome:
    return Outcome.UNCHANGED if not is_set else Outcome.CREATED if is_new else Outcome.CHANGED


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
    outcome = _change(row, values, "router")
    if outcome is not Outcome.UNCHANGED:
        profiles.set_profile(owner=profiles.PLATFORM, profile=profile_of(row), by=Author(None, "import_config"))
    report.add(outcome, "router profile of the platform")
    names = set(Model.objects.values_list("name", flat=True))
    for route, name in values.items():
        unknown = route in ROUTES and name and name not in names
        if unknown and not any(separator in name for separator in ROUTER_SEPARATORS):
            report.warnings.append(
                f"router.{route}: no model is named {name!r}; the route is skipped until there is one."
            )


def _put(row: CatalogueEntry, values: Mapping[str, Any], path: str, *, exclude: tuple[str, ...] = ()) -> Outcome:
    """Save `row` with `values`, if it is new or they change it. Raises ConfigError, naming the column."""
    outcome = _change(row, values, path, exclude=exclude)
    if outcome is not Outcome.UNCHANGED:
        row.save()
    return outcome


def _change(row: CatalogueEntry, values: Mapping[str, Any], path: str, *, exclude: tuple[str, ...] = ()) -> Outcome:
    """As `_put`, without saving."""
    changed = [column for column, value in values.items() if getattr(row, column) != value]
    if row.pk and not changed:
        return Outcome.UNCHANGED
    outcome = Outcome.CHANGED if row.pk else Outcome.CREATED
    for column in changed:
        setattr(row, column, values[column])
    with _naming(path):
        row.full_clean(exclude=exclude)
    return outcome
