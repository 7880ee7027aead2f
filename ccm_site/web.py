"""The web process: `python -m ccm_site.web` listens on HOST:PORT with WORKERS workers.

One place for the server's options, for `make run`, for containers and for measurements."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from django.core.exceptions import ImproperlyConfigured
from uvicorn.supervisors.multiprocess import Multiprocess

from ccm_site.env import env_str

GRACEFUL_SECONDS = 30
# Longer than the idle time of clients and load balancers, so that none meets a connection
# which is being closed.
KEEP_ALIVE_SECONDS = 120
# A worker that does not answer its parent for so long is killed. On a busy machine one may take long to start.
HANGS_SECONDS = 30


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "ccm_site.settings")
    try:
        from django.conf import settings

        host, port, workers = settings.HOST, settings.PORT, settings.WORKERS
    except ImproperlyConfigured as error:
        sys.exit(f"ccm: {error}")
    config = uvicorn.Config(
        "ccm_site.asgi:application",
        host=host,
        port=port,
        workers=workers,
        loop="uvloop",
        http="ccm_site.protocol:Protocol",
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,  # the project's own (ccm_site/logs.py)
        server_header=False,
        date_header=True,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACEFUL_SECONDS,
        timeout_worker_healthcheck=HANGS_SECONDS,
        forwarded_allow_ips=env_str("FORWARDED_ALLOW_IPS", "127.0.0.1"),
    )
    if workers == 1:
        server = uvicorn.Server(config)
        server.run()
        if not server.started:
            sys.exit(3)
        return
    share_metrics(settings.DATA_DIR / f"metrics-{port}")
    Workers(config, sockets=[config.bind_socket()]).run()


def share_metrics(default: Path) -> None:
    """An empty directory where the workers add up their metrics: the one that is set, else `default`."""
    directory = Path(os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", str(default)))
    directory.mkdir(parents=True, exist_ok=True)
    for left in directory.glob("*.db"):
        left.unlink()


class Workers(Multiprocess):
    """uvicorn's parent of workers, which also takes what a worker measured of itself while it lived (gauges)
    out of the metrics when that worker has been replaced."""

    def keep_subprocess_alive(self) -> None:
        with self._forgetting_the_dead():
            super().keep_subprocess_alive()

    def handle_signals(self) -> None:
        with self._forgetting_the_dead():
            super().handle_signals()

    @contextmanager
    def _forgetting_the_dead(self) -> Iterator[None]:
        before = {process.pid for process in self.processes}
        yield
        gone = before - {process.pid for process in self.processes}
        if gone:
            from prometheus_client.multiprocess import mark_process_dead

            for pid in gone:
                mark_process_dead(pid)  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
