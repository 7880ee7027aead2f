"""The ledger's invariants (design: credits/README.md). R6 and R9 are in `payments.py`; R7
belongs to provider bills."""

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import connection

from credits import guard_audit
from credits.models import UNFINISHED_SQL, AccountKind
from credits.money import format_usd
from credits.reconcile import fingerprints
from credits.reconcile.checkpoints import unchanged
from credits.reconcile.findings import EXAMPLES, Outcome, Severity, check, differing
from credits.reconcile.reading import Reading
from credits.usage import agreement

OVERDUE = timedelta(minutes=15)
"""A lapsed lease, or a hold that needs settlement, that the sweeper has not dealt with for this long."""

ENDLESS = timedelta(hours=6)
"""No request takes this long: its process lives, but has forgotten it."""

UNDER_COST_PERIOD = timedelta(days=1)
UNSWEPT = timedelta(hours=1)
"""How long after its expiry a lot may wait for the sweep."""


@check("G", "every trigger, CHECK and unique key is in place")
def guards(_reading: Reading) -> Outcome:
    problems = guard_audit.problems(connection)
    if not problems:
        return Outcome(True, "")
    more = f" and {len(problems) - EXAMPLES} more" if len(problems) > EXAMPLES else ""
    detail = f"manage.py migrate installs what is missing: {'; '.join(problems[:EXAMPLES])}{more}"
    return Outcome(False, detail, len(problems))


R1 = """
SELECT w.organization_id, w.posted, COALESCE(l.remaining, 0) FROM credits_wallet w
LEFT JOIN (
    SELECT wallet_id, SUM(remaining) AS remaining FROM credits_creditlot WHERE remaining > 0 GROUP BY wallet_id
) l ON l.wallet_id = w.organization_id
WHERE w.posted <> COALESCE(l.remaining, 0) ORDER BY w.organization_id
"""


@check("R1", "every wallet is the sum of its lots")
def lots(reading: Reading) -> Outcome:
    return differing(reading.rows(R1))


WALLETS = """
SELECT w.organization_id, w.posted, w.debt, p.id, r.id FROM credits_wallet w
LEFT JOIN credits_ledgeraccount p ON p.organization_id = w.organization_id AND p.kind = 'wallet'
LEFT JOIN credits_ledgeraccount r ON r.organization_id = w.organization_id AND r.kind = 'receivable'
ORDER BY w.organization_id
"""


@check("R2", "every wallet and debt is what its transfers add up to")
def accounts(reading: Reading) -> Outcome:
    wrong = []
    for organization, posted, debt, wallet, receivable in reading.rows(WALLETS):
        debits, credits_ = reading.balances.get(wallet, (0, 0))
        if posted != credits_ - debits:
            wrong.append((organization, AccountKind.WALLET.value, posted, credits_ - debits))
        debits, credits_ = reading.balances.get(receivable, (0, 0))
        if debt != debits - credits_:
            wrong.append((organization, AccountKind.RECEIVABLE.value, debt, debits - credits_))
    return differing(wrong)


R3 = f"""
SELECT w.organization_id, w.held, COALESCE(h.amount, 0) FROM credits_wallet w
LEFT JOIN (
    SELECT wallet_id, SUM(amount) AS amount FROM credits_hold
    WHERE {UNFINISHED_SQL} GROUP BY wallet_id
) h ON h.wallet_id = w.organization_id
WHERE w.held <> COALESCE(h.amount, 0) ORDER BY w.organization_id
"""


@check("R3", "held is the sum of unfinished holds")
def held(reading: Reading) -> Outcome:
    return differing(reading.rows(R3))


@check("R4", "debits equal credits")
def trial_balance(reading: Reading) -> Outcome:
    """A transfer has both by its shape: this finds one whose account is not there."""
    known = {id_ for (id_,) in reading.rows("SELECT id FROM credits_ledgeraccount")}
    debits = sum(sums[0] for account, sums in reading.balances.items() if account in known)
    credits_ = sum(sums[1] for account, sums in reading.balances.items() if account in known)
    if debits != credits_:
        return differing([("credits and debits", credits_, debits)])
    new = sum(movement.transfers for movement in reading.movements)
    return Outcome(True, f"debits equal credits: {reading.since.transfers + new} transfers, {new} of them read")


