"""What an installation of before the price book keeps when it is upgraded."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

BEFORE, AFTER = [("providers", "0001_initial")], [("providers", "0002_price_book")]


def migrate(target: list[tuple[str, str]]) -> Any:
    executor = MigrationExecutor(connection)
    executor.migrate(target)
    return executor.loader.project_state(target).apps


@pytest.fixture
def before(transactional_db: None) -> Iterator[Any]:
    yield migrate(BEFORE)
    executor = MigrationExecutor(connection)
    executor.migrate(executor.loader.graph.leaf_nodes("providers"))


def test_the_costs_of_mappings_become_their_first_dated_cost_and_come_back(before: Any):
    provider = before.get_model("providers", "Provider").objects.create(name="p", kind="openai")
    model = before.get_model("providers", "Model").objects.create(name="m")
    mappings = before.get_model("providers", "Mapping").objects
    rates = {"cost_input": Decimal("1.25"), "cost_output": Decimal(10), "cost_web_search": Decimal(7)}
    known = mappings.create(model=model, provider=provider, actual_model="known", **rates)
    mappings.create(model=model, provider=provider, actual_model="unknown")
    after = migrate(AFTER)
    [cost] = after.get_model("providers", "MappingCost").objects.all()
    assert (cost.mapping_id, cost.input, cost.output, cost.cache_read) == (known.pk, Decimal("1.25"), 10, None)
    assert (cost.web_search, cost.tiers, cost.effective_from) == (7, [], model.created_at)
    again = migrate(BEFORE).get_model("providers", "Mapping").objects.get(pk=known.pk)
    assert (again.cost_input, again.cost_output, again.cost_web_search) == (Decimal("1.25"), 10, 7)
