"""Fixtures for every test. Those of one app live in tests/<app>/conftest.py."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from django.core.cache import cache
from django.db import connection
from pytest_django import DjangoDbBlocker, Settings

from tests.credits.flush import flushable_ledger  # noqa: F401 - a fixture for every transactional test
from tests.plugin import valkey as valkey_servers
from tests.plugin.valkey import ValkeyServer
from tests.processes import NewDatabase, process_database

PROJECT = Path(__file__).resolve().parent.parent
RECORDINGS = PROJECT.parent / "shared" / "fixtures"


@pytest.fixture(autouse=True)
def _empty_cache() -> Iterator[None]:
    yield
    cache.clear()


@pytest.fixture(autouse=True)
def _quick_passwords(settings: Settings) -> None:
    """Argon2 takes its time on purpose: 0.2 seconds for each log-in that a test makes."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """PostgreSQL drops no database that somebody is connected to, be it a thread that an async test has left idle."""
    yield
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )


@pytest.fixture
def valkey() -> str:
    """The URL of the run's own Valkey (also settings.REDIS_URL), emptied for this test."""
    url = os.environ["REDIS_URL"]
    with redis.Redis.from_url(url) as client:
        client.flushall()
    return url


@pytest.fixture
def private_valkey() -> Iterator[ValkeyServer]:
    """A Valkey of this test's own, which it may stop to see what happens."""
    server = valkey_servers.start()
    yield server
    if server.process.poll() is None:
        server.stop()


@pytest.fixture(scope="session")
def recordings() -> Path:
    """The folder of recorded provider traffic; it is no part of this project."""
    if not RECORDINGS.is_dir():
        pytest.skip(f"no recordings at {RECORDINGS}")
    return RECORDINGS


@pytest.fixture(scope="session")
def new_database() -> NewDatabase:
    """Makes a database for a CCM process. Who asks for it is tested on both databases (tests/plugin/services.py)."""
    return process_database


@pytest.fixture(scope="session")
def project() -> Path:
    return PROJECT
