"""The yardstick: a plain ASGI app that forwards to one upstream and does nothing else.

`python -m benchmarks.bare_proxy PORT UPSTREAM_URL`, under the server options of ccm_site.web.
"""

import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import aiohttp
import uvicorn

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
HOP_HEADERS = {b"host", b"content-length", b"connection", b"transfer-encoding", b"accept-encoding"}


class BareProxy:
    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.session: aiohttp.ClientSession | None = None

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        await self._forward(scope, body, send)

    async def _forward(self, scope: MutableMapping[str, Any], body: bytes, send: Send) -> None:
        assert self.session is not None
        headers = [(k.decode(), v.decode()) for k, v in scope["headers"] if k not in HOP_HEADERS]
        url = self.upstream + scope["path"]
        async with self.session.post(url, data=body, headers=headers) as response:
            passed = [(k, v) for k, v in response.raw_headers if k.lower() not in HOP_HEADERS]
            await send({"type": "http.response.start", "status": response.status, "headers": passed})
            async for data in response.content.iter_any():
                await send({"type": "http.response.body", "body": data, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=60)
                self.session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                if self.session is not None:
                    await self.session.close()
                await send({"type": "lifespan.shutdown.complete"})
                return


def serve(app: Callable[..., Any], port: int, *, http: str = "httptools") -> None:
    """Run `app` as CCM runs."""
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=port,
        loop="uvloop",
        http=http,
        ws="none",
        lifespan="on",
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_keep_alive=120,
    )


def main() -> None:
    serve(BareProxy(sys.argv[2]), int(sys.argv[1]))


if __name__ == "__main__":
    main()