# A hold's charge, what was posted for it under its keys, and its usage record in one pass over the holds.
R5_HOLDS = """
{overages}
SELECT h.id, h.captured, COALESCE(c.amount, 0) + COALESCE(o.amount, 0), COALESCE(u.charge, {no_record})
FROM credits_hold h
LEFT JOIN credits_transfer c ON c.idempotency_key = 'hold:' || h.id || ':capture'
LEFT JOIN {overage} o ON o.idempotency_key = 'hold:' || h.id || ':overage'
LEFT JOIN credits_usagerecord u ON u.request_id = h.id
WHERE h.state NOT IN ('open', 'dispatched', 'needs_settlement') {since}
    AND (h.captured <> COALESCE(c.amount, 0) + COALESCE(o.amount, 0) OR h.captured <> COALESCE(u.charge, {no_record}))
ORDER BY h.id
"""
# Overages are few: where all holds are read, it is cheaper to collect them first.
OVERAGES = "WITH overages AS MATERIALIZED (SELECT idempotency_key, amount FROM credits_transfer WHERE code = 'overage')"
# Retention deletes records that are in an archive: only of those may the record be missing.
NO_RECORD = (
    "CASE WHEN EXISTS (SELECT 1 FROM credits_usagearchive a WHERE a.organization_id = h.wallet_id "
    "AND a.starts_at <= h.updated_at AND a.ends_at > h.updated_at) THEN h.captured ELSE 0 END"
)

R5_STRAY = """
SELECT t.idempotency_key, t.amount, 0
FROM credits_transfer t LEFT JOIN credits_hold h ON h.id = t.hold_id AND h.state = 'captured'
WHERE t.code IN ('capture', 'overage') AND t.id > %s
    AND (h.id IS NULL OR t.idempotency_key <> 'hold:' || t.hold_id || ':' || t.code)
ORDER BY t.id
"""

R5_LOTS = """
SELECT t.idempotency_key, t.amount, COALESCE(c.amount, 0) FROM credits_transfer t
LEFT JOIN (SELECT transfer_key, SUM(amount) AS amount FROM credits_lotconsumption GROUP BY transfer_key) c
    ON c.transfer_key = t.idempotency_key
WHERE t.debit_id IN (SELECT id FROM credits_ledgeraccount WHERE kind = 'wallet') AND t.amount <> COALESCE(c.amount, 0)
ORDER BY t.id
"""
R5_LOTS_BY_ROW = """
SELECT key, amount, consumed FROM (
    SELECT t.id, t.idempotency_key AS key, t.amount,
        (SELECT COALESCE(SUM(c.amount), 0) FROM credits_lotconsumption c WHERE c.transfer_key = t.idempotency_key)
            AS consumed
    FROM credits_transfer t
    WHERE t.id > %s AND t.debit_id IN (SELECT id FROM credits_ledgeraccount WHERE kind = 'wallet')
) AS taken WHERE amount <> consumed ORDER BY id
"""


R5_REOPENED = """
SELECT c.hold_id, c.restored, COALESCE(SUM(r.amount), 0)
FROM credits_correction c
LEFT JOIN credits_lotreopening r ON r.transfer_key = 'correct:' || c.ticket || ':' || c.hold_id
GROUP BY c.id, c.hold_id, c.restored HAVING c.restored <> COALESCE(SUM(r.amount), 0)
ORDER BY c.hold_id
"""

R5_REFUNDED = """
SELECT h.id, SUM(c.amount), h.captured FROM credits_correction c JOIN credits_hold h ON h.id = c.hold_id
GROUP BY h.id, h.captured HAVING SUM(c.amount) > h.captured ORDER BY h.id
"""


@check("R5", "every captured hold is posted once, consumed from lots and on its usage record")
def captures(reading: Reading) -> Outcome:
    """One capture and at most one overage each (their keys are unique), of the charge together; and every
    transfer out of a wallet, whatever its code, is taken from lots whole. A refund has put into lots what
    it says, and all refunds of a request stay within its charge."""
    corrected = [*reading.rows(R5_REOPENED), *reading.rows(R5_REFUNDED)]
    agreed = fingerprints.agreement(reading) if reading.full else fingerprints.Agreement(posted=False, consumed=False)
    posted = [] if agreed.posted else [*_posted(reading), *_strays(reading)]
    consumed = [] if agreed.consumed else _consumed(reading)
    return differing([*posted, *consumed, *corrected])


def _posted(reading: Reading) -> list[tuple[Any, ...]]:
    since, after = ("", []) if reading.full else ("AND h.id > %s", [reading.since.hold_cut])
    overages, overage = (OVERAGES, "overages") if reading.full else ("", "credits_transfer")
    sql = R5_HOLDS.format(since=since, no_record=NO_RECORD, overages=overages, overage=overage)
    rows = []
    for id_, captured, posted, charge in reading.rows(sql, *after):
        if captured != posted:
            rows.append((id_, captured, posted))
        if captured != charge:
            rows.append((f"{id_}'s usage record", charge, captured))
    return rows


def _strays(reading: Reading) -> list[tuple[Any, ...]]:
    """Captures that belong to no captured hold."""
    return reading.rows(R5_STRAY, reading.since.cut)


def _consumed(reading: Reading) -> list[tuple[Any, ...]]:
    if reading.full and reading.dialect.postgresql:
        return reading.rows(R5_LOTS)
    return reading.rows(R5_LOTS_BY_ROW, reading.since.cut)


