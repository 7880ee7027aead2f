"""Rows for the tests of the catalogue: a provider with a credential, a model with a price and a mapping."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from providers.models import Credential, Mapping, MappingCost, Model, ModelPrice, Provider

SECRET = "sk-upstream-0123456789-wxyz"
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def make_provider(
    name: str = "openai", *, kind: str = "openai", secret: str | None = SECRET, **values: Any
) -> Provider:
    provider = Provider.objects.create(name=name, kind=kind, **values)
    if secret:
        make_credential(provider, secret=secret)
    return provider


def make_credential(
    provider: Provider, *, secret: str = SECRET, label: str = "OPENAI_API_KEY", **values: Any
) -> Credential:
    credential = Credential(provider=provider, label=label, **values)
    credential.set_secret(secret)
    credential.save()
    return credential


def make_model(name: str = "gpt-5.1", *, price: tuple[str, str] | None = ("1.25", "10"), **values: Any) -> Model:
    model = Model.objects.create(name=name, **values)
    if price:
        make_price(model, *price)
    return model


def make_price(model: Model, input_: str, output: str, *, at: datetime = LONG_AGO, **values: Any) -> ModelPrice:
    return ModelPrice.objects.create(
        model=model, effective_from=at, input=Decimal(input_), output=Decimal(output), **values
    )


def make_mapping(model: Model, provider: Provider, **values: Any) -> Mapping:
    """`cost_input`, `cost_output` and so on become its cost, known since long ago."""
    values.setdefault("actual_model", model.name)
    cost = {name.removeprefix("cost_"): values.pop(name) for name in list(values) if name.startswith("cost_")}
    mapping = Mapping.objects.create(model=model, provider=provider, **values)
    if cost:
        make_cost(mapping, cost.pop("input"), cost.pop("output"), **cost)
    return mapping


def make_cost(mapping: Mapping, input_: Any, output: Any, *, at: datetime = LONG_AGO, **values: Any) -> MappingCost:
    return MappingCost.objects.create(
        mapping=mapping, effective_from=at, input=Decimal(input_), output=Decimal(output), **values
    )
