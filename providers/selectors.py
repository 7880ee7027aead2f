"""Reads of the providers app that are no part of a request; those use the catalogue."""

from collections.abc import Collection
from datetime import datetime

from django.db.models import QuerySet
from django.utils import timezone

from providers.catalogue import build, needs_credential
from providers.kinds import KINDS
from providers.models import Credential, Decision, Mapping, MappingCost, Model, ModelPrice, PriceProposal, Provider
from providers.prices import at, usd
from providers.types import Model as CatalogueModel
from providers.types import Price

# Cache writes are left out: where they are not entered, their cost is an assumption.
COMPARED = ("input", "output", "cache_read")


def current_price(model: Model, now: datetime | None = None) -> ModelPrice | None:
    """The price row that customers pay by now; a model with a markup does not use it."""
    effective = ModelPrice.objects.filter(model=model, effective_from__lte=now or timezone.now())
    price: ModelPrice | None = effective.order_by("-effective_from").first()
    return price


def current_cost(mapping: Mapping, now: datetime | None = None) -> MappingCost | None:
    """What the operator pays for the mapping by now; None when nobody has entered it."""
    effective = MappingCost.objects.filter(mapping=mapping, effective_from__lte=now or timezone.now())
    cost: MappingCost | None = effective.order_by("-effective_from").first()
    return cost


def models_without_price() -> list[str]:
    """Names of enabled models that the gateway refuses for want of a price."""
    return sorted(model.name for model in build().models.values() if model.price is None)


def models_without_target() -> list[str]:
    """Names of enabled models that no enabled provider with a usable credential serves."""
    return sorted(model.name for model in build().models.values() if not model.targets)


def providers_without_credential() -> list[str]:
    """Names of enabled providers that need a credential and have no enabled one."""
    usable = Credential.objects.of_platform().filter(enabled=True)
    lacking: QuerySet[Provider] = Provider.objects.filter(enabled=True).exclude(credentials__in=usable)
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
        if target.cost is not None:
            warnings += [f"model {model.name}: {loss}" for loss in _losses(target.provider, target.cost, model.price)]
    return warnings


def _losses(provider: str, cost: Price, price: Price) -> list[str]:
    """Where customers pay less than the operator does, a sentence each, for short and long requests."""
    found = []
    if cost.web_search > price.web_search:
        found.append(f"{provider} costs {usd(cost.web_search)} for web_search, customers pay {usd(price.web_search)}.")
    for above in (0, *sorted({tier.above for rates in (cost, price) for tier in rates.tiers})):
        paid, asked = at(cost, above + 1), at(price, above + 1)
        length = f" above {above} tokens" if above else ""
        found += [
            f"{provider} costs {usd(getattr(paid, name))} for {name}{length}, "
            f"customers pay {usd(getattr(asked, name))}."
            for name in COMPARED
            if getattr(paid, name) > getattr(asked, name)
        ]
    return found


def mappings_without_cost() -> list[str]:
    """Enabled mappings whose cost is unknown: their requests count without margin."""
    rows = Mapping.objects.filter(enabled=True, provider__enabled=True, model__enabled=True)
    unknown = rows.exclude(costs__effective_from__lte=timezone.now()).select_related("model", "provider")
    return [str(row) for row in unknown]


def pending_proposals() -> int:
    return PriceProposal.objects.filter(state=Decision.PENDING).count()


def price_changes(names: Collection[str], since: datetime, until: datetime) -> list[datetime]:
    """When, between `since` and `until`, a price of one of the models `names` took effect, or a cost that a
    markup's price follows."""
    within = {"effective_from__gt": since, "effective_from__lt": until}
    prices = ModelPrice.objects.filter(model__name__in=names, **within)
    costs = MappingCost.objects.filter(mapping__model__name__in=names, mapping__model__markup__isnull=False, **within)
    return [*prices.values_list("effective_from", flat=True), *costs.values_list("effective_from", flat=True)]
