"""Whatever is sent to the operators' API: no server error, and no answer that its schema does not tell of."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.processes import Ccm, process_database

EXAMPLES = 6
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
SEED = """
from accounts import operator_tokens
from accounts.models import User
from accounts.services import create_key
from credits.services import grant, open_account
from providers.models import Mapping, Model, Provider
account = open_account(email="customer@example.com")
create_key(organization=account.organization, name="laptop", created_by=account.user)
grant(account.organization.pk, 10**9, reason="test", idempotency_key="test")
Mapping.objects.create(
    model=Model.objects.create(name="m"), provider=Provider.objects.create(name="p", kind="demo"), actual_model="a"
)
operator = User.objects.create_superuser("root@example.com", "a long enough password")
print(operator_tokens.create(user=operator, name="explorer").secret)
"""


@pytest.fixture
def ccm() -> Iterator[Ccm]:
    """Of this test's own: nobody knows what is in it afterwards."""
    with process_database() as url, Ccm(database_url=url) as made:
        yield made


def test_the_schema_tells_all(ccm: Ccm):
    token = ccm.python(SEED).splitlines()[-1]
    ccm.start()
    headers = {"authorization": f"Bearer {token}"}
    raw = httpx.get(f"{ccm.url}/admin/api/schema/", headers=headers, trust_env=False, timeout=60).json()
    schema = schemathesis.openapi.from_dict(raw)
    operations = [found.ok() for found in schema.get_all_operations()]  # type: ignore[union-attr]
    assert len(operations) > 40
    for operation in operations:

        @given(case=operation.as_strategy())
        @settings(
            max_examples=EXAMPLES, deadline=None, database=None, derandomize=True, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        def explore(case: Any) -> None:
            case.call_and_validate(base_url=ccm.url, headers=headers, checks=CHECKS, timeout=30)

        explore()
