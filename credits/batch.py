"""The rules of holds and settlements, applied to a batch of operations in one transaction.

Each operation can be repeated: it first looks at what is stored under its request id. So a batch
whose COMMIT has an unknown outcome is simply run again.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any

from django.db import IntegrityError
from django.db.backends.base.base import BaseDatabaseWrapper
from msgspec import Struct
from msgspec.structs import replace

from credits import ledger, rating, records
from credits.books import Books, HoldRow, Memory, Standing, WalletRow, learn_prices
from credits.budgets import Budget
from credits.database import Cursor, Dialect
from credits.errors import (
    BudgetExceeded,
    CreditsError,
    HoldClosed,
    HoldConflict,
    InsufficientCredits,
    KeyNoLongerValid,
    LedgerDrift,
    OutstandingDebt,
    WalletFrozen,
)
from credits.expiry import expire_due
from credits.models import HoldState
from credits.types import (
    HoldGrant,
    HoldRequest,
    MeterReading,
    Nanos,
    PriceSnapshot,
    RequestFacts,
    Settlement,
    SettleRequest,
    UsageSource,
)

LEAST_OUTPUT = 256
"""Tokens. A request that cannot be afforded whole gets at least these, or is refused."""

MOST_OWN = 50_000
CLIENT_CLOSED = 499
INTERRUPTED = "interrupted"


class HoldOp(Struct, frozen=True):
    request: HoldRequest
    dispatch: bool = True

    @property
    def request_id(self) -> str:
        return self.request.request_id


class SettleOp(Struct, frozen=True):
    request: SettleRequest

    @property
    def request_id(self) -> str:
        return self.request.request_id


class InterruptOp(Struct, frozen=True):
    """Ends a hold that nobody will settle, with `reading`, else with its checkpoint, else with nothing;
    `lapsed`: unless its lease has been renewed."""

    request_id: str
    reading: MeterReading | None = None
    error_code: str = INTERRUPTED
    lapsed: bool = False


class ExpireOp(Struct, frozen=True):
    """Gives an overdue hold back that was never sent to a provider."""

    request_id: str


Operation = HoldOp | SettleOp | InterruptOp | ExpireOp
Outcome = HoldGrant | Settlement | CreditsError | bool
"""What an operation came to: for InterruptOp and ExpireOp whether they ended the hold. A refusal is
an outcome too: it must not sink its neighbours."""


def fingerprint(request: HoldRequest, price_id: int, context: str) -> str:
    """Tells another request under the same id from a repetition. `context` as JSON."""
    content = (
        f"{request.organization_id}|{request.api_key_id}|{price_id}|{request.input_tokens}|{request.max_tokens}|"
        f"{request.model}|{context}"
    )
    return blake2b(content.encode("utf-8", "replace"), digest_size=16).hexdigest()


def prices_of(cursor: Cursor, operations: Sequence[Operation]) -> set[PriceSnapshot]:
    """The prices that the operations need to know, those of checkpoints too."""
    prices = {op.request.price for op in operations if isinstance(op, HoldOp)}
    for operation in operations:
        if isinstance(operation, SettleOp):
            if operation.request.price is not None:
                prices.add(operation.request.price)
        elif isinstance(operation, InterruptOp):
            cursor.execute("SELECT checkpoint FROM credits_hold WHERE id = %s", (operation.request_id,))
            row = cursor.fetchone()
            checkpoint = records.read_checkpoint(row[0]) if row else None
            if checkpoint is not None and checkpoint.price is not None:
                prices.add(checkpoint.price)
    return prices


class BatchRunner:
    """Runs batches on one connection; not for use by two threads. `alone`: nothing but this runner writes
    what batches read through this very connection, so that what one batch has read may serve the next
    as long as no other connection has written (`Standing`)."""

    def __init__(
        self,
        connection: BaseDatabaseWrapper,
        *,
        owner: str,
        lease_seconds: float,
        clock: Callable[[], datetime],
        alone: bool = False,
    ) -> None:
        self._connection = connection
        self._dialect = Dialect(connection)
        self._memory = Memory()
        self._standing = Standing() if alone else None
        self._connected: Any = None
        self._own: dict[str, HoldRow] = {}
        """The dispatched holds that this runner has stored, as they were then. That a hold is still
        unfinished is checked when it is closed (`Books.write`); if not, it is read anew."""
        self._owner = owner
        self._lease = timedelta(seconds=lease_seconds)
        self._clock = clock

    def run(self, operations: Sequence[Operation]) -> list[Outcome]:
        """The outcome of each operation, committed. Raises what the database raises, and LedgerDrift;
        then nothing of the batch is stored.

        Request ids are new and this runner's own holds are as it left them, nearly always: so neither is
        looked up at first. Where the tables' keys refuse what comes of that, everything is read."""
        own = self._take_own(operations)
        try:
            return self._run(operations, own)
        except IntegrityError:
            return self._run(operations, {}, look_up=True)

    def _run(self, operations: Sequence[Operation], own: dict[str, HoldRow], *, look_up: bool = False) -> list[Outcome]:
        now = self._clock()
        stamp, lease_until = self._dialect.time(now), self._dialect.time(now + self._lease)
        try:
            with self._dialect.cursor() as cursor:
                learn_prices(cursor, self._memory, prices_of(cursor, operations))
                with self._dialect.transaction():
                    standing = self._standing_of(cursor)
                    books = Books(cursor, self._dialect, self._memory, now, stamp, lease_until, standing)
                    self._load(books, operations, own, look_up=look_up)
                    outcomes = [self._apply(books, operation) for operation in operations]
                    books.write()
        except BaseException:
            if self._standing is not None:  # it holds what was not stored
                self._standing.forget()
            raise
        if books.explanations:
            self._memory.has_stored(books.explanations, books.day)
        for operation in operations:
            if isinstance(operation, HoldOp):
                hold = books.holds.get(operation.request.request_id)
                if hold is not None and hold.state == HoldState.DISPATCHED:
                    self._own[hold.id] = hold
        return outcomes

    def _standing_of(self, cursor: Cursor) -> Standing:
        """What is known already of the rows as they are now, under the transaction's lock."""
        if self._standing is None:
            return Standing()
        if self._connected is not self._connection.connection:  # versions count for one connection
            self._standing.forget()
            self._connected = self._connection.connection
        self._standing.is_of(self._dialect.version(cursor))
        return self._standing

    def _take_own(self, operations: Sequence[Operation]) -> dict[str, HoldRow]:
        """Those that the batch settles. Taken out, so that a repetition of a failed batch reads them."""
        taken = {}
        for operation in operations:
            hold = self._own.pop(operation.request_id, None)
            if hold is not None and isinstance(operation, SettleOp):
                taken[hold.id] = hold
        if len(self._own) > MOST_OWN:
            self._own.clear()
        return taken

    def _load(self, books: Books, operations: Sequence[Operation], own: dict[str, HoldRow], *, look_up: bool) -> None:
        holds = [op.request for op in operations if isinstance(op, HoldOp)]
        foreign = [op.request_id for op in operations if not isinstance(op, HoldOp) and op.request_id not in own]
        closing = {hold.organization_id for hold in own.values()}
        if foreign:
            closing.update(books.organizations_of(foreign).values())
        organizations = closing.union([request.organization_id for request in holds])
        books.lock_wallets(organizations)
        unknown = [op.request_id for op in operations if op.request_id not in own] if look_up else foreign
        if unknown:
            books.read_holds(unknown)
        books.holds.update(own)
        asking = {request.api_key_id for request in holds}
        if holds:
            books.read_keys(asking)
        books.read_budgets(asking.union([hold.api_key_id for hold in books.holds.values()]))
        if own or foreign:
            books.read_accounts(organizations)
            books.read_lots(organizations)

    def _apply(self, books: Books, operation: Operation) -> Outcome:
        try:
            match operation:
                case HoldOp():
                    return self._hold(books, operation)
                case SettleOp():
                    return settle(books, operation.request)
                case InterruptOp():
                    return interrupt(books, operation)
                case ExpireOp():
                    return expire(books, operation.request_id)
        except LedgerDrift:
            raise
        except CreditsError as refusal:
            return refusal

    def _hold(self, books: Books, operation: HoldOp) -> HoldGrant:
        request, context = operation.request, records.json_text(operation.request.context)
        price_id = self._memory.price_id(request.price)
        assert price_id is not None  # learnt before
        mark = fingerprint(request, price_id, context)
        wallet = books.wallets.get(request.organization_id)
        # A repetition is recognised by the table's key where this was not (`run`), but not one that
        # would be refused, or would take expired credits out first.
        expiring = wallet is not None and wallet.expiry_due
        stored = books.find_hold(request.request_id) if expiring else books.holds.get(request.request_id)
        if stored is not None:
            return repeated_hold(stored, mark)
        budget = books.budgets.get(request.api_key_id)
        try:
            amount, max_tokens = self._reserve(books, wallet, request, budget)
        except CreditsError:
            stored = books.find_hold(request.request_id)
            if stored is None:
                raise
            return repeated_hold(stored, mark)
        assert wallet is not None
        wallet.held += amount
        books.changed_wallets.add(wallet.organization_id)
        if budget is not None:
            budget.reserve(amount)
            books.changed_budgets.add(budget.api_key_id)
        row = HoldRow(
            request.request_id, wallet.organization_id, request.api_key_id, amount, 0,
            HoldState.DISPATCHED.value if operation.dispatch else HoldState.OPEN.value,
            price_id, records.known_text(request.model, 200), max_tokens, mark,
        )  # fmt: skip
        books.holds[row.id] = row
        books.new_holds.append((
            row.id, row.organization_id, row.api_key_id, row.amount, row.state, row.price_id, row.model,
            request.input_tokens, row.max_tokens, mark, context, self._owner,
            books.lease_until, books.stamp, books.stamp,
        ))  # fmt: skip
        return HoldGrant(request.request_id, amount, max_tokens)

    @staticmethod
    def _reserve(
        books: Books, wallet: WalletRow | None, request: HoldRequest, budget: Budget | None
    ) -> tuple[Nanos, int]:
        if books.keys.get(request.api_key_id) != request.organization_id:
            raise KeyNoLongerValid
        if wallet is not None and wallet.expiry_due:
            expire_due(books, wallet)
            books.standing.version = None  # it has changed more than stands there: read anew next time
        return reserve(wallet, request, budget)


