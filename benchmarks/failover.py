"""`make bench-failover`: three providers under load, one of which dies and comes back.

Every answer is checked: a single failed request fails the run. What is told: the 99th percentile
while all are well, while one dies, and while it comes back; how long it took until its breaker
opened and closed again.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import msgspec
import redis

from benchmarks import bodies
from benchmarks.load import Load, Result
from benchmarks.run import CONNECTIONS, Side, check_ledger, running
from ccm_site.supervisor.processes import free_port
from gateway.resilience.shared import STORE
from tests.processes import PROJECT, Ccm

AFTER_SECONDS = 1.5
"""Into the load, the provider dies or comes back."""
PATIENCE_SECONDS = 90.0
CONFIG = """
[router]
default = "bench"
auto_map_regex = "^never-matches"
[[models]]
name = "bench"
max_output = 32000
context_window = 1000000
input = "1"
output = "5"
"""
PROVIDER = """
[[providers]]
name = "mock-{number}"
kind = "anthropic-compatible"
base_url = "{url}"
api_key = "k"
"""
MAPPING = """
[[models.mappings]]
provider = "mock-{number}"
actual_model = "m"
cost = {{ input = "0.5", output = "2" }}
"""


@contextmanager
def loaded(load: Load) -> Iterator[list[Result]]:
    """The load runs while the block does; its result is in the list afterwards."""
    results: list[Result] = []
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.load"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=PROJECT
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(msgspec.json.encode(load))
    process.stdin.close()
    try:
        yield results
        results.append(msgspec.json.decode(process.stdout.read(), type=Result))
    finally:
        process.wait(60)


def seconds_until(condition: Callable[[], bool], patience: float = PATIENCE_SECONDS) -> float:
    """How long it took; raises TimeoutError."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > patience:
            raise TimeoutError
        time.sleep(0.005)
    return time.monotonic() - began


def figures(results: list[Result]) -> dict[str, float]:
    side = Side(results)
    return {
        "requests": sum(result.sent for result in results),
        "p50_ms": round(side.percentile(0.5), 2),
        "p99_ms": round(side.percentile(0.99), 2),
        "slowest_ms": round(side.percentile(1.0), 2),
    }


def measured(seconds: float) -> dict[str, Any]:
    """The whole run: each phase of the load lasts at least so many seconds."""
    ports = [free_port() for _ in range(3)]
    with ExitStack() as stack, Ccm(settings={"LOG_LEVEL": "ERROR"}) as ccm:
        for port in ports[1:]:
            stack.enter_context(running("benchmarks.upstream", str(port)))
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        providers = "".join(PROVIDER.format(number=n, url=url) for n, url in enumerate(urls))
        ccm.import_config(providers + CONFIG + "".join(MAPPING.format(number=n) for n in range(3)))
        key = ccm.create_key(usd="1000000")
        mapping = ccm.python(
            "from providers.models import Mapping; print(Mapping.objects.get(provider__name='mock-0').pk)"
        )
        ccm.start()
        assert ccm.web is not None
        load = Load(
            port=ccm.port,
            path="/v1/messages",
            headers={"content-type": "application/json", "anthropic-version": "2023-06-01", "x-api-key": key},
            body=json.dumps(bodies.small("bench"), separators=(",", ":")),
            needle='"text":"l',
            count=1,
            ends="}",
            pid=ccm.web.pid,
            connections=CONNECTIONS,
            warm_up=0.3,
            seconds=seconds,
        )
        with redis.Redis.from_url(ccm.environment["REDIS_URL"]) as valkey:

            def is_open() -> bool:
                return bool(valkey.hexists(STORE, f"target:{mapping}"))

            report = phases(load, ports[0], is_open)
        ccm.stop()
        sent = sum(phase["requests"] for phase in report["phases"].values())
        return {**report, "wrong": [*report["wrong"], *check_ledger(ccm, sent)]}


def phases(load: Load, port: int, is_open: Callable[[], bool]) -> dict[str, Any]:
    with running("benchmarks.upstream", str(port)) as first:
        with loaded(load) as well:
            pass
        with loaded(load) as dying:
            time.sleep(AFTER_SECONDS)
            first.kill()
            opened = seconds_until(is_open)
    with running("benchmarks.upstream", str(port)):
        returning, closed = until_closed(load, is_open)
        with loaded(load) as again:
            pass
    named = {"all well": well, "one dies": dying, "it comes back": returning, "all well again": again}
    return {
        "phases": {name: figures(results) for name, results in named.items()},
        "opened_after_s": round(opened, 3),
        "closed_after_s": round(closed, 3),
        "wrong": [failure for results in named.values() for result in results for failure in result.failures],
    }


def until_closed(load: Load, is_open: Callable[[], bool]) -> tuple[list[Result], float]:
    """Load until the provider, which is there again, has been probed: without requests nothing is."""
    began = time.monotonic()
    results: list[Result] = []
    closed = 0.0
    while is_open() and time.monotonic() - began < PATIENCE_SECONDS:
        with loaded(load) as batch, contextlib.suppress(TimeoutError):
            seconds_until(lambda: not is_open(), load.warm_up + load.seconds)
            closed = time.monotonic() - began
        results += batch
    return results, closed


def table(report: dict[str, Any]) -> str:
    lines = [f"{'':16}{'requests':>10}{'p50 ms':>10}{'p99 ms':>10}{'slowest ms':>12}"]
    for name, row in report["phases"].items():
        lines.append(
            f"{name:16}{row['requests']:10}{row['p50_ms']:10.1f}{row['p99_ms']:10.1f}{row['slowest_ms']:12.1f}"
        )
    lines.append(
        f"the breaker opened after {report['opened_after_s']} s, and closed after {report['closed_after_s']} s"
    )
    lines.append(f"failed requests and the books: {'; '.join(report['wrong'][:3]) or 'none, in order'}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make bench-failover", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="measured time of each phase (default 5)")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    asked = parser.parse_args(arguments)
    report = measured(asked.seconds)
    print(json.dumps(report) if asked.json else table(report))
    return 1 if report["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
