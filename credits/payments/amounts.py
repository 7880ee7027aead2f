"""What a top-up costs and how a payment is divided. Pure; nanos inside, cents where Stripe is spoken to."""

from dataclasses import dataclass

from credits.errors import InvalidAmount
from credits.money import NANOS_PER_USD, ceil_div, format_usd
from credits.types import Nanos

NANOS_PER_CENT = NANOS_PER_USD // 100


@dataclass(frozen=True, slots=True)
class Terms:
    """What may be bought and what it costs on top: `fee_basis_points` of the credits, at least `fee_minimum`
    nanos, in whole cents; nothing when both are zero."""

    minimum: int
    maximum: int
    fee_basis_points: int
    fee_minimum: int


@dataclass(frozen=True, slots=True)
class Parts:
    """A payment, or a part of one, in nanos: what became credits, what the fee, what the tax."""

    credit: int
    fee: int
    tax: int

    @property
    def total(self) -> int:
        return self.credit + self.fee + self.tax


def fee_of(amount: int, terms: Terms) -> Nanos:
    """The fee in nanos for `amount` nanos of credits, rounded up to a cent."""
    share = ceil_div(amount * terms.fee_basis_points, 10_000)
    return Nanos(ceil_div(max(share, terms.fee_minimum), NANOS_PER_CENT) * NANOS_PER_CENT)


def check_amount(amount: int, terms: Terms) -> None:
    """Raises InvalidAmount with a sentence for the customer."""
    if amount % NANOS_PER_CENT:
        raise InvalidAmount("Enter an amount in dollars and whole cents, such as 25 or 12.50.")
    if not terms.minimum <= amount <= terms.maximum:
        raise InvalidAmount(f"Enter an amount between {format_usd(terms.minimum)} and {format_usd(terms.maximum)}.")


def to_cents(nanos: int) -> int:
    """Exactly. Raises InvalidAmount for a part of a cent."""
    cents, rest = divmod(nanos, NANOS_PER_CENT)
    if rest:
        raise InvalidAmount(f"{format_usd(nanos)} is no whole number of cents.")
    return cents


def from_cents(cents: int) -> Nanos:
    return Nanos(cents * NANOS_PER_CENT)


def share(paid: Parts, gross: int) -> Parts:
    """The parts of `gross` nanos of a payment that go back: credits and tax in proportion, rounded down to a nano,
    the fee the rest. Of several refunds each is reckoned for itself, so their order is of no matter."""
    credit = gross * paid.credit // paid.total
    tax = gross * paid.tax // paid.total
    return Parts(credit=credit, fee=gross - credit - tax, tax=tax)
