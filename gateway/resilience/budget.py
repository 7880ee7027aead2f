"""The retry budget of one provider, so that its brown-out does not multiply the load on it. Pure.

A token bucket: each request to the provider puts in SHARE of a token, each repetition takes one
out. A small floor comes by itself, so that a quiet provider can be asked twice as well.
"""

SHARE = 0.2
MOST_TOKENS = 100.0
FLOOR_TOKENS = 10.0
FLOOR_PER_SECOND = 1.0


class RetryBudget:
    __slots__ = ("_at", "tokens")

    def __init__(self, now: float) -> None:
        self.tokens = FLOOR_TOKENS
        self._at = now

    def note_request(self) -> None:
        if self.tokens < MOST_TOKENS:
            self.tokens += SHARE

    def take(self, now: float) -> bool:
        """Whether one more repetition is allowed; it is then paid for."""
        if self.tokens < FLOOR_TOKENS:
            self.tokens = min(FLOOR_TOKENS, self.tokens + (now - self._at) * FLOOR_PER_SECOND)
        self._at = now
        if self.tokens < 1.0:
            return False
        self.tokens -= 1.0
        return True
