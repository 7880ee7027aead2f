"""The whole product under its supervisor, as `make run` starts it."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, Queue

import pytest

from ccm_site.supervisor.processes import free_port
from tests.plugin.environment import SECRETS

PATIENCE = 120.0
pytestmark = pytest.mark.skipif(
    "DATABASE_URL" in os.environ or sys.platform != "linux", reason="runs once, on the embedded services (Linux)"
)


def environment_for(data_dir: Path, port: int) -> dict[str, str]:
    dropped = {*SECRETS, "REDIS_URL", "DATABASE_URL", "DJANGO_SETTINGS_MODULE", "CCM_TEST_SERVICES"}
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    return {**kept, "CCM_DATA_DIR": str(data_dir), "PORT": str(port)}


class Running:
    """A supervisor and what it says, line by line."""

    def __init__(self, project: Path, environment: dict[str, str]) -> None:
        self.lines: list[str] = []
        self._queue: Queue[str] = Queue()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ccm_site.supervisor"],
            cwd=project, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._queue.put(line.rstrip("\n"))

    def wait_for(self, word: str) -> str:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                line = self._queue.get(timeout=0.2)
            except Empty:
                if self.process.poll() is not None and self._queue.empty():
                    break
                continue
            self.lines.append(line)
            if word in line:
                return line
        pytest.fail(f"never said {word!r}:\n" + "\n".join(self.lines))

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(PATIENCE)
        assert self.process.stdout is not None
        return code


@contextmanager
def running(project: Path, environment: dict[str, str]) -> Iterator[Running]:
    supervisor = Running(project, environment)
    try:
        yield supervisor
    finally:
        if supervisor.process.poll() is None:
            supervisor.process.terminate()
            supervisor.process.wait(PATIENCE)
        assert supervisor.process.stdout is not None
        supervisor.process.stdout.close()


def processes_of(data_dir: Path) -> list[str]:
    """The command lines of living processes that work on this data directory."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            environment = (directory / "environ").read_bytes().split(b"\0")
            command = (directory / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            # Valkey writes its title over its environment, but works in the data directory.
            works_there = (directory / "cwd").readlink() == data_dir
        except OSError:
            continue
        if command and (works_there or f"CCM_DATA_DIR={data_dir}".encode() in environment):
            found.append(command)
    return found


def files_of(data_dir: Path) -> dict[str, str]:
    return {name: (data_dir / name).read_text() for name in ("env", "demo.json")}


def test_the_product_starts_answers_stops_and_starts_again_unchanged(project: Path, tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    port = free_port()
    environment = environment_for(data_dir, port)
    with running(project, environment) as supervisor:
        supervisor.wait_for("CCM is ready at")
        supervisor.wait_for("export ANTHROPIC_BASE_URL=")
        supervisor.wait_for("Ctrl-C")
        assert len(processes_of(data_dir)) >= 5  # the supervisor, Valkey, web, worker and beat

        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=30) as ready:
            assert json.load(ready)["valkey"] == "ok"
        answer = ask(port, json.loads((data_dir / "demo.json").read_text()))
        assert answer["content"][0]["text"]

        second = subprocess.run(
            [sys.executable, "-m", "ccm_site.supervisor"],
            cwd=project, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        assert second.returncode == 1
        assert second.stderr.startswith("ccm: CCM already runs on")
        assert second.stderr.count("\n") == 1

        assert supervisor.stop() == 0
    assert processes_of(data_dir) == []

    before = files_of(data_dir)
    with running(project, environment) as supervisor:
        supervisor.wait_for("CCM is ready at")
        assert files_of(data_dir) == before
        supervisor.process.kill()  # not even this leaves anybody behind
        supervisor.process.wait(PATIENCE)
        deadline = time.monotonic() + PATIENCE
        while (left := processes_of(data_dir)) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert left == []


def ask(port: int, demo: dict[str, dict[str, str]]) -> dict[str, list[dict[str, str]]]:
    """One request with the banner's key, as a client sends it."""
    body = {"model": demo["models"]["sonnet"], "max_tokens": 500, "messages": [{"role": "user", "content": "hello"}]}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/messages",
        data=json.dumps(body).encode(),
        headers={"authorization": f"Bearer {demo['customer']['api_key']}", "content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        answer: dict[str, list[dict[str, str]]] = json.load(response)
    return answer


def test_a_taken_port_is_one_clear_line(project: Path, tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "ccm_site.supervisor"],
            cwd=project, env=environment_for(tmp_path / "data", port), capture_output=True, text=True, timeout=PATIENCE,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == f"ccm: Port {port} is taken: PORT={port + 1} make run\n"


def test_a_wrong_setting_is_one_clear_line(project: Path, tmp_path: Path) -> None:
    environment = environment_for(tmp_path / "data", free_port()) | {"CCM_ENCRYPTION_KEYS": "", "LOG_LEVEL": "LOUD"}
    done = subprocess.run(
        [sys.executable, "-m", "ccm_site.supervisor"],
        cwd=project, env=environment, capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "ccm: LOG_LEVEL must be DEBUG, INFO, WARNING or ERROR.\n"
    assert processes_of(tmp_path / "data") == []
