"""Real clients against a real CCM against fake providers on real sockets.

With CCM_E2E=1 (`make e2e`) a client or browser that cannot be had is a failure; without it,
these tests run where those are installed and otherwise say why they do not.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import NoReturn

import pytest

from tests.e2e import clients
from tests.e2e.product import Installation, run_product
from tests.world import World

REQUIRED = os.environ.get("CCM_E2E") == "1"
_numbers = count(1)


def unavailable(reason: str) -> NoReturn:
    if REQUIRED:
        pytest.fail(reason, pytrace=False)
    pytest.skip(f"{reason} (`make e2e` installs what is missing)")


@pytest.fixture(scope="session", autouse=True)
def _once() -> None:
    """CCM's processes are on SQLite here, whatever database the run is on: once is enough."""
    if not REQUIRED and os.environ.get("DATABASE_URL", "").startswith("postgres"):
        pytest.skip("end-to-end tests run in the run on SQLite")


@pytest.fixture(scope="session", params=list(clients.VERSIONS))
def client(request: pytest.FixtureRequest) -> Path:
    """The program of each client version in turn."""
    version: str = request.param
    try:
        found = clients.install(version) if REQUIRED else clients.find(version)
    except clients.NotInstalled as error:
        unavailable(str(error))
    return found or unavailable(f"Claude Code {version} is not installed")


@pytest.fixture(scope="session")
def codex() -> Path:
    """Codex's program."""
    try:
        found = clients.install(clients.CODEX) if REQUIRED else clients.find(clients.CODEX)
    except clients.NotInstalled as error:
        unavailable(str(error))
    return found or unavailable("Codex is not installed")


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser's program."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    if REQUIRED and os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(["apt-get", "update", "-qq"], capture_output=True, timeout=180)
        install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium"]
        subprocess.run(install, capture_output=True, timeout=400)
    return shutil.which("chromium") or unavailable("Chromium is not installed: apt-get install chromium")


@pytest.fixture(scope="session")
def world(project: Path) -> Iterator[World]:
    """CCM with both fake providers behind it."""
    with World() as made:
        yield made


@pytest.fixture(scope="session")
def installation(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """`make run` in a copy of the project, with next to no environment: as on a fresh machine."""
    if not REQUIRED:
        unavailable("A fresh installation takes a minute")
    with run_product(project, tmp_path_factory.mktemp("fresh")) as made:
        yield made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project for the client to work in."""
    (tmp_path / "notes.txt").write_text("the secret word is marzipan\n")
    return tmp_path


@pytest.fixture
def email() -> str:
    """A customer that no other test has."""
    return f"customer-{os.getpid()}-{next(_numbers)}@example.com"


if sys.platform != "linux":
    collect_ignore_glob = ["test_*.py"]
