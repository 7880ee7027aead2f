"""Checkpoints: how far the ledger has been verified, so that a run costs what is new since the last."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.db import IntegrityError, connection, transaction

from credits.models import UNFINISHED_SQL, CheckpointBalance, ReconciliationCheckpoint, ReconciliationRun
from credits.reconcile.findings import EXAMPLES, Finding, Outcome
from credits.reconcile.reading import NOTHING, Movement, Reading, Verified, add_up

HOLD_MARGIN = timedelta(hours=1)
"""Request ids sort by time. So long after, no hold is made any more for a request that has arrived."""

VOUCHED_FOR = frozenset({"R2", "R4", "R5", "C"})
"""What relies on a checkpoint: none is made while one of these checks fails, or the next run would not
see the failure again."""

LAST_HOLD = "SELECT id FROM credits_hold WHERE created_at < %s ORDER BY id DESC LIMIT 1"
FIRST_UNFINISHED = f"SELECT MIN(id) FROM credits_hold WHERE {UNFINISHED_SQL}"
HOLD_BEFORE = "SELECT MAX(id) FROM credits_hold WHERE id < %s"
INTERVAL = """
SELECT debit_id, credit_id, 1, COUNT(*), SUM(amount) FROM credits_transfer WHERE id > %s AND id <= %s GROUP BY 1, 2
"""


def newest(cursor: Any) -> Verified:
    """The newest checkpoint with its balances, as the snapshot of `cursor` shows them."""
    cursor.execute(
        "SELECT number, cut, hold_cut, transfers, moved FROM credits_reconciliationcheckpoint "
        "ORDER BY number DESC LIMIT 1"
    )
    row = cursor.fetchone()
    if row is None:
        return NOTHING
    cursor.execute("SELECT account_id, debits, credits FROM credits_checkpointbalance")
    balances = {account: (debits, credits_) for account, debits, credits_ in cursor.fetchall()}
    number, cut, hold_cut, transfers, moved = row
    return Verified(number, cut, hold_cut, transfers, moved, balances)


def next_checkpoint(reading: Reading, findings: Sequence[Finding], *, base: bool) -> Verified | None:
    """What this reading has verified, without a number yet; None if nothing new may be relied on.
    A new base does not go on from earlier checkpoints: that they fail (C) is no obstacle to it."""
    needed = VOUCHED_FOR - {"C"} if base else VOUCHED_FOR
    if reading.settled_up_to is None or any(f.failed and f.check in needed for f in findings):
        return None
    settled = [movement for movement in reading.movements if movement.settled]
    return Verified(
        cut=max(reading.settled_up_to, reading.since.cut),
        hold_cut=_hold_cut(reading),
        transfers=reading.since.transfers + sum(movement.transfers for movement in settled),
        moved=reading.since.moved + sum(movement.amount for movement in settled),
        balances=add_up(reading.since.balances, settled),
    )


def _hold_cut(reading: Reading) -> str:
    """The last hold before every one that may still change, and before every one that may still be made."""
    last = reading.rows(LAST_HOLD, reading.dialect.time(reading.now - HOLD_MARGIN))
    unfinished = reading.one(FIRST_UNFINISHED)
    if not last:
        return reading.since.hold_cut
    cut: str = last[0][0]
    if unfinished is not None and unfinished <= cut:
        cut = reading.one(HOLD_BEFORE, unfinished) or ""
    return cut


def store(run: ReconciliationRun, number: int, made: Verified, *, base: bool) -> bool:
    """False when another run has made the checkpoint of this number meanwhile: that one stands."""
    balances = sorted(made.balances.items())
    try:
        with transaction.atomic():
            ReconciliationCheckpoint.objects.create(
                number=number, run=run, cut=made.cut, hold_cut=made.hold_cut, transfers=made.transfers,
                moved=made.moved, base=base or number == 1,
            )  # fmt: skip
            CheckpointBalance.objects.bulk_create(
                [CheckpointBalance(account_id=id_, debits=sums[0], credits=sums[1]) for id_, sums in balances],
                update_conflicts=True,
                unique_fields=["account"],
                update_fields=["debits", "credits"],
                batch_size=200 if connection.vendor == "sqlite" else 5000,
            )
    except IntegrityError:
        return False
    return True


def unchanged(reading: Reading) -> Outcome:
    """Only a full run reads them: the balances that incremental runs go on from, and how many transfers of
    which amount there were up to each checkpoint since the last base."""
    if not reading.full:
        return Outcome(True, f"relying on checkpoint {reading.since.number}; verified by the next full run")
    checkpoints = reading.rows(
        "SELECT number, cut, transfers, moved FROM credits_reconciliationcheckpoint WHERE number >= "
        "(SELECT MAX(number) FROM credits_reconciliationcheckpoint WHERE base = %s) ORDER BY number",
        True,
    )
    wrong, off = [], 0
    after = transfers = moved = 0
    balances: dict[int, tuple[int, int]] = {}
    for number, cut, counted, summed in checkpoints:
        movements = [
            Movement(row[0], row[1], True, int(row[3]), int(row[4])) for row in reading.rows(INTERVAL, after, cut)
        ]
        balances = add_up(balances, movements)
        transfers += sum(movement.transfers for movement in movements)
        moved += sum(movement.amount for movement in movements)
        after = cut
        if (transfers, moved) != (counted, summed):
            wrong.append(f"checkpoint {number}: {transfers} transfers instead of {counted}")
            off += abs(moved - summed)
    kept = newest(reading.cursor).balances
    for account in sorted(balances.keys() | kept.keys()):
        is_, was = balances.get(account, (0, 0)), kept.get(account, (0, 0))
        if is_ != was:
            wrong.append(f"the balance kept of account {account}")
            off += abs(is_[0] - was[0]) + abs(is_[1] - was[1])
    if wrong:
        more = f" and {len(wrong) - EXAMPLES} more" if len(wrong) > EXAMPLES else ""
        return Outcome(False, f"not as it was: {'; '.join(wrong[:EXAMPLES])}{more}", len(wrong), off)
    return Outcome(True, f"{len(checkpoints)} checkpoints hold")
