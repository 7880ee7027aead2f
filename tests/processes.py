"""A whole CCM as processes of its own: a data directory, a Valkey, a web server on a free port.

Everything goes through the commands and the network, as for an operator. Used by tests that
need real processes, and by the benchmarks.
"""

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from ccm_site.supervisor.processes import free_port, spawn
from tests import migrated
from tests.commands import Commands
from tests.plugin import environment, valkey

PROJECT = Path(__file__).resolve().parent.parent
START_SECONDS = 60
STOP_SECONDS = 40
COMMAND_SECONDS = 600

_numbers = count(1)


NewDatabase = Callable[[], AbstractContextManager[str]]
"""`process_database`, as the fixture `new_database` gives it."""


@contextmanager
def process_database() -> Iterator[str]:
    """The URL of a new, migrated database for a CCM process: on the run's PostgreSQL server, or "" for SQLite."""
    url = os.environ.get("DATABASE_URL", "")
    if not url.startswith("postgres"):
        yield ""
        return
    import psycopg
    from psycopg import sql

    name = f"ccm_process_{os.getpid()}_{next(_numbers)}"
    template = migrated.template(url)
    with psycopg.connect(url, autocommit=True) as connection:
        names = sql.Identifier(name), sql.Identifier(template)
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(*names))
    try:
        yield migrated.beside(url, name)
    finally:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


class Ccm:
    """`with Ccm() as ccm` migrates a fresh database and starts a Valkey; `start` the web server.

    `python` replaces the interpreter of the web server, to run it under a profiler; `project` is where
    the code is. The data
    directory lies on the disk unless told otherwise, since durable commits are part of the product."""

    def __init__(
        self,
        *,
        database_url: str = "",
        settings: Mapping[str, str] | None = None,
        python: Sequence[str] = (sys.executable,),
        project: Path = PROJECT,
    ) -> None:
        self.data_dir = Path(tempfile.mkdtemp(prefix="ccm-process-"))
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.web: subprocess.Popen[bytes] | None = None
        self._database_url = database_url
        self._settings = dict(settings or {})
        self._python = list(python)
        self._project = project
        self._valkey: valkey.ValkeyServer | None = None
        self._commands = Commands()

    def __enter__(self) -> Self:
        self._valkey = valkey.start()
        try:
            if not self._database_url.startswith("postgres"):
                migrated.copy_to(self.data_dir / "ccm.sqlite3", self._migrate)
        except BaseException:
            self.close()
            raise
        return self

    def _migrate(self) -> None:
        """Everything into the one file, which is then copied: the log beside it would be left behind."""
        self.manage("migrate", "-v0")
        with contextlib.closing(sqlite3.connect(self.data_dir / "ccm.sqlite3")) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.stop()
        self._commands.close()
        if self._valkey is not None:
            self._valkey.stop()
        shutil.rmtree(self.data_dir, ignore_errors=True)

    @property
    def environment(self) -> dict[str, str]:
        """Nothing of the caller's own environment but what programs need to run at all."""
        assert self._valkey is not None
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        return {
            **kept,
            **environment.SECRETS,
            "CCM_DATA_DIR": str(self.data_dir),
            "DATABASE_URL": self._database_url,
            "REDIS_URL": self._valkey.url,
            "PORT": str(self.port),
            "CCM_ALLOW_PRIVATE_UPSTREAMS": "1",
            **self._settings,
        }

    # -- commands

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """`manage.py` with `arguments`, whatever its exit status."""
        forked = self._commands.run(arguments, self.environment) if self._project == PROJECT else None
        return forked or subprocess.run(
            [sys.executable, str(self._project / "manage.py"), *arguments],
            env=self.environment,
            cwd=self._project,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
        )

    def manage(self, *arguments: str) -> str:
        """What the command prints; raises RuntimeError with its words when it fails."""
        done = self.run(*arguments)
        if done.returncode:
            raise RuntimeError(f"manage.py {' '.join(arguments)} failed: {done.stdout}{done.stderr}")
        return done.stdout.strip()

    def python(self, source: str) -> str:
        """What `source` prints, run inside the product's Django."""
        return self.manage("shell", "-v0", "-c", source)

    def import_config(self, toml: str) -> str:
        file = self.data_dir / "import.toml"
        file.write_text(toml)
        return self.manage("import_config", str(file))

    def create_key(
        self, email: str = "customer@example.com", usd: str = "100", name: str = "test", limits: Sequence[str] = ()
    ) -> str:
        """A new key of this customer, who is given `usd` of credits; "" for none. `limits` as the
        command takes them: `["--limit-day", "5"]`."""
        grant = ["--credits", usd] if usd else []
        return self.manage("create_key", "--email", email, "--name", name, *grant, *limits)

    def create_customers(self, number: int, usd: int = 100) -> list[tuple[str, str]]:
        """So many new customers with credits, the e-mail address and key of each: in one process, where
        `create_key` takes one for each."""
        source = (
            "import json, secrets; from accounts.services import create_key; "
            "from credits.services import grant, open_account\n"
            "made = []\n"
            f"for _ in range({number}):\n"
            "    email = f'customer-{secrets.token_hex(6)}@example.com'\n"
            "    account = open_account(email=email)\n"
            f"    grant(account.organization.pk, {usd} * 10**9, reason='test', idempotency_key=email)\n"
            "    key = create_key(organization=account.organization, name='test', created_by=account.user)\n"
            "    made.append([email, key.secret])\n"
            "print(json.dumps(made))"
        )
        printed = self.python(source).splitlines()[-1]
        return [(email, key) for email, key in json.loads(printed)]

    def usage_records(self, organization: str | None = None) -> list[dict[str, Any]]:
        """Every column of the usage records in the order of their making (`why` with the rules it refers
        to), of the organisation whose personal owner has this e-mail address, or of all."""
        narrowed = f".filter(organization__memberships__user__email={organization!r})" if organization else ""
        source = (
            "import json; from credits.explanations import explained; from credits.models import UsageRecord; "
            f"rows = UsageRecord.objects{narrowed}.order_by('created_at').values(); "
            "rows = [{**row, 'why': explained(row['why'])['rules']} for row in rows]; "
            "print(json.dumps(rows, default=str))"
        )
        records: list[dict[str, Any]] = json.loads(self.python(source))
        return records

    # -- the web server

    def start(self) -> Self:
        """Start the web server and wait until it is ready; raises RuntimeError with its last lines."""
        with self.log.open("ab") as log:
            self.web = spawn(
                [*self._python, "-m", "ccm_site.web"], output=log, cwd=self._project, environment=self.environment
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._ready():
            if self.web.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"CCM did not become ready: {self.log.read_text()[-3000:]}")
            time.sleep(0.05)
        return self

    def _ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health/ready", timeout=5, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def stop(self) -> None:
        """Ctrl-C, and patience while the server drains."""
        if self.web is None or self.web.poll() is not None:
            return
        self.web.send_signal(signal.SIGINT)
        try:
            self.web.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """kill -9, as a fault would."""
        if self.web is not None:
            self.web.kill()
            self.web.wait(STOP_SECONDS)

    @property
    def log(self) -> Path:
        return self.data_dir / "web.log"
