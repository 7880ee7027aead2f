"""How many tokens a model counts for each one that is measured here: learnt from what its providers report.

A process collects ratios (reported / measured), and merges them into the database once a minute; the
catalogue carries the result. Tokenizers differ by model and what is measured here is OpenAI's
vocabulary or a request's size, so the ratio is a fact about the model that only use can tell
(translation.md 8.3).
"""

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Literal, Protocol

from providers.types import TokenFactors

Measured = Literal["counted", "estimated"]

LEAST, MOST = 0.5, 3.0
"""No factor is beyond these, whatever a provider reports."""
ENOUGH_SAMPLES = 10
"""From so many samples on a factor is used; before, what its family is known for."""
WEIGHT = 0.05
"""Of one sample beside all earlier ones: what was learnt a hundred requests ago hardly counts."""
LEAST_TOKENS = 1_000
"""Of shorter requests the provider's own overhead is a large part, which is no matter of the tokenizer."""
PLAUSIBLE = (0.3, 4.0)
LARGEST_STEP = 1.25
"""How far a batch may be from a factor that is established; more is taken for so much."""
MOST_KEPT = 500
"""Ratios of a model in one batch."""
WORTH_TELLING = 0.02


@dataclass(frozen=True, slots=True)
class Batch:
    """What one process has seen since its last merge: the ratios' median, and how many there were."""

    ratio: float
    samples: int


class Learnt(Protocol):
    """A stored factor: `providers.models.TokenFactor`."""

    counted: float
    counted_samples: int
    estimated: float
    estimated_samples: int


Batches = Mapping[int, Mapping[Measured, Batch]]
"""By the model's id."""


class Observations:
    """What a process has seen. Not for several threads."""

    def __init__(self) -> None:
        self._ratios: dict[int, dict[Measured, list[float]]] = defaultdict(dict)

    def note(self, model_id: int, kind: Measured, *, reported: int, measured: int) -> None:
        """One request: tokens that its provider reported, cached ones included, and that were measured here."""
        if measured < LEAST_TOKENS:
            return
        ratio = reported / measured
        if PLAUSIBLE[0] <= ratio <= PLAUSIBLE[1]:
            ratios = self._ratios[model_id].setdefault(kind, [])
            if len(ratios) < MOST_KEPT:
                ratios.append(ratio)

    def take(self) -> Batches:
        """Everything noted so far, which is forgotten here."""
        taken, self._ratios = self._ratios, defaultdict(dict)
        return {
            model: {kind: Batch(median(ratios), len(ratios)) for kind, ratios in kinds.items()}
            for model, kinds in taken.items()
        }

    def put_back(self, batches: Batches) -> None:
        """Keep `batches`, which could not be stored, for the next time."""
        for model, kinds in batches.items():
            for kind, batch in kinds.items():
                ratios = self._ratios[model].setdefault(kind, [])
                ratios += [batch.ratio] * min(batch.samples, MOST_KEPT - len(ratios))


def blended(factor: float, samples: int, batch: Batch) -> float:
    """`factor`, learnt from so many samples, after one more batch: a plain mean at first, then a moving one."""
    ratio = batch.ratio
    if samples >= ENOUGH_SAMPLES:
        ratio = min(max(ratio, factor / LARGEST_STEP), factor * LARGEST_STEP)
    weight = max(batch.samples / (samples + batch.samples), 1 - (1 - WEIGHT) ** batch.samples)
    return min(max(factor + weight * (ratio - factor), LEAST), MOST)


def factors_of(learnt: Learnt | None, otherwise: TokenFactors) -> TokenFactors:
    """What holds for a model: what was learnt, where that is enough."""
    if learnt is None:
        return otherwise
    return TokenFactors(
        counted=learnt.counted if learnt.counted_samples >= ENOUGH_SAMPLES else otherwise.counted,
        estimated=learnt.estimated if learnt.estimated_samples >= ENOUGH_SAMPLES else otherwise.estimated,
    )


def differ(known: TokenFactors, now: TokenFactors) -> bool:
    """Whether the catalogue should be told of the new factors."""
    pairs = ((known.counted, now.counted), (known.estimated, now.estimated))
    return any(abs(new - old) >= WORTH_TELLING * old for old, new in pairs)


def scaled(tokens: int, factor: float) -> int:
    return math.ceil(tokens * factor)
