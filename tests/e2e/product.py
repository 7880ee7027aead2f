"""The product as `make run` starts it, in a copy of the project as a clone would have it."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ccm_site.supervisor.processes import free_port, spawn

READY_SECONDS = 400


@dataclass(frozen=True)
class Installation:
    """A product that `make run` has started; `banner` is what it printed."""

    folder: Path
    url: str
    banner: str
    environment: Mapping[str, str]

    @property
    def lines(self) -> list[str]:
        """The two lines to paste for Claude Code."""
        export = next(line for line in self.banner.splitlines() if line.startswith("export "))
        ask = next(line for line in self.banner.splitlines() if line.startswith("claude "))
        return [export, ask]

    @property
    def mails(self) -> str:
        """Every mail so far, as the demo prints them."""
        return (self.folder / "var" / "logs" / "worker.log").read_text()

    def log_in(self, role: str) -> tuple[str, str]:
        """E-mail and password from the banner's line for this role."""
        line = next(line.split() for line in self.banner.splitlines() if line.strip().startswith(role))
        return line[2], line[3]


def copy_project(project: Path, target: Path) -> Path:
    """The files that a clone would have."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=project, capture_output=True, check=True
    ).stdout
    for name in filter(None, listed.decode().split("\0")):
        if (project / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(project / name, target / name)
    return target


@contextmanager
def run_product(project: Path, target: Path) -> Iterator[Installation]:
    """`env -i HOME=… PATH=… PORT=… make run` in a copy of the project, stopped by Ctrl-C."""
    folder = copy_project(project, target / "ccm")
    (target / "home").mkdir()
    port = free_port()
    environment = {"HOME": str(target / "home"), "PATH": os.environ["PATH"], "PORT": str(port)}
    output = target / "output"
    with output.open("wb") as file:
        process = spawn(["make", "run"], output=file, cwd=folder, environment=environment)
    try:
        _await_banner(process, output)
        yield Installation(folder, f"http://127.0.0.1:{port}", output.read_text(), environment)
    finally:
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise


def _await_banner(process: "subprocess.Popen[bytes]", output: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while "Ctrl-C" not in output.read_text():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"make run did not become ready: {output.read_text()[-3000:]}")
        time.sleep(0.2)
