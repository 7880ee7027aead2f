"""`make bench`: what a request costs CCM, beside a bare proxy in the same run.

See docs/performance.md for what the figures mean.
"""

import argparse
import json
import os
import shlex
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from benchmarks import bodies, counting, streams, writer
from benchmarks.load import Load, Result
from benchmarks.processes import memory_mib, peak_mib
from benchmarks.wires import WAYS, Way
from ccm_site.memory import TRIM_SECONDS
from ccm_site.supervisor.processes import free_port, spawn
from tests.processes import PROJECT, Ccm

CONNECTIONS = 16
MEMORY_BUDGET_MIB = 120
PYTHON_VARIABLE = "CCM_BENCH_PYTHON"
CONFIG = """
[router]
default = "bench-anthropic"
auto_map_regex = "^never-matches"
"""
SERVED = """
[[providers]]
name = "mock-{name}"
kind = "{kind}"
base_url = "{url}"
api_key = "k"
{more}
[[models]]
name = "bench-{name}"
max_output = 32000
context_window = 1000000
tools = true
input = "1"
output = "5"
[[models.mappings]]
provider = "mock-{name}"
actual_model = "{actual}"
cost = {{ input = "0.5", output = "2" }}
"""


@dataclass(frozen=True)
class Scenario:
    """`budget` is the largest allowed ratio of CCM's CPU time a request to that of what it is compared with:
    the bare proxy; or, for a format that CCM translates (`beside`), CCM passing Anthropic's stream through."""

    name: str
    title: str
    body: dict[str, Any]
    budget: float
    bare_path: str = "/v1/messages"
    bare_ends: str = ""
    beside: dict[str, Any] | None = None
    """The request that CCM is compared with itself by."""

    @property
    def streamed(self) -> bool:
        return bool(self.body.get("stream"))


YARDSTICKS = {"bare": "bare", "passed": "ccm"}
PASSED = bodies.large("bench-anthropic", stream=True)
TITLES = {
    "openai_chat": "OpenAI chat",
    "openai_responses": "OpenAI Responses",
    "gemini": "Gemini",
    "cohere": "Cohere",
    "converse": "Bedrock Converse",
    "invoke": "Bedrock InvokeModel",
}
SCENARIOS = [
    Scenario("small", "100-byte request", bodies.small("bench-anthropic"), 2.5),
    Scenario("large", "77 KB request", bodies.large("bench-anthropic", stream=False), 2.5),
    Scenario("stream", "77 KB, 200 events", PASSED, 1.6),
    Scenario(
        "openai",
        "the same from OpenAI",
        bodies.large("bench-openai_chat", stream=True),
        2.2,
        bare_path="/v1/chat/completions",
        bare_ends="[DONE]",
    ),
    *(
        Scenario(name, title, bodies.large(f"bench-{name}", stream=True), 1.3, beside=PASSED)
        for name, title in TITLES.items()
    ),
]


@dataclass
class Side:
    """The results of one server in one scenario, over all rounds."""

    results: list[Result] = field(default_factory=list)

    @property
    def cpu_ms(self) -> float:
        return 1000 * sum(r.cpu for r in self.results) / max(1, sum(r.requests for r in self.results))

    @property
    def per_second(self) -> float:
        return sum(r.requests for r in self.results) / max(1e-9, sum(r.seconds for r in self.results))

    def percentile(self, share: float) -> float:
        """Milliseconds."""
        latencies = sorted(each for r in self.results for each in r.latencies)
        return latencies[int((len(latencies) - 1) * share)] / 1000 if latencies else 0.0

    def figures(self) -> dict[str, float]:
        return {
            "cpu_ms": round(self.cpu_ms, 4),
            "cpu_ms_rounds": [round(1000 * r.cpu / max(1, r.requests), 4) for r in self.results],  # type: ignore[dict-item]
            "requests_per_second": round(self.per_second, 1),
            "p50_ms": round(self.percentile(0.5), 2),
            "p99_ms": round(self.percentile(0.99), 2),
        }


@dataclass
class Server:
    name: str
    port: int
    pid: int
    headers: dict[str, str]

    def load(self, scenario: Scenario, seconds: float) -> Load:
        bare = self.name == "bare"
        path = scenario.bare_path if bare else "/v1/messages"
        needle = '"content":"l' if path.endswith("completions") else '"text":"l'
        ends = (scenario.bare_ends if bare else "") or ("message_stop" if scenario.streamed else "}")
        return Load(
            port=self.port,
            path=path,
            headers=self.headers,
            body=json.dumps(scenario.body, separators=(",", ":")),
            needle=needle,
            count=streams.EVENTS if scenario.streamed else 1,
            ends=ends,
            pid=self.pid,
            connections=CONNECTIONS,
            seconds=seconds,
        )


