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
from providers.prices import usd
from providers.types import Price

_encode = msgspec.json.Encoder().encode


def explanation_of(decision: Decision, targets: Sequence[PlannedTarget], standing: Resilience) -> Explanation:
    """What the usage record of a request keeps. Nothing in it is the request's alone (no id, no token
    count), so that equal ones are stored once; nothing in it is what a provider costs the operator."""
    content = {
        "rules": decision.trail,
        "targets": target_lines(decision, targets, standing),
        "signals": decision.signals,
        "origin": decision.origin,
    }
    return Explanation.of(_encode(content))


def target_lines(decision: Decision, targets: Sequence[PlannedTarget], standing: Resilience) -> list[dict[str, Any]]:
    """The targets in the order in which they are tried; `input` and `output` are what the customer
    pays, in USD per million tokens."""
    rates = _rates(decision.model.price)
    return [
        {
            "provider": planned.target.provider,
            "model": planned.target.actual_model,
            "healthy": standing.is_well(planned.target),
            **rates,
        }
        for planned in targets
    ]


@functools.lru_cache(maxsize=1024)
def _rates(price: Price | None) -> dict[str, str]:
    return {} if price is None else {"input": usd(price.input), "output": usd(price.output)}
