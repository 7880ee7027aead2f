"""Every operation of /api/v1 against its own OpenAPI document: generated requests find no failure of the server, and no
answer that the document does not name."""

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.world import World

EXAMPLES = 12
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.fixture(scope="module")
def tested(managers: dict[str, str], _customers: list[tuple[str, str]]) -> tuple[str, str]:
    """A management key and an ordinary one, of a customer that generated requests may change at will."""
    email, key = _customers.pop()
    return managers[email], key


@pytest.fixture
def document(world: World) -> Any:
    return schemathesis.openapi.from_url(f"{world.ccm.url}/api/v1/openapi.json")


schema = schemathesis.pytest.from_fixture("document")


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_no_failure_and_no_undocumented_answer(case: Any, world: World, tested: tuple[str, str]):
    for key in tested:
        headers = {"authorization": f"Bearer {key}"}
        case.call_and_validate(base_url=world.ccm.url, headers=headers, checks=CHECKS, timeout=30)
