"""What the pages show of the catalogue."""

from collections.abc import Mapping
from dataclasses import dataclass

from adminui.connect import ConnectModels, choose_models
from gateway.routing.profiles import merge_profiles
from providers.catalogue import LiveCatalogue
from providers.types import Catalogue, Price, Profile

_live = LiveCatalogue()


def current_catalogue() -> Catalogue:
    """The snapshot of this moment; one small query unless something changed. Blocking."""
    _live.refresh_if_changed()
    return _live.current


@dataclass(frozen=True, slots=True)
class Offer:
    """A model that customers can use, with its price (nano-USD per million tokens)."""

    name: str
    display_name: str
    description: str
    context_window: int | None
    price: Price


def offers(catalogue: Catalogue) -> list[Offer]:
    return [
        Offer(model.name, model.display_name or model.name, model.description, model.context_window, model.price)
        for _, model in sorted(catalogue.models.items())
        if model.price is not None and model.targets and model.discoverable
    ]


def connect_models(organization_id: int | None = None, wanted: Mapping[str, str] | None = None) -> ConnectModels:
    """The models for the lines that connect Claude Code: those that are `wanted`, else as the organisation's profile
    says."""
    catalogue = current_catalogue()
    own = catalogue.organization_profiles.get(organization_id or 0, Profile())
    return choose_models(catalogue.models, merge_profiles(own, catalogue.platform_profile), wanted)
