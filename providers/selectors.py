"""Reads of the providers app that are no part of a request; those use the catalogue."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from django.db.models import OuterRef, QuerySet, Subquery
from django.utils import timezone

from providers.catalogue import build, needs_credential
from providers.kinds import KINDS
from providers.models import (
    Credential,
    Decision,
    HealthProbe,
    Mapping,
    MappingCost,
    Model,
    ModelPrice,
    PriceProposal,
    Provider,
    RouterProfile,
    Scope,
)
from providers.prices import at, usd
from providers.types import Model as CatalogueModel
from providers.types import Price

TOLD_ONE_BY_ONE = 3
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
    """What an operator should know about the enabled models `names`. The same about many models is
    one sentence."""
    models = build().models
    found = [model for name in sorted(names) if (model := models.get(name))]
    return [
        *_lacks("no usable provider: requests for it fail.", [model for model in found if not model.targets]),
        *_lacks(
            "no price: requests for it are refused until it has one.", [model for model in found if model.price is None]
        ),
        *(f"model {model.name}: {loss}" for model in found for loss in _losses_of(model)),
    ]


def _lacks(what: str, models: list[CatalogueModel]) -> list[str]:
    if len(models) <= TOLD_ONE_BY_ONE:
        return [f"model {model.name} has {what}" for model in models]
    names = ", ".join(model.name for model in models)
    return [f"{len(models)} models have {what.replace(' it ', ' them ', 1).replace('it has', 'they have')} ({names})"]


def _losses_of(model: CatalogueModel) -> list[str]:
    known = [(target.provider, target.cost) for target in model.targets if target.cost is not None]
    return [] if model.price is None else [loss for each in known for loss in _losses(*each, model.price)]


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


@dataclass(frozen=True, slots=True)
class ListedTarget:
    """An enabled mapping: `model` is what customers ask for, `actual_model` the provider's name for it."""

    mapping_id: int
    model: str
    actual_model: str


@dataclass(frozen=True, slots=True)
class ListedProvider:
    id: int
    name: str
    kind: str
    enabled: bool
    targets: tuple[ListedTarget, ...]


def listed_providers() -> list[ListedProvider]:
    """All providers by name, `kind` being what people call it; with their enabled mappings to enabled models."""
    targets: dict[int, list[ListedTarget]] = {}
    mappings = Mapping.objects.filter(enabled=True, model__enabled=True).select_related("model")
    for row in mappings.order_by("model__name", "priority", "pk"):
        targets.setdefault(row.provider_id, []).append(ListedTarget(row.pk, row.model.name, row.actual_model))
    return [
        ListedProvider(row.pk, row.name, _kind_label(row.kind), row.enabled, tuple(targets.get(row.pk, ())))
        for row in Provider.objects.order_by("name")
    ]


def _kind_label(name: str) -> str:
    return KINDS[name].label if name in KINDS else name


@dataclass(frozen=True, slots=True)
class Probe:
    """What a health probe found. `error` is a class; `status` the provider's, None when it did not answer."""

    at: datetime
    ok: bool
    error: str
    status: int | None
    milliseconds: int
    free: bool


def latest_probes() -> dict[int, Probe]:
    """The newest health probe of each provider that has one, by the provider's id."""
    newest = HealthProbe.objects.filter(provider=OuterRef("pk")).order_by("-at", "-pk").values("pk")[:1]
    ids = Provider.objects.annotate(newest=Subquery(newest)).filter(newest__isnull=False).values("newest")
    return {row.provider_id: _probe(row) for row in HealthProbe.objects.filter(pk__in=ids)}


def probes_of(provider_id: int, limit: int = 10) -> list[Probe]:
    """The newest first."""
    return [_probe(row) for row in HealthProbe.objects.filter(provider=provider_id).order_by("-at", "-pk")[:limit]]


def _probe(row: HealthProbe) -> Probe:
    return Probe(row.at, row.ok, row.error, row.status, row.milliseconds, row.free)


def mappings_without_cost() -> list[str]:
    """Enabled mappings whose cost is unknown: their requests count without margin."""
    rows = Mapping.objects.filter(enabled=True, provider__enabled=True, model__enabled=True)
    unknown = rows.exclude(costs__effective_from__lte=timezone.now()).select_related("model", "provider")
    return [str(row) for row in unknown]


def keys_with_profile(organization_id: int) -> set[int]:
    """The ids of the organisation's API keys that have routes of their own."""
    rows = RouterProfile.objects.filter(scope=Scope.KEY, api_key__organization_id=organization_id)
    return set(rows.values_list("api_key_id", flat=True))


def pending_proposals() -> int:
    return PriceProposal.objects.filter(state=Decision.PENDING).count()


def price_changes(names: Collection[str], since: datetime, until: datetime) -> list[datetime]:
    """When, between `since` and `until`, a price of one of the models `names` took effect, or a cost that a
    markup's price follows."""
    within = {"effective_from__gt": since, "effective_from__lt": until}
    prices = ModelPrice.objects.filter(model__name__in=names, **within)
    costs = MappingCost.objects.filter(mapping__model__name__in=names, mapping__model__markup__isnull=False, **within)
    return [*prices.values_list("effective_from", flat=True), *costs.values_list("effective_from", flat=True)]
