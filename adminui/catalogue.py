"""What the pages show of the catalogue."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from adminui.connect import ConnectModels, choose_models
from credits.usage.target_status import Window
from gateway.routing.profiles import merge_profiles
from gateway.status import platform_status
from providers.catalogue import LiveCatalogue
from providers.types import Catalogue, Model, Price, Profile, Target

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
    max_output: int | None
    vision: bool
    tools: bool
    thinking: bool
    price: Price
    providers: tuple[str, ...]
    created_at: str

    @property
    def capabilities(self) -> tuple[str, ...]:
        known = {"tools": self.tools, "vision": self.vision, "thinking": self.thinking}
        return tuple(name for name, has in known.items() if has)


def offers(catalogue: Catalogue, organization_id: int | None = None) -> list[Offer]:
    """By name. With an organisation also what its own provider keys open."""
    return [
        _offer(model, model.price, organization_id)
        for _, model in sorted(catalogue.models.items())
        if model.price is not None and _targets(model, organization_id) and model.discoverable
    ]


def _targets(model: Model, organization_id: int | None) -> tuple[Target, ...]:
    return (*model.targets, *model.own_targets.get(organization_id or 0, ()))


def _offer(model: Model, price: Price, organization_id: int | None) -> Offer:
    return Offer(
        name=model.name,
        display_name=model.display_name or model.name,
        description=model.description,
        context_window=model.context_window,
        max_output=model.max_output,
        vision=model.vision,
        tools=model.tools,
        thinking=model.thinking,
        price=price,
        providers=tuple(dict.fromkeys(target.provider for target in _targets(model, organization_id))),
        created_at=model.created_at,
    )


def uptimes(window: Window = Window.DAY) -> dict[str, float]:
    """By model's name, the share of the window's attempts that its providers answered, from 0 to 1; models that nobody
    asked for are left out. Blocking."""
    counted: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for provider in platform_status(window).providers:
        for target in provider.targets:
            for name in target.models:
                counted[name][0] += target.answering.ok
                counted[name][1] += target.answering.ok + target.answering.failed
    return {name: ok / of for name, (ok, of) in counted.items() if of}


def connect_models(organization_id: int | None = None, wanted: Mapping[str, str] | None = None) -> ConnectModels:
    """The models for the lines that connect Claude Code: those that are `wanted`, else as the organisation's profile
    says."""
    catalogue = current_catalogue()
    own = catalogue.organization_profiles.get(organization_id or 0, Profile())
    return choose_models(catalogue.models, merge_profiles(own, catalogue.platform_profile), wanted)
