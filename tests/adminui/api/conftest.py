"""The API on a running CCM: the processes, the network and the gateway's runtime are the real ones."""

import json

import pytest

from tests.gateway.conftest import world
from tests.world import World

__all__ = ["world"]


@pytest.fixture(scope="module")
def _customers(world: World) -> list[tuple[str, str]]:
    world.make_default("anthropic")
    return world.ccm.create_customers(20)


@pytest.fixture
def customer(_customers: list[tuple[str, str]]) -> tuple[str, str]:
    """The e-mail address and key of a customer that no other test has."""
    return _customers.pop()


@pytest.fixture(scope="module")
def managers(world: World, _customers: list[tuple[str, str]]) -> dict[str, str]:
    """A management key of each customer, by the e-mail address: made by one process for all."""
    printed = world.ccm.python(
        "import json; from accounts.models import User; from accounts.services import create_key\n"
        "made = {}\n"
        f"for user in User.objects.filter(email__in={[email for email, _ in _customers]!r}):\n"
        "    new = create_key(organization=user.personal_organization, name='manager', created_by=user, "
        "management=True)\n"
        "    made[user.email] = new.secret\n"
        "print(json.dumps(made))"
    )
    made: dict[str, str] = json.loads(printed.splitlines()[-1])
    return made


@pytest.fixture
def stranger(_customers: list[tuple[str, str]], managers: dict[str, str]) -> str:
    """A management key of another tenant."""
    return managers[_customers.pop()[0]]


@pytest.fixture(scope="module")
def reading_manager(reader: str, managers: dict[str, str], _customers: list[tuple[str, str]]) -> str:
    """A management key of a customer that no test changes anything of."""
    return managers[_customers.pop(0)[0]]


@pytest.fixture
def email(customer: tuple[str, str]) -> str:
    return customer[0]


@pytest.fixture(scope="module")
def reader(_customers: list[tuple[str, str]]) -> str:
    """A key of a customer that no test changes anything of."""
    return _customers.pop(0)[1]
