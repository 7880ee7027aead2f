"""Real clients against a real CCM against fake providers on real sockets.

`make e2e` (CCM_E2E=1) runs them: minutes of real clients are no part of `make test`. A client or browser that
cannot be had is a failure.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, sync_playwright

from tests.e2e import clients
from tests.e2e.product import Installation, run_product
from tests.world import World

HERE = Path(__file__).parent
BROWSER_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]
OURS = {"127.0.0.1", "localhost", None}
"""Hosts of the product; none at all in `data:`."""
_numbers = count(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.environ.get("CCM_E2E") == "1":
        return
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.skip(reason="`make e2e` runs this"))


def unavailable(reason: str) -> NoReturn:
    pytest.fail(reason, pytrace=False)


@pytest.fixture(scope="session", params=list(clients.VERSIONS))
def client(request: pytest.FixtureRequest) -> Path:
    """The program of each client version in turn."""
    version: str = request.param
    try:
        return clients.install(version)
    except clients.NotInstalled as error:
        unavailable(str(error))


@pytest.fixture(scope="session")
def codex() -> Path:
    """Codex's program."""
    try:
        return clients.install(clients.CODEX)
    except clients.NotInstalled as error:
        unavailable(str(error))


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser's program."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    if os.geteuid() == 0 and shutil.which("apt-get"):
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
    with run_product(project, tmp_path_factory.mktemp("fresh")) as made:
        yield made


@pytest.fixture
def page(installation: Installation, chromium: str) -> Iterator[Page]:
    """A new browser on the installation; an error on any of its pages, or a request to elsewhere, fails the test."""
    troubles: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=BROWSER_FLAGS)
        page = browser.new_page(base_url=installation.url)
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("console", lambda line: troubles.append(line.text) if line.type == "error" else None)
        page.on("response", lambda r: troubles.append(f"{r.status} {r.url}") if r.status >= 500 else None)
        page.on("request", lambda r: troubles.append(r.url) if urlsplit(r.url).hostname not in OURS else None)
        yield page
        browser.close()
    assert troubles == []


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
