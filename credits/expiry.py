"""Credits whose time is up leave the wallet, as far as no unfinished hold needs them.

Both the sweep and the next hold do it, under the wallet's lock, so that what has expired is never
reserved anew. What holds need stays: it is captured as if it had not expired, or expires once they
are closed.
"""

from credits import ledger
from credits.books import Books, WalletRow
from credits.errors import LedgerDrift
from credits.models import AccountKind, LotKind


def expire_due(books: Books, wallet: WalletRow, *, closing: bool = False) -> int:
    """Take the wallet's expired credits out of `books`, at most what is free; how many nanos. `closing`: the
    organisation is closed, and all that it has left has expired.

    Of several expired lots those are spared that a capture would use first. May be repeated: it finds
    what is left then. `next_expiry` is brought up to date."""
    organization_id = wallet.organization_id
    if organization_id not in books.lots:
        books.read_lots([organization_id])
    books.read_accounts([organization_id])
    dated = _dated_lots(books, organization_id, everything=closing)
    lots = books.lots.get(organization_id, [])
    taken = 0
    for lot in reversed(lots):
        kind, earlier, due = dated.get(lot.id, ("", 0, False))
        part = min(lot.remaining, wallet.free)
        if not due or part <= 0:
            continue
        destination = platform_account(books, ledger.expiry_destination(LotKind(kind)))
        accounts = books.memory.accounts[organization_id]
        posting = ledger.expired(lot.id, earlier, destination, accounts, part)
        books.postings.append(posting)
        books.consumptions.append(ledger.Consumption(posting.key, lot.id, part))
        books.changed_lots[lot.id] = lot
        lot.remaining -= part
        wallet.posted -= part
        taken += part
        sql = "UPDATE credits_creditlot SET expired = expired + %s WHERE id = %s"
        books.cursor.execute(sql, (part, lot.id))
    if taken:
        books.changed_wallets.add(organization_id)
    left = [lot.id for lot in lots if lot.remaining and lot.id in dated]
    _tell_next_expiry(books, organization_id, left)
    wallet.expiry_due = any(dated[lot_id][2] for lot_id in left)
    return taken


def _dated_lots(books: Books, organization_id: int, *, everything: bool) -> dict[int, tuple[str, int, bool]]:
    """Lot id -> (kind, nanos that have expired of it before, whether it has expired now), of open lots."""
    which = "" if everything else " AND expires_at IS NOT NULL"
    books.cursor.execute(
        "SELECT id, kind, expired, expires_at <= %s FROM credits_creditlot "
        f"WHERE wallet_id = %s AND remaining > 0{which}",
        (books.stamp, organization_id),
    )
    return {row[0]: (row[1], row[2], everything or bool(row[3])) for row in books.cursor.fetchall()}


def _tell_next_expiry(books: Books, organization_id: int, lot_ids: list[int]) -> None:
    books.cursor.execute(
        "UPDATE credits_wallet SET next_expiry = (SELECT MIN(expires_at) FROM credits_creditlot "
        f"WHERE {books.dialect.any_of('id')}) WHERE organization_id = %s",
        (books.dialect.values(lot_ids), organization_id),
    )


def platform_account(books: Books, kind: AccountKind) -> int:
    """The id of the platform's account. Raises LedgerDrift when there is none."""
    books.cursor.execute("SELECT id FROM credits_ledgeraccount WHERE kind = %s", (kind.value,))
    row = books.cursor.fetchone()
    if row is None:
        raise LedgerDrift("the platform's ledger accounts are missing: run manage.py migrate")
    account_id: int = row[0]
    return account_id
