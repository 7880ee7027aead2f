"""The rows that one transaction works on: read and locked together, changed in memory, written together.

The rules of holds and settlements are in `batch.py`; here is only the SQL.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import IntegrityError

from credits import ledger, records, tiers
from credits.budgets import WINDOWS, Budget
from credits.database import Cursor, Dialect
from credits.ledger import Consumption, Lot, Posting, TenantAccounts
from credits.models import UNFINISHED, AccountKind
from credits.types import Explanation, PriceSnapshot


@dataclass(slots=True)
class WalletRow:
    """A locked wallet; amounts in nanos."""

    organization_id: int
    posted: int
    held: int
    debt: int
    frozen: bool
    expiry_due: bool = False
    """A lot may have expired: `expiry.expire_due` before new credits are reserved."""
    next_expiry: Any = None

    @property
    def free(self) -> int:
        return self.posted - self.held


@dataclass(slots=True)
class HoldRow:
    """A stored hold, or one that this transaction adds."""

    id: str
    organization_id: int
    api_key_id: int
    amount: int
    captured: int
    state: str
    price_id: int
    model: str
    max_tokens: int
    fingerprint: str

    @property
    def unfinished(self) -> bool:
        return self.state in UNFINISHED


class Memory:
    """What never changes once it is stored, so that it is read only once: the ids of ledger
    accounts, price snapshots in both directions, and the explanations stored on a day."""

    def __init__(self) -> None:
        self.accounts: dict[int, TenantAccounts] = {}
        self.revenue: int | None = None
        self.price_ids: dict[PriceSnapshot, int] = {}
        self.prices: dict[int, PriceSnapshot] = {}
        self.explained: dict[str, str] = {}
        self._seen: dict[int, tuple[PriceSnapshot, int]] = {}

    def price_id(self, price: PriceSnapshot) -> int | None:
        """None for a price that has not been learnt. The same object comes again and again, and its
        hash costs more than everything else here."""
        seen = self._seen.get(id(price))
        if seen is not None and seen[0] is price:
            return seen[1]
        known = self.price_ids.get(price)
        if known is not None:
            if len(self._seen) >= MOST_PRICES:
                self._seen.clear()
            self._seen[id(price)] = (price, known)
        return known

    def learn(self, price: PriceSnapshot, price_id: int) -> None:
        if len(self.price_ids) >= MOST_PRICES:
            self.price_ids.clear()
            self.prices.clear()
            self._seen.clear()
        self.price_ids[price] = price_id
        self.prices[price_id] = price

    def has_stored(self, explanations: Iterable[str], day: str) -> None:
        """`explanations`, by their refs, were committed as used on `day` (ISO)."""
        if len(self.explained) > MOST_EXPLANATIONS:
            self.explained.clear()
        self.explained.update(dict.fromkeys(explanations, day))


MOST_STANDING = 20_000


class Standing:
    """The rows that batches change, as the last of them left them. Good for as long as nobody else has
    written to the database, which SQLite tells (`Dialect.version`): a transaction that finds the
    version changed reads everything anew, under the lock that it holds by then."""

    def __init__(self) -> None:
        self.version: Any = None
        self.wallets: dict[int, WalletRow] = {}
        self.lots: dict[int, list[Lot]] = {}
        self.keys: dict[int, tuple[int, Any]] = {}
        """API keys that are not revoked: organisation, and when they expire."""
        self.budgets: dict[int, Budget | None] = {}

    def forget(self) -> None:
        self.version = None
        for rows in (self.wallets, self.lots, self.keys, self.budgets):
            rows.clear()

    def is_of(self, version: Any) -> None:
        """Forget everything, unless it was read when the database had this version."""
        if version is None or version != self.version or len(self.wallets) + len(self.keys) > MOST_STANDING:
            self.forget()
            self.version = version


_LIMITS = tuple(f"limit_{window}" for window in WINDOWS)
_SPENT = tuple(f"spent_{window}" for window in WINDOWS)

PRICE_COLUMNS = "input, output, cache_read, cache_write, cache_write_1h, web_search, tiers"
MOST_PRICES = 50_000
MOST_EXPLANATIONS = 20_000


def learn_prices(cursor: Cursor, memory: Memory, prices: Iterable[PriceSnapshot]) -> None:
    """Store each of `prices` that is new. Outside the batch's transaction: what is remembered
    must have been committed."""
    for price in prices:
        if memory.price_id(price) is not None:
            continue
        content = (
            price.input, price.output, price.cache_read, price.cache_write, price.cache_write_1h, price.web_search,
            tiers.written(price.tiers),
        )  # fmt: skip
        cursor.execute(
            f"INSERT INTO credits_pricesnapshot ({PRICE_COLUMNS}) "
            "VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
            content,
        )
        cursor.execute(
            "SELECT id FROM credits_pricesnapshot WHERE input = %s AND output = %s AND cache_read = %s "
            "AND cache_write = %s AND cache_write_1h = %s AND web_search = %s AND tiers = %s",
            content,
        )
        row = cursor.fetchone()
        assert row is not None
        memory.learn(price, row[0])


@dataclass(slots=True)
class Books:
    cursor: Cursor
    dialect: Dialect
    memory: Memory
    now: datetime
    stamp: Any
    """Now, as the database stores it; and when a hold made now is overdue."""
    lease_until: Any
    standing: Standing = field(default_factory=Standing)
    """Begun anew for each transaction, but for the writer's on SQLite."""
    wallets: dict[int, WalletRow] = field(default_factory=dict)
    holds: dict[str, HoldRow] = field(default_factory=dict)
    keys: dict[int, int] = field(default_factory=dict)
    budgets: dict[int, Budget] = field(default_factory=dict)
    lots: dict[int, list[Lot]] = field(default_factory=dict)
    changed_wallets: set[int] = field(default_factory=set)
    changed_lots: dict[int, Lot] = field(default_factory=dict)
    changed_budgets: set[int] = field(default_factory=set)
    new_holds: list[tuple[Any, ...]] = field(default_factory=list)
    closings: list[tuple[str, int, Any, str]] = field(default_factory=list)
    postings: list[Posting] = field(default_factory=list)
    consumptions: list[Consumption] = field(default_factory=list)
    usage: list[tuple[Any, ...]] = field(default_factory=list)
    explanations: dict[str, str] = field(default_factory=dict)

    @property
    def day(self) -> str:
        return self.now.date().isoformat()

    def explain(self, explanation: Explanation | None) -> None:
        """Store it with this batch, unless that was done today."""
        if explanation is not None and self.memory.explained.get(explanation.ref) != self.day:
            self.explanations[explanation.ref] = explanation.content

    def organizations_of(self, request_ids: Sequence[str]) -> dict[str, int]:
        sql = f"SELECT id, wallet_id FROM credits_hold WHERE {self.dialect.any_of('id')}"
        self.cursor.execute(sql, (self.dialect.values(request_ids),))
        return dict(self.cursor.fetchall())

    def lock_wallets(self, organization_ids: Iterable[int]) -> None:
        """In the order of their ids, so that two transactions cannot wait for one another."""
        known = self.standing.wallets
        missing = sorted(id_ for id_ in organization_ids if id_ not in known)
        if missing:
            self.cursor.execute(
                f"SELECT organization_id, posted, held, debt, frozen, {self.dialect.as_stored('next_expiry')} "
                f"FROM credits_wallet WHERE {self.dialect.any_of('organization_id')} "
                f"ORDER BY organization_id{self.dialect.for_update}",
                (self.dialect.values(missing),),
            )
            for row in self.cursor.fetchall():
                known[row[0]] = WalletRow(row[0], row[1], row[2], row[3], bool(row[4]), next_expiry=row[5])
        for id_ in organization_ids:
            wallet = known.get(id_)
            if wallet is not None:
                wallet.expiry_due = wallet.next_expiry is not None and wallet.next_expiry <= self.stamp
                self.wallets[id_] = wallet

    def read_holds(self, request_ids: Sequence[str]) -> None:
        """Only after the wallets are locked: nobody else then changes these holds' states."""
        self.cursor.execute(
            "SELECT id, wallet_id, api_key_id, amount, captured, state, price_snapshot_id, model, max_tokens, "
            f"fingerprint FROM credits_hold WHERE {self.dialect.any_of('id')}",
            (self.dialect.values(request_ids),),
        )
        self.holds.update((row[0], HoldRow(*row)) for row in self.cursor.fetchall())

    def find_hold(self, request_id: str) -> HoldRow | None:
        """Of this transaction, else as stored."""
        if request_id not in self.holds:
            self.read_holds([request_id])
        return self.holds.get(request_id)

    def read_keys(self, key_ids: Iterable[int]) -> None:
        """The API keys that are neither revoked, disabled nor expired now, with their organisations."""
        known = self.standing.keys
        missing = [id_ for id_ in key_ids if id_ not in known]
        if missing:
            self.cursor.execute(
                f"SELECT id, organization_id, {self.dialect.as_stored('expires_at')} FROM accounts_apikey "
                f"WHERE {self.dialect.any_of('id')} AND revoked_at IS NULL AND disabled_at IS NULL",
                (self.dialect.values(missing),),
            )
            known.update((row[0], (row[1], row[2])) for row in self.cursor.fetchall())
        for id_ in key_ids:
            organization_id, expires_at = known.get(id_, (None, None))
            if organization_id is not None and (expires_at is None or expires_at > self.stamp):
                self.keys[id_] = organization_id

    def read_budgets(self, key_ids: Iterable[int]) -> None:
        """Of those API keys that have one, with each window that has ended begun anew. The wallets'
        locks guard them: whoever changes a budget holds the lock of its organisation's wallet."""
        known = self.standing.budgets
        missing = [id_ for id_ in key_ids if id_ not in known]
        if missing:
            known.update(dict.fromkeys(missing))
            self.cursor.execute(
                f"SELECT api_key_id, held, spent_on, {', '.join(_LIMITS)}, {', '.join(_SPENT)} FROM credits_keybudget "
                f"WHERE {self.dialect.any_of('api_key_id')}",
                (self.dialect.values(missing),),
            )
            for key_id, held, spent_on, *amounts in self.cursor.fetchall():
                limits, spent = tuple(amounts[: len(WINDOWS)]), tuple(amounts[len(WINDOWS) :])
                known[key_id] = Budget(key_id, limits, spent, held, self.dialect.date(spent_on))
        for id_ in key_ids:
            budget = known[id_]
            if budget is not None:
                budget.roll(self.now)
                self.budgets[id_] = budget

    def read_lots(self, organization_ids: Iterable[int]) -> None:
        """Open lots in the order in which they are used up (models.CreditLot)."""
        known = self.standing.lots
        missing = [id_ for id_ in organization_ids if id_ not in known]
        if missing:
            for id_ in missing:
                known[id_] = []
            self.cursor.execute(
                "SELECT wallet_id, id, remaining FROM credits_creditlot "
                f"WHERE {self.dialect.any_of('wallet_id')} AND remaining > 0 "
                "ORDER BY priority, CASE WHEN expires_at IS NULL THEN 1 ELSE 0 END, expires_at, "
                "CASE kind WHEN 'promo' THEN 0 ELSE 1 END, id",
                (self.dialect.values(missing),),
            )
            for organization_id, lot_id, remaining in self.cursor.fetchall():
                known[organization_id].append(Lot(lot_id, remaining))
        for id_ in organization_ids:
            self.lots[id_] = known[id_]

    def read_accounts(self, organization_ids: Iterable[int]) -> None:
        missing = [id_ for id_ in organization_ids if id_ not in self.memory.accounts]
        if missing:
            self.cursor.execute(
                "SELECT organization_id, kind, id FROM credits_ledgeraccount "
                f"WHERE {self.dialect.any_of('organization_id')}",
                (self.dialect.values(missing),),
            )
            found: dict[int, dict[str, int]] = {}
            for organization_id, kind, account_id in self.cursor.fetchall():
                found.setdefault(organization_id, {})[kind] = account_id
            for organization_id, ids in found.items():
                accounts = TenantAccounts(ids[AccountKind.WALLET], ids[AccountKind.RECEIVABLE])
                self.memory.accounts[organization_id] = accounts
        if self.memory.revenue is None:
            self.cursor.execute("SELECT id FROM credits_ledgeraccount WHERE kind = 'revenue'")
            row = self.cursor.fetchone()
            self.memory.revenue = row[0] if row else None

    def price(self, price_id: int) -> PriceSnapshot:
        price = self.memory.prices.get(price_id)
        if price is None:
            self.cursor.execute(f"SELECT {PRICE_COLUMNS} FROM credits_pricesnapshot WHERE id = %s", (price_id,))
            row = self.cursor.fetchone()
            assert row is not None
            tiered = tiers.read(row[6])
            price = self.memory.prices[price_id] = PriceSnapshot(row[0], row[1], row[2], row[3], row[4], row[5], tiered)
        return price

    def context_and_checkpoint(self, request_id: str) -> tuple[dict[str, Any], records.Checkpoint | None]:
        self.cursor.execute("SELECT context, checkpoint FROM credits_hold WHERE id = %s", (request_id,))
        row = self.cursor.fetchone()
        if row is None:
            return {}, None
        context = json.loads(row[0])
        return context if isinstance(context, dict) else {}, records.read_checkpoint(row[1])

    def overdue(self, request_id: str) -> bool:
        """Whether the hold's lease has run out. It cannot be renewed until this transaction has ended."""
        sql = f"SELECT 1 FROM credits_hold WHERE id = %s AND lease_until < %s{self.dialect.for_update}"
        self.cursor.execute(sql, (request_id, self.stamp))
        return self.cursor.fetchone() is not None

    def settled_usage(self, request_id: str) -> tuple[tuple[int, ...], int, int] | None:
        """(counts of the reading, charge, cost) of a request that was settled before."""
        columns = ", ".join(records.READING_COLUMNS)
        self.cursor.execute(
            f"SELECT {columns}, charge, cost FROM credits_usagerecord WHERE request_id = %s", (request_id,)
        )
        row = self.cursor.fetchone()
        return None if row is None else (tuple(row[:-2]), row[-2], row[-1])

    def consume(self, organization_id: int, key: str, amount: int) -> None:
        lots = self.lots.get(organization_id, [])
        while lots and not lots[0].remaining:  # used up before
            del lots[0]
        taken = ledger.consume(lots, key, amount)
        self.consumptions.extend(taken)
        ids = {consumption.lot for consumption in taken}
        self.changed_lots.update((lot.id, lot) for lot in lots if lot.id in ids)

    def close_hold(self, hold: HoldRow, state: str, captured: int) -> None:
        hold.state, hold.captured = state, captured
        self.closings.append((state, captured, self.stamp, hold.id))

    def write(self) -> None:
        """Everything that changed, each table in one go."""
        cursor = self.cursor
        if self.new_holds:
            cursor.executemany(records.INSERT_HOLD, self.new_holds)
        if self.closings:
            self._expect(self.dialect.close_holds(cursor, self.closings), len(self.closings), "holds")
        if self.postings:
            ledger.post(cursor, self.postings, self.stamp)
        if self.consumptions:
            ledger.record_consumption(cursor, self.consumptions)
        if self.changed_lots:
            self._update_all(
                "UPDATE credits_creditlot SET remaining = %s WHERE id = %s",
                [(lot.remaining, lot.id) for lot in self.changed_lots.values()],
            )
        if self.changed_wallets:
            wallets = [self.wallets[id_] for id_ in sorted(self.changed_wallets)]
            self._update_all(
                "UPDATE credits_wallet SET posted = %s, held = %s, debt = %s WHERE organization_id = %s",
                [(wallet.posted, wallet.held, wallet.debt, wallet.organization_id) for wallet in wallets],
            )
        if self.changed_budgets:
            budgets = [self.budgets[id_] for id_ in sorted(self.changed_budgets)]
            self._update_all(
                f"UPDATE credits_keybudget SET held = %s, spent_on = %s, {', '.join(f'{c} = %s' for c in _SPENT)} "
                "WHERE api_key_id = %s",
                [(b.held, b.spent_on.isoformat(), *b.spent, b.api_key_id) for b in budgets],
            )
        if self.explanations:  # in one order, so that two processes cannot wait for one another
            rows = [(ref, content, self.day) for ref, content in sorted(self.explanations.items())]
            cursor.executemany(records.LEARN_EXPLANATION, rows)
        if self.usage:
            cursor.executemany(records.INSERT_USAGE, self.usage)

    def _update_all(self, sql: str, rows: list[tuple[Any, ...]]) -> None:
        self.cursor.executemany(sql, rows)
        self._expect(self.cursor.rowcount, len(rows), sql[:30])

    def _expect(self, changed: int, rows: int, what: str) -> None:
        if changed != rows:
            raise IntegrityError(f"{changed} of {rows} rows were as expected: {what}")
