"""How fast each target has lately been: for the policies `latency` and `throughput`. Pure."""

from dataclasses import dataclass

WEIGHT = 0.2
"""Of the newest answer in the moving average."""
HALF_LIFE_SECONDS = 300.0
"""A figure that nobody renews fades, so that a target which was slow once is tried again."""
STEP = 1.25
"""Targets within one such factor of each other count as equally fast, and share by weight."""
LEAST_TOKENS = 50
"""Shorter answers say nothing about the speed of writing."""


@dataclass(slots=True)
class _Speed:
    first_content: float = 0.0
    per_token: float = 0.0
    first_at: float = 0.0
    written_at: float = 0.0


class Speeds:
    """`now` is any clock that only goes forward, in seconds; the same one for all calls."""

    def __init__(self) -> None:
        self._speeds: dict[int, _Speed] = {}

    def began(self, mapping_id: int, seconds: float, now: float) -> None:
        """The first content came after so many seconds."""
        speed = self._speeds.setdefault(mapping_id, _Speed())
        speed.first_content = _average(speed.first_content, seconds)
        speed.first_at = now

    def wrote(self, mapping_id: int, tokens: int, seconds: float, now: float) -> None:
        """It wrote `tokens` in so many seconds after its first content."""
        if tokens < LEAST_TOKENS or seconds <= 0:
            return
        speed = self._speeds.setdefault(mapping_id, _Speed())
        speed.per_token = _average(speed.per_token, seconds / tokens)
        speed.written_at = now

    def latency(self, mapping_id: int, now: float) -> float:
        """Seconds until the first content; 0 for a target that nobody has measured: it gets its chance."""
        speed = self._speeds.get(mapping_id)
        return 0.0 if speed is None else _faded(speed.first_content, now - speed.first_at)

    def seconds_per_token(self, mapping_id: int, now: float) -> float:
        speed = self._speeds.get(mapping_id)
        return 0.0 if speed is None else _faded(speed.per_token, now - speed.written_at)


def _average(known: float, newest: float) -> float:
    return newest if known <= 0 else known + WEIGHT * (newest - known)


def _faded(figure: float, age: float) -> float:
    return figure * float(0.5 ** (age / HALF_LIFE_SECONDS))
