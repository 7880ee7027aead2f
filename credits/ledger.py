"""Every posting of the ledger, and the only code that writes transfers and lot consumption.

A posting moves one amount from a debit to a credit account; its idempotency key makes sure that
it happens once. Callers hold the lock of the wallet concerned, inside a transaction.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from credits.database import Cursor
from credits.errors import LedgerDrift
from credits.models import AccountKind, LotKind, TransferCode


class TenantAccounts(NamedTuple):
    """Ids of an organisation's two ledger accounts."""

    wallet: int
    receivable: int


class Posting(NamedTuple):
    """One transfer, in the order of its columns; `amount` in nanos."""

    debit: int
    credit: int
    amount: int
    code: str
    key: str
    group: str
    hold: str | None = None
    reason: str = ""
    created_by: int | None = None


class Consumption(NamedTuple):
    """`amount` nanos that the transfer `key` took out of a lot."""

    key: str
    lot: int
    amount: int


@dataclass(slots=True)
class Lot:
    """An open lot of a wallet, in the order in which lots are used up."""

    id: int
    remaining: int


def capture(request_id: str, accounts: TenantAccounts, revenue: int, *, paid: int, overage: int) -> list[Posting]:
    """A request's charge: what the wallet could pay, and what became debt."""
    group = f"hold:{request_id}"
    postings = []
    if paid:
        key = capture_key(request_id)
        postings.append(Posting(accounts.wallet, revenue, paid, TransferCode.CAPTURE, key, group, request_id))
    if overage:
        key = f"{group}:overage"
        postings.append(Posting(accounts.receivable, revenue, overage, TransferCode.OVERAGE, key, group, request_id))
    return postings


def capture_key(request_id: str) -> str:
    return f"hold:{request_id}:capture"


def repay(group: str, accounts: TenantAccounts, amount: int, *, hold: str | None = None) -> Posting:
    """Debt that credits now cover."""
    return Posting(accounts.wallet, accounts.receivable, amount, TransferCode.REPAY, f"{group}:repay", group, hold)


def granted(
    key: str, kind: LotKind, source: int, accounts: TenantAccounts, amount: int, *, reason: str, created_by: int | None
) -> Posting:
    """Credits given by the operator; `source` is the account of `grant_source(kind)`."""
    code = TransferCode.PROMO if kind == LotKind.PROMO else TransferCode.GRANT
    return Posting(source, accounts.wallet, amount, code, f"grant:{key}", f"grant:{key}", None, reason, created_by)


def grant_source(kind: LotKind) -> AccountKind:
    return AccountKind.PROMO_EXPENSE if kind == LotKind.PROMO else AccountKind.ADJUSTMENT


def redeemed(
    code_id: int, organization_id: int, source: int, accounts: TenantAccounts, amount: int, *, reason: str, by: int
) -> Posting:
    """A promo code's credits: once a code and organisation."""
    key = f"promo:{code_id}:{organization_id}"
    return Posting(source, accounts.wallet, amount, TransferCode.PROMO, key, key, None, reason, by)


def expired(lot_id: int, earlier: int, destination: int, accounts: TenantAccounts, amount: int) -> Posting:
    """Credits of a lot whose time is up; `destination` is the account of `expiry_destination(kind)`.
    `earlier` nanos of the lot had expired before: the rest of what a hold needed, or what was reopened."""
    group = f"expire:{lot_id}"
    key = f"{group}:{earlier}" if earlier else group
    return Posting(accounts.wallet, destination, amount, TransferCode.EXPIRE, key, group)


def expiry_destination(kind: LotKind) -> AccountKind:
    """What was given goes back to where it came from; what was paid for becomes income."""
    return AccountKind.BREAKAGE if kind == LotKind.PAID else grant_source(kind)


def correction_key(ticket: str, request_id: str) -> str:
    return f"correct:{ticket}:{request_id}"


def corrected(
    correction: tuple[str, str], accounts: TenantAccounts, revenue: int, *, restored: int, debt_cancelled: int,
    credited: int, reason: str, by: int,
) -> list[Posting]:  # fmt: skip
    """A refund of a request in its three parts (models.Correction); `correction` is (ticket, request id)."""
    ticket, request_id = correction
    group = correction_key(ticket, request_id)
    parts = (
        (accounts.wallet, restored, group),
        (accounts.receivable, debt_cancelled, f"{group}:debt"),
        (accounts.wallet, credited, f"{group}:credit"),
    )
    return [
        Posting(revenue, credit, amount, TransferCode.CORRECT, key, group, request_id, reason, by)
        for credit, amount, key in parts
        if amount
    ]


def adjusted(
    adjustment_id: int, debit: int, credit: int, amount: int, *, code: TransferCode, reason: str, by: int
) -> Posting:
    """An approved adjustment; `by` is who approved it."""
    key = f"{code}:{adjustment_id}"
    return Posting(debit, credit, amount, code, key, key, None, reason, by)


def consume(lots: Sequence[Lot], key: str, amount: int) -> list[Consumption]:
    """Take `amount` nanos out of `lots`, in order, for the transfer `key`.

    Raises LedgerDrift when they hold less: the wallet then claims credits that never came in."""
    taken = []
    for lot in lots:
        if amount == 0:
            break
        part = min(lot.remaining, amount)
        if part:
            lot.remaining -= part
            amount -= part
            taken.append(Consumption(key, lot.id, part))
    if amount:
        raise LedgerDrift(f"the lots lack {amount} nanos for {key}")
    return taken


INSERT_TRANSFER = (
    "INSERT INTO credits_transfer (debit_id, credit_id, amount, code, idempotency_key, group_id, hold_id, reason, "
    "created_by_id, created_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
)
INSERT_CONSUMPTION = "INSERT INTO credits_lotconsumption (transfer_key, lot_id, amount) VALUES (%s, %s, %s)"


def post(cursor: Cursor, postings: Iterable[Posting], stamp: Any) -> None:
    """`stamp` is the time as the database stores it."""
    cursor.executemany(INSERT_TRANSFER, [(*posting, stamp) for posting in postings])


def record_consumption(cursor: Cursor, consumptions: Sequence[Consumption]) -> None:
    cursor.executemany(INSERT_CONSUMPTION, consumptions)
