"""The supervised processes: started in order, watched, restarted, stopped in reverse order."""

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ccm_site.supervisor.processes import signal_group, spawn

LOG_BYTES = 20_000_000
QUICK_DEATH_SECONDS = 10.0
QUICK_DEATHS = 5
LONGEST_PAUSE_SECONDS = 15.0


class GaveUp(Exception):
    """A child died again and again right after its start; the text tells of its last words."""


@dataclass
class Child:
    """One supervised process. `stop_seconds` is how long it may take to end by itself;
    `shows_errors` prints what it logs as an error at the terminal too. `metrics_dir` is where its
    workers add up their metrics: emptied before every start, so that no dead process is counted."""

    name: str
    command: Sequence[str]
    log_file: Path
    stop_seconds: float = 10.0
    shows_errors: bool = False
    metrics_dir: Path | None = None
    process: "subprocess.Popen[bytes] | None" = None
    started_at: float = 0.0
    restart_at: float = 0.0
    quick_deaths: int = 0
    _shown: int = field(default=0, repr=False)

    def start(self, environment: Mapping[str, str], now: float, cwd: Path) -> None:
        if self.metrics_dir is not None:
            shutil.rmtree(self.metrics_dir, ignore_errors=True)
            self.metrics_dir.mkdir()
            environment = {**environment, "PROMETHEUS_MULTIPROC_DIR": str(self.metrics_dir)}
        with self.log_file.open("ab") as log:
            self.process = spawn(self.command, output=log, environment=environment, cwd=cwd)
        self.started_at = now

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def note_death(self, now: float) -> None:
        """Clear up after a death and plan the restart, or raise GaveUp."""
        assert self.process is not None
        signal_group(self.process, signal.SIGKILL)  # what it started must not hold its port
        code, self.process = self.process.returncode, None
        self.quick_deaths = self.quick_deaths + 1 if now - self.started_at < QUICK_DEATH_SECONDS else 1
        if self.quick_deaths >= QUICK_DEATHS:
            raise GaveUp(
                f"{self.name} ends right after its start (exit code {code}). Its last words:\n{self.last_lines()}"
            )
        self.restart_at = now + min(0.5 * 2 ** (self.quick_deaths - 1), LONGEST_PAUSE_SECONDS)

    def last_lines(self, count: int = 15) -> str:
        with self.log_file.open("rb") as log:
            log.seek(max(0, self.log_file.stat().st_size - 20_000))
            lines = log.read().decode(errors="replace").splitlines()[-count:]
        return "\n".join(f"{self.name} | {line}" for line in lines)

    def new_errors(self) -> list[str]:
        """The lines logged as errors since the last call, with the child's name before each."""
        size = self.log_file.stat().st_size
        if size <= self._shown:
            self._shown = min(size, self._shown)
            return []
        with self.log_file.open("rb") as log:
            log.seek(self._shown)
            text = log.read(1_000_000)
        complete = text.rfind(b"\n") + 1
        self._shown += complete
        lines = text[:complete].decode(errors="replace").splitlines()
        return [f"{self.name} | {line}" for line in lines if is_error(line)]

    def keep_log_small(self) -> None:
        """The child appends, so a copied log may be emptied under it."""
        if self.log_file.stat().st_size > LOG_BYTES:
            shutil.copyfile(self.log_file, self.log_file.with_suffix(".log.1"))
            with self.log_file.open("r+b") as log:
                log.truncate(0)


def is_error(line: str) -> bool:
    try:
        event = json.loads(line)
    except ValueError:
        return False
    return isinstance(event, dict) and event.get("level") in {"error", "critical"}


def rotate(log_file: Path) -> None:
    """Put the last start's log aside and begin a new one."""
    if log_file.exists():
        log_file.replace(log_file.with_suffix(".log.1"))
    log_file.touch(mode=0o600)


class Supervisor:
    """Keeps `children` running until told to stop. One thread, no signals of its own."""

    def __init__(
        self,
        environment: Mapping[str, str],
        cwd: Path,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.children: list[Child] = []
        self._environment = environment
        self._cwd = cwd
        self._say = say
        self._clock = clock

    def start(self, child: Child) -> None:
        rotate(child.log_file)
        child.start(self._environment, self._clock(), self._cwd)
        self.children.append(child)

    def tick(self) -> None:
        """Look after every child once. Raises GaveUp."""
        now = self._clock()
        for child in self.children:
            if child.shows_errors:
                for line in child.new_errors():
                    self._say(line)
            child.keep_log_small()
            if child.process is None:
                if now >= child.restart_at:
                    child.start(self._environment, now, self._cwd)
            elif not child.alive:
                child.note_death(now)
                self._say(f"{child.name} ended and is started again (its log: {child.log_file})")

    def stop(self, hurry: Callable[[], bool]) -> None:
        """Stop all children, the last started first; kill at once when `hurry()` says so."""
        for child in reversed(self.children):
            if child.process is None:
                continue
            process, child.process = child.process, None
            if process.poll() is None:
                process.terminate()
                self._await_end(process, child.stop_seconds, hurry)
            signal_group(process, signal.SIGKILL)
            process.wait()

    def _await_end(self, process: "subprocess.Popen[bytes]", seconds: float, hurry: Callable[[], bool]) -> None:
        deadline = self._clock() + seconds
        while process.poll() is None and self._clock() < deadline and not hurry():
            try:
                process.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
