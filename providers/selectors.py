"""Reads of the providers app that are no part of a request; those use the catalogue."""

from datetime import datetime

from django.db.models import QuerySet
from django.utils import timezone

from providers.catalogue import build, needs_credential
from providers.kinds import KINDS
from providers.models import Model, ModelPrice, Provider
from providers.prices import usd
from providers.types import Model as CatalogueModel

# Cache writes are left out: where they are not entered, their cost is an assumption.
COMPARED = ("input", "output", "cache_read", "web_search")


def current_price(model: Model, now: datetime | None = None) -> ModelPrice | None:
    """The price row that customers pay by now; a model with a markup does not use it."""
    effective = ModelPrice.objects.filter(model=model, effective_from__lte=now or timezone.now())
    price: ModelPrice | None = effective.order_by("-effective_from").first()
    return price


def models_without_price() -> list[str]:
    """Names of enabled models that the gateway refuses for want of a price."""
    return sorted(model.name for model in build().models.values() if model.price is None)


def models_without_target() -> list[str]:
    """Names of enabled models that no enabled provider with a usable credential serves."""
    return sorted(model.name for model in build().models.values() if not model.targets)


def providers_without_credential() -> list[str]:
    """Names of enabled providers that need a credential and have no enabled one."""
    lacking: QuerySet[Provider] = Provider.objects.filter(enabled=True).exclude(credentials__enabled=True)
    return [row.name for row in lacking if (kind := KINDS.get(row.kind)) and needs_credential(row, kind)]


def model_warnings(names: set[str]) -> list[str]:
    """What an operator should know about the enabled models `names`, a sentence each."""
    models = build().models
    return [warning for name in sorted(names) if (model := models.get(name)) for warning in _warnings_about(model)]


def _warnings_about(model: CatalogueModel) -> list[str]:
    warnings = []
    if not model.targets:
        warnings.append(f"model {model.name} has no usable provider: requests for it fail.")
    if model.price is None:
        warnings.append(f"model {model.name} has no price: requests for it are refused until it has one.")
        return warnings
    for target in model.targets:
        dearer = [name for name in COMPARED if getattr(target.cost, name) > getattr(model.price, name)]
        warnings += [
            f"model {model.name}: {target.provider} costs {usd(getattr(target.cost, name))} for {name}, "
            f"customers pay {usd(getattr(model.price, name))}."
            for name in dearer
        ]
    return warnings
