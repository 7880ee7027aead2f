"""Limits within this process, for as long as Valkey is away: then each process has its own."""

from collections import OrderedDict
from collections.abc import Mapping

from gateway.limits.buckets import Level, full_again, level
from gateway.limits.lease import Lease, Outcome
from gateway.limits.rules import Dimension, Rules

MOST_BUCKETS = 20_000


class LocalLimits:
    """`running` counts this process's requests, whoever admitted them."""

    def __init__(self) -> None:
        self._full_at: OrderedDict[str, float] = OrderedDict()
        self.running: dict[str, set[str]] = {}

    def admit(self, rules: Rules, costs: Mapping[Dimension, int], now: float) -> Outcome:
        levels = [level(b, self._full_at.get(b.key, 0.0), now, costs[b.dimension]) for b in rules.buckets]
        running = tuple(len(self.running.get(slots.key, ())) for slots in rules.slots)
        granted = all(each.wait == 0 for each in levels) and all(
            number < slots.limit for slots, number in zip(rules.slots, running, strict=True)
        )
        if granted:
            for place, bucket in enumerate(rules.buckets):
                cost = costs[bucket.dimension]
                at = self._take(bucket.key, full_again(bucket, self._full_at.get(bucket.key, 0.0), now, cost))
                levels[place] = Level(levels[place].left - cost, at - now, 0.0)
        return Outcome(granted, now, tuple(levels), running)

    def finish(self, lease: Lease, now: float) -> None:
        for bucket in lease.rules.buckets:
            if owed := lease.owed(bucket):
                self._take(bucket.key, full_again(bucket, self._full_at.get(bucket.key, 0.0), now, owed))

    def hold(self, lease: Lease) -> None:
        for slots in lease.rules.slots:
            self.running.setdefault(slots.key, set()).add(lease.id)

    def let_go(self, lease: Lease) -> None:
        for slots in lease.rules.slots:
            held = self.running.get(slots.key)
            if held is not None:
                held.discard(lease.id)
                if not held:
                    del self.running[slots.key]

    def _take(self, key: str, full_at: float) -> float:
        self._full_at[key] = full_at
        self._full_at.move_to_end(key)
        if len(self._full_at) > MOST_BUCKETS:
            self._full_at.popitem(last=False)
        return full_at
