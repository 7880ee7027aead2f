"""Where a Claude Code session stays, so that prompt caches and thinking signatures survive.

Usually nothing is kept: every process finds the same home for a session by rendezvous hashing
(`gateway.plan`). Only a session that was served elsewhere than at its home (its home was ill, or the
policy goes by measured speed) is remembered, and stays there for STAY_SECONDS instead of going to
and fro with each change. Such stays are told to the other processes.
"""

from dataclasses import dataclass

STAY_SECONDS = 600.0
MOST_STAYS = 20_000

Conversation = tuple[str, int]
"""A session's id and a model's."""


@dataclass(frozen=True, slots=True)
class Stay:
    """`until` is on the clock of `Stays`."""

    mapping_id: int
    credential_id: int | None
    until: float


class Stays:
    def __init__(self) -> None:
        self._stays: dict[Conversation, Stay] = {}

    def __len__(self) -> int:
        return len(self._stays)

    def of(self, session_id: str, model_id: int, now: float) -> Stay | None:
        if not self._stays or not session_id:
            return None
        stay = self._stays.get((session_id, model_id))
        return stay if stay is not None and stay.until > now else None

    def put(self, conversation: Conversation, stay: Stay) -> None:
        """The oldest stays are forgotten when there are too many."""
        self._stays.pop(conversation, None)
        self._stays[conversation] = stay
        if len(self._stays) > MOST_STAYS:
            del self._stays[next(iter(self._stays))]

    def drop_expired(self, now: float) -> None:
        for conversation in [each for each, stay in self._stays.items() if stay.until <= now]:
            del self._stays[conversation]
