"""Credits that come into a wallet or leave it outside of requests: the steps that grants, promo codes,
corrections and adjustments are made of. The postings themselves stand in `ledger.py`.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import NamedTuple

from django.db import connection, transaction
from django.db.models import Q

from credits import ledger
from credits.books import Books, Memory, WalletRow
from credits.database import Dialect
from credits.errors import InvalidAmount
from credits.ledger import Posting, TenantAccounts
from credits.models import CreditLot, LotKind, Wallet
from credits.money import LARGEST, format_usd

DEFAULT_PRIORITY = 100


class OpenBooks(NamedTuple):
    """One organisation's wallet, locked, and the books that its changes are written in."""

    books: Books
    wallet: WalletRow
    accounts: TenantAccounts
    now: datetime


@contextmanager
def open_books(organization_id: int, now: datetime) -> Iterator[OpenBooks]:
    """Locks the wallet, which there must be; what was changed is written when the block has ended well,
    in the transaction around it or one of its own."""
    dialect = Dialect(connection)
    with transaction.atomic(), dialect.cursor() as cursor:
        stamp = dialect.time(now)
        books = Books(cursor, dialect, Memory(), now, stamp, stamp)
        books.lock_wallets([organization_id])
        books.read_accounts([organization_id])
        books.read_lots([organization_id])
        yield OpenBooks(books, books.wallets[organization_id], books.memory.accounts[organization_id], now)
        books.write()


def bring_in(
    opened: OpenBooks,
    posting: Posting,
    kind: LotKind,
    *,
    expires_at: datetime | None = None,
    priority: int = DEFAULT_PRIORITY,
) -> None:
    """Credits that come in by `posting`, as a lot of their own; debt is repaid from them first.

    Before anything is taken out of lots in the same books. Raises InvalidAmount when the wallet would
    hold more than a column does."""
    books, wallet = opened.books, opened.wallet
    if wallet.posted + posting.amount > LARGEST:
        raise InvalidAmount(f"With {format_usd(posting.amount)} more the wallet would hold too much.")
    books.postings.append(posting)
    wallet.posted += posting.amount
    books.changed_wallets.add(wallet.organization_id)
    CreditLot.objects.create(
        wallet_id=wallet.organization_id,
        kind=kind,
        amount=posting.amount,
        remaining=posting.amount,
        priority=priority,
        expires_at=expires_at,
        source_id=posting.key,
        created_at=opened.now,
    )
    lots_changed(opened, [expires_at])
    repay_debt(opened, posting.group)


def lots_changed(opened: OpenBooks, expiries: Iterable[datetime | None]) -> None:
    """Lots were added or reopened, with these expiries: read them anew, and keep `next_expiry` true."""
    organization_id = opened.wallet.organization_id
    opened.books.standing.lots.pop(organization_id, None)
    opened.books.read_lots([organization_id])
    dates = [date for date in expiries if date is not None]
    if not dates:
        return
    earliest = min(dates)
    Wallet.objects.filter(Q(next_expiry=None) | Q(next_expiry__gt=earliest), pk=organization_id).update(
        next_expiry=earliest
    )


def take_out(opened: OpenBooks, posting: Posting) -> None:
    """Credits that leave by `posting`, from the lots in their order. At most what is free."""
    books, wallet = opened.books, opened.wallet
    books.postings.append(posting)
    wallet.posted -= posting.amount
    books.changed_wallets.add(wallet.organization_id)
    books.consume(wallet.organization_id, posting.key, posting.amount)


def repay_debt(opened: OpenBooks, group: str) -> None:
    """From what is free."""
    wallet = opened.wallet
    repaid = min(wallet.debt, wallet.free)
    if repaid > 0:
        take_out(opened, ledger.repay(group, opened.accounts, repaid))
        wallet.debt -= repaid
