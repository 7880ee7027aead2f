"""The early pytest plugin: secrets, a data directory, the database and a Valkey of the run's own.

It must run before pytest-django reads the settings, hence `-p tests.plugin.services` in
pyproject.toml. Which database: `--database`, else CCM_TEST_DATABASE, else PostgreSQL if
DATABASE_URL names one, else SQLite.
"""

import os
import shutil
from collections.abc import Callable

import pytest

from tests.plugin import environment, postgres, sockets, valkey

CHOICES = ("sqlite", "postgres")
READY = "CCM_TEST_SERVICES"
DATABASE_FIXTURES = {"db", "transactional_db", "new_database"}

_cleanups: list[Callable[[], object]] = []
_valkey: valkey.ValkeyServer | None = None
_described = ""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--database", choices=CHOICES, help="the database to test on (default: CCM_TEST_DATABASE or sqlite)"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config, args: list[str]) -> None:
    sockets.guard()
    if os.environ.get(READY) and "PYTEST_XDIST_WORKER" in os.environ:
        # The controller has made the rest and hands it down by the environment. A Valkey is each worker's own: tests
        # empty it.
        _provide_valkey()
        early_config.add_cleanup(_clean_up)
        return
    environment.set_secrets()
    data_dir = environment.make_data_dir()
    _cleanups.append(lambda: shutil.rmtree(data_dir, ignore_errors=True))
    os.environ["CCM_DATA_DIR"] = str(data_dir)
    try:
        _provide_database(early_config.known_args_namespace.database)
        _provide_valkey()
    except BaseException:
        _clean_up()
        raise
    os.environ[READY] = "1"
    early_config.add_cleanup(_clean_up)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On PostgreSQL only what touches a database: the rest is the same as in the run on SQLite."""
    if not os.environ.get("DATABASE_URL", "").startswith("postgres"):
        return
    left_out = [item for item in items if not _touches_the_database(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if _touches_the_database(item)]


def _touches_the_database(item: pytest.Item) -> bool:
    """Whether which database it is may make a difference to the test."""
    if item.get_closest_marker("one_database") is not None:
        return False
    fixtures = getattr(item, "fixturenames", ())
    return item.get_closest_marker("django_db") is not None or not DATABASE_FIXTURES.isdisjoint(fixtures)


def _provide_database(option: str | None) -> None:
    global _described
    given = os.environ.get("DATABASE_URL", "")
    choice = option or os.environ.get("CCM_TEST_DATABASE") or ("postgres" if given.startswith("postgres") else "sqlite")
    if choice not in CHOICES:
        raise pytest.UsageError(f"CCM_TEST_DATABASE must be one of {', '.join(CHOICES)}, not {choice!r}.")
    if choice == "sqlite":
        os.environ.pop("DATABASE_URL", None)
        _described = "SQLite"
    elif given.startswith("postgres"):
        _described = "PostgreSQL from DATABASE_URL"
    else:
        try:
            server = postgres.start()
        except RuntimeError as error:
            raise pytest.UsageError(str(error)) from None
        _cleanups.append(server.stop)
        os.environ["DATABASE_URL"] = server.url
        _described = f"PostgreSQL {server.version}, private"


def _provide_valkey() -> None:
    global _valkey
    try:
        _valkey = valkey.start()
    except RuntimeError as error:
        raise pytest.UsageError(str(error)) from None
    _cleanups.append(_valkey.stop)
    os.environ["REDIS_URL"] = _valkey.url


def _clean_up() -> None:
    while _cleanups:
        _cleanups.pop()()


def pytest_report_header() -> str:
    return f"database: {_described}" if _described else ""
