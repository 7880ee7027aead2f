"""How long to wait before a repetition: exponential, with full jitter. Pure but for the dice.

Full jitter: anything between nothing and the whole step, so that requests which failed together do
not come back together (Brooker, "Exponential Backoff And Jitter").
"""

import random
from collections.abc import Callable

STEP_SECONDS = 0.25
LONGEST_STEP_SECONDS = 4.0
LONGEST_WAIT_SECONDS = 5.0
"""A longer pause is the client's to make: it is told, instead of being kept waiting."""
MOST_WAITED_SECONDS = 10.0
"""One request waits no longer than this in all."""


def jitter(repetition: int, chance: Callable[[], float] = random.random) -> float:
    """Seconds before the repetition with this number, from 1."""
    step: float = min(LONGEST_STEP_SECONDS, STEP_SECONDS * 2.0 ** (repetition - 1))
    return step * chance()


def pause(
    asked: float | None, repetition: int, waited: float, chance: Callable[[], float] = random.random
) -> float | None:
    """Seconds to wait before asking again, at least the `asked` ones; None when it is too long to
    keep the client waiting. `waited` is what this request has waited already."""
    seconds = (asked or 0.0) + jitter(repetition, chance)
    if (asked or 0.0) > LONGEST_WAIT_SECONDS or waited + seconds > MOST_WAITED_SECONDS:
        return None
    return seconds
