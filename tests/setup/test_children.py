"""The supervisor's children: restarted when they die, given up when they cannot live, all gone at the end."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ccm_site.supervisor.children import QUICK_DEATHS, Child, GaveUp, Supervisor
from ccm_site.supervisor.processes import interrupted

PATIENCE = 30.0


def wait_for(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {PATIENCE} seconds for {what}")
        time.sleep(0.01)


def gone(pid: int) -> bool:
    """Whether no process, or only the remains of one, has this id."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def supervisor(said: list[str], clock: Clock, tmp_path: Path) -> Iterator[Supervisor]:
    supervisor = Supervisor(dict(os.environ), tmp_path, said.append, clock)
    yield supervisor
    supervisor.stop(hurry=lambda: True)


def python(tmp_path: Path, name: str, code: str, **options: object) -> Child:
    return Child(name, [sys.executable, "-u", "-c", code], tmp_path / f"{name}.log", **options)  # type: ignore[arg-type]


SLEEP = "import time; print('up'); time.sleep(600)"


def up(child: Child, times: int = 1) -> Callable[[], bool]:
    return lambda: child.log_file.read_text().count("up") >= times


def test_a_child_that_dies_is_started_again(
    supervisor: Supervisor, clock: Clock, said: list[str], tmp_path: Path
) -> None:
    child = python(tmp_path, "worker", SLEEP)
    supervisor.start(child)
    wait_for(up(child), "the first start")
    assert child.process is not None
    os.kill(child.process.pid, signal.SIGKILL)
    child.process.wait(PATIENCE)
    supervisor.tick()
    assert not child.alive
    clock.now += 1
    supervisor.tick()
    wait_for(up(child, 2), "the second start")
    assert child.alive
    assert any("worker ended" in line for line in said)


def test_a_child_that_cannot_live_ends_everything_with_its_last_words(
    supervisor: Supervisor, clock: Clock, tmp_path: Path
) -> None:
    child = python(tmp_path, "web", "raise SystemExit('no such table: wallet')")
    supervisor.start(child)
    with pytest.raises(GaveUp, match=r"web \| no such table: wallet"):
        for _ in range(QUICK_DEATHS):
            assert child.process is not None
            child.process.wait(PATIENCE)
            supervisor.tick()
            clock.now = child.restart_at
            supervisor.tick()


def test_rare_deaths_are_forgiven(supervisor: Supervisor, clock: Clock, tmp_path: Path) -> None:
    child = python(tmp_path, "web", "pass")
    supervisor.start(child)
    for _ in range(QUICK_DEATHS * 2):
        assert child.process is not None
        child.process.wait(PATIENCE)
        clock.now += 60
        supervisor.tick()
        clock.now = child.restart_at
        supervisor.tick()
    assert child.quick_deaths == 1


def test_children_stop_in_reverse_order(supervisor: Supervisor, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    code = (
        "import signal, sys, time\n"
        f"def stop(*_): open({str(journal)!r}, 'a').write(sys.argv[0] + NAME + ' '); sys.exit()\n"
        "signal.signal(signal.SIGTERM, stop); print('up'); time.sleep(600)"
    )
    for name in ("valkey", "worker", "web"):
        child = python(tmp_path, name, f"NAME = {name!r}\n{code}")
        supervisor.start(child)
        wait_for(up(child), name)
    processes = [child.process for child in supervisor.children]
    assert [child.name for child in supervisor.children if not child.alive] == []
    supervisor.stop(hurry=lambda: False)
    assert [process.returncode for process in processes if process is not None] == [0, 0, 0]
    assert journal.read_text().replace("-c", "").split() == ["web", "worker", "valkey"]


def test_a_child_that_ignores_the_request_is_killed_and_so_is_what_it_started(
    supervisor: Supervisor, clock: Clock, tmp_path: Path
) -> None:
    code = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "grandchild = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print('up', grandchild.pid); time.sleep(600)"
    )
    child = python(tmp_path, "web", code, stop_seconds=5.0)
    supervisor.start(child)
    wait_for(lambda: child.log_file.read_text().endswith("\n"), "the grandchild")
    grandchild = int(child.log_file.read_text().split()[1])
    assert child.process is not None
    pid = child.process.pid

    def time_passes() -> bool:
        clock.now += 1
        return False

    supervisor.stop(hurry=time_passes)
    assert gone(pid)
    wait_for(lambda: gone(grandchild), "the grandchild's end")


def test_only_errors_reach_the_terminal(supervisor: Supervisor, said: list[str], tmp_path: Path) -> None:
    code = (
        'import time; print(\'{"event": "bad", "level": "error"}\');'
        'print(\'{"event": "fine", "level": "info"}\'); print(\'up\'); time.sleep(600)'
    )
    child = python(tmp_path, "web", code, shows_errors=True)
    supervisor.start(child)
    wait_for(up(child), "its log")
    supervisor.tick()
    supervisor.tick()
    assert said == ['web | {"event": "bad", "level": "error"}']


def test_each_start_has_a_log_of_its_own(supervisor: Supervisor, tmp_path: Path) -> None:
    (tmp_path / "web.log").write_text("yesterday")
    child = python(tmp_path, "web", SLEEP)
    supervisor.start(child)
    assert (tmp_path / "web.log.1").read_text() == "yesterday"
    wait_for(up(child), "the new log")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
def test_even_a_killed_supervisor_leaves_nobody_behind(project: Path, tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from ccm_site.supervisor.children import Child, Supervisor\n"
        f"s = Supervisor({{}}, Path('/'), print); "
        f"c = Child('child', [sys.executable, '-c', 'import time; time.sleep(600)'], Path({str(tmp_path)!r}) / 'log')\n"
        "s.start(c); print(c.process.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=project, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert not gone(child)
        parent.kill()
    wait_for(lambda: gone(child), "the child's end")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows a process's blocked signals")
def test_a_make_that_was_interrupted_alone_is_noticed() -> None:
    code = (
        "import signal, sys\n"
        "print('up', flush=True); sys.stdin.readline()\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}); print('blocked', flush=True); sys.stdin.readline()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as make:
        assert make.stdin is not None
        assert make.stdout is not None
        assert make.stdout.readline() == "up\n"
        assert not interrupted(make.pid)
        make.stdin.write("\n")
        assert make.stdout.readline() == "blocked\n"
        assert interrupted(make.pid)
        make.stdin.write("\n")


def test_metrics_of_earlier_processes_are_gone_at_every_start(
    supervisor: Supervisor, clock: Clock, tmp_path: Path
) -> None:
    metrics = tmp_path / "metrics"
    write = "import os, pathlib; d = pathlib.Path(os.environ['PROMETHEUS_MULTIPROC_DIR']); "
    write += "(d / f'{os.getpid()}.db').touch(); print(len(list(d.iterdir())), flush=True)"
    child = python(tmp_path, "web", write, metrics_dir=metrics)
    supervisor.start(child)
    for _ in range(3):
        wait_for(lambda: not child.alive, "its end")
        supervisor.tick()
        clock.now += 60
        supervisor.tick()
    wait_for(lambda: not child.alive, "its end")
    assert child.log_file.read_text() == "1\n" * 4
