"""The credentials of a provider: which may be used now. A state machine without a clock of its own.

A credential cools down when the provider limits or refuses it: for one target, or, where the key
itself is refused, wherever it is used. Its operator may also have set limits of its own, which are
kept before the provider has to.
"""

from collections import deque
from dataclasses import dataclass

from providers.types import CredentialSecret

LIMITED_SECONDS = 1.0
LONGEST_LIMITED_SECONDS = 60.0
"""A limit for which the provider names no end: doubled each time."""
REFUSED_SECONDS = 60.0
LONGEST_REFUSED_SECONDS = 900.0
LONGEST_SECONDS = 3600.0
"""However long the provider asks to wait: it may have changed its mind, or an operator may have paid."""
MINUTE = 60.0
EVERYWHERE = 0
"""Stands for all targets, where else a mapping's id stands."""

Place = tuple[int, int]
"""A credential's id and a mapping's, or EVERYWHERE."""


@dataclass(frozen=True, slots=True)
class CoolDown:
    """`until` is on the pool's clock. A `refused` credential is used all the same when there is nothing
    else; one that is limited until then is not."""

    until: float
    times: int
    refused: bool
    error: str


class _Use:
    __slots__ = ("began", "under_way")

    def __init__(self) -> None:
        self.under_way = 0
        self.began: deque[float] = deque()


class Pools:
    """`now` is any clock that only goes forward, in seconds; the same one for all calls.

    A credential's own limits are those of the whole installation: this process keeps its share of
    them, one of `processes`."""

    def __init__(self, processes: int = 1) -> None:
        self._processes = processes
        self._cooling: dict[Place, CoolDown] = {}
        self._uses: dict[int, _Use] = {}

    @property
    def cooling(self) -> dict[Place, CoolDown]:
        """What is cooling down, or has not been used with success since."""
        return dict(self._cooling)

    def cool_down(self, credential_id: int, mapping_id: int, now: float) -> CoolDown | None:
        """The longest cool-down that holds for this use of the credential; None when it is free."""
        if not self._cooling:
            return None
        found = [self._cooling.get((credential_id, place)) for place in (mapping_id, EVERYWHERE)]
        return max((each for each in found if each is not None and each.until > now), key=_until, default=None)

    def seconds_until_free(self, credential: CredentialSecret, mapping_id: int, now: float) -> float:
        """0 when it may be used now. Only what has a known end counts, a full house does not."""
        cooling = self.cool_down(credential.id, mapping_id, now)
        wait = 0.0 if cooling is None else cooling.until - now
        limit = credential.requests_per_minute
        if limit is not None:
            began = self._began(credential.id, now)
            share = self._share(limit)
            if len(began) >= share:
                wait = max(wait, began[len(began) - share] + MINUTE - now)
        return wait

    def is_free(self, credential: CredentialSecret, mapping_id: int, now: float) -> bool:
        """Whether it is neither cooling down nor at a limit of its own."""
        if self._cooling and self.cool_down(credential.id, mapping_id, now) is not None:
            return False
        return not credential.is_limited or self._has_room(credential, now)

    def take(self, credential: CredentialSecret, now: float) -> None:
        """A call is made with it: `give_back` when it has ended."""
        if not credential.is_limited:
            return
        use = self._uses.setdefault(credential.id, _Use())
        use.under_way += 1
        if credential.requests_per_minute is not None:
            use.began.append(now)

    def give_back(self, credential: CredentialSecret) -> None:
        if credential.is_limited and (use := self._uses.get(credential.id)) is not None:
            use.under_way = max(0, use.under_way - 1)

    def limited(self, place: Place, now: float, *, asked: float | None, error: str) -> CoolDown:
        """The provider limits it; `asked` is how long it said to wait."""
        times = self._times(place, now)
        own = min(LONGEST_LIMITED_SECONDS, LIMITED_SECONDS * 2.0 ** (times - 1))
        return self._cool(place, now + (own if asked is None else min(asked, LONGEST_SECONDS)), times, False, error)

    def refused(self, place: Place, now: float, *, asked: float | None, error: str) -> CoolDown:
        """The provider refuses it, or the account behind it."""
        times = self._times(place, now)
        own = min(LONGEST_REFUSED_SECONDS, REFUSED_SECONDS * 2.0 ** (times - 1))
        return self._cool(place, now + min(max(own, asked or 0.0), LONGEST_SECONDS), times, True, error)

    def set(self, place: Place, cool_down: CoolDown) -> None:
        """Take over what another process has found out."""
        self._cooling[place] = cool_down

    def worked(self, credential_id: int, mapping_id: int) -> list[Place]:
        """The credential was accepted here: the places where it need not cool down any longer."""
        if not self._cooling:
            return []
        places: list[Place] = [(credential_id, mapping_id), (credential_id, EVERYWHERE)]
        return [place for place in places if self._cooling.pop(place, None) is not None]

    def forget(self, credential_id: int) -> list[Place]:
        """Its secret was changed: nothing is held against the new one."""
        places = [place for place in self._cooling if place[0] == credential_id]
        for place in places:
            del self._cooling[place]
        return places

    def _times(self, place: Place, now: float) -> int:
        """Requests that were under way together count once."""
        known = self._cooling.get(place)
        return 1 if known is None else known.times + (known.until <= now)

    def _cool(self, place: Place, until: float, times: int, refused: bool, error: str) -> CoolDown:
        known = self._cooling.get(place)
        if known is not None and known.refused == refused:
            until = max(until, known.until)
        cool_down = self._cooling[place] = CoolDown(until, times, refused, error)
        return cool_down

    def _has_room(self, credential: CredentialSecret, now: float) -> bool:
        use = self._uses.get(credential.id)
        if use is None:
            return True
        most = credential.concurrency
        if most is not None and use.under_way >= self._share(most):
            return False
        per_minute = credential.requests_per_minute
        return per_minute is None or len(self._began(credential.id, now)) < self._share(per_minute)

    def _began(self, credential_id: int, now: float) -> "deque[float]":
        use = self._uses.setdefault(credential_id, _Use())
        while use.began and use.began[0] + MINUTE <= now:
            use.began.popleft()
        return use.began

    def _share(self, limit: int) -> int:
        return max(1, limit // self._processes)


def _until(cool_down: CoolDown) -> float:
    return cool_down.until
