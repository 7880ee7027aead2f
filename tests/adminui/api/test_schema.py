"""Every operation of /api/v1 against its own OpenAPI document: generated requests find no failure of the server, and no
answer that the document does not name."""

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from adminui.api.app import api
from tests.world import World

EXAMPLES = 8
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
DOCUMENT = api.get_openapi_schema(path_prefix="/api/v1/")
OPERATIONS = [(method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods]


@pytest.fixture(scope="module")
def tested(managers: dict[str, str], _customers: list[tuple[str, str]]) -> tuple[str, str]:
    """A management key and an ordinary one, of a customer that generated requests may change at will."""
    email, key = _customers.pop()
    return managers[email], key


@pytest.fixture(scope="module")
def schema() -> Any:
    return schemathesis.openapi.from_dict(DOCUMENT)


def test_every_resource_is_in_the_document():
    paths = {path.removeprefix("/api/v1") for _, path in OPERATIONS}
    assert paths >= {
        "/key", "/keys", "/keys/{hash}", "/credits", "/activity", "/generation", "/models", "/models/user", "/status",
        "/route", "/routing", "/routing/versions", "/routing/revert", "/what-if",
    }  # fmt: skip


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_no_failure_and_no_undocumented_answer(
    method: str, path: str, schema: Any, world: World, tested: tuple[str, str]
):
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=schema[path][method].as_strategy())
    def holds(case: Any) -> None:
        for key in tested:
            headers = {"authorization": f"Bearer {key}"}
            case.call_and_validate(base_url=world.ccm.url, headers=headers, checks=CHECKS, timeout=60)

    holds()
