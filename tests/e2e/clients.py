"""The real clients: Claude Code in the versions we test with, and Codex; where they are installed, how they are run.

`python -m tests.e2e.clients` installs what is missing, from npm, under this folder.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent / ".clients"
PACKAGE = "@anthropic-ai/claude-code"
VERSIONS = {"2.1.197": f"{PACKAGE}@2.1.197", "newest": f"{PACKAGE}@latest"}
CODEX = "codex"
PACKAGES = {**VERSIONS, CODEX: "@openai/codex@latest"}
INSTALL_SECONDS = 400
RUN_SECONDS = 600
"""A limit for a client that hangs, not for one on a busy machine."""
MACHINES = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}


class NotInstalled(Exception):
    """There is no such client and it cannot be installed; the text says what to do."""


def find(version: str) -> Path | None:
    """The native program of an installed client."""
    machine = MACHINES.get(platform.machine().lower(), platform.machine())
    modules = FOLDER / version / "node_modules"
    if version == CODEX:
        programs = (modules / "@openai" / f"codex-{sys.platform}-{machine}" / "vendor").glob("*/bin/codex")
    else:
        programs = (modules / "@anthropic-ai" / f"claude-code-{sys.platform}-{machine}").glob("claude")
    return next((program for program in programs if program.is_file()), None)


def install(version: str) -> Path:
    """Install the client unless it is there. Raises NotInstalled."""
    if found := find(version):
        return found
    npm = shutil.which("npm")
    if npm is None:
        raise NotInstalled("npm is missing: install Node.js, then run the tests again.")
    folder = FOLDER / version
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "package.json").write_text('{"private": true}\n')
    # --force: on an older Node, npm would quietly choose an old version instead of the newest.
    command = [npm, "install", "--force", "--no-audit", "--no-fund", "--ignore-scripts", PACKAGES[version]]
    with tempfile.TemporaryDirectory(prefix="ccm-npm-") as home:
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "HOME": home},
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
        )
    found = find(version)
    if found is None:
        raise NotInstalled(f"npm could not install {PACKAGES[version]}: {(done.stdout + done.stderr)[-1500:]}")
    return found


@dataclass(frozen=True)
class Outcome:
    """What `claude -p --output-format json` printed and how it ended."""

    status: int
    report: Mapping[str, Any]
    output: str

    @property
    def text(self) -> str:
        """What the person sees."""
        return str(self.report.get("result", self.output))


def run(
    program: Path,
    prompt: str,
    *,
    folder: Path,
    variables: Mapping[str, str],
    arguments: Sequence[str] = (),
    permissions: Sequence[str] = ("--dangerously-skip-permissions",),
    seconds: float = RUN_SECONDS,
    home: Path | None = None,
) -> Outcome:
    """One `claude -p` in `folder`, with a new home (unless given) and no environment but `variables`.

    IS_SANDBOX lets root skip permission prompts; the client refuses it otherwise."""
    with tempfile.TemporaryDirectory(prefix="ccm-claude-home-") as new_home:
        environment = {
            "HOME": str(home or new_home),
            "PATH": os.environ["PATH"],
            "IS_SANDBOX": "1",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
            **variables,
        }
        command = [str(program), "-p", prompt, "--output-format", "json", *permissions, *arguments]
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
        )
    return Outcome(done.returncode, _report(done.stdout), done.stdout + done.stderr)


def run_codex(program: Path, prompt: str, *, folder: Path, url: str, key: str, model: str) -> Outcome:
    """One `codex exec` in `folder` with CCM as its provider, in a new home."""
    provider = {"name": "CCM", "base_url": f"{url}/v1", "env_key": "CCM_KEY", "wire_api": "responses"}
    options = [option for name, value in provider.items() for option in ("-c", f"model_providers.ccm.{name}={value!r}")]
    with tempfile.TemporaryDirectory(prefix="ccm-codex-home-") as home:
        said = Path(home) / "last.txt"
        command = [str(program), "exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"]
        done = subprocess.run(
            [*command, "-c", "model_provider='ccm'", *options, "-m", model, "-o", str(said), prompt],
            cwd=folder,
            env={"HOME": home, "CODEX_HOME": home, "PATH": os.environ["PATH"], "CCM_KEY": key},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
        )
        report = {"result": said.read_text()} if said.is_file() else {}
    return Outcome(done.returncode, report, done.stdout + done.stderr)


def _report(printed: str) -> dict[str, Any]:
    try:
        report = json.loads(printed)
    except ValueError:
        return {}
    return report if isinstance(report, dict) else {}


def main() -> None:
    for version in PACKAGES:
        try:
            sys.stdout.write(f"{version}: {install(version)}\n")
        except NotInstalled as error:
            sys.exit(str(error))


if __name__ == "__main__":
    main()
