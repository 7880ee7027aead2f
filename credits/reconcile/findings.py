"""What a check is and what it finds. Each check is one function, registered in the order of the report:

@check("R3", "held is the sum of unfinished holds")
def held(reading: Reading) -> Outcome: ...
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from credits.money import format_usd

if TYPE_CHECKING:
    from credits.reconcile.reading import Reading

EXAMPLES = 5


class Severity(StrEnum):
    ERROR = "error"
    """The books are wrong, or will be: the run fails."""

    WARNING = "warning"
    """Somebody should look: the run does not fail."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """`detail` is for a person; `count` is how many rows are concerned and `difference` by how many
    nanos they are off together, each row's difference taken as positive."""

    ok: bool
    detail: str
    count: int = 0
    difference: int = 0


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check in one run, as it is stored; `milliseconds` is what it took."""

    check: str
    ok: bool
    detail: str
    severity: str = Severity.ERROR
    count: int = 0
    difference: int = 0
    milliseconds: int = 0

    @property
    def failed(self) -> bool:
        return not self.ok and self.severity != Severity.WARNING

    def __str__(self) -> str:
        word = "ok" if self.ok else "FAIL" if self.failed else "warn"
        return f"{word} {self.check} {self.detail}"


@dataclass(frozen=True, slots=True)
class Check:
    """`holds` says in words what is true when the check is ok."""

    name: str
    holds: str
    severity: Severity
    function: "Callable[[Reading], Outcome]"

    def run(self, reading: "Reading") -> Finding:
        began = time.monotonic()
        outcome = self.function(reading)
        milliseconds = int((time.monotonic() - began) * 1000)
        detail = outcome.detail or self.holds
        return Finding(
            self.name, outcome.ok, detail, self.severity.value, outcome.count, outcome.difference, milliseconds
        )


CHECKS: list[Check] = []


def check(
    name: str, holds: str, severity: Severity = Severity.ERROR
) -> "Callable[[Callable[[Reading], Outcome]], Callable[[Reading], Outcome]]":
    """Register the function as the check `name`, after those that are registered already."""

    def register(function: "Callable[[Reading], Outcome]") -> "Callable[[Reading], Outcome]":
        CHECKS.append(Check(name, holds, severity, function))
        return function

    return register


def differing(rows: Sequence[tuple[Any, ...]]) -> Outcome:
    """`rows` end with what is stored and what it should be, in nanos."""
    if not rows:
        return Outcome(True, "")
    off = sum(int(row[-2]) - int(row[-1]) for row in rows)
    examples = "; ".join(
        f"{' '.join(map(str, row[:-2]))}: {format_usd(int(row[-2]))} instead of {format_usd(int(row[-1]))}"
        for row in rows[:EXAMPLES]
    )
    detail = f"{len(rows)} differ, by {format_usd(off)} together: {examples}"
    return Outcome(False, detail, len(rows), sum(abs(int(row[-2]) - int(row[-1])) for row in rows))