def repeated_hold(stored: HoldRow, mark: str) -> HoldGrant:
    if stored.fingerprint != mark or not stored.unfinished:
        raise HoldConflict(f"request id {stored.id} was used before")
    return HoldGrant(stored.id, Nanos(stored.amount), stored.max_tokens)


def reserve(wallet: WalletRow | None, request: HoldRequest, budget: Budget | None = None) -> tuple[Nanos, int]:
    """The amount to hold and the output tokens that it affords (architecture, section 5).

    The whole worst case if the wallet and the key's budget can; else at most half of what is free,
    so that one request does not lock out all others; else a refusal that names what would have been
    enough."""

    def cost(output: int) -> Nanos:
        return rating.worst_case(request.input_tokens, output, request.price, request.web_searches)

    if wallet is None:
        raise InsufficientCredits(needed=cost(1), available=0)
    if wallet.frozen:
        raise WalletFrozen
    if wallet.debt > 0:
        raise OutstandingDebt(debt=wallet.debt)
    asked = min(request.max_tokens, rating.MOST_TOKENS)
    worst = cost(asked)
    binding = budget.binding() if budget is not None else None
    free = wallet.free if binding is None else min(wallet.free, binding.room)
    if worst <= free:
        return worst, asked
    least = min(LEAST_OUTPUT, asked)
    affordable = rating.affordable_output(free // 2, request.input_tokens, request.price, request.web_searches)
    if min(asked, affordable) < least:
        enough = min(worst, 2 * cost(least))
        if binding is not None and binding.room < wallet.free:
            raise BudgetExceeded(binding, needed=enough)
        raise InsufficientCredits(needed=enough, available=wallet.free)
    granted = min(asked, affordable)
    return cost(granted), granted


def settle(books: Books, request: SettleRequest) -> Settlement:
    hold = books.holds.get(request.request_id)
    if hold is None:
        raise HoldClosed(f"there is no hold {request.request_id}")
    reading = rating.sane(request.reading)
    if not hold.unfinished:
        return repeated_settlement(books, hold, reading)
    return close(books, hold, reading, request.cost_price, request.facts, request.price, request.spent)


def repeated_settlement(books: Books, hold: HoldRow, reading: MeterReading) -> Settlement:
    stored = books.settled_usage(hold.id)
    if stored is None or stored[0] != records.counts(reading):
        raise HoldClosed(f"hold {hold.id} is {hold.state}")
    return Settlement(hold.id, Nanos(stored[1]), Nanos(stored[2]))


def close(
    books: Books,
    hold: HoldRow,
    reading: MeterReading,
    cost_price: PriceSnapshot | None,
    facts: RequestFacts,
    price: PriceSnapshot | None = None,
    spent: int = 0,
) -> Settlement:
    """Charge the reading to the hold's wallet, at `price` or else the hold's, release the hold, and
    leave the usage record."""
    price_id = hold.price_id if price is None else books.memory.price_ids[price]
    charge = rating.charge(reading, books.price(price_id))
    cost = Nanos(spent + (rating.charge(reading, cost_price) if cost_price else 0))
    if charge and hold.state == HoldState.OPEN:
        raise HoldConflict(f"hold {hold.id} was never dispatched")
    release_and_charge(books, hold, charge)
    books.explain(facts.explanation)
    about = (hold.id, hold.organization_id, hold.api_key_id, hold.model, price_id)
    books.usage.append(records.usage_values(about, facts, reading, charge=charge, cost=cost, stored_now=books.stamp))
    return Settlement(hold.id, charge, cost)


def release_and_charge(books: Books, hold: HoldRow, charge: int) -> None:
    """The wallet pays out of this hold and of what is otherwise free, never out of other holds;
    the rest becomes debt. Debt is repaid as soon as a released hold leaves something free."""
    wallet = books.wallets[hold.organization_id]
    accounts = books.memory.accounts[hold.organization_id]
    revenue = books.memory.revenue
    if revenue is None:
        raise LedgerDrift("the platform's ledger accounts are missing: run manage.py migrate")
    wallet.held -= hold.amount
    paid = min(charge, wallet.free)
    wallet.posted -= paid
    wallet.debt += charge - paid
    books.postings += ledger.capture(hold.id, accounts, revenue, paid=paid, overage=charge - paid)
    if paid:
        books.consume(wallet.organization_id, ledger.capture_key(hold.id), paid)
    repay_debt(books, hold, wallet)
    charge_budget(books, hold, charge)
    books.close_hold(hold, HoldState.CAPTURED.value if charge else HoldState.VOIDED.value, charge)


def charge_budget(books: Books, hold: HoldRow, charge: int) -> None:
    budget = books.budgets.get(hold.api_key_id)
    if budget is not None:
        budget.settle(hold.amount, charge)
        books.changed_budgets.add(hold.api_key_id)


def repay_debt(books: Books, hold: HoldRow, wallet: WalletRow) -> None:
    """With what the end of `hold` has left free."""
    books.changed_wallets.add(wallet.organization_id)
    repaid = min(wallet.debt, wallet.free)
    if not repaid:
        return
    accounts = books.memory.accounts[wallet.organization_id]
    posting = ledger.repay(f"hold:{hold.id}", accounts, repaid, hold=hold.id)
    wallet.posted -= repaid
    wallet.debt -= repaid
    books.postings.append(posting)
    books.consume(wallet.organization_id, posting.key, repaid)


def interrupt(books: Books, operation: InterruptOp) -> bool:
    """False when the hold was closed meanwhile, by whoever was faster, or is alive again."""
    hold = books.holds.get(operation.request_id)
    if hold is None or not hold.unfinished or (operation.lapsed and not books.overdue(hold.id)):
        return False
    context, checkpoint = books.context_and_checkpoint(hold.id)
    cost_price = checkpoint.cost_price if checkpoint else None
    facts = checkpoint.facts if checkpoint else None
    if checkpoint is not None and checkpoint.final:
        reading = checkpoint.reading
    else:
        reading = operation.reading or (checkpoint.reading if checkpoint else MeterReading(source=UsageSource.NONE))
        # It was counted, not told: the customer never owes for it more than was reserved.
        reading = replace(reading, output=min(reading.output, hold.max_tokens))
        if any(records.counts(reading)):
            reading = replace(reading, source=UsageSource.CHECKPOINT)
        if facts is not None:
            facts = replace(facts, status=CLIENT_CLOSED, error_code=operation.error_code)
    if facts is None:
        facts = records.facts_of_context(context, status=CLIENT_CLOSED, error_code=operation.error_code)
    if cost_price is None:
        cost_price = books.price(hold.price_id)  # nobody told the cost: claim no margin (docs/prices.md)
    close(books, hold, rating.sane(reading), cost_price, facts, checkpoint.price if checkpoint else None)
    return True


def expire(books: Books, request_id: str) -> bool:
    hold = books.holds.get(request_id)
    if hold is None or hold.state != HoldState.OPEN or not books.overdue(request_id):
        return False
    wallet = books.wallets[hold.organization_id]
    wallet.held -= hold.amount
    repay_debt(books, hold, wallet)
    charge_budget(books, hold, 0)
    books.close_hold(hold, HoldState.EXPIRED.value, 0)
    return True
