"""The whole product as `make run` starts it, each process to be killed and started again."""

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.processes import tree
from ccm_site.supervisor.__main__ import children_of
from ccm_site.supervisor.children import Child
from ccm_site.supervisor.installation import Installation
from ccm_site.supervisor.processes import signal_group, spawn
from ccm_site.supervisor.valkey import valkey_command
from tests.processes import PROJECT, Ccm

WEB_WORKERS = 2
TERM_SECONDS = 45.0
READY_SECONDS = 300.0
"""The machine may be busy with much else."""

BOOKS = """
import json
from django.db.models import Sum
from credits.models import Hold, Transfer, UsageRecord, Wallet
def granted(wallet):
    accounts = {account.pk for account in wallet.organization.ledger_accounts.all()}
    grants = Transfer.objects.filter(code__in=("grant", "promo"), credit_id__in=accounts)
    return grants.aggregate(total=Sum("amount"))["total"] or 0
print(json.dumps({
    "holds": [{**row, "tag": row.pop("context").get("session_id", "")} for row in Hold.objects.values(
        "id", "wallet_id", "state", "amount", "captured", "max_tokens", "context")],
    "usage": list(UsageRecord.objects.values(
        "request_id", "organization_id", "charge", "status", "usage_source", "session_id", "output_tokens")),
    "wallets": [{"organization_id": wallet.pk, "posted": wallet.posted, "held": wallet.held, "debt": wallet.debt,
        "granted": granted(wallet), "email": wallet.organization.memberships.first().user.email}
        for wallet in Wallet.objects.all()],
}))
"""
UNFINISHED = """
from credits.models import UNFINISHED, Hold
print(Hold.objects.filter(state__in=UNFINISHED).count())
"""


class Product(Ccm):
    """`with Product() as product` migrates; `start_all` starts worker, beat and web with two workers."""

    def __init__(self, *, database_url: str = "", settings: Mapping[str, str]) -> None:
        super().__init__(database_url=database_url, settings={**settings, "WORKERS": str(WEB_WORKERS)})
        self.children: dict[str, Child] = {}
        self.starts: dict[str, int] = {}
        self._stopping: dict[str, float] = {}

    @property
    def sqlite_file(self) -> Path:
        return self.data_dir / "ccm.sqlite3"

    def start_all(self) -> None:
        """Raises RuntimeError, with the web server's last lines, when it does not become ready."""
        logs = self.data_dir / "logs"
        logs.mkdir(exist_ok=True)
        installation = Installation(
            self.data_dir, self.environment, "127.0.0.1", self.port, workers=WEB_WORKERS, valkey_port=None
        )
        for child in children_of(installation):
            self.children[child.name] = child
            self._start(child)
        self.await_ready()

    def await_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not self._ready():
            if time.monotonic() > deadline:
                raise RuntimeError(f"CCM did not become ready:\n{self.children['web'].last_lines(40)}")
            self.tick()
            time.sleep(0.1)

    def _start(self, child: Child) -> None:
        child.start(self.environment, time.monotonic(), PROJECT)
        self.starts[child.name] = self.starts.get(child.name, 0) + 1

    def tick(self) -> None:
        """Start again what has died; kill what does not stop."""
        for child in self.children.values():
            assert child.process is not None
            if child.alive:
                if time.monotonic() > self._stopping.get(child.name, time.monotonic()):
                    signal_group(child.process, signal.SIGKILL)
                continue
            self._stopping.pop(child.name, None)
            signal_group(child.process, signal.SIGKILL)  # what it started must not hold its port
            self._start(child)
        assert self._valkey is not None
        if self._valkey.process.poll() is not None:
            self.start_valkey()

    def look_after(self, seconds: float) -> None:
        """`tick` for so long."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self.tick()
            time.sleep(min(0.1, left))

    def close(self) -> None:
        for child in self.children.values():
            if child.process is not None:
                signal_group(child.process, signal.SIGKILL)
                child.process.wait()
        self.children.clear()
        super().close()

    # -- faults

    def kill_child(self, name: str) -> None:
        """kill -9 of the process and all that it started."""
        child = self.children[name]
        assert child.process is not None
        signal_group(child.process, signal.SIGKILL)
        child.process.wait()

    def stop_child(self, name: str) -> None:
        """SIGTERM: it may end what it is doing."""
        child = self.children[name]
        assert child.process is not None
        child.process.terminate()
        self._stopping[name] = time.monotonic() + TERM_SECONDS

    def is_stopping(self, name: str) -> bool:
        return name in self._stopping

    def web_workers(self) -> list[int]:
        process = self.children["web"].process
        return [] if process is None else [pid for pid in _tree(process.pid)[1:] if _is_worker(pid)]

    def kill_web_worker(self, chance: random.Random) -> bool:
        """kill -9 of one of the web workers, which their parent then starts anew; False when there is none."""
        workers = self.web_workers()
        if not workers:
            return False
        os.kill(chance.choice(workers), signal.SIGKILL)
        return True

    def kill_valkey(self) -> None:
        assert self._valkey is not None
        self._valkey.process.kill()
        self._valkey.process.wait()

    def pause_valkey(self, paused: bool) -> None:
        assert self._valkey is not None
        self._valkey.process.send_signal(signal.SIGSTOP if paused else signal.SIGCONT)

    def start_valkey(self) -> None:
        """On the same port, with nothing in it."""
        assert self._valkey is not None
        command = valkey_command(port=self._valkey.port, directory=self._valkey.directory)
        self._valkey.process = spawn(command, output=subprocess.DEVNULL)

    # -- the books

    def books(self) -> dict[str, list[dict[str, Any]]]:
        """Holds, usage records and wallets."""
        read: dict[str, list[dict[str, Any]]] = json.loads(self.python(BOOKS))
        return read

    def unfinished_holds(self) -> int:
        return int(self.python(UNFINISHED))


def _tree(pid: int) -> list[int]:
    try:
        return tree(pid)
    except (FileNotFoundError, ProcessLookupError):  # one of them ended meanwhile
        return [pid]


def _is_worker(pid: int) -> bool:
    try:
        return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False
