"""Credits of a top-up that go back because its money does (a refund, a dispute), and return when it stays after all.

First what is left of the top-up itself, as far as no running request reserves it; what has been spent is owed
(models.Wallet.debt), and repaid at once from what else is free.
"""

from typing import NamedTuple

from django.db.models import F

from credits import ledger
from credits.correction_models import LotReopening
from credits.entries import OpenBooks, bring_in, lots_changed, repay_debt
from credits.expiry import platform_account
from credits.ledger import Clearing, Posting
from credits.models import AccountKind, CreditLot, LotConsumption, LotKind, TransferCode
from credits.payments.models import TopUp


def clearing(opened: OpenBooks) -> Clearing:
    kinds = (AccountKind.STRIPE_CLEARING, AccountKind.STRIPE_FEES, AccountKind.TAX_PAYABLE, AccountKind.DISPUTE_RESERVE)
    return Clearing(*(platform_account(opened.books, kind) for kind in kinds))


class Split(NamedTuple):
    """Nanos of credits: still there, and spent."""

    from_wallet: int
    from_debt: int


def lots_of(top_up: TopUp) -> set[int]:
    """The lots that the top-up's credits came in, and came back in."""
    groups = [f"refund:{id_}" for id_ in top_up.refunds.values_list("pk", flat=True)]
    groups += [f"dispute:{id_}" for id_ in top_up.disputes.values_list("pk", flat=True)]
    sources = [f"topup:{top_up.pk}:credit", *(f"{group}:back:credit" for group in groups)]
    return set(CreditLot.objects.filter(source__idempotency_key__in=sources).values_list("pk", flat=True))


def left_of(opened: OpenBooks, top_up: TopUp) -> int:
    """Nanos of the top-up that have not been spent and are not reserved."""
    lots = lots_of(top_up)
    found = sum(lot.remaining for lot in opened.books.lots[top_up.organization_id] if lot.id in lots)
    return max(0, min(found, opened.wallet.free))


def split(opened: OpenBooks, top_up: TopUp, credit: int) -> Split:
    from_wallet = min(credit, left_of(opened, top_up))
    return Split(from_wallet, credit - from_wallet)


def take_back(opened: OpenBooks, top_up: TopUp, group: str, postings: list[Posting], parts: Split) -> None:
    """`postings` move the money; the one out of the wallet has `group` as its key."""
    books, wallet = opened.books, opened.wallet
    books.postings += postings
    books.changed_wallets.add(wallet.organization_id)
    own, left = lots_of(top_up), parts.from_wallet
    for lot in books.lots[wallet.organization_id]:
        part = min(lot.remaining, left) if lot.id in own else 0
        if part:
            lot.remaining -= part
            left -= part
            books.changed_lots[lot.id] = lot
            books.consumptions.append(ledger.Consumption(group, lot.id, part))
    wallet.posted -= parts.from_wallet
    wallet.debt += parts.from_debt
    repay_debt(opened, group)


def give_back(opened: OpenBooks, group: str, source: int, code: TransferCode, parts: Split) -> None:
    """Undo `take_back`: what was in the wallet returns to its lots; what was owed is forgiven as far as it is still
    owed, and else comes back as new credits."""
    books, wallet = opened.books, opened.wallet
    cancelled = min(parts.from_debt, wallet.debt)
    back = ledger.given_back(
        group, source, opened.accounts, code,
        reopened=parts.from_wallet, cancelled=cancelled, credited=parts.from_debt - cancelled,
    )  # fmt: skip
    books.postings += [posting for posting in (back.reopened, back.debt_cancelled) if posting]
    books.changed_wallets.add(wallet.organization_id)
    wallet.debt -= cancelled
    if back.reopened:
        wallet.posted += parts.from_wallet
        _reopen(opened, group, back.reopened.key)
    if back.credited:
        bring_in(opened, back.credited, LotKind.PAID)
    elif wallet.debt:
        repay_debt(opened, f"{group}:back")


def _reopen(opened: OpenBooks, taken: str, key: str) -> None:
    used = list(LotConsumption.objects.filter(transfer_id=taken).values_list("lot", "amount"))
    for lot_id, amount in used:
        CreditLot.objects.filter(pk=lot_id).update(remaining=F("remaining") + amount)
    LotReopening.objects.bulk_create(
        [LotReopening(transfer_id=key, lot_id=lot_id, amount=amount) for lot_id, amount in used]
    )
    lots = CreditLot.objects.filter(pk__in=[lot_id for lot_id, _ in used])
    lots_changed(opened, lots.values_list("expires_at", flat=True))