R8 = f"""
SELECT id, state, created_at FROM credits_hold
WHERE {UNFINISHED_SQL}
    AND (lease_until < %s OR created_at < %s OR (state = 'needs_settlement' AND updated_at < %s AND lease_until < %s))
ORDER BY created_at
"""


@check("R8", "no hold is overdue")
def ages(reading: Reading) -> Outcome:
    """A dispatched hold whose process renews its lease is a long answer, and not overdue."""
    time = reading.dialect.time
    overdue = time(reading.now - OVERDUE)
    old = reading.rows(R8, overdue, time(reading.now - ENDLESS), overdue, time(reading.now))
    if not old:
        return Outcome(True, "")
    states = sorted({row[1] for row in old})
    counts = ", ".join(f"{sum(row[1] == state for row in old)} {state}" for state in states)
    examples = "; ".join(f"{row[0]} {row[1]}" for row in old[:EXAMPLES])
    return Outcome(False, f"{len(old)} holds are overdue ({counts}), oldest first: {examples}", len(old))


R10 = """
SELECT COUNT(*), COALESCE(SUM(-margin), 0) FROM credits_usagerecord WHERE created_at >= %s AND margin < %s
"""
R10_WORST = """
SELECT request_id, model, -margin FROM credits_usagerecord WHERE created_at >= %s AND margin < %s
ORDER BY margin LIMIT 1
"""


@check("R10", "no request of the last day was sold under its cost", Severity.WARNING)
def under_cost(reading: Reading) -> Outcome:
    """A loss is a matter of prices, not of books: it is told and does not fail the run."""
    since = reading.dialect.time(reading.now - UNDER_COST_PERIOD)
    count, loss = reading.rows(R10, since, -settings.UNDER_COST_NANOS)[0]
    if not count:
        return Outcome(True, "")
    request_id, model, worst = reading.rows(R10_WORST, since, -settings.UNDER_COST_NANOS)[0]
    detail = (
        f"{count} requests of the last day cost {format_usd(int(loss))} more than they brought, "
        f"at worst {format_usd(int(worst))} ({request_id}, {model})"
    )
    return Outcome(False, detail, int(count), int(loss))


R11 = """
SELECT l.id, l.remaining, w.organization_id, w.posted - w.held FROM credits_creditlot l
JOIN credits_wallet w ON w.organization_id = l.wallet_id
WHERE l.remaining > 0 AND l.expires_at < %s AND w.posted > w.held
ORDER BY w.organization_id, l.expires_at, l.id
"""


@check("R11", "no lot is expired and unswept")
def unswept(reading: Reading) -> Outcome:
    """What unfinished holds reserve may outlive its expiry: of a wallet's expired lots only the part that is
    free counts."""
    rows = reading.rows(R11, reading.dialect.time(reading.now - UNSWEPT))
    if not rows:
        return Outcome(True, "")
    free = {wallet: left for _, _, wallet, left in rows}
    expired: dict[int, int] = {}
    for _, remaining, wallet, _ in rows:
        expired[wallet] = expired.get(wallet, 0) + remaining
    unswept_nanos = sum(min(sum_, free[wallet]) for wallet, sum_ in expired.items())
    examples = "; ".join(f"lot {row[0]} of {row[2]}: {format_usd(row[1])}" for row in rows[:EXAMPLES])
    detail = f"{len(rows)} lots expired and were not swept, {format_usd(unswept_nanos)} together: {examples}"
    return Outcome(False, detail, len(rows), unswept_nanos)


BUDGETS = f"""
SELECT b.api_key_id, b.held, COALESCE(h.amount, 0) FROM credits_keybudget b
LEFT JOIN (
    SELECT api_key_id, SUM(amount) AS amount FROM credits_hold
    WHERE {UNFINISHED_SQL} GROUP BY api_key_id
) h ON h.api_key_id = b.api_key_id
WHERE b.held <> COALESCE(h.amount, 0) ORDER BY b.api_key_id
"""


@check("B", "every key's budget holds what its unfinished requests reserve")
def budgets(reading: Reading) -> Outcome:
    return differing(reading.rows(BUDGETS))


@check("U", "rollups say what usage records and the ledger say")
def rollups(reading: Reading) -> Outcome:
    """It reads every record: full runs do it, and every night the task that also mends rollups."""
    if not reading.full:
        return Outcome(True, "rollups are compared in full runs, and every night by their own task")
    with connection.cursor() as cursor:
        found = agreement.differences(cursor)
    if not found:
        return Outcome(True, "")
    off = sum(abs(difference.charge) for difference in found)
    examples = "; ".join(map(str, found[:EXAMPLES]))
    return Outcome(False, f"{len(found)} differ: {examples}", len(found), off)


check("C", "the transfers before each checkpoint are what they were")(unchanged)
