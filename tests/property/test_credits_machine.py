"""The ledger against a model of it in plain Python: any order of grants, holds, settlements,
repetitions, crashes, sweeps and price changes leaves both with the same balance, and R1-R5 true."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count

import pytest
from django.db import connection, transaction
from django.utils import timezone
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from credits import corrections, promos, services
from credits.batch import LEAST_OUTPUT, BatchRunner, HoldOp, Operation, Outcome, SettleOp
from credits.books import Books
from credits.correction_models import AdjustmentKind
from credits.errors import (
    CorrectionRefused,
    HoldClosed,
    HoldConflict,
    InsufficientCredits,
    OutstandingDebt,
    PromoCodeRefused,
    SamePerson,
)
from credits.models import CreditLot, Hold, LotKind
from credits.reconcile import run_checks
from credits.records import Checkpoint
from credits.types import HoldGrant, HoldRequest, MeterReading, PriceSnapshot, Settlement, UsageSource
from tests.credits.support import FACTS, Tenant, larger, new_tenant, operator, raw, settlement

MILLION = 10**6
PRICES = (0, 7, 1000, 1000, 2500)


@dataclass
class ModelLot:
    kind: str
    left: int
    priority: int
    expires_at: datetime | None


@dataclass
class ModelHold:
    request: HoldRequest
    amount: int
    max_tokens: int
    overdue: bool
    dispatched: bool
    made_at: datetime
    checkpoint: int | None = None
    settled_with: int | None = None
    ended: bool = False
    charge: int = 0
    used: list[tuple[ModelLot, int]] = field(default_factory=list)
    """What of each lot the charge took and no refund has given back, in order."""
    overage: int = 0
    refunded: int = 0


@dataclass
class Model:
    """What the balance must be."""

    lots: list[ModelLot] = field(default_factory=list)
    debt: int = 0
    holds: dict[str, ModelHold] = field(default_factory=dict)

    @property
    def posted(self) -> int:
        return sum(lot.left for lot in self.lots)

    @property
    def running(self) -> list[ModelHold]:
        return [hold for hold in self.holds.values() if not hold.ended]

    @property
    def held(self) -> int:
        return sum(hold.amount for hold in self.running)

    @property
    def free(self) -> int:
        return self.posted - self.held

    def in_order(self) -> list[ModelLot]:
        """By priority, soonest expiry, promotions first, oldest (they are listed by age)."""
        return sorted(
            (lot for lot in self.lots if lot.left),
            key=lambda lot: (
                lot.priority,
                lot.expires_at is None,
                lot.expires_at or datetime.max.replace(tzinfo=UTC),
                lot.kind != "promo",
            ),
        )

    def take(self, amount: int) -> list[tuple[ModelLot, int]]:
        taken = []
        for lot in self.in_order():
            part = min(lot.left, amount)
            if part:
                lot.left -= part
                amount -= part
                taken.append((lot, part))
        assert amount == 0
        return taken

    def add(self, kind: str, amount: int, expires_at: datetime | None, priority: int = 100) -> None:
        self.lots.append(ModelLot(kind, amount, priority, expires_at))
        self.repay()

    def repay(self) -> None:
        repaid = min(self.debt, self.free)
        self.take(repaid)
        self.debt -= repaid

    def end(self, hold: ModelHold, output: int) -> int:
        hold.ended = True
        hold.charge = -(-output * hold.request.price.output // MILLION)
        paid = min(hold.charge, self.free)
        hold.used = self.take(paid)
        hold.overage = hold.charge - paid
        self.debt += hold.overage
        self.repay()
        return hold.charge

    def expire(self, now: datetime) -> None:
        for lot in reversed(self.in_order()):
            if lot.expires_at is not None and lot.expires_at <= now:
                lot.left -= min(lot.left, self.free)

    def refund(self, hold: ModelHold, amount: int) -> None:
        hold.refunded += amount
        from_overage = min(amount, hold.overage)
        hold.overage -= from_overage
        cancelled = min(from_overage, self.debt)
        self.debt -= cancelled
        left = amount - from_overage
        while left:
            lot, used = hold.used.pop()
            part = min(used, left)
            lot.left += part
            left -= part
            if used > part:
                hold.used.append((lot, used - part))
        if from_overage > cancelled:
            self.add("adjustment", from_overage - cancelled, None)
        self.repay()


class Crash(Exception):
    pass


BOOKS = ("R1", "R2", "R3", "R4", "R5", "B")
"""What holds after every step. That sweepers were here (R8, R11) and guards stand (G) is tested elsewhere."""


class LedgerMachine(RuleBasedStateMachine):
    tenant: Tenant
    price = 1000

    @initialize(grants=st.integers(0, 2))
    def begin(self, grants: int) -> None:
        self.atomic = transaction.atomic()
        self.atomic.__enter__()
        self.now = timezone.now()
        self.runner = BatchRunner(connection, owner="machine", lease_seconds=60, clock=lambda: self.now)
        self.model = Model()
        self.tenant = new_tenant()
        self.maker, self.checker = operator("maker"), operator("checker")
        self.numbers = count(1)
        self.journal: list[tuple[object, ...]] = []
        if grants:
            self.grant(grants * 1_000_000, LotKind.ADJUSTMENT, None)

    def teardown(self) -> None:
        if hasattr(self, "atomic"):
            transaction.set_rollback(True)
            self.atomic.__exit__(None, None, None)

    def run(self, operation: Operation) -> Outcome:
        return self.runner.run([operation])[0]

    @rule(
        amount=st.integers(1, 1_500_000),
        kind=st.sampled_from([LotKind.ADJUSTMENT, LotKind.PROMO]),
        days=st.none() | st.integers(1, 30),
    )
    def grant(self, amount: int, kind: LotKind, days: int | None) -> None:
        expires_at: datetime | None = None if days is None else self.now + timedelta(days=days)
        self.tenant.grant(amount, kind=kind, expires_at=expires_at, now=self.now)
        if kind == LotKind.PROMO and expires_at is None:
            expires_at = self.now + timedelta(days=30)
        self.model.add(kind.value, amount, expires_at)

    @rule(
        amount=st.integers(1, 1_500_000),
        days=st.none() | st.integers(1, 20),
        priority=st.sampled_from([50, 100, 150]),
    )
    def redeem(self, amount: int, days: int | None, priority: int) -> None:
        code = f"CODE{next(self.numbers)}"
        terms = promos.Terms(amount, days, max_redemptions=1, valid_from=self.now, priority=priority)
        promos.create_code(code, terms)
        given = promos.redeem(self.tenant.organization_id, code, by=self.maker, now=self.now)
        expires_at = None if days is None else self.now + timedelta(days=days)
        owed = self.model.debt
        self.model.add("promo", amount, expires_at, priority)
        assert (given.amount, given.repaid, given.expires_at) == (amount, owed - self.model.debt, expires_at)
        with pytest.raises(PromoCodeRefused):
            promos.redeem(self.tenant.organization_id, code, by=self.maker, now=self.now)

    @rule(per_token=st.sampled_from(PRICES))
    def change_price(self, per_token: int) -> None:
        self.price = per_token

    @rule(output=st.integers(0, 4000), dispatch=st.booleans())
    def hold(self, output: int, dispatch: bool) -> None:
        price = PriceSnapshot(self.price, self.price * MILLION, 0, 0, 0)
        request = self.tenant.hold(output=output, price=price)
        outcome = self.run(HoldOp(request, dispatch))
        self.model.expire(self.now)
        least, free = min(LEAST_OUTPUT, output), self.model.free
        if self.model.debt:
            assert isinstance(outcome, OutstandingDebt)
            return
        if output * self.price <= free:
            granted = output
        else:
            granted = min(output, free // 2 // self.price)
            if granted < least:
                assert isinstance(outcome, InsufficientCredits)
                assert outcome.needed > outcome.available == free
                return
        assert outcome == HoldGrant(request.request_id, granted * self.price, granted)  # type: ignore[arg-type]
        self.model.holds[request.request_id] = ModelHold(
            request, granted * self.price, granted, False, dispatch, self.now
        )

    def pick(self, number: int, holds: list[ModelHold]) -> ModelHold:
        return holds[number % len(holds)]

    @precondition(lambda self: self.model.running)
    @rule(number=st.integers(0, 99))
    def dispatch(self, number: int) -> None:
        hold = self.pick(number, self.model.running)
        if hold.dispatched:
            with pytest.raises(HoldClosed):
                services.dispatch(hold.request.request_id)
        else:
            services.dispatch(hold.request.request_id)
            hold.dispatched = True

    @precondition(lambda self: self.model.running)
    @rule(number=st.integers(0, 99), output=st.integers(0, 6000))
    def settle(self, number: int, output: int) -> None:
        """With less than was held, as much, or more; or nothing, which voids."""
        self.settle_hold(self.pick(number, self.model.running), output)

    def settle_hold(self, hold: ModelHold, output: int) -> None:
        outcome = self.run(SettleOp(settlement(hold.request.request_id, output)))
        if not hold.dispatched and output * hold.request.price.output:
            assert isinstance(outcome, HoldConflict)
            return
        charge = self.model.end(hold, output)
        hold.settled_with = output
        assert outcome == Settlement(hold.request.request_id, charge, 0)  # type: ignore[arg-type]

    @rule(output=st.integers(1, 2000), used=st.integers(1, 9))
    def serve(self, output: int, used: int) -> None:
        """A whole request: it uses a third of what it asked for, up to three times as much."""
        before = set(self.model.holds)
        self.hold(output, dispatch=True)
        for request_id in set(self.model.holds) - before:
            self.settle_hold(self.model.holds[request_id], output * used // 3)

    @precondition(lambda self: any(hold.settled_with is not None for hold in self.model.holds.values()))
    @rule(number=st.integers(0, 99), other=st.booleans())
    def settle_again(self, number: int, other: bool) -> None:
        hold = self.pick(number, [hold for hold in self.model.holds.values() if hold.settled_with is not None])
        assert hold.settled_with is not None
        outcome = self.run(SettleOp(settlement(hold.request.request_id, hold.settled_with + other)))
        assert isinstance(outcome, HoldClosed if other else Settlement)

    @precondition(lambda self: self.model.holds)
    @rule(number=st.integers(0, 99), other=st.booleans())
    def hold_again(self, number: int, other: bool) -> None:
        hold = self.pick(number, list(self.model.holds.values()))
        outcome = self.run(HoldOp(larger(hold.request) if other else hold.request))
        if other or hold.ended:
            assert isinstance(outcome, HoldConflict)
        else:
            assert outcome == HoldGrant(hold.request.request_id, hold.amount, hold.max_tokens)  # type: ignore[arg-type]

    @precondition(lambda self: self.model.running)
    @rule(number=st.integers(0, 99), output=st.integers(0, 4000))
    def checkpoint(self, number: int, output: int) -> None:
        hold = self.pick(number, self.model.running)
        if hold.dispatched:
            point = Checkpoint(MeterReading(output=output, source=UsageSource.COUNTED), FACTS)
            raw("UPDATE credits_hold SET checkpoint = %s WHERE id = %s", point.stored(), hold.request.request_id)
            hold.checkpoint = output

    @rule()
    def time_passes(self) -> None:
        """Nobody renews the leases."""
        self.pass_time(timedelta(minutes=5))

    @rule(days=st.integers(1, 15))
    def days_pass(self, days: int) -> None:
        self.pass_time(timedelta(days=days))

    def pass_time(self, time: timedelta) -> None:
        self.now += time
        for hold in self.model.running:
            hold.overdue = True

    @rule()
    def sweep_lots(self) -> None:
        before = self.model.posted
        self.model.expire(self.now)
        assert services.expire_lots(self.now) == before - self.model.posted

    @precondition(lambda self: any(hold.charge for hold in self.model.holds.values()))
    @rule(number=st.integers(0, 99), per_cent=st.integers(0, 130))
    def refund(self, number: int, per_cent: int) -> None:
        """Of what is left: a little, a part, all, or too much."""
        hold = self.pick(number, [hold for hold in self.model.holds.values() if hold.charge])
        left = hold.charge - hold.refunded
        amount = max(1, left * per_cent // 100)
        send = partial(
            corrections.refund,
            hold.request.request_id,
            amount,
            ticket=f"T-{next(self.numbers)}",
            reason="r",
            by=self.maker,
            now=self.now,
        )
        if amount > left:
            with pytest.raises(CorrectionRefused):
                send()
            return
        send()
        self.model.refund(hold, amount)
        assert send().amount == amount  # the same again does nothing

    @rule(kind=st.sampled_from(AdjustmentKind), amount=st.integers(1, 2_000_000), approve=st.booleans())
    def adjust(self, kind: AdjustmentKind, amount: int, approve: bool) -> None:
        proposed = corrections.propose(
            self.tenant.organization_id, kind, amount, reason="r", key=f"k{next(self.numbers)}", by=self.maker
        )
        with pytest.raises(SamePerson):
            corrections.approve(proposed.pk, by=self.maker, now=self.now)
        if not approve:
            corrections.reject(proposed.pk, by=self.checker, now=self.now)
            return
        before = [lot.left for lot in self.model.lots]
        if kind == AdjustmentKind.DEBIT:
            self.model.expire(self.now)
        most = {AdjustmentKind.DEBIT: self.model.free, AdjustmentKind.WRITE_OFF: self.model.debt}.get(kind, amount)
        if amount > most:
            with pytest.raises(CorrectionRefused):
                corrections.approve(proposed.pk, by=self.checker, now=self.now)
            for lot, left in zip(self.model.lots, before, strict=True):
                lot.left = left
            return
        corrections.approve(proposed.pk, by=self.checker, now=self.now)
        if kind == AdjustmentKind.CREDIT:
            self.model.add("adjustment", amount, None)
        elif kind == AdjustmentKind.DEBIT:
            self.model.take(amount)
        else:
            self.model.debt -= amount

    @precondition(lambda self: self.model.debt)
    @rule(number=st.integers(1, 99))
    def write_off(self, number: int) -> None:
        self.adjust(AdjustmentKind.WRITE_OFF, max(1, self.model.debt * number // 99), approve=True)

    @precondition(lambda self: any(hold.dispatched for hold in self.model.running))
    @rule(number=st.integers(0, 99))
    def write_off_hold(self, number: int) -> None:
        hold = self.pick(number, [hold for hold in self.model.running if hold.dispatched])
        raw("UPDATE credits_hold SET state = 'needs_settlement' WHERE id = %s", hold.request.request_id)
        corrections.write_off_hold(hold.request.request_id, reason="r", by=self.maker, now=self.now)
        self.model.end(hold, 0)

    @rule()
    def sweep(self) -> None:
        services.sweep(self.now)
        ids = Hold.objects.filter(pk__in=self.model.holds).order_by("updated_at").values_list("pk", flat=True)
        assert set(ids) == set(self.model.holds)
        overdue = [hold for hold in self.model.running if hold.overdue]
        for hold in sorted(overdue, key=lambda hold: hold.request.request_id):
            if hold.dispatched:
                self.model.end(hold, min(hold.checkpoint or 0, hold.max_tokens))
        for hold in sorted(overdue, key=lambda hold: (hold.made_at, hold.request.request_id)):
            if not hold.dispatched:
                self.model.end(hold, 0)

    @precondition(lambda self: self.model.running)
    @rule(number=st.integers(0, 99), output=st.integers(1, 4000))
    def crash_while_settling(self, number: int, output: int) -> None:
        """Everything has been written but the COMMIT."""
        hold = self.pick(number, self.model.running)
        with dying_before_commit(), pytest.raises(Crash):
            self.run(SettleOp(settlement(hold.request.request_id, output)))

    @invariant()
    def the_wallet_is_as_the_model_says(self) -> None:
        if not hasattr(self, "model"):
            return
        wallet = self.tenant.wallet
        assert (wallet.posted, wallet.held, wallet.debt) == (self.model.posted, self.model.held, self.model.debt)

    @invariant()
    def every_lot_is_as_the_model_says(self) -> None:
        if not hasattr(self, "model"):
            return
        lots = CreditLot.objects.filter(wallet_id=self.tenant.organization_id).order_by("pk")
        assert list(lots.values_list("remaining", flat=True)) == [lot.left for lot in self.model.lots]
        dates = [lot.expires_at for lot in self.model.lots if lot.left and lot.expires_at is not None]
        next_expiry = self.tenant.wallet.next_expiry
        assert not dates or (next_expiry is not None and next_expiry <= min(dates))

    @invariant()
    def the_ledger_reconciles(self) -> None:
        if hasattr(self, "model"):
            assert [str(finding) for finding in run_checks(self.now, BOOKS) if not finding.ok] == []

    @invariant()
    def no_transfer_ever_changes(self) -> None:
        if not hasattr(self, "model"):
            return
        with connection.cursor() as cursor:
            cursor.execute("SELECT * FROM credits_transfer ORDER BY id")
            journal = cursor.fetchall()
        assert journal[: len(self.journal)] == self.journal
        self.journal = journal


@contextmanager
def dying_before_commit() -> Iterator[None]:
    write = Books.write

    def write_and_die(books: Books) -> None:
        write(books)
        raise Crash

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Books, "write", write_and_die)
        yield


@pytest.mark.django_db
def test_the_ledger_behaves_as_its_model(settings_profile: settings, monkeypatch, tmp_path):
    from django.conf import settings as django_settings
    from hypothesis.stateful import run_state_machine_as_test

    monkeypatch.setattr(django_settings, "JOURNAL_DIR", tmp_path)
    monkeypatch.setattr(django_settings, "HOLD_LEASE_SECONDS", 0)  # so that one sweep does all
    run_state_machine_as_test(LedgerMachine, settings=settings_profile)


@pytest.fixture
def settings_profile() -> settings:
    """Quick, and the same examples each time; CCM_SOAK_EXAMPLES asks for so many new ones."""
    examples = int(os.environ.get("CCM_SOAK_EXAMPLES", "0"))
    return settings(
        max_examples=examples or 60,
        derandomize=not examples,
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
    )
