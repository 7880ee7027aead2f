"""Child processes that never outlive their parent, and the ports they listen on."""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def die_with_parent(parent: int, death_signal: int = signal.SIGTERM) -> Callable[[], None]:
    """A function for a child to run between fork and exec: the kernel then sends it
    `death_signal` when the process `parent`, which forks it, dies, even by kill -9.
    Only Linux can; elsewhere a killed parent leaves its children behind."""

    def prepare() -> None:
        if _libc is not None:
            _libc.prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
            if os.getppid() != parent:  # it died before the request reached the kernel
                os._exit(1)

    return prepare


def spawn(
    command: Sequence[str],
    *,
    output: IO[bytes] | int,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    death_signal: int = signal.SIGTERM,
    user: str | None = None,
) -> subprocess.Popen[bytes]:
    """Start `command` in a process group of its own, output and errors into `output`.

    The main thread must call this: the kernel ties a child to the thread that forked it."""
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        cwd=cwd,
        env=environment,
        user=user,
        group=None,
        extra_groups=[] if user else None,
        start_new_session=True,
        preexec_fn=die_with_parent(os.getpid(), death_signal),  # noqa: PLW1509  (only the main thread forks)
    )


def signal_group(process: "subprocess.Popen[bytes]", number: int) -> None:
    """Send a signal to everything that `process` started in its group; nothing if all are gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def interrupted(pid: int) -> bool:
    """Whether the process `pid` is handling an interrupt at this moment, as far as one can know.

    `make` that gets a SIGINT alone (not the terminal's, which reaches everybody) handles it by
    waiting for its children, without a word to them: SIGINT stays blocked meanwhile."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    blocked = next((line.split()[1] for line in status.splitlines() if line.startswith("SigBlk:")), "0")
    return bool(int(blocked, 16) & 1 << (signal.SIGINT - 1))


def free_port() -> int:
    """A loopback port that nobody listens on at this moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


def port_is_taken(host: str, port: int) -> bool:
    """Whether a server could not listen on `host`:`port` now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError:
            return True
    return False
