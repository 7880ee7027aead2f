"""The least that a paid request needs, under CCM's server, with its HTTP client and its ledger: what CCM can be
compared with beside the bare proxy. See docs/performance.md.

`python -m benchmarks.least` compares; with a port and the upstream's URL it is the server itself.
"""

import hashlib
import hmac
import os
import sys
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec

from benchmarks import bare_proxy
from benchmarks.bare_proxy import Receive, Send
from credits.types import HoldRequest, MeterReading, PriceSnapshot, RequestFacts, SettleRequest

if TYPE_CHECKING:
    from credits.writer import LedgerWriter
    from providers.connections import Connector

ROUNDS, SECONDS = 6, 2.0
WITHIN = aiohttp.ClientTimeout(total=None)
PRICE = PriceSnapshot(1000, 5000, 100, 1250, 2000)
SCENARIOS = ("small", "large")
KEPT_HERE = {b"host", b"content-length", b"connection", b"transfer-encoding", b"accept-encoding", b"x-api-key"}


class _Asked(msgspec.Struct):
    model: str
    max_tokens: int
    messages: list[msgspec.Raw]


class _Tokens(msgspec.Struct):
    input_tokens: int = 0
    output_tokens: int = 0


class _Answered(msgspec.Struct):
    usage: _Tokens


_asked = msgspec.json.Decoder(_Asked)
_answered = msgspec.json.Decoder(_Answered)


class Least:
    """Parses, checks a key, holds, forwards, settles, answers: whole answers only."""

    def __init__(self, upstream: str) -> None:
        from accounts.models import ApiKey
        from gateway.exchange import new_request_id

        self._new_id = new_request_id
        self._url = f"{upstream}/v1/messages"
        key = ApiKey.objects.get()
        self._key, self._organization = key.pk, key.organization_id
        self._connector: Connector | None = None
        self._writer: LedgerWriter | None = None

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        pieces = []
        while (message := await receive()).get("more_body"):
            pieces.append(message["body"])
        await self._serve(dict(scope["headers"]), b"".join((*pieces, message["body"])), send)

    async def _serve(self, headers: dict[bytes, bytes], body: bytes, send: Send) -> None:
        assert self._connector is not None
        assert self._writer is not None
        hmac.new(b"pepper", headers[b"x-api-key"], hashlib.sha256).digest()
        asked, request_id, price = _asked.decode(body), self._new_id(), PRICE
        await self._writer.hold(
            HoldRequest(request_id, self._organization, self._key, "m", price, len(body) // 3, asked.max_tokens)
        )
        passed = {k.decode(): v.decode() for k, v in headers.items() if k not in KEPT_HERE}
        response = await self._connector.post(self._url, headers=passed, body=body, within=WITHIN)
        answer = await response.content.read()
        told = _answered.decode(answer).usage
        reading = MeterReading(input=told.input_tokens, output=told.output_tokens)
        await self._writer.settle(SettleRequest(request_id, reading, price, RequestFacts(provider="p")))
        length = (b"content-length", str(len(answer)).encode())
        own = [(b"content-type", b"application/json"), length, (b"request-id", request_id.encode())]
        await send({"type": "http.response.start", "status": 200, "headers": own})
        await send({"type": "http.response.body", "body": answer})

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        from ccm_site.memory import give_back_freed, settle_down
        from credits.writer import LedgerWriter
        from providers.connections import Connector

        await receive()
        give_back_freed()
        self._connector = Connector(limit=0, keepalive_timeout=60)
        self._writer = LedgerWriter()
        self._writer.start()
        settle_down()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._writer.close()
        await self._connector.close()
        await send({"type": "lifespan.shutdown.complete"})


def serve(port: int, upstream: str) -> None:
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "ccm_site.settings")
    django.setup()
    bare_proxy.serve(Least(upstream), port, http="ccm_site.protocol:Protocol")


def compare() -> None:
    import statistics

    from benchmarks import run
    from benchmarks.wires import WAYS
    from ccm_site.supervisor.processes import free_port
    from tests.processes import Ccm

    upstream, bare, least = (str(free_port()) for _ in range(3))
    url = f"http://127.0.0.1:{upstream}"
    quiet = {"LOG_LEVEL": "WARNING"}
    with run.running("benchmarks.upstream", upstream, "4"), Ccm(settings=quiet) as ccm, Ccm(settings=quiet) as other:
        ccm.import_config(run.CONFIG + "".join(run.served(way, url) for way in WAYS))
        key, other_key = ccm.create_key(usd="1000000"), other.create_key(usd="1000000")
        ccm.start()
        assert ccm.web is not None
        with (
            run.running("benchmarks.bare_proxy", bare, url) as bare_process,
            run.running("benchmarks.least", least, url, environment=other.environment) as least_process,
        ):
            headers = {"content-type": "application/json", "anthropic-version": "2023-06-01"}
            servers = [
                run.Server("bare", int(bare), bare_process.pid, {**headers, "x-api-key": key}),
                run.Server("least", int(least), least_process.pid, {**headers, "x-api-key": other_key}),
                run.Server("ccm", ccm.port, ccm.web.pid, {**headers, "x-api-key": key}),
            ]
            for scenario in (each for each in run.SCENARIOS if each.name in SCENARIOS):
                found: dict[str, list[float]] = {server.name: [] for server in servers}
                for number in range(ROUNDS):
                    for server in servers[number % 3 :] + servers[: number % 3]:
                        result = run.measure(server, scenario, SECONDS)
                        found[server.name].append(1000 * result.cpu / result.requests)
                middle = {name: statistics.median(each) for name, each in found.items()}
                told = ", ".join(f"{name} {each:.3f} ({each / middle['bare']:.2f})" for name, each in middle.items())
                print(f"{scenario.title}: CPU ms a request (to the bare proxy's): {told}", flush=True)


if __name__ == "__main__":
    serve(int(sys.argv[1]), sys.argv[2]) if len(sys.argv) > 1 else compare()
