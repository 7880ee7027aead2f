"""Why a request took its route and where it could have gone, for people: the dry run's answer, and what
a usage record refers to."""

import functools
from collections.abc import Sequence
from typing import Any

import msgspec

from credits.types import Explanation
from gateway.plan import PlannedTarget
from gateway.resilience import Resilience
from gateway.routing import Decision
from gateway.routing.types import Rule, Signals
from providers.prices import usd
from providers.types import Price

Line = tuple[str, str, bool]
"""A target: its provider, the provider's name for the model, and whether it is well."""

_encode = msgspec.json.Encoder().encode


def explanation_of(decision: Decision, targets: Sequence[PlannedTarget], standing: Resilience) -> Explanation:
    """What the usage record of a request keeps. Nothing in it is the request's alone (no id, no token
    count), so that equal ones are stored once; nothing in it is what a provider costs the operator."""
    return _explanation(
        decision.trail,
        decision.signals,
        decision.origin,
        decision.model.price,
        _told(targets, standing),
    )


@functools.lru_cache(maxsize=1024)
def _explanation(
    trail: tuple[Rule, ...], signals: Signals, origin: str, price: Price | None, targets: tuple[Line, ...]
) -> Explanation:
    content = {"rules": trail, "targets": _lines(targets, price), "signals": signals, "origin": origin}
    return Explanation.of(_encode(content))


def target_lines(decision: Decision, targets: Sequence[PlannedTarget], standing: Resilience) -> list[dict[str, Any]]:
    """The targets in the order in which they are tried; `input` and `output` are what the customer
    pays, in USD per million tokens."""
    return _lines(_told(targets, standing), decision.model.price)


def _told(targets: Sequence[PlannedTarget], standing: Resilience) -> tuple[Line, ...]:
    return tuple((each.target.provider, each.target.actual_model, standing.is_well(each.target)) for each in targets)


def _lines(targets: Sequence[Line], price: Price | None) -> list[dict[str, Any]]:
    rates = _rates(price)
    return [{"provider": provider, "model": model, "healthy": well, **rates} for provider, model, well in targets]


@functools.lru_cache(maxsize=1024)
def _rates(price: Price | None) -> dict[str, str]:
    return {} if price is None else {"input": usd(price.input), "output": usd(price.output)}
