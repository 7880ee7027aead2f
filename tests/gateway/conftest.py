"""A CCM in processes of its own for the tests that need sockets, crashes or a real server."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

import pytest

from tests.world import World

_numbers = count(1)


@contextmanager
def process_database() -> Iterator[str]:
    """The URL of a new database for a CCM process: on the run's PostgreSQL server, or "" for SQLite."""
    url = os.environ.get("DATABASE_URL", "")
    if not url.startswith("postgres"):
        yield ""
        return
    import psycopg
    from psycopg import sql

    name = f"ccm_process_{os.getpid()}_{next(_numbers)}"
    head, question, options = url.partition("?")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    try:
        yield head.rpartition("/")[0] + "/" + name + question + options
    finally:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    """A running CCM with both fake providers, shared by the tests of a run: use customers of your own."""
    with process_database() as url, World(database_url=url) as made:
        yield made


@pytest.fixture
def private_world() -> Iterator[World]:
    """A running CCM of this test's own, which it may kill. Its holds' leases are short, so that
    what a dead process leaves is settled within seconds."""
    with process_database() as url, World(database_url=url, settings={"CCM_HOLD_LEASE_SECONDS": "2"}) as made:
        yield made


@pytest.fixture
def email() -> str:
    """A customer that no other test has."""
    return f"customer-{os.getpid()}-{next(_numbers)}@example.com"
