"""CPU time of counting a 77 KB request's tokens in this process: cold (no text of it was counted before), and
warm. Run alone: `python -m benchmarks.counting`."""

import statistics
import time

import msgspec

from benchmarks import bodies
from providers import tokens
from providers.wire.request import MessagesRequest

BUDGET_MS = 15.0
ROUNDS = 9


def measured() -> dict[str, float]:
    """Milliseconds of CPU (medians), and the size of what was counted in bytes."""
    body = msgspec.json.encode(bodies.large("m", stream=True))
    request = MessagesRequest.parse(body)
    tokens.encoding()
    cold = []
    for _ in range(ROUNDS):
        tokens.forget()
        cold.append(_cpu_ms(request))
    return {
        "bytes": len(body),
        "cold_ms": statistics.median(cold),
        "warm_ms": statistics.median(_cpu_ms(request) for _ in range(ROUNDS)),
    }


def _cpu_ms(request: MessagesRequest) -> float:
    began = time.process_time()
    tokens.count(request)
    return 1000 * (time.process_time() - began)


def line(figures: dict[str, float]) -> str:
    return (
        f"counting the tokens of {figures['bytes'] / 1000:.0f} KB: {figures['cold_ms']:.1f} ms CPU of {BUDGET_MS:.0f}, "
        f"{figures['warm_ms']:.1f} ms again"
    )


if __name__ == "__main__":
    print(line(measured()))
