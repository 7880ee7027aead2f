"""Whether two tables say the same of every key, without joining them: for full runs, which read all.

Each row adds its amount times a hash of its key to its table's sum, exactly, in one pass. Where the amounts of every
key agree, so do the sums. Where they differ anywhere, the sums agree by chance once in two billion runs, and the hash
has a seed that is drawn for the run: what one run misses the next one finds. Sums that differ say that something is
wrong, and not what: the checks then compare row by row.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.db import connection

from credits.reconcile.reading import Reading

# Of every request: what its hold captured, what was posted for it, and what its usage record says.
HOLDS = (
    "SELECT {captured}, {recorded} FROM credits_hold h WHERE h.state NOT IN ('open', 'dispatched', 'needs_settlement')"
)
RECORDS = "SELECT {charged} FROM credits_usagerecord u"
# And of every transfer out of a wallet: its amount, and what was taken from lots for it.
TRANSFERS = """
SELECT {taken}, {posted}, COUNT(*) FILTER (WHERE {of_request}
    AND t.idempotency_key <> 'hold:' || COALESCE(t.hold_id, '') || ':' || t.code)
FROM credits_transfer t
"""
OF_WALLET = "t.debit_id IN (SELECT id FROM credits_ledgeraccount WHERE kind = 'wallet')"
OF_REQUEST = "t.code IN ('capture', 'overage')"
CONSUMPTIONS = "SELECT {consumed} FROM credits_lotconsumption c"
# Retention deletes records that are in an archive.
UNARCHIVED = (
    "NOT EXISTS (SELECT 1 FROM credits_usagearchive a WHERE a.organization_id = {organization} "
    "AND a.starts_at <= {time} AND a.ends_at > {time})"
)


HALF_BITS = 31
HALF = 1 << HALF_BITS


@dataclass(frozen=True, slots=True)
class Agreement:
    """`posted`: every hold's charge with its transfers and its usage record. `consumed`: every transfer out of a
    wallet with its lots."""

    posted: bool
    consumed: bool


def agreement(reading: Reading) -> Agreement:
    """Of the whole ledger."""
    sum_ = sums(reading)
    unarchived = record_unarchived = ""
    if reading.one("SELECT COUNT(*) FROM credits_usagearchive"):
        unarchived = UNARCHIVED.format(organization="h.wallet_id", time="h.updated_at")
        record_unarchived = UNARCHIVED.format(organization="u.organization_id", time="u.created_at")
    captured, recorded = sum_("h.id", "h.captured"), sum_("h.id", "h.captured", unarchived)
    ((captured, recorded),) = reading.rows(HOLDS.format(captured=captured, recorded=recorded))
    charged = reading.one(RECORDS.format(charged=sum_("u.request_id", "u.charge", record_unarchived)))
    taken, posted = sum_("t.idempotency_key", "t.amount", OF_WALLET), sum_("t.hold_id", "t.amount", OF_REQUEST)
    ((taken, posted, strange),) = reading.rows(TRANSFERS.format(taken=taken, posted=posted, of_request=OF_REQUEST))
    consumed = reading.one(CONSUMPTIONS.format(consumed=sum_("c.transfer_key", "c.amount")))
    return Agreement(
        posted=_same(captured, posted) and _same(recorded, charged) and not strange,
        consumed=_same(taken, consumed),
    )


def _same(one: Any, other: Any) -> bool:
    return int(one or 0) == int(other or 0)


def sums(reading: Reading) -> Callable[..., str]:
    """`sums(reading)(key, amount, where)` is SQL for the sum over the rows `where` of an amount times the hash of
    a key, with a seed of this call's."""
    if not reading.dialect.postgresql:
        _teach_sqlite(secrets.token_bytes(8))
        return lambda key, amount, where="": f"ccm_fingerprint({key}, {amount}){_only(where)}"
    hashed = f"(hashtextextended({{}}, {secrets.randbits(62)}) & {HALF - 1})"

    def exact(key: str, amount: str, where: str = "") -> str:
        """In two halves, whose products fit into 64 bits: as numeric it would take twice as long."""
        low = f"SUM(({amount} & {HALF - 1}) * {hashed.format(key)}){_only(where)}"
        high = f"SUM(({amount} >> {HALF_BITS}) * {hashed.format(key)}){_only(where)}"
        return f"{low} + {high} * {HALF}"

    return exact


def _only(where: str) -> str:
    return f" FILTER (WHERE {where})" if where else ""


def _teach_sqlite(seed: bytes) -> None:
    class Fingerprint:
        """Python's hash of a text has 64 bits and a seed of its process; the run's comes on top."""

        def __init__(self) -> None:
            self.total = 0

        def step(self, key: str | None, amount: int) -> None:
            if key is not None:
                self.total += hash((key, seed)) * amount

        def finalize(self) -> str:
            return str(self.total)

    connection.ensure_connection()
    connection.connection.create_aggregate("ccm_fingerprint", 2, Fingerprint)
