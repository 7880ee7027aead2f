"""`manage.py` for tests that call it often: Django is loaded once, and every command is a fork of that.

`python -m tests.commands` reads one list of arguments a line (JSON) on stdin and answers each with the exit
status and what the command has printed. A command sees what it would see in a process of its own: the fork
happens before anything has been opened.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import manage

PROJECT = Path(__file__).resolve().parent.parent
SECONDS = 300.0
"""The most that a command may take here."""


class Commands:
    """The process above, started when it is first needed, and anew when the environment has changed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._environment: dict[str, str] = {}

    def run(
        self, arguments: Sequence[str], environment: Mapping[str, str]
    ) -> "subprocess.CompletedProcess[str] | None":
        """None when it cannot: another thread's command is at work, or Django does not start."""
        if not self._lock.acquire(blocking=False):
            return None
        try:
            process = self._started(dict(environment))
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(list(arguments)) + "\n")
            process.stdin.flush()
            patience = threading.Timer(SECONDS, process.kill)
            patience.start()
            answer = process.stdout.readline()
            patience.cancel()
            if not answer:  # why it did not start, or does not end, the command will say in a process of its own
                return None
            status, out, error = json.loads(answer)
            return subprocess.CompletedProcess(["manage.py", *arguments], status, out, error)
        finally:
            self._lock.release()

    def close(self) -> None:
        if self._process is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.communicate()  # the end of its input is the end of it
            self._process = None

    def _started(self, environment: dict[str, str]) -> "subprocess.Popen[str]":
        if self._process is None or self._environment != environment or self._process.poll() is not None:
            self.close()
            self._environment = environment
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.commands"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=PROJECT,
                env=environment,
            )
        return self._process


def serve() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    _load()
    for line in sys.stdin:
        answers.write(json.dumps(_forked(json.loads(line))) + "\n")
        answers.flush()


def _load() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "ccm_site.settings")
    os.environ.setdefault("LOG_LEVEL", "WARNING")  # as manage.py has it, before the settings are read
    import django
    from django.urls import get_resolver

    django.setup()
    get_resolver().url_patterns  # noqa: B018 - every command's checks load it


def _forked(arguments: list[str]) -> tuple[int, str, str]:
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as error:
        child = os.fork()
        if child == 0:
            _become(arguments, out.fileno(), error.fileno())
        _, status = os.waitpid(child, 0)
        out.seek(0)
        error.seek(0)
        return os.waitstatus_to_exitcode(status), out.read(), error.read()


def _become(arguments: list[str], out: int, error: int) -> None:
    """The rest of a child's life."""
    status = 1
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(error, 2)
        sys.argv = ["manage.py", *arguments]
        manage.main()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1 if end.code else 0
        if isinstance(end.code, str):
            sys.stderr.write(end.code + "\n")
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    serve()
