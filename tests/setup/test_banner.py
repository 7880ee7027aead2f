"""The lines to paste do in a shell what they promise."""

import json
import subprocess
from pathlib import Path

import pytest

from ccm_site.supervisor.banner import banner, client_lines
from providers.config_places import USUAL_PLACES

DEMO = {
    "operator": {"email": "operator@ccm.example", "password": "one'$word"},
    "customer": {"email": "customer@ccm.example", "password": None, "api_key": "sk-ccm-abc"},
    "models": {"opus": "demo-opus", "sonnet": "demo-sonnet", "haiku": "demo-haiku"},
    "context_window": 200000,
}


@pytest.mark.parametrize("shell", ["bash", "zsh", "sh"])
def test_a_shell_takes_the_lines_as_they_are(shell: str) -> None:
    export, command = client_lines("http://127.0.0.1:8000", DEMO)
    try:
        done = subprocess.run(
            [shell, "-c", f"{export}\nenv"], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True
        )
    except FileNotFoundError:
        pytest.skip(f"no {shell} on this machine")
    variables = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    assert done.returncode == 0, done.stderr
    assert variables["ANTHROPIC_BASE_URL"] == "http://127.0.0.1:8000"
    assert variables["ANTHROPIC_AUTH_TOKEN"] == "sk-ccm-abc"
    assert variables["ANTHROPIC_DEFAULT_HAIKU_MODEL"] == "demo-haiku"
    assert variables["CLAUDE_CODE_GATEWAY_HINT_HEADERS"] == "1"
    assert variables["CLAUDE_CODE_AUTO_MODE_SERVER"] == "0"
    assert variables["CLAUDE_CODE_MAX_CONTEXT_TOKENS"] == "200000"
    assert command.startswith("claude -p ")


def test_the_banner_tells_the_log_ins(tmp_path: Path) -> None:
    (tmp_path / "demo.json").write_text(json.dumps(DEMO))
    text = banner("http://127.0.0.1:8000", tmp_path)
    assert "http://127.0.0.1:8000/admin/" in text
    assert "one'$word" in text
    assert "(password changed)" in text


def test_without_the_demo_the_banner_tells_how_to_begin(tmp_path: Path) -> None:
    text = banner("http://127.0.0.1:8000", tmp_path)
    assert "create_key" in text
    assert "sk-ccm-" not in text


def test_a_configuration_of_another_router_is_offered_for_import(tmp_path: Path) -> None:
    assert "import_config" not in banner("http://127.0.0.1:8000", tmp_path, tmp_path)
    for place in USUAL_PLACES.values():
        (tmp_path / place).parent.mkdir()
        (tmp_path / place).write_text("{}")
    lines = banner("http://127.0.0.1:8000", tmp_path, tmp_path).splitlines()
    commands = [line.strip() for line in lines if "import_config" in line]
    assert commands == [
        ".venv/bin/python manage.py import_config ~/.claude-code-mux/config.toml",
        ".venv/bin/python manage.py import_config ~/.claude-code-router/config.json",
    ]
    for command, place in zip(commands, USUAL_PLACES.values(), strict=True):
        done = subprocess.run(
            ["sh", "-c", f"echo {command.rpartition(' ')[2]}"],
            env={"HOME": str(tmp_path)},
            capture_output=True,
            text=True,
        )
        assert done.stdout.strip() == str(tmp_path / place)


def test_the_readme_shows_the_same_lines(project: Path) -> None:
    key = '"$(.venv/bin/python manage.py create_key --email you@example.org --credits 5)"'
    export, command = client_lines("http://127.0.0.1:8000", DEMO)
    assert f"{export.replace('sk-ccm-abc', key)}\n{command}\n" in (project / "README.md").read_text()
