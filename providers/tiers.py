"""The tiers of a price as rows store them, and as operators write them. Pure.

Stored: a list of objects, by rising `above`: `{"above": 200000, "input": "6", "output": "22.5"}`,
amounts as text in USD per million tokens. Written, in the admin: a line for each,
`200000: input 6, output 22.5`.
"""

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from providers.prices import CLASSES, plain

MOST_TIERS = 8
MOST_TOKENS = 10**9
PLACES = 9
LARGEST = Decimal(10**5)
"""USD per million tokens; what the columns of the prices hold too."""

LINE = re.compile(r"(?:above\s+)?([\d_,.]+)\s*:\s*(.+)", re.IGNORECASE)
PART = re.compile(r"([a-z_0-9]+)[\s=]+\$?([\d.]+)", re.IGNORECASE)

Tiers = list[dict[str, Any]]


def stored(rows: Sequence[Mapping[str, Any]]) -> Tiers:
    """`rows` in the one form in which they are stored. Amounts may be Decimals, numbers as text, or
    None for none. Raises ValueError, in words for whoever entered them."""
    if not isinstance(rows, list | tuple):
        raise ValueError("Tiers are a list.")
    if len(rows) > MOST_TIERS:
        raise ValueError(f"A price has at most {MOST_TIERS} tiers.")
    tiers = [_stored_row(row) for row in rows]
    bounds = [tier["above"] for tier in tiers]
    if bounds != sorted(set(bounds)):
        raise ValueError("Tiers rise by their tokens, each with a number of its own.")
    return tiers


def _stored_row(row: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(row, Mapping):
        raise ValueError("A tier says above how many input tokens it holds, and its prices.")
    unknown = sorted(set(row) - {"above", *CLASSES})
    if unknown:
        raise ValueError(f"A tier has no {unknown[0]!r}; it has {', '.join(CLASSES)}.")
    above = row.get("above")
    if not isinstance(above, int) or isinstance(above, bool) or not 1 <= above <= MOST_TOKENS:
        raise ValueError(f"A tier begins above a whole number of input tokens, from 1 to {MOST_TOKENS}.")
    tier: dict[str, Any] = {"above": above}
    for rate in CLASSES:
        if row.get(rate) is not None:
            tier[rate] = plain(_amount(row[rate], f"The tier above {above}: {rate}"))
    for rate in ("input", "output"):
        if rate not in tier:
            raise ValueError(f"The tier above {above} needs a price for {rate}.")
    return tier


def _amount(value: Any, what: str) -> Decimal:
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        amount = Decimal("NaN")
    if isinstance(value, bool) or not amount.is_finite() or not 0 <= amount < LARGEST:
        raise ValueError(f"{what} must be a number from 0 to below {LARGEST}, not {value!r}.")
    if amount.scaleb(PLACES) != int(amount.scaleb(PLACES)):
        raise ValueError(f"{what} has more than {PLACES} decimals.")
    return amount


def lines(tiers: Sequence[Mapping[str, Any]]) -> str:
    """As an operator writes them."""
    return "\n".join(
        f"{tier['above']}: {', '.join(f'{rate} {tier[rate]}' for rate in CLASSES if rate in tier)}" for tier in tiers
    )


def from_lines(text: str) -> Tiers:
    """What an operator wrote, as stored. Raises ValueError, naming the line."""
    rows = []
    for line in filter(None, map(str.strip, text.splitlines())):
        match = LINE.fullmatch(line)
        tokens = re.sub(r"[_,]", "", match[1]) if match else ""
        if match is None or not tokens.isdecimal():
            raise ValueError(f"{line!r} is not a tier. Write one a line: 200000: input 6, output 22.5")
        row: dict[str, Any] = {"above": int(tokens)}
        for part in filter(None, map(str.strip, match[2].split(","))):
            found = PART.fullmatch(part)
            if found is None or found[1].lower() in row:
                raise ValueError(f"{part!r} in {line!r} is not a price. Write the class and USD per million: input 6")
            row[found[1].lower()] = found[2]
        rows.append(row)
    return stored(rows)
