"""The ASGI entry: the gateway for `/v1/*`, health for probes, Django for everything else."""

import asyncio
import os
from collections.abc import MutableMapping
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "ccm_site.settings")

from django.core.asgi import get_asgi_application

django = get_asgi_application()

from ccm_site.health import Health
from ccm_site.memory import give_back_freed, keep_small, settle_down
from gateway.app import Gateway
from gateway.exchange import Exchange, Receive, Send
from gateway.runtime import Runtime

HEALTH_PATHS = {"/health/live", "/health/ready", "/metrics"}
# Claude Code warms its connection up with these.
WARM_UP_PATHS = {"/", "/api/hello"}


class Application:
    def __init__(self) -> None:
        self.gateway: Gateway | None = None
        self.health: Health | None = None

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        path: str = scope["path"]
        if self.gateway is None or self.health is None:
            raise RuntimeError("CCM needs a server that runs the ASGI lifespan, such as uvicorn.")
        if path.startswith("/v1/") or path == "/v1":
            await self.gateway(scope, receive, send)
        elif path in HEALTH_PATHS:
            await self.health(scope, receive, send)
        elif scope["method"] == "HEAD" and path in WARM_UP_PATHS:
            await Exchange(scope, receive, send).answer(200, b"")
        else:
            await django(scope, receive, send)  # type: ignore[arg-type]

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        runtime: Runtime | None = None
        keeping_small: asyncio.Task[None] | None = None
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                give_back_freed()
                runtime = Runtime()
                await runtime.start()
                self.gateway, self.health = Gateway(runtime), Health(runtime)
                settle_down()
                keeping_small = asyncio.create_task(keep_small())
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                if keeping_small is not None:
                    keeping_small.cancel()
                if runtime is not None:
                    await runtime.close()
                await send({"type": "lifespan.shutdown.complete"})
                return


application = Application()