def served(way: Way, upstream_url: str) -> str:
    """The provider and the model of a format, for the configuration."""
    url = upstream_url + way.base
    return SERVED.format(name=way.stream, kind=way.kind, url=url, actual=way.actual_model, more=way.config)


@contextmanager
def running(
    module: str, *arguments: str, environment: Mapping[str, str] | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    command = [sys.executable, "-m", module, *arguments]
    process = spawn(command, output=sys.stderr.fileno(), cwd=PROJECT, environment=environment)
    try:
        _await_port(int(arguments[0]))
        yield process
    finally:
        process.terminate()
        process.wait(20)


def _await_port(port: int) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def measure(server: Server, scenario: Scenario, seconds: float) -> Result:
    """One run of the load generator, in a process of its own. Raises SystemExit when an answer was wrong."""
    load = server.load(scenario, seconds)
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.load"],
        input=msgspec.json.encode(load),
        stdout=subprocess.PIPE,
        cwd=PROJECT,
        timeout=seconds + 60,
        check=True,
    )
    result = msgspec.json.decode(done.stdout, type=Result)
    if result.failures:
        sys.exit(f"{server.name}, {scenario.name}: {len(result.failures)} wrong answers, first: {result.failures[0]}")
    return result


def compare(scenario: Scenario, bare: Server, ccm: Server, *, rounds: int, seconds: float) -> tuple[Side, Side]:
    """Both sides in turns, so that the machine's other work falls on both."""
    other, own = Side(), Side()
    yardstick = (bare, scenario) if scenario.beside is None else (ccm, replace(scenario, body=scenario.beside))
    for number in range(rounds):
        turns = [(other, yardstick), (own, (ccm, scenario))]
        for side, (server, asked) in turns if number % 2 == 0 else reversed(turns):
            side.results.append(measure(server, asked, seconds))
    return other, own


def memory_of(bare: int, ccm: int) -> dict[str, float]:
    """MiB, once the process has given back what it had no more use for; and the most that it had."""
    time.sleep(TRIM_SECONDS + 1)
    return {"ccm": memory_mib(ccm), "ccm_peak": peak_mib(ccm), "bare": memory_mib(bare)}


def check_ledger(ccm: Ccm, sent: int) -> list[str]:
    """What is wrong with the books after `sent` requests: nothing may be missing, doubled or unbalanced."""
    wrong = []
    reconciled = ccm.run("reconcile")
    if reconciled.returncode:
        wrong.append(f"reconcile failed:\n{reconciled.stdout}{reconciled.stderr}")
    recorded = int(ccm.python("from credits.models import UsageRecord; print(UsageRecord.objects.count())"))
    if recorded != sent:
        wrong.append(f"{sent} requests were answered, {recorded} usage records were written")
    return wrong


def table(rows: Sequence[dict[str, Any]], yardstick: str) -> str:
    head = f"{'':24}{'CPU ms/request':>22}{'':7}{'':8}{'requests/s':>16}{'p50 ms':>16}{'p99 ms':>16}"
    lines = [head, f"{'':24}{yardstick:>11}{'ccm':>11}{'ratio':>7}{'budget':>8}" + f"{yardstick:>8}{'ccm':>8}" * 3]
    for row in rows:
        bare, ccm = row["bare"], row["ccm"]
        line = f"{row['title']:24}{bare['cpu_ms']:11.3f}{ccm['cpu_ms']:11.3f}{row['ratio']:7.2f}{row['budget']:8.1f}"
        for name in ("requests_per_second", "p50_ms", "p99_ms"):
            digits = 0 if name == "requests_per_second" else 1
            line += f"{bare[name]:8.{digits}f}{ccm[name]:8.{digits}f}"
        lines.append(line + ("" if row["ratio"] <= row["budget"] else "  over"))
    return "\n".join(lines)


def tables(rows: Sequence[dict[str, Any]]) -> str:
    """What is compared with the bare proxy, and what CCM translates with what it passes through."""
    parts = [(name, [row for row in rows if row["beside"] == beside]) for name, beside in YARDSTICKS.items()]
    return "\n\n".join(table(part, name) for name, part in parts if part)


def ratio(bare: Side, ccm: Side) -> float:
    """The median over the rounds: one disturbed round must not decide."""
    pairs = zip(bare.results, ccm.results, strict=True)
    ratios = [(c.cpu / max(1, c.requests)) / max(1e-9, b.cpu / max(1, b.requests)) for b, c in pairs]
    return round(statistics.median(ratios), 3)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    names = [scenario.name for scenario in SCENARIOS]
    parser.add_argument("--scenario", action="append", choices=names, help="only this one (may be given twice)")
    parser.add_argument("--seconds", type=float, default=1.0, help="measured time of one run (default 1)")
    parser.add_argument("--rounds", type=int, default=8, help="runs of each server and scenario, in turns (default 8)")
    parser.add_argument("--burst", type=int, default=4, help="events that the provider sends at a time (default 4)")
    parser.add_argument("--json", type=Path, default=PROJECT / "benchmarks" / ".build" / "result.json")
    parser.add_argument("--strict", action="store_true", help="exit 1 when a budget is exceeded")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--writer-only", action="store_true", help="only the ledger's writer, on both databases")
    only.add_argument("--no-writer", action="store_true", help="leave the ledger's writer out")
    return parser.parse_args()


