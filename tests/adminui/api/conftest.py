"""The API on a running CCM: the processes, the network and the gateway's runtime are the real ones."""

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


@pytest.fixture
def email(customer: tuple[str, str]) -> str:
    return customer[0]


@pytest.fixture(scope="module")
def reader(_customers: list[tuple[str, str]]) -> str:
    """A key of a customer that no test changes anything of."""
    return _customers.pop(0)[1]
