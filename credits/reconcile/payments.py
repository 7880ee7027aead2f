"""The checks of payments: our clearing account against Stripe's balance (R6), and that nothing Stripe told is left
lying (R9). They read what Celery has fetched; a run asks nobody anything."""

from collections import defaultdict
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from credits.money import format_usd
from credits.payments.balance import NAME as BALANCE
from credits.payments.balance import OURS_ALONE
from credits.payments.events import POLL_NAME as EVENTS
from credits.reconcile.findings import EXAMPLES, Outcome, check
from credits.reconcile.reading import Reading

SETTLING = timedelta(hours=2)
"""How long Stripe's line and our transfer may wait for one another."""
UNREAD = timedelta(hours=4)
UNHANDLED = timedelta(minutes=10)

BOOKED = """
SELECT t.group_id, SUM(CASE WHEN t.debit_id = a.id THEN t.amount ELSE -t.amount END),
    MIN(t.created_at), MAX(t.created_at)
FROM credits_transfer t JOIN credits_ledgeraccount a ON a.kind = 'stripe_clearing'
WHERE t.debit_id = a.id OR t.credit_id = a.id GROUP BY t.group_id
"""
LINES = "SELECT id, type, source, amount, fee, created_at, seen_at FROM credits_balancetransaction"
NAMES = """
SELECT 'topup:' || id, charge FROM credits_topup WHERE charge IS NOT NULL
UNION ALL SELECT 'refund:' || id, stripe_id FROM credits_paymentrefund WHERE stripe_id IS NOT NULL
"""
PROGRESS = "SELECT read_at, missed FROM credits_stripeprogress WHERE name = %s"
OLDEST = "SELECT MIN(created_at) FROM credits_topup WHERE state = 'succeeded'"


class Sum:
    """What one charge, refund, dispute or fee has moved: nanos in the ledger and at Stripe."""

    def __init__(self) -> None:
        self.booked = 0
        self.told = 0
        self.first: datetime | None = None
        self.last: datetime | None = None

    def add(self, first: datetime, last: datetime) -> None:
        self.first = min(self.first or first, first)
        self.last = max(self.last or last, last)


@check("R6", "the clearing account is Stripe's balance")
def clearing(reading: Reading) -> Outcome:
    """Each charge, refund, dispute and fee by itself, reported by the day on which it began: what is equal in sum only
    is found too. What moved in the last two hours is left for the next run."""
    late = _unread(reading, BALANCE, "Stripe's balance")
    if late:
        return Outcome(False, late, 1)
    if not reading.rows(PROGRESS, BALANCE):
        return Outcome(True, "there is no Stripe account to compare with")
    sums = _sums(reading)
    settled = {name: each for name, each in sums.items() if each.last and each.last < reading.now - SETTLING}
    wrong = {name: each for name, each in settled.items() if each.booked != each.told}
    if not wrong:
        return Outcome(True, "")
    days: dict[str, list[str]] = defaultdict(list)
    for name, each in wrong.items():
        days[f"{each.first:%Y-%m-%d}"].append(name)
    told = [
        f"{day}: {format_usd(sum(wrong[name].booked for name in names))} booked, "
        f"{format_usd(sum(wrong[name].told for name in names))} at Stripe ({', '.join(sorted(names)[:EXAMPLES])})"
        for day, names in sorted(days.items())
    ]
    off = sum(abs(each.booked - each.told) for each in wrong.values())
    return Outcome(False, f"{len(wrong)} differ; {'; '.join(told[:EXAMPLES])}", len(wrong), off)


def _sums(reading: Reading) -> dict[str, Sum]:
    names = dict(reading.rows(NAMES))
    sums: dict[str, Sum] = defaultdict(Sum)
    for group, amount, first, last in reading.rows(BOOKED):
        name = str(group).removesuffix(":back")
        each = sums[names.get(name, name.removeprefix("dispute:"))]
        each.booked += int(amount)
        each.add(_time(first), _time(last))
    for id_, type_, source, amount, fee, created_at, seen_at in reading.rows(LINES):
        if type_ in OURS_ALONE:
            continue
        for name, moved in ((source or id_, amount), (f"stripe_fee:{id_}", -fee)):
            if moved:
                sums[name].told += int(moved)
                sums[name].add(_time(created_at), _time(seen_at))
    return sums


def _time(stored: Any) -> datetime:
    """SQLite gives times that were reckoned with as text."""
    moment = datetime.fromisoformat(stored) if isinstance(stored, str) else stored
    return moment if timezone.is_aware(moment) else timezone.make_aware(moment, timezone.get_default_timezone())


def _unread(reading: Reading, name: str, what: str) -> str:
    """What is wrong with how far Stripe was read; "" for nothing. That a job did not run is found here, not there."""
    rows = reading.rows(PROGRESS, name)
    if rows:
        read_at = _time(rows[0][0])
        return "" if read_at > reading.now - UNREAD else f"{what} has not been read since {read_at:%Y-%m-%d %H:%M}"
    oldest = reading.one(OLDEST)
    if oldest is not None and _time(oldest) < reading.now - UNREAD:
        return f"{what} has never been read, and there are payments"
    return ""


UNHANDLED_EVENTS = """
SELECT id, type, error FROM credits_stripeevent WHERE handled_at IS NULL AND received_at < %s ORDER BY received_at
"""


@check("R9", "every event of Stripe's is handled, and none is missing")
def events(reading: Reading) -> Outcome:
    late = _unread(reading, EVENTS, "Stripe's list of events")
    left = reading.rows(UNHANDLED_EVENTS, reading.dialect.time(reading.now - UNHANDLED))
    if left:
        examples = "; ".join(f"{id_} {type_} {error}".strip() for id_, type_, error in left[:EXAMPLES])
        return Outcome(False, f"{len(left)} events are not handled, oldest first: {examples}", len(left))
    if late:
        return Outcome(False, late, 1)
    rows = reading.rows(PROGRESS, EVENTS)
    if rows and rows[0][1]:
        return Outcome(True, f"all handled, but {rows[0][1]} of them no webhook had told: look at the webhook's log")
    return Outcome(True, "")
