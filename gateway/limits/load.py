"""What a process that has too much to do refuses first: the tenant with most requests under way.

A tenant's share is the bound divided by the tenants that are being served. As long as there is room
nobody is held to it; once there is none, whoever has reached it is refused, and the others go on.
"""

from collections.abc import Callable

from gateway.errors import GatewayError

RETRY_SECONDS = 3


class Load:
    """`most_active`: requests under way in this process. `most_waiting`: operations that wait for the
    ledger's writer (`depth`). At twice the first, everybody is refused."""

    def __init__(self, *, most_active: int, most_waiting: int, depth: Callable[[], int]) -> None:
        self._most_active = most_active
        self._most_waiting = most_waiting
        self._depth = depth
        self._of_tenant: dict[int, int] = {}
        self.active = 0

    def serving(self, organization_id: int) -> "Serving":
        """Counts a request of the tenant as under way, from entering the context to leaving it."""
        return Serving(self, organization_id)

    def enter(self, organization_id: int) -> None:
        self.active += 1
        self._of_tenant[organization_id] = self._of_tenant.get(organization_id, 0) + 1

    def leave(self, organization_id: int) -> None:
        self.active -= 1
        left = self._of_tenant[organization_id] - 1
        if left:
            self._of_tenant[organization_id] = left
        else:
            del self._of_tenant[organization_id]

    def check(self, organization_id: int) -> None:
        """Whether a request that is `serving` may go on. Raises GatewayError (529)."""
        others = self.active - 1
        if others < self._most_active and self._depth() < self._most_waiting:
            return
        own = self._of_tenant[organization_id] - 1
        share = min(others, self._most_active) // len(self._of_tenant)
        if own < max(1, share) and others < 2 * self._most_active:
            return
        raise GatewayError(
            529,
            "overloaded_error",
            "CCM is overloaded at the moment; nothing was charged. Please try again.",
            retry_after=RETRY_SECONDS,
            code="overloaded",
        )


class Serving:
    __slots__ = ("_load", "_organization_id")

    def __init__(self, load: Load, organization_id: int) -> None:
        self._load = load
        self._organization_id = organization_id

    def __enter__(self) -> None:
        self._load.enter(self._organization_id)

    def __exit__(self, *_: object) -> None:
        self._load.leave(self._organization_id)
