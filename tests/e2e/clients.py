"""The real Claude Code: the versions we test with, where they are installed, how they are run.

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
INSTALL_SECONDS = 400
RUN_SECONDS = 120
MACHINES = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}


class NotInstalled(Exception):
    """There is no such client and it cannot be installed; the text says what to do."""


def find(version: str) -> Path | None:
    """The native program of an installed client."""
    machine = MACHINES.get(platform.machine().lower(), platform.machine())
    package = f"claude-code-{sys.platform}-{machine}"
    program = FOLDER / version / "node_modules" / "@anthropic-ai" / package / "claude"
    return program if program.is_file() else None


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
    command = [npm, "install", "--force", "--no-audit", "--no-fund", "--ignore-scripts", VERSIONS[version]]
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
        raise NotInstalled(f"npm could not install {VERSIONS[version]}: {(done.stdout + done.stderr)[-1500:]}")
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
) -> Outcome:
    """One `claude -p` in `folder`, with a new home and no environment but `variables`.

    IS_SANDBOX lets root skip permission prompts; the client refuses it otherwise."""
    with tempfile.TemporaryDirectory(prefix="ccm-claude-home-") as home:
        environment = {
            "HOME": home,
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


def _report(printed: str) -> dict[str, Any]:
    try:
        report = json.loads(printed)
    except ValueError:
        return {}
    return report if isinstance(report, dict) else {}


def main() -> None:
    for version in VERSIONS:
        try:
            sys.stdout.write(f"{version}: {install(version)}\n")
        except NotInstalled as error:
            sys.exit(str(error))


if __name__ == "__main__":
    main()
