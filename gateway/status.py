"""How every provider and target is doing: what requests met with, health probes, breakers.

Reads of the database and, through `breaker_of`, of the gateway's own state; for pages and the API, never
on the way of a request.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from credits.usage.target_status import NOTHING, Answered, Answering, Window, answered
from providers.selectors import ListedProvider, Probe, latest_probes, listed_providers

BreakerOf = Callable[[int], str | None]
"""The state of a mapping's circuit breaker in a word; None when it is not known."""


@dataclass(frozen=True, slots=True)
class TargetStatus:
    """A provider's own model. `models` are what customers ask for to get there; empty when nothing leads
    there any more. `breaker` is the worst of its mappings' (an open one before a half-open one), None
    when it is not known."""

    model: str
    models: tuple[str, ...]
    mapping_ids: tuple[int, ...]
    answering: Answering
    breaker: str | None


@dataclass(frozen=True, slots=True)
class ProviderStatus:
    """`id` is None for one that had requests in the window and is no longer listed. `probe` is the newest,
    whatever the window."""

    id: int | None
    name: str
    kind: str
    enabled: bool
    answering: Answering
    targets: tuple[TargetStatus, ...]
    probe: Probe | None


@dataclass(frozen=True, slots=True)
class PlatformStatus:
    """Of one window: from `since` until `until`, which is None when nothing was ever added up."""

    window: Window
    since: datetime
    until: datetime | None
    providers: tuple[ProviderStatus, ...]


def platform_status(
    window: Window, now: datetime | None = None, breaker_of: BreakerOf = lambda _mapping_id: None
) -> PlatformStatus:
    """All listed providers by name, then those that only have a past."""
    found = answered(window, now)
    listed = listed_providers()
    probes = latest_probes()
    names = {provider.name for provider in listed}
    past = [ListedProvider(0, name, "", False, ()) for name in sorted(found.providers) if name not in names]
    providers = [_provider(each, found, probes.get(each.id), breaker_of) for each in (*listed, *past)]
    return PlatformStatus(window, found.since, found.until, tuple(providers))


def _provider(listed: ListedProvider, found: Answered, probe: Probe | None, breaker_of: BreakerOf) -> ProviderStatus:
    led_to = {target.actual_model for target in listed.targets}
    seen = {model for provider, model in found.targets if provider == listed.name}
    return ProviderStatus(
        id=listed.id or None,
        name=listed.name,
        kind=listed.kind,
        enabled=listed.enabled,
        answering=found.providers.get(listed.name, NOTHING),
        targets=tuple(_target(listed, model, found, breaker_of) for model in sorted(led_to | seen)),
        probe=probe,
    )


def _target(listed: ListedProvider, model: str, found: Answered, breaker_of: BreakerOf) -> TargetStatus:
    mappings = [target for target in listed.targets if target.actual_model == model]
    return TargetStatus(
        model=model,
        models=tuple(target.model for target in mappings),
        mapping_ids=tuple(target.mapping_id for target in mappings),
        answering=found.targets.get((listed.name, model), NOTHING),
        breaker=_worst([breaker_of(target.mapping_id) for target in mappings]),
    )


def _worst(states: list[str | None]) -> str | None:
    known = [state for state in states if state is not None]
    return min(known, key=lambda state: ("open" not in state, "half" in state), default=None)
