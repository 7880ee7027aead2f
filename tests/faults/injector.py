"""The faults themselves, each at a random moment."""

import random
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from tests.faults.load import Load
from tests.faults.product import Product
from tests.faults.proxy import CommitProxy, Cut

COMMIT_SECONDS = 3.0
"""How long to wait for somebody to commit."""

ANSWERS_BEFORE_NEXT_OUTAGE = 15
"""Whole answers between two faults that take the web server down: else nothing would be under load."""

STALLED_SECONDS = 60.0
"""When no more answers come, the next outage does not wait for them: but a server may take long to start."""


class Injector:
    """Injects one fault of a random kind a call. `database` is the direct address of PostgreSQL, behind
    the proxy; without a proxy the product is on SQLite. `busy_timeout` is SQLite's, in seconds."""

    def __init__(
        self,
        product: Product,
        load: Load,
        *,
        seed: int,
        busy_timeout: float,
        proxy: CommitProxy | None = None,
        database: str = "",
    ) -> None:
        self.product, self.load = product, load
        self.injected: Counter[str] = Counter()
        self._chance = random.Random(seed)
        self._busy_timeout = busy_timeout
        self._proxy, self._database = proxy, database
        self._answered_at_outage = -ANSWERS_BEFORE_NEXT_OUTAGE
        self._outage_at = time.monotonic()
        self._kinds: dict[str, tuple[int, Callable[[], bool]]] = {
            "kill -9 of a web worker": (16, self._kill_web_worker),
            "kill -9 of the web server": (8, self._kill_web),
            "SIGTERM to the web server": (5, self._stop_web),
            "kill -9 of the Celery worker": (6, lambda: self._kill("worker")),
            "SIGTERM to the Celery worker": (3, lambda: self._stop("worker")),
            "kill -9 of beat": (3, lambda: self._kill("beat")),
            "kill -9 of Valkey": (8, self._kill_valkey),
            "Valkey stopped for a while": (5, self._pause_valkey),
        }
        self._kinds |= self._sqlite_kinds() if proxy is None else self._postgres_kinds()

    def _sqlite_kinds(self) -> dict[str, tuple[int, Callable[[], bool]]]:
        return {
            "database locked for a moment": (12, lambda: self._lock(self._busy_timeout / 2)),
            "database locked beyond the busy timeout": (10, lambda: self._lock(4 * self._busy_timeout + 0.8)),
            "kill -9 of the web server in a commit": (8, self._kill_in_commit),
            "kill -9 of a web worker that waits for the lock": (8, self._kill_while_locked),
        }

    def _postgres_kinds(self) -> dict[str, tuple[int, Callable[[], bool]]]:
        return {
            "connection lost before COMMIT": (14, lambda: self._cut(Cut.BEFORE)),
            "connection lost with COMMIT": (14, lambda: self._cut(Cut.DURING)),
            "connection lost after COMMIT": (14, lambda: self._cut(Cut.AFTER)),
            "pg_terminate_backend": (10, self._terminate_backend),
            "database away for a moment": (5, self._database_away),
        }

    @property
    def count(self) -> int:
        return sum(self.injected.values())

    def inject(self) -> str:
        """The kind of the fault that was injected; kinds that are not possible now are passed over."""
        kinds = dict(self._kinds)
        while kinds:
            names = list(kinds)
            # What this run has had least comes first, so that a short run has many kinds.
            weights = [kinds[name][0] / (1 + 2 * self.injected[name]) for name in names]
            (name,) = self._chance.choices(names, weights)
            if kinds.pop(name)[1]():
                self.injected[name] += 1
                return name
        return ""

    def heal(self) -> None:
        """End what lasts."""
        if self._proxy is not None:
            self._proxy.disarm()
            self._proxy.come_back()
        self.product.pause_valkey(False)
        self.product.tick()

    # -- processes

    def _outage(self) -> bool:
        """Whether the web server may be taken down now."""
        served = self.load.answered - self._answered_at_outage >= ANSWERS_BEFORE_NEXT_OUTAGE
        stalled = time.monotonic() - self._outage_at > STALLED_SECONDS
        if not (served or stalled) or self.product.is_stopping("web"):
            return False
        self._answered_at_outage, self._outage_at = self.load.answered, time.monotonic()
        return True

    def _kill_web_worker(self) -> bool:
        return self._outage() and self.product.kill_web_worker(self._chance)

    def _kill_web(self) -> bool:
        return self._outage() and self._kill("web")

    def _stop_web(self) -> bool:
        return self._outage() and self._stop("web")

    def _kill(self, name: str) -> bool:
        self.product.kill_child(name)
        return True

    def _stop(self, name: str) -> bool:
        if self.product.is_stopping(name):
            return False
        self.product.stop_child(name)
        return True

    def _kill_valkey(self) -> bool:
        self.product.kill_valkey()
        time.sleep(self._chance.uniform(0, 0.5))
        self.product.start_valkey()
        return True

    def _pause_valkey(self) -> bool:
        self.product.pause_valkey(True)
        time.sleep(self._chance.uniform(0.3, 2.0))
        self.product.pause_valkey(False)
        return True

    # -- PostgreSQL

    def _cut(self, cut: Cut) -> bool:
        assert self._proxy is not None
        fired = self._proxy.cut_next_commit(cut).wait(COMMIT_SECONDS)
        self._proxy.disarm()
        return fired

    def _terminate_backend(self) -> bool:
        import psycopg

        with psycopg.connect(self._database, autocommit=True) as connection:
            found = connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
                "AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1"
            ).fetchone()
        return found is not None

    def _database_away(self) -> bool:
        assert self._proxy is not None
        self._proxy.leave()
        time.sleep(self._chance.uniform(0.2, 1.2))
        self._proxy.come_back()
        return True

    # -- SQLite

    def _lock(self, seconds: float, while_locked: Callable[[], bool] = lambda: True) -> bool:
        """Another process holds the only lock for writers."""
        with closing(sqlite3.connect(self.product.sqlite_file, timeout=10, isolation_level=None)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return False
            time.sleep(seconds)
            done = while_locked()
            connection.execute("ROLLBACK")
        return done

    def _kill_while_locked(self) -> bool:
        if not self._outage():
            return False
        return self._lock(self._busy_timeout / 2, lambda: self.product.kill_web_worker(self._chance))

    def _kill_in_commit(self) -> bool:
        """The write-ahead log has just been written to: its writer waits for the disk. The moment is
        short, hence no pause between two looks."""
        if not self._outage():
            return False
        log = self.product.sqlite_file.with_name(f"{self.product.sqlite_file.name}-wal")
        before, deadline = _modified(log), time.monotonic() + COMMIT_SECONDS
        while _modified(log) == before:
            if time.monotonic() > deadline:
                return False
        return self._kill("web")


def _modified(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except FileNotFoundError:
        return 0
