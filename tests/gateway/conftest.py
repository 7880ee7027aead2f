"""A CCM in processes of its own for the tests that need sockets, crashes or a real server."""

import os
from collections.abc import Iterator
from itertools import count

import pytest

from tests.processes import NewDatabase
from tests.world import World

_numbers = count(1)


@pytest.fixture(scope="session")
def world(new_database: NewDatabase) -> Iterator[World]:
    """A running CCM with both fake providers, shared by the tests of a run: use customers of your own."""
    with new_database() as url, World(database_url=url) as made:
        yield made


@pytest.fixture
def private_world(new_database: NewDatabase) -> Iterator[World]:
    """A running CCM of this test's own, which it may kill. Its holds' leases are short, so that
    what a dead process leaves is settled within seconds."""
    with new_database() as url, World(database_url=url, settings={"CCM_HOLD_LEASE_SECONDS": "2"}) as made:
        yield made


@pytest.fixture
def email() -> str:
    """A customer that no other test has."""
    return f"customer-{os.getpid()}-{next(_numbers)}@example.com"
