"""Amounts of money: integer nano-USD (10^9 nanos are one US dollar). Pure; no float, no rounding."""

from decimal import Decimal, InvalidOperation

from credits.errors import InvalidAmount
from credits.types import Nanos

NANOS_PER_USD = 10**9
LARGEST = 2**63 - 1
"""What a BIGINT column holds: about nine billion dollars."""


def ceil_div(dividend: int, divisor: int) -> int:
    """The least whole number that is not below `dividend` / `divisor`."""
    return -(-dividend // divisor)


def usd_to_nanos(amount: str | int | Decimal) -> Nanos:
    """`amount` US dollars ("12.50", an int or a Decimal) as nanos, exactly.

    Raises InvalidAmount for what is no number, has more than nine decimals, or is too large."""
    try:
        dollars = Decimal(amount.strip()) if isinstance(amount, str) else Decimal(amount)
    except InvalidOperation:
        raise InvalidAmount(f"{amount!r} is not an amount in US dollars.") from None
    if not dollars.is_finite() or abs(dollars) > LARGEST // NANOS_PER_USD:
        raise InvalidAmount(f"{amount!r} is not an amount that can be posted.")
    sign, digits, exponent = dollars.as_tuple()
    assert isinstance(exponent, int)
    nanos = int("".join(map(str, digits)))
    shift = exponent + 9
    if shift >= 0:
        nanos *= 10**shift
    else:
        nanos, rest = divmod(nanos, 10**-shift)
        if rest:
            raise InvalidAmount(f"{amount!r} has more than nine decimals.")
    return Nanos(-nanos if sign else nanos)


def format_usd(nanos: int) -> str:
    """`nanos` as exact dollars with at least two decimals: `$1,234.50`, `-$0.000012`."""
    dollars, decimals = _dollars_and_decimals(nanos)
    return f"{'-' if nanos < 0 else ''}${dollars:,}.{decimals}"


def nanos_to_usd(nanos: int) -> str:
    """`nanos` as `usd_to_nanos` reads them: `1234.50`, `-0.000012`."""
    dollars, decimals = _dollars_and_decimals(nanos)
    return f"{'-' if nanos < 0 else ''}{dollars}.{decimals}"


def _dollars_and_decimals(nanos: int) -> tuple[int, str]:
    dollars, rest = divmod(abs(nanos), NANOS_PER_USD)
    return dollars, f"{rest:09d}".rstrip("0").ljust(2, "0")
