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


class Clearing(NamedTuple):
    """Ids of the platform's accounts that payments go through."""

    stripe: int
    fees: int
    tax: int
    reserve: int


def topped_up(
    top_up_id: int, clearing: Clearing, accounts: TenantAccounts, *, credit: int, fee: int, tax: int, by: int | None
) -> list[Posting]:
    """A paid top-up: the credits, what the customer paid towards fees, and tax. The credits come first."""
    group = f"topup:{top_up_id}"
    parts = (
        (accounts.wallet, credit, TransferCode.TOP_UP, f"{group}:credit"),
        (clearing.fees, fee, TransferCode.FEE, f"{group}:fee"),
        (clearing.tax, tax, TransferCode.TAX, f"{group}:tax"),
    )
    return [
        Posting(clearing.stripe, account, amount, code, key, group, None, "", by)
        for account, amount, code, key in parts
        if amount
    ]


def stripe_fee(transaction_id: str, clearing: Clearing, amount: int) -> Posting:
    """What Stripe kept of a balance transaction, or (`amount` below zero) gave back."""
    key = f"stripe_fee:{transaction_id}"
    debit, credit = (clearing.fees, clearing.stripe) if amount > 0 else (clearing.stripe, clearing.fees)
    return Posting(debit, credit, abs(amount), TransferCode.STRIPE_FEE, key, key)


class Returned(NamedTuple):
    """Money of a top-up that goes back: credits that were left, credits that were spent, the fee's and tax's parts."""

    from_wallet: int
    from_debt: int
    fee: int
    tax: int


def refunded(
    refund_id: str, clearing: Clearing, accounts: TenantAccounts, parts: Returned, *, reason: str = "", by: int | None
) -> list[Posting]:
    """A payment that goes back to the customer. What comes out of the wallet has the group as its key."""
    group = f"refund:{refund_id}"
    rows = (
        (accounts.wallet, parts.from_wallet, group),
        (accounts.receivable, parts.from_debt, f"{group}:debt"),
        (clearing.fees, parts.fee, f"{group}:fee"),
        (clearing.tax, parts.tax, f"{group}:tax"),
    )
    return [
        Posting(account, clearing.stripe, amount, TransferCode.REFUND, key, group, None, reason, by)
        for account, amount, key in rows
        if amount
    ]


def refund_failed(refund_id: str, clearing: Clearing, parts: Returned) -> list[Posting]:
    """The fee's and tax's parts come back; what was the customer's does so by `given_back`."""
    group = f"refund:{refund_id}"
    rows = ((clearing.fees, parts.fee, "fee"), (clearing.tax, parts.tax, "tax"))
    return [
        Posting(clearing.stripe, account, amount, TransferCode.REFUND, f"{group}:failed:{name}", group)
        for account, amount, name in rows
        if amount
    ]


def disputed(dispute_id: str, clearing: Clearing, accounts: TenantAccounts, parts: Returned) -> list[Posting]:
    """The bank took the payment back: out of the clearing into the reserve, and the credits after it."""
    group = f"dispute:{dispute_id}"
    rows = (
        (clearing.reserve, clearing.stripe, sum(parts), f"{group}:withdraw"),
        (accounts.wallet, clearing.reserve, parts.from_wallet, group),
        (accounts.receivable, clearing.reserve, parts.from_debt, f"{group}:debt"),
    )
    return [
        Posting(debit, credit, amount, TransferCode.DISPUTE, key, group)
        for debit, credit, amount, key in rows
        if amount
    ]


def dispute_won(dispute_id: str, clearing: Clearing, amount: int) -> Posting:
    """The payment is back in the clearing; the credits come back by `given_back`."""
    group = f"dispute:{dispute_id}"
    return Posting(clearing.stripe, clearing.reserve, amount, TransferCode.DISPUTE, f"{group}:reinstate", group)


def dispute_lost(dispute_id: str, clearing: Clearing, parts: Returned) -> list[Posting]:
    """What the reserve still holds is ours to bear: the fee's part, and tax that is no longer owed."""
    group = f"dispute:{dispute_id}"
    rows = ((clearing.fees, parts.fee, "fee"), (clearing.tax, parts.tax, "tax"))
    return [
        Posting(account, clearing.reserve, amount, TransferCode.DISPUTE, f"{group}:writeoff:{name}", group)
        for account, amount, name in rows
        if amount
    ]


class GivenBack(NamedTuple):
    """Credits that had been taken back and return: into the lots they came from, off the debt, as new credits."""

    reopened: Posting | None
    debt_cancelled: Posting | None
    credited: Posting | None


def given_back(
    group: str, source: int, accounts: TenantAccounts, code: TransferCode, *,
    reopened: int, cancelled: int, credited: int,
) -> GivenBack:  # fmt: skip
    """`group` is that of what is taken back; what comes back is an event of its own."""
    back = f"{group}:back"

    def posting(name: str, credit: int, amount: int) -> Posting | None:
        return Posting(source, credit, amount, code, f"{back}:{name}", back) if amount else None

    return GivenBack(
        posting("lots", accounts.wallet, reopened),
        posting("debt", accounts.receivable, cancelled),
        posting("credit", accounts.wallet, credited),
    )


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
