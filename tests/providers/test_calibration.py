"""Factors learnt from what providers report: bounded, robust, and never lost between processes."""

import threading
from collections.abc import Callable

import pytest
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st

from providers import calibration, services
from providers.calibration import Batch, Observations, blended, differ, factors_of
from providers.catalogue import build
from providers.models import CatalogueVersion, Model, TokenFactor
from providers.services import merge_token_factors
from providers.types import TokenFactors
from tests.providers.catalogue_support import make_mapping, make_model, make_provider

PRIOR = TokenFactors(counted=1.2)
ratios = st.floats(0.01, 1000, allow_nan=False)


@given(told=st.lists(st.tuples(ratios, st.integers(1, 500)), max_size=50))
def test_a_factor_stays_within_its_bounds(told: list[tuple[float, int]]) -> None:
    factor, samples = 1.0, 0
    for ratio, count in told:
        factor = blended(factor, samples, Batch(ratio, count))
        samples += count
        assert calibration.LEAST <= factor <= calibration.MOST


@given(ratio=st.floats(0.6, 2.5), start=st.floats(0.5, 3.0))
def test_a_factor_comes_to_what_the_provider_reports(ratio: float, start: float) -> None:
    factor = start
    for _ in range(60):
        factor = blended(factor, 1000, Batch(ratio, 5))
    assert factor == pytest.approx(ratio, rel=0.01)


def test_one_odd_batch_hardly_moves_an_established_factor() -> None:
    assert blended(1.3, 1000, Batch(4.0, 1)) == pytest.approx(1.3, rel=0.02)
    assert blended(1.0, 0, Batch(1.4, 3)) == pytest.approx(1.4)


def test_short_requests_and_absurd_reports_teach_nothing() -> None:
    seen = Observations()
    seen.note(1, "counted", reported=900, measured=999)
    seen.note(1, "counted", reported=10, measured=5_000)
    seen.note(1, "counted", reported=50_000, measured=5_000)
    assert seen.take() == {}
    for reported in (6_000, 6_100, 19_000):
        seen.note(1, "counted", reported=reported, measured=5_000)
    batches = seen.take()
    assert batches == {1: {"counted": Batch(1.22, 3)}}
    assert seen.take() == {}
    seen.put_back(batches)
    assert seen.take() == batches


def test_a_few_samples_are_not_used_yet() -> None:
    few = TokenFactor(counted=2.0, counted_samples=calibration.ENOUGH_SAMPLES - 1, estimated=0.8, estimated_samples=99)
    assert factors_of(few, PRIOR) == TokenFactors(counted=1.2, estimated=0.8)
    assert factors_of(None, PRIOR) == PRIOR
    assert differ(PRIOR, TokenFactors(counted=1.23))
    assert not differ(PRIOR, TokenFactors(counted=1.21))


@pytest.mark.django_db
def test_what_was_learnt_is_in_the_catalogue_of_every_process() -> None:
    model = make_model("claude-sonnet-4-5")
    make_mapping(model, make_provider(kind="anthropic"))
    before = build().models[model.name].token_factors
    assert before == TokenFactors(counted=1.2)
    version = CatalogueVersion.current()
    assert merge_token_factors({model.pk: {"counted": Batch(1.4, 20)}}, {model.pk: before}) == 1
    assert CatalogueVersion.current() == version + 1
    now = build().models[model.name].token_factors
    assert now == TokenFactors(counted=1.4)
    merge_token_factors({model.pk: {"counted": Batch(1.4, 5)}}, {model.pk: now})
    assert CatalogueVersion.current() == version + 1, "nothing new: no catalogue is built again"
    assert merge_token_factors({model.pk + 1: {"counted": Batch(1.4, 5)}}, {}) == 0, "the model is gone"


@pytest.mark.django_db
@pytest.mark.parametrize("guarded", [True, False])
def test_a_merge_that_another_process_overtook_reads_again(monkeypatch: pytest.MonkeyPatch, guarded: bool) -> None:
    """Control: without the version in the update, the other process's samples are lost."""
    model = make_model()
    TokenFactor.objects.create(model=model)
    overtaken = False
    store: Callable[..., bool] = services._store

    def slow_store(row: TokenFactor, kinds: object, known: object) -> bool:
        nonlocal overtaken
        if not overtaken:
            overtaken = True
            merge_token_factors({model.pk: {"counted": Batch(2.0, 30)}}, {})
        if not guarded:
            row.version = TokenFactor.objects.get(pk=row.pk).version
        return store(row, kinds, known)

    monkeypatch.setattr(services, "_store", slow_store)
    merge_token_factors({model.pk: {"counted": Batch(1.0, 10)}}, {})
    assert TokenFactor.objects.get(model=model).counted_samples == (40 if guarded else 10)


@pytest.mark.django_db(transaction=True)
def test_no_sample_is_lost_when_processes_merge_at_once() -> None:
    model = make_model()
    barrier = threading.Barrier(4)
    merged: list[int] = []

    def merge() -> None:
        try:
            barrier.wait()
            merged.append(sum(merge_token_factors({model.pk: {"estimated": Batch(1.5, 2)}}, {}) for _ in range(3)))
        finally:
            connection.close()

    threads = [threading.Thread(target=merge) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    row = TokenFactor.objects.get(model=model)
    assert row.estimated_samples == 2 * sum(merged) > 0
    assert Model.objects.count() == 1