def run(chosen: Sequence[Scenario], *, rounds: int, seconds: float, burst: int) -> dict[str, Any]:
    """The whole comparison: figures of each scenario, the memory, and what is wrong with the books."""
    web_python = shlex.split(os.environ.get(PYTHON_VARIABLE, sys.executable))
    upstream_port, bare_port = str(free_port()), str(free_port())
    upstream_url = f"http://127.0.0.1:{upstream_port}"
    with (
        running("benchmarks.upstream", upstream_port, str(burst)),
        running("benchmarks.bare_proxy", bare_port, upstream_url) as bare_process,
        Ccm(python=web_python, settings={"LOG_LEVEL": "WARNING"}) as ccm,
    ):
        ccm.import_config(CONFIG + "".join(served(way, upstream_url) for way in WAYS))
        key = ccm.create_key(usd="1000000")
        ccm.start()
        assert ccm.web is not None
        headers = {"content-type": "application/json", "anthropic-version": "2023-06-01", "x-api-key": key}
        bare_server = Server("bare", int(bare_port), bare_process.pid, headers)
        ccm_server = Server("ccm", ccm.port, ccm.web.pid, headers)
        rows, sent = [], 0
        memory: dict[str, float] = {}
        for scenario in chosen:
            if scenario.beside is not None and not memory:
                # Before Bedrock's scenarios: only its users pay for its client library (botocore).
                memory = memory_of(bare_process.pid, ccm.web.pid)
            print(f"{scenario.title} ...", file=sys.stderr, flush=True)
            bare, own = compare(scenario, bare_server, ccm_server, rounds=rounds, seconds=seconds)
            sent += sum(result.sent for result in own.results)
            sent += sum(result.sent for result in bare.results) if scenario.beside is not None else 0
            figures = {"bare": bare.figures(), "ccm": own.figures(), "ratio": ratio(bare, own)}
            named = {"name": scenario.name, "title": scenario.title, "budget": scenario.budget}
            rows.append({**named, "beside": "bare" if scenario.beside is None else "ccm", **figures})
        at_the_end = memory_of(bare_process.pid, ccm.web.pid)
        ccm.stop()
        return {
            "scenarios": rows,
            "memory_mib": memory or at_the_end,
            "memory_at_the_end_mib": at_the_end,
            "counting": counting.measured(),
            "requests": sent,
            "wrong": check_ledger(ccm, sent),
        }


def main() -> int:
    asked = options()
    status = 0 if asked.writer_only else compare_with_bare(asked)
    # A run of one scenario is for that scenario.
    if asked.writer_only or not (asked.no_writer or asked.scenario):
        figures = writer.measured(writer.DATABASES, asked.seconds)
        file = asked.json.with_name("writer.json")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(msgspec.json.format(msgspec.json.encode(figures)) + b"\n")
        print(f"\n{writer.table(figures)}\nwritten to {file}")
    return status


def compare_with_bare(asked: argparse.Namespace) -> int:
    """Run, print and store the comparison; the exit status."""
    chosen = [s for s in SCENARIOS if not asked.scenario or s.name in asked.scenario]
    report = run(chosen, rounds=asked.rounds, seconds=asked.seconds, burst=asked.burst)
    asked.json.parent.mkdir(parents=True, exist_ok=True)
    asked.json.write_text(json.dumps(report, indent=2) + "\n")
    memory = report["memory_mib"]
    print(tables(report["scenarios"]))
    print(
        f"\nmemory of the web process: {memory['ccm']:.0f} MiB of {MEMORY_BUDGET_MIB} (bare: {memory['bare']:.0f}), "
        f"{memory['ccm_peak']:.0f} at its peak; "
        f"at the end {report['memory_at_the_end_mib']['ccm']:.0f}"
    )
    counted = report["counting"]
    print(counting.line(counted))
    print(f"books after {report['requests']} requests: {'; '.join(report['wrong']) or 'in order'}")
    print(f"written to {asked.json}")
    over = [s["name"] for s in report["scenarios"] if s["ratio"] > s["budget"]]
    if memory["ccm"] > MEMORY_BUDGET_MIB:
        over.append("memory")
    if counted["cold_ms"] > counting.BUDGET_MS:
        over.append("counting")
    return 1 if report["wrong"] or (asked.strict and over) else 0


if __name__ == "__main__":
    sys.exit(main())
