"""What each wire costs by itself: in this process, without sockets, ledger or routing.

`python -m benchmarks.wires [WIRE ...]` prints microseconds of CPU to write the 77 KB request in the
provider's format and to read its 200-event stream, four events at a time: the least of many runs, which other
work on the machine cannot raise. For figures that nothing can move, count instructions of one wire, with and
without its runs, and subtract:

    valgrind --tool=callgrind --callgrind-out-file=/dev/null python -m benchmarks.wires --read --runs 200 cohere
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from benchmarks import bodies
from benchmarks.streams import STREAMS, pieces
from providers.types import Model, Price, Target, Timeouts
from providers.wire.registry import WIRES
from providers.wire.request import MessagesRequest

BURST = 4
FREE = Price(input=0, output=0, cache_read=0, cache_write=0, cache_write_1h=0)


@dataclass(frozen=True)
class Way:
    """How one of the streams is reached: `base` is what a provider's base URL has after the host."""

    stream: str
    wire: str
    kind: str
    base: str = ""
    actual_model: str = "m"
    config: str = ""
    """More of the provider's row."""


WAYS = (
    Way("anthropic", "anthropic", "anthropic-compatible"),
    Way("openai_chat", "openai_chat", "openai-compatible", "/v1"),
    Way("openai_responses", "openai_responses", "openai", "/v1", config='wire = "openai_responses"'),
    Way("gemini", "gemini", "gemini", "/v1beta"),
    Way("cohere", "cohere", "cohere"),
    Way("converse", "bedrock", "bedrock", actual_model="us.amazon.nova-pro-v1:0"),
    Way("invoke", "bedrock", "bedrock", actual_model="us.anthropic.claude-sonnet-4-6-v1:0"),
)


class Bench:
    """One way's two halves."""

    def __init__(self, way: Way) -> None:
        self.wire = WIRES[way.wire]
        self.target = Target(
            1, 1, "bench", way.kind, way.wire, f"http://localhost{way.base}", way.actual_model, 1, 1, FREE, Timeouts()
        )
        self.model = Model(1, "bench", "bench", "", 1_000_000, 32_000, True, True, True, FREE, (self.target,))
        self.body = msgspec.json.encode(bodies.large("bench", stream=True))
        self.request = MessagesRequest.parse(self.body)
        self.stream = list(pieces(STREAMS[way.stream].events, BURST))

    def write(self) -> None:
        self.wire.encode(self.request, target=self.target, model=self.model, max_tokens=32_000, client_headers={})

    def read(self) -> None:
        decoder = self.wire.stream_decoder(request=self.request, target=self.target, model=self.model)
        for piece in self.stream:
            decoder.feed(piece)
        decoder.close()
        if not decoder.finished:
            sys.exit(f"{self.target.wire}: {decoder.failure}")


def least(work: Callable[[], None], runs: int) -> float:
    """Microseconds of this thread's CPU."""
    times = []
    for _ in range(runs):
        began = time.thread_time_ns()
        work()
        times.append(time.thread_time_ns() - began)
    return min(times, default=0) / 1000


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.wires", description=__doc__)
    parser.add_argument("wires", nargs="*", metavar="WIRE", help=", ".join(way.stream for way in WAYS))
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--read", action="store_true", help="only read streams")
    asked = parser.parse_args()
    for way in WAYS:
        if asked.wires and way.stream not in asked.wires:
            continue
        bench = Bench(way)
        write = 0.0 if asked.read else least(bench.write, asked.runs)
        read = least(bench.read, asked.runs)
        print(f"{way.stream:18} write {write:8.1f} us   read {read:8.1f} us   both {write + read:8.1f} us", flush=True)


if __name__ == "__main__":
    main()
