"""The files around the code: locks, container set-up, and documents that must keep up with it."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

READS_VARIABLE = re.compile(r"(?:env_(?:str|bool|int|list|secret)\(|environ\.get\()\s*\"([A-Z_]+)\"")
PIN = re.compile(r"^([a-z0-9._-]+)==([^ \\;]+)", re.MULTILINE)
# Put together here, so that this file does not name them either.
REGISTRIES = [host.replace(" ", "") for host in ("py pi.org", "python hosted.org", "registry.npm js.org")]


def pins(lock: Path) -> dict[str, str]:
    return dict(PIN.findall(lock.read_text()))


def test_what_is_tested_is_what_runs(project: Path) -> None:
    runtime, development = pins(project / "requirements.lock"), pins(project / "requirements-dev.lock")
    assert len(runtime) > 30
    assert runtime.items() <= development.items()


@pytest.mark.parametrize(
    "name", ["requirements.lock", "requirements-dev.lock", "requirements-tools.lock", "requirements-css.lock"]
)
def test_every_pin_has_hashes_and_no_address(project: Path, name: str) -> None:
    text = (project / name).read_text()
    assert "://" not in text
    blocks = re.split(r"\n(?=[a-z0-9])", text[text.index("==") - 40 :].lstrip())
    without = [block.split()[0] for block in blocks if PIN.match(block) and "--hash=sha256:" not in block]
    assert not without


def test_no_file_names_a_package_registry(project: Path) -> None:
    if not (project / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=project, capture_output=True, text=True, check=True
    )
    files = [project / name for name in listed.stdout.split("\0") if name]
    found = [
        (str(file.relative_to(project)), host)
        for file in files
        if file.is_file() and file.stat().st_size < 2_000_000
        for host in REGISTRIES
        if host in file.read_text(errors="ignore")
    ]
    assert not found


@pytest.fixture
def compose(project: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((project / "docker-compose.yml").read_text())
    return loaded


def test_compose_has_every_service_with_a_health_check(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert set(services) == {"postgres", "redis", "migrate", "web", "worker", "beat"}
    for name in ("postgres", "redis", "worker", "beat"):
        assert services[name]["healthcheck"]["test"], name
    assert services["migrate"]["command"][-2:] == ["migrate", "--noinput"]
    for name in ("web", "worker", "beat"):
        assert services[name]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"


def test_compose_holds_no_secret_and_no_demo(compose: dict[str, Any]) -> None:
    environment = compose["services"]["web"]["environment"]
    for name in ("DJANGO_SECRET_KEY", "CCM_ENCRYPTION_KEYS", "CCM_KEY_PEPPER", "CCM_PUBLIC_URL"):
        assert environment[name].startswith(f"${{{name}:?"), name
    assert "CCM_DEMO" not in environment
    assert environment["DATABASE_URL"].startswith("postgres://")


def test_only_this_machine_reaches_the_web_port(compose: dict[str, Any]) -> None:
    published = {name: service["ports"] for name, service in compose["services"].items() if "ports" in service}
    assert published == {"web": ["127.0.0.1:${PORT:-8000}:8000"]}


def test_the_image_runs_locked_packages_as_nobody_special(project: Path) -> None:
    lines = (project / "Dockerfile").read_text().splitlines()
    assert lines[1] == "FROM python:3.11-slim"
    assert any("--require-hashes -r requirements.lock" in line for line in lines)
    assert "USER ccm" in lines
    assert any(line.startswith("HEALTHCHECK") for line in lines)
    assert lines[-1] == 'CMD ["python", "-m", "ccm_site.web"]'


def test_every_environment_variable_is_documented(project: Path) -> None:
    read: set[str] = set()
    for folder in ("accounts", "adminui", "ccm_site", "credits", "gateway", "providers"):
        for file in (project / folder).rglob("*.py"):
            read |= set(re.findall(READS_VARIABLE, file.read_text()))
    documented = set(re.findall(r"`([A-Z][A-Z_]+)`", (project / "docs" / "configuration.md").read_text()))
    assert len(read) > 15
    assert read <= documented


def test_the_set_up_names_what_is_missing(project: Path, tmp_path: Path) -> None:
    """Without a Python that is new enough there is one clear line, and nothing is made."""
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.8.1\nexit 1\n')
    old.chmod(0o755)
    (tmp_path / "dirname").symlink_to("/usr/bin/dirname")
    (tmp_path / "sh").symlink_to("/bin/sh")
    done = subprocess.run(
        ["/bin/sh", str(project / "scripts" / "setup.sh"), "runtime"],
        env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "Python 3.11 or newer is needed, and Python 3.8.1 was found" in done.stderr


@pytest.mark.parametrize(
    ("variable", "value"),
    [("PORT", "eight"), ("LOG_LEVEL", "LOUD"), ("CCM_PUBLIC_URL", "ccm.example"), ("DATABASE_URL", "mysql://x/y")],
)
def test_a_wrong_value_stops_the_start_and_is_named(project: Path, variable: str, value: str, tmp_path: Path) -> None:
    environment = {**os.environ, variable: value, "CCM_DATA_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "manage.py", "check"],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("ccm: ")
    assert done.stderr.count("\n") == 1
    assert variable in done.stderr
