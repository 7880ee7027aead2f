"""The ledger against a model of it in plain Python: any order of grants, holds, settlements,
repetitions, crashes, sweeps and price changes leaves both with the same balance, and R1-R5 true."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from credits import services
from credits.batch import LEAST_OUTPUT, BatchRunner, HoldOp, Operation, Outcome, SettleOp
from credits.books import Books
from credits.errors import HoldClosed, HoldConflict, InsufficientCredits, OutstandingDebt
from credits.models import Hold, LotKind
from credits.reconcile import run_checks
from credits.records import Checkpoint
from credits.types import HoldGrant, HoldRequest, MeterReading, PriceSnapshot, Settlement, UsageSource
from tests.credits.support import FACTS, Tenant, larger, new_tenant, raw, settlement

MILLION = 10**6
PRICES = (0, 7, 1000, 1000, 2500)


@dataclass
class ModelHold:
    request: HoldRequest
    amount: int
    max_tokens: int
    overdue: bool
    dispatched: bool
    checkpoint: int | None = None
    settled_with: int | None = None
    ended: bool = False


@dataclass
class Model:
    """What the balance must be."""

    posted: int = 0
    debt: int = 0
    holds: dict[str, ModelHold] = field(default_factory=dict)

    @property
    def running(self) -> list[ModelHold]:
        return [hold for hold in self.holds.values() if not hold.ended]

    @property
    def held(self) -> int:
        return sum(hold.amount for hold in self.running)

    @property
    def free(self) -> int:
        return self.posted - self.held

    def repay(self) -> None:
        repaid = min(self.debt, self.free)
        self.posted -= repaid
        self.debt -= repaid

    def end(self, hold: ModelHold, output: int) -> int:
        hold.ended = True
        charge = -(-output * hold.request.price.output // MILLION)
        paid = min(charge, self.free)
        self.posted -= paid
        self.debt += charge - paid
        self.repay()
        return charge


class Crash(Exception):
    pass


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
        self.tenant.grant(amount, kind=kind, expires_at=expires_at)
        self.model.posted += amount
        self.model.repay()

    @rule(per_token=st.sampled_from(PRICES))
    def change_price(self, per_token: int) -> None:
        self.price = per_token

    @rule(output=st.integers(0, 4000), dispatch=st.booleans())
    def hold(self, output: int, dispatch: bool) -> None:
        price = PriceSnapshot(self.price, self.price * MILLION, 0, 0, 0)
        request = self.tenant.hold(output=output, price=price)
        outcome = self.run(HoldOp(request, dispatch))
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
        self.model.holds[request.request_id] = ModelHold(request, granted * self.price, granted, False, dispatch)

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
        self.now += timedelta(minutes=5)
        for hold in self.model.running:
            hold.overdue = True

    @rule()
    def sweep(self) -> None:
        services.sweep(self.now)
        ids = Hold.objects.filter(pk__in=self.model.holds).order_by("updated_at").values_list("pk", flat=True)
        assert set(ids) == set(self.model.holds)
        for hold in [hold for hold in self.model.running if hold.overdue]:
            self.model.end(hold, min(hold.checkpoint or 0, hold.max_tokens) if hold.dispatched else 0)

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
    def the_ledger_reconciles(self) -> None:
        if hasattr(self, "model"):
            assert [str(finding) for finding in run_checks(self.now) if not finding.ok and finding.check != "R8"] == []

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
