"""How many tokens a request has: asked of the provider where it tells, else counted here and made the
model's by its factor; and what answers teach about that factor.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from credits.types import UsageSource
from gateway.plan import PlannedTarget
from gateway.routing import Decision
from providers import tokens
from providers.calibration import LEAST_TOKENS, Observations
from providers.families import UNKNOWN, Family, family_of
from providers.provider_counts import ProviderCounts
from providers.types import Model
from providers.wire.request import MessagesRequest

if TYPE_CHECKING:
    from gateway.run import Run

CLAUDE = "claude"
CLAUDES_WIRES = frozenset({"anthropic", "vertex", "bedrock"})
SAMPLE_SECONDS = 30.0
"""Between two answers of a model whose request is counted here to learn from it."""


def family_for(model: Model) -> Family:
    return family_of(model.targets[0].actual_model) if model.targets else UNKNOWN


def sends_eagerly(model: Model) -> bool:
    """Whether deferred tools are sent to `model` at once: only Claude, called in its own format, defers them."""
    return bool(model.targets) and (family_for(model).name != CLAUDE or model.targets[0].wire not in CLAUDES_WIRES)


async def count(request: MessagesRequest, model: Model) -> tokens.Count:
    """With the vocabulary that stands in for the model's tokenizer."""
    return await tokens.count_async(request, family_for(model), eager_tools=sends_eagerly(model))


async def input_tokens(
    decision: Decision, targets: Sequence[PlannedTarget], headers: Mapping[str, str], provider_counts: ProviderCounts
) -> int:
    """Input tokens of the routed request, for a client that wants to know; `targets` are those that would serve it."""
    model = decision.model
    if targets:
        first = targets[0]
        told = await provider_counts.count(
            decision.request, target=first.target, credential=first.credential, model=model, client_headers=headers
        )
        if told is not None:
            return told
    return await counted_here(decision.request, model)


async def counted_here(request: MessagesRequest, model: Model) -> int:
    return (await count(request, model)).scaled(model.token_factors.counted)


class Learner:
    """Notes how an answer's reported input compares with what was measured here. One per process."""

    def __init__(self) -> None:
        self.observations = Observations()
        self._sampled_at: dict[int, float] = {}
        self._counting: set[asyncio.Task[None]] = set()

    def answered(self, run: "Run") -> None:
        """Take note of a request that is over. Images and files count by rules of their own, and searches
        add what they found: those teach nothing about the tokenizer."""
        reading = run.reading()
        if reading.source is not UsageSource.PROVIDER or reading.web_searches or run.status != 200:
            return
        if run.estimated_input < LEAST_TOKENS or run.changed_on_the_way or run.request.has_media:
            return
        reported = reading.input + reading.cache_read + reading.cache_write + reading.cache_write_1h
        model = run.model
        self.observations.note(model.id, "estimated", reported=reported, measured=run.estimated_input)
        # The vocabulary takes memory: where nobody has asked for a count yet, no factor for counts is needed.
        if tokens.is_loaded(family_for(model)) and self._is_due(model.id):
            task = asyncio.create_task(self._count(run.request, model, reported))
            self._counting.add(task)
            task.add_done_callback(self._counting.discard)

    def _is_due(self, model_id: int) -> bool:
        now = time.monotonic()
        if now < self._sampled_at.get(model_id, 0.0):
            return False
        self._sampled_at[model_id] = now + SAMPLE_SECONDS
        return True

    async def _count(self, request: MessagesRequest, model: Model, reported: int) -> None:
        counted = await count(request, model)
        if counted.exact:
            self.observations.note(model.id, "counted", reported=reported, measured=counted.text)

    def close(self) -> None:
        for task in self._counting:
            task.cancel()
