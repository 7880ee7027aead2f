"""The web process: `python -m ccm_site.web` listens on HOST:PORT with WORKERS workers.

One place for the server's options, for `make run`, for containers and for measurements."""

import os
import sys

import uvicorn
from django.core.exceptions import ImproperlyConfigured

from ccm_site.env import env_int, env_str

GRACEFUL_SECONDS = 30
# Longer than the idle time of clients and load balancers, so that none meets a connection
# which is being closed.
KEEP_ALIVE_SECONDS = 120


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "ccm_site.settings")
    try:
        from django.conf import settings

        workers = env_int("WORKERS", 1, minimum=1, maximum=256)
        host, port = settings.HOST, settings.PORT
    except ImproperlyConfigured as error:
        sys.exit(f"ccm: {error}")
    uvicorn.run(
        "ccm_site.asgi:application",
        host=host,
        port=port,
        workers=workers,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,  # the project's own (ccm_site/logs.py)
        server_header=False,
        date_header=True,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACEFUL_SECONDS,
        forwarded_allow_ips=env_str("FORWARDED_ALLOW_IPS", "127.0.0.1"),
    )


if __name__ == "__main__":
    main()
