"""Is this process alive, and can it serve? `/health/live`, `/health/ready`, `/metrics`."""

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, MutableMapping
from typing import Any

import msgspec
import redis.asyncio
from django.conf import settings
from django.db import connection

from gateway import metrics
from gateway.exchange import Exchange, Receive, Send
from gateway.reconciliation_metrics import ReconciliationMetrics
from gateway.runtime import Runtime

CHECK_SECONDS = 3.0
TEXT = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")


class Health:
    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.reconciliation = ReconciliationMetrics()

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, receive, send)
        match exchange.path:
            case "/health/live":
                await exchange.answer_json({"status": "ok"})
            case "/health/ready":
                await self._ready(exchange)
            case _:
                await self._metrics(exchange)

    async def _ready(self, exchange: Exchange) -> None:
        """503 when requests cannot be served. Valkey away is told, but serving goes on without it."""
        database, valkey = await asyncio.gather(_ok(self.runtime.database.run(_select_one)), _ok(_ping()))
        checks = {
            "database": database,
            "writer": self.runtime.writer.alive,
            "catalogue": self.runtime.catalogue.healthy,
            "valkey": valkey,
        }
        ready = all(checks[name] for name in ("database", "writer", "catalogue"))
        words = {name: "ok" if good else "down" for name, good in checks.items()}
        body = msgspec.json.encode({"status": "ok" if ready else "down", **words})
        await exchange.answer(200 if ready else 503, body, [] if ready else [(b"retry-after", b"5")])

    async def _metrics(self, exchange: Exchange) -> None:
        """Open in the demo; elsewhere only with the token of CCM_METRICS_TOKEN, else not there."""
        presented = exchange.headers.get("authorization", "").removeprefix("Bearer ")
        token = settings.METRICS_TOKEN
        if not (settings.DEMO or (token and secrets.compare_digest(presented.encode(), token.encode()))):
            await exchange.answer(404, b'{"error":"not found"}')
            return
        body = await asyncio.to_thread(metrics.render)
        with contextlib.suppress(Exception):  # without the database, the rest is still worth having
            body += await asyncio.wait_for(self.runtime.database.run(self.reconciliation.render), CHECK_SECONDS)
        await exchange.start(200, [TEXT, (b"content-length", str(len(body)).encode())])
        await exchange.finish(body)


async def _ok(check: Awaitable[Any]) -> bool:
    with contextlib.suppress(Exception):
        await asyncio.wait_for(check, CHECK_SECONDS)
        return True
    return False


def _select_one() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


async def _ping() -> None:
    client = redis.asyncio.Redis.from_url(settings.REDIS_URL, socket_connect_timeout=1, socket_timeout=1)
    try:
        await client.ping()
    finally:
        await client.aclose()
