"""A proposal as operators read it: old, new and the difference in percent, class by class. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

from providers.models import PriceProposal
from providers.prices import CLASSES, at, read, usd
from providers.types import Price


@dataclass(frozen=True, slots=True)
class Difference:
    """Nanos; `old` is None when it was unknown. `above` is the tier's bound, 0 without one."""

    name: str
    above: int
    old: int | None
    new: int

    @property
    def is_one(self) -> bool:
        return self.old != self.new

    @property
    def percent(self) -> str:
        """Signed, to a tenth; "" where nothing was known or free before."""
        if not self.old or not self.is_one:
            return ""
        tenths = abs((abs(self.new - self.old) * 2000 + self.old) // (2 * self.old))
        return f"{'+' if self.new > self.old else '−'}{tenths // 10}.{tenths % 10} %"

    def __str__(self) -> str:
        where = f" above {self.above}" if self.above else ""
        old = "unknown" if self.old is None else usd(self.old)
        return f"{self.name}{where} {old} → {usd(self.new)}" + (f" ({self.percent})" if self.percent else "")


def differences(proposal: PriceProposal) -> list[Difference]:
    """What changes, in the order of the classes, tiers after the base."""
    return [row for row in every_class(proposal) if row.is_one]


def every_class(proposal: PriceProposal) -> Iterator[Difference]:
    """Web searches are told as 1000 of them."""
    old = None if proposal.old is None else read(proposal.old)
    new = read(proposal.new)
    for above in (0, *sorted({tier.above for price in (old, new) if price for tier in price.tiers})):
        for name in CLASSES:
            yield Difference(name, above, None if old is None else _rate(old, above, name), _rate(new, above, name))
    yield Difference("web_search", 0, None if old is None else old.web_search * 1000, new.web_search * 1000)


def _rate(price: Price, above: int, name: str) -> int:
    rate: int = getattr(at(price, above + 1), name)
    return rate
