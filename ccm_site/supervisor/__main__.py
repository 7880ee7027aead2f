"""`python -m ccm_site.supervisor`, which is what `make run` runs."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from ccm_site.supervisor.banner import banner
from ccm_site.supervisor.children import Child, GaveUp, Supervisor, rotate
from ccm_site.supervisor.installation import (
    CannotStart,
    Installation,
    data_dir_of,
    lock,
    plays_stripe,
    prepare,
    require_free_port,
)
from ccm_site.supervisor.processes import die_with_parent, interrupted
from ccm_site.supervisor.valkey import valkey_command

PROJECT = Path(__file__).resolve().parent.parent.parent
READY_SECONDS = 120
PREPARE_SECONDS = 600
# The web process may take this long to let running streams end (uvicorn is told 30).
WEB_STOP_SECONDS = 35.0


class Stop(Exception):
    """Somebody asked for the end."""


class Signals:
    """Counts the requests to stop; a second one means: at once. `parent` is the `make` whose
    end or interruption is such a request too, 0 when there is none."""

    def __init__(self, parent: int = 0) -> None:
        self.count = 0
        self.parent = parent
        if parent:
            die_with_parent(parent)()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._received)

    def _received(self, _number: int, _frame: object) -> None:
        self.count += 1

    def stop_wanted(self) -> bool:
        if not self.count and self.parent and interrupted(self.parent):
            self.count = 1
        return self.count > 0

    def check(self) -> None:
        if self.stop_wanted():
            raise Stop


def say(line: str) -> None:
    # A terminal that is gone must not keep the supervisor from stopping its children.
    try:
        print(line, flush=True)
    except OSError:
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115


def children_of(installation: Installation) -> list[Child]:
    """The product's processes in the order of their start; Valkey is started before them."""
    python = sys.executable
    celery = [python, "-m", "celery", "-A", "ccm_site.celery"]
    worker = [
        *celery,
        "worker",
        "--pool",
        "threads",
        "--concurrency",
        "2",
        "--hostname",
        "ccm@%h",
        "--loglevel",
        "INFO",
    ]
    worker += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    beat = [
        *celery,
        "beat",
        "--schedule",
        str(installation.data_dir / "beat-schedule"),
        "--pidfile",
        "",
        "--loglevel",
        "INFO",
    ]
    web = Child(
        "web", [python, "-m", "ccm_site.web"], installation.logs / "web.log", WEB_STOP_SECONDS, shows_errors=True
    )
    if installation.workers > 1:
        web.metrics_dir = installation.data_dir / "metrics"
    stand_in = Child("stripe", [python, "-m", "ccm_site.demo_stripe"], installation.logs / "stripe.log", stop_seconds=2)
    return [
        *([stand_in] if plays_stripe(installation.environment) else []),
        Child("worker", worker, installation.logs / "worker.log", stop_seconds=20),
        Child("beat", beat, installation.logs / "beat.log"),
        web,
    ]


def start_valkey(supervisor: Supervisor, installation: Installation) -> None:
    if installation.valkey_port is None:
        return
    try:
        command = valkey_command(
            port=installation.valkey_port, directory=installation.data_dir, config=installation.write_valkey_config()
        )
    except RuntimeError as error:
        raise CannotStart(str(error)) from None
    supervisor.start(Child("valkey", command, installation.logs / "valkey.log"))


def run_preparation(installation: Installation, signals: Signals) -> None:
    """Migrate and seed. Raises CannotStart with the last words of the process that failed."""
    log_file = installation.logs / "prepare.log"
    rotate(log_file)
    with log_file.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "ccm_site.supervisor.prepare"],
            stdout=subprocess.PIPE,  # a few lines for the person at the terminal
            stderr=log,
            text=True,
            env=dict(installation.environment),
            cwd=PROJECT,
            preexec_fn=die_with_parent(os.getpid()),  # noqa: PLW1509  (only the main thread forks)
            start_new_session=True,
        )
    deadline = time.monotonic() + PREPARE_SECONDS
    while process.poll() is None:
        if signals.stop_wanted() or time.monotonic() > deadline:
            process.kill()
            process.wait()
            signals.check()
            raise CannotStart(f"The database was not ready after {PREPARE_SECONDS} seconds (see {log_file}).")
        time.sleep(0.05)
    assert process.stdout is not None
    with process.stdout:
        words = process.stdout.read().strip()
    if process.returncode:
        last = log_file.read_text().strip().splitlines()
        if last and last[-1].startswith("ccm: "):
            raise CannotStart(last[-1].removeprefix("ccm: "))
        raise CannotStart("The database could not be prepared:\n" + "\n".join(last[-15:]))
    if words:
        say(words)


def await_ready(supervisor: Supervisor, installation: Installation, signals: Signals) -> None:
    """Wait until the web process says that everything it needs is there."""
    deadline = time.monotonic() + READY_SECONDS
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    answer = "no answer"
    while time.monotonic() < deadline:
        signals.check()
        supervisor.tick()
        try:
            with opener.open(f"{installation.url}/health/ready", timeout=2) as response:
                if response.status == 200:
                    return
        except urllib.error.HTTPError as error:
            answer = f"{error.code} {error.read(500).decode(errors='replace')}"
        except OSError:
            pass
        time.sleep(0.1)
    web = supervisor.children[-1]
    raise CannotStart(f"CCM was not ready after {READY_SECONDS} seconds: {answer}\n{web.last_lines()}")


def _home() -> Path | None:
    try:
        return Path.home()
    except RuntimeError:  # no HOME, and the user is not in the system's list
        return None


def supervise(installation: Installation, signals: Signals) -> None:
    supervisor = Supervisor(installation.environment, PROJECT, say)
    try:
        start_valkey(supervisor, installation)
        run_preparation(installation, signals)
        for child in children_of(installation):
            supervisor.start(child)
        await_ready(supervisor, installation, signals)
        say(banner(installation.url, installation.data_dir, _home()))
        while True:
            signals.check()
            supervisor.tick()
            time.sleep(0.2)
    except Stop:
        say("\nStopping: running streams may end first (Ctrl-C again: at once) ...")
    finally:
        supervisor.stop(hurry=lambda: signals.count > 1)
    say("Stopped.")


def main() -> None:
    signals = Signals(os.getppid() if "--with-parent" in sys.argv[1:] else 0)
    try:
        data_dir = data_dir_of(os.environ, PROJECT / "var")
        with lock(data_dir):
            installation = prepare(os.environ, PROJECT / "var")
            require_free_port(installation)
            say(f"Starting CCM in {installation.data_dir} ...")
            supervise(installation, signals)
    except (CannotStart, GaveUp) as error:
        sys.exit(f"ccm: {error}")


if __name__ == "__main__":
    main()
