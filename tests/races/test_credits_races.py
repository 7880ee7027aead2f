"""Real threads with connections of their own, each race with its control: without the guard it goes wrong."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import partial
from types import SimpleNamespace

import pytest
from django.db import IntegrityError, connections
from django.utils import timezone

from accounts.models import User
from credits import corrections, expiry, guards, ledger, promos, records, services
from credits.batch import BatchRunner, HoldOp, InterruptOp, Operation, Outcome, SettleOp
from credits.books import Books, HoldRow, WalletRow
from credits.budgets import Budget
from credits.correction_models import AdjustmentKind, Correction, PromoCode
from credits.errors import (
    BudgetExceeded,
    CorrectionRefused,
    CreditsError,
    InsufficientCredits,
    KeyNoLongerValid,
    LedgerDrift,
)
from credits.key_budgets import set_key_budget
from credits.ledger import Lot
from credits.models import CreditLot, Hold, KeyBudget, LotConsumption, LotKind, Transfer, UsageRecord, Wallet
from credits.reconcile import run_checks
from credits.types import HoldGrant, Settlement
from tests.credits.support import (
    FACTS,
    TOKEN,
    USD,
    Tenant,
    assert_reconciled,
    new_tenant,
    operator,
    raw,
    revoke,
    settlement,
    sweep_lapsed,
)
from tests.credits.support import tenant as tenant  # noqa: PLC0414 - a fixture

THREADS = 8


def together(tasks: list[Callable[[], object]]) -> list[object]:
    """Run the tasks on threads that begin at the same moment; what each returned or raised."""
    barrier = threading.Barrier(min(THREADS, len(tasks)))
    first = threading.local()

    def run(task: Callable[[], object]) -> object:
        if not getattr(first, "over", False):
            first.over = True
            barrier.wait(30)
        try:
            return task()
        except Exception as error:
            return error
        finally:
            connections["default"].close()

    with ThreadPoolExecutor(min(THREADS, len(tasks))) as pool:
        return list(pool.map(run, tasks))


def runner() -> BatchRunner:
    return BatchRunner(connections["default"], owner="race", lease_seconds=60, clock=timezone.now)


def alone(operation: Operation) -> Callable[[], Outcome]:
    """The operation in a transaction of its own, as another process's writer would run it."""
    return lambda: runner().run([operation])[0]


def test_50_holds_for_a_balance_of_10_admit_exactly_10(transactional_db):
    tenant = new_tenant(10 * 100 * TOKEN)
    outcomes = together([alone(HoldOp(tenant.hold(output=100))) for _ in range(50)])
    assert sum(isinstance(outcome, HoldGrant) for outcome in outcomes) == 10
    assert sum(isinstance(outcome, InsufficientCredits) for outcome in outcomes) == 40
    assert (tenant.wallet.held, tenant.wallet.posted) == (1000 * TOKEN, 1000 * TOKEN)
    assert_reconciled()


def stale_wallets(monkeypatch: pytest.MonkeyPatch, tenant: Tenant) -> None:
    """Removes the guard: every transaction believes the wallet as it is now, unlocked."""
    wallet = tenant.wallet
    seen = (wallet.organization_id, wallet.posted, wallet.held, wallet.debt, wallet.frozen)

    def believe(books: Books, organization_ids: object) -> None:
        books.wallets = {tenant.organization_id: WalletRow(*seen)}

    monkeypatch.setattr(Books, "lock_wallets", believe)


def test_control_without_the_wallets_lock_more_than_10_are_admitted(transactional_db, monkeypatch):
    tenant = new_tenant(10 * 100 * TOKEN)
    stale_wallets(monkeypatch, tenant)
    outcomes = together([alone(HoldOp(tenant.hold(output=100))) for _ in range(50)])
    assert sum(isinstance(outcome, HoldGrant) for outcome in outcomes) > 10
    assert "R3" in {finding.check for finding in run_checks() if not finding.ok}


def test_50_holds_for_a_keys_budget_of_10_admit_exactly_10(tenant: Tenant):
    set_key_budget(tenant.organization_id, tenant.api_key_id, {"day": 1000 * TOKEN})
    outcomes = together([alone(HoldOp(tenant.hold(output=100))) for _ in range(50)])
    assert sum(isinstance(outcome, HoldGrant) for outcome in outcomes) == 10
    assert sum(isinstance(outcome, BudgetExceeded) for outcome in outcomes) == 40
    assert KeyBudget.objects.get().held == 1000 * TOKEN
    assert_reconciled()


def test_control_a_budget_read_before_the_wallets_lock_admits_more_than_10(tenant: Tenant, monkeypatch):
    set_key_budget(tenant.organization_id, tenant.api_key_id, {"day": 1000 * TOKEN})
    seen = KeyBudget.objects.get()

    def believe(books: Books, key_ids: object) -> None:
        limits = (seen.limit_total, seen.limit_day, seen.limit_week, seen.limit_month)
        books.budgets = {seen.pk: Budget(seen.pk, limits, (0,) * 4, 0, seen.spent_on)}

    monkeypatch.setattr(Books, "read_budgets", believe)
    outcomes = together([alone(HoldOp(tenant.hold(output=100))) for _ in range(50)])
    assert sum(isinstance(outcome, HoldGrant) for outcome in outcomes) > 10


def test_a_hold_sent_many_times_at_once_is_made_once(tenant: Tenant):
    request = tenant.hold(output=100)
    outcomes = together([alone(HoldOp(request)) for _ in range(THREADS)])
    assert outcomes == [outcomes[0]] * THREADS
    assert isinstance(outcomes[0], HoldGrant)
    assert tenant.wallet.held == 100 * TOKEN
    assert_reconciled()


def test_a_settlement_sent_many_times_at_once_charges_once(tenant: Tenant):
    request = tenant.hold(output=100)
    runner().run([HoldOp(request)])
    outcomes = together([alone(SettleOp(settlement(request.request_id, 60))) for _ in range(THREADS)])
    assert outcomes == [Settlement(request.request_id, 60 * TOKEN, 0)] * THREADS  # type: ignore[arg-type]
    assert tenant.wallet.posted == 10 * USD - 60 * TOKEN
    assert Transfer.objects.filter(hold_id=request.request_id).count() == 1
    assert_reconciled()


def believe_unfinished(monkeypatch: pytest.MonkeyPatch) -> None:
    """Removes the guards of a double settlement: the state that is looked at, that of the UPDATE,
    the key's uniqueness, and the triggers."""
    monkeypatch.setattr(HoldRow, "unfinished", property(lambda hold: True))
    monkeypatch.setattr(Books, "_expect", lambda books, changed, rows, what: None)
    monkeypatch.setattr(records, "INSERT_USAGE", records.INSERT_USAGE + " ON CONFLICT DO NOTHING")
    keys = iter(range(10**6))
    monkeypatch.setattr(ledger, "capture_key", lambda request_id: f"hold:{request_id}:{next(keys)}")
    consume = Books.consume

    def consume_for_last_posting(books: Books, organization_id: int, key: str, amount: int) -> None:
        consume(books, organization_id, books.postings[-1].key, amount)

    monkeypatch.setattr(Books, "consume", consume_for_last_posting)


def test_control_without_the_state_check_a_double_settlement_charges_twice(tenant: Tenant, monkeypatch):
    request, other = tenant.hold(output=100), tenant.hold(output=500)
    runner().run([HoldOp(request), HoldOp(other)])
    believe_unfinished(monkeypatch)
    together([alone(SettleOp(settlement(request.request_id, 60))) for _ in range(2)])
    assert tenant.wallet.posted == 10 * USD - 120 * TOKEN
    assert {"R3", "R5"} <= {finding.check for finding in run_checks() if not finding.ok}


def overdue(tenants: list[Tenant], each: int) -> list[str]:
    """Holds of processes that died, each with a checkpoint of 30 tokens."""
    from credits.records import Checkpoint
    from credits.types import MeterReading, UsageSource

    requests = [tenant.hold(output=100) for tenant in tenants for _ in range(each)]
    runner().run([HoldOp(request) for request in requests])
    point = Checkpoint(MeterReading(output=30, source=UsageSource.COUNTED), FACTS)
    raw("UPDATE credits_hold SET checkpoint = %s", point.stored())
    return [request.request_id for request in requests]


def test_sweeps_and_late_settlements_end_each_hold_once(transactional_db):
    tenants = [new_tenant(USD) for _ in range(3)]
    ids = overdue(tenants, 8)
    tasks: list[Callable[[], object]] = [sweep_lapsed] * 3
    tasks += [alone(SettleOp(settlement(request_id, 70))) for request_id in ids[::2]]
    outcomes = together(tasks)
    assert [error for error in outcomes if isinstance(error, Exception) and not isinstance(error, CreditsError)] == []
    sweep_lapsed()
    states = set(Hold.objects.values_list("state", flat=True))
    assert states == {"captured"}
    charges = dict(UsageRecord.objects.values_list("request_id", "charge"))
    late = {outcome.request_id for outcome in outcomes if isinstance(outcome, Settlement)}
    assert charges == {id_: (70 if id_ in late else 30) * TOKEN for id_ in ids}
    assert sum(USD - tenant.wallet.posted for tenant in tenants) == sum(charges.values())
    assert {tenant.wallet.held for tenant in tenants} == {0}
    assert_reconciled()


def test_control_without_the_state_check_a_sweep_charges_after_a_settlement(tenant: Tenant, monkeypatch):
    [request_id, _] = overdue([tenant], 2)
    runner().run([SettleOp(settlement(request_id, 70))])
    believe_unfinished(monkeypatch)
    runner().run([InterruptOp(request_id)])
    assert tenant.wallet.posted == 10 * USD - 100 * TOKEN
    assert "R5" in {finding.check for finding in run_checks() if not finding.ok}


def test_captures_of_many_threads_never_take_more_from_a_lot_than_it_has(transactional_db):
    tenant = new_tenant(500 * TOKEN)
    tenant.grant(300 * TOKEN)
    requests = [tenant.hold(output=40) for _ in range(20)]
    runner().run([HoldOp(request) for request in requests])
    together([alone(SettleOp(settlement(request.request_id, 40))) for request in requests])
    assert tenant.wallet.posted == 0
    assert sum(LotConsumption.objects.values_list("amount", flat=True)) == 800 * TOKEN
    assert_reconciled()


def test_control_with_a_stale_view_of_the_lots_the_ledger_notices_the_drift(transactional_db):
    tenant = new_tenant(100 * TOKEN)
    request = tenant.hold(output=100)
    runner().run([HoldOp(request)])
    raw("UPDATE credits_creditlot SET remaining = remaining - 1")
    with pytest.raises(LedgerDrift):
        runner().run([SettleOp(settlement(request.request_id, 100))])
    assert Hold.objects.get(pk=request.request_id).state == "dispatched", "nothing was written"


def test_a_grant_beside_holds_and_settlements_is_not_lost(tenant: Tenant):
    requests = [tenant.hold(output=10) for _ in range(8)]
    runner().run([HoldOp(request) for request in requests])
    tasks: list[Callable[[], object]] = [alone(SettleOp(settlement(request.request_id, 10))) for request in requests]
    tasks += [lambda: tenant.grant(5 * TOKEN)] * 8
    assert [outcome for outcome in together(tasks) if isinstance(outcome, Exception)] == []
    assert tenant.wallet.posted == 10 * USD - 40 * TOKEN
    assert_reconciled()


def test_the_same_grant_from_many_threads_is_given_once(tenant: Tenant):
    def give() -> object:
        return services.grant(tenant.organization_id, USD, reason="r", idempotency_key="same").pk

    assert len(set(together([give] * THREADS))) == 1
    assert tenant.wallet.posted == 11 * USD


# Promo codes, refunds, expiry


def welcome(max_redemptions: int | None) -> PromoCode:
    return promos.create_code("WELCOME", promos.Terms(USD, 30, max_redemptions))


def redeeming(tenant: Tenant, by: User) -> Callable[[], object]:
    return lambda: promos.redeem(tenant.organization_id, "WELCOME", by=by)


def test_many_organisations_for_the_last_redemptions_get_exactly_those(transactional_db):
    welcome(3)
    by, tenants = operator(), [new_tenant() for _ in range(THREADS)]
    outcomes = together([redeeming(tenant, by) for tenant in tenants])
    assert sum(isinstance(outcome, promos.Redemption) for outcome in outcomes) == 3
    assert {str(outcome) for outcome in outcomes if isinstance(outcome, Exception)} == {"This code has been used up."}
    assert sum(tenant.wallet.posted for tenant in tenants) == 3 * USD
    assert PromoCode.objects.get().redeemed == 3
    assert_reconciled()


def test_control_without_compare_and_set_more_get_it(transactional_db, monkeypatch):
    """The count is read first and written later, as if nobody else were there."""
    welcome(3)
    by, tenants = operator(), [new_tenant() for _ in range(THREADS)]
    monkeypatch.setattr(promos, "take_one", lambda promo: promo.redeemed < 3)
    outcomes = together([redeeming(tenant, by) for tenant in tenants])
    assert sum(isinstance(outcome, promos.Redemption) for outcome in outcomes) > 3


def test_one_organisation_redeems_a_code_once_however_often_it_asks_at_once(transactional_db):
    welcome(None)
    by, tenant = operator(), new_tenant()
    outcomes = together([redeeming(tenant, by) for _ in range(THREADS)])
    assert sum(isinstance(outcome, promos.Redemption) for outcome in outcomes) == 1
    assert tenant.wallet.posted == USD
    assert PromoCode.objects.get().redeemed == 1
    assert_reconciled()


def test_control_without_the_unique_key_and_the_look_one_organisation_gets_it_twice(transactional_db, monkeypatch):
    """Both guards away: that an earlier redemption is looked for under the lock, and the keys."""
    welcome(None)
    by, tenant = operator(), new_tenant()
    keys = iter(range(10**6))
    redeemed = ledger.redeemed
    monkeypatch.setattr(
        ledger, "redeemed", lambda *args, **options: redeemed(*args, **options)._replace(key=f"promo:x:{next(keys)}")
    )
    monkeypatch.setattr(promos, "PromoRedemption", SimpleNamespace(objects=SimpleNamespace(create=lambda **row: None)))
    outcomes = together([redeeming(tenant, by) for _ in range(2)])
    assert sum(isinstance(outcome, promos.Redemption) for outcome in outcomes) == 2
    assert tenant.wallet.posted == 2 * USD


def captured(tenant: Tenant) -> str:
    request = tenant.hold(output=100)
    runner().run([HoldOp(request)])
    runner().run([SettleOp(settlement(request.request_id, 100))])
    return request.request_id


def refunding(request_id: str, by: User, tokens: int) -> list[Callable[[], object]]:
    return [
        partial(corrections.refund, request_id, tokens * TOKEN, ticket=f"T-{n}", reason="r", by=by)
        for n in range(THREADS)
    ]


def test_refunds_at_once_never_exceed_the_charge(tenant: Tenant):
    request_id, by = captured(tenant), operator()
    outcomes = together(refunding(request_id, by, 30))
    assert sum(isinstance(outcome, Correction) for outcome in outcomes) == 3
    assert sum(isinstance(outcome, CorrectionRefused) for outcome in outcomes) == THREADS - 3
    assert tenant.wallet.posted == 10 * USD - 10 * TOKEN
    assert_reconciled()


def test_control_without_the_sum_and_its_trigger_refunds_exceed_the_charge(tenant: Tenant, monkeypatch):
    """Each believes that nothing was given back before. (The lots' own CHECK would still refuse.)"""
    request_id, by = captured(tenant), operator()
    tenant.grant(USD)
    monkeypatch.setattr(
        corrections, "_given_back", lambda hold: dict.fromkeys(("amount", "restored", "debt_cancelled", "credited"), 0)
    )
    monkeypatch.setattr(corrections, "_reopen", lambda opened, correction, key: None)
    guards.remove(connections["default"])
    try:
        outcomes = together(refunding(request_id, by, 30))
    finally:
        guards.install(connections["default"])
    assert sum(isinstance(outcome, Correction) for outcome in outcomes) == THREADS
    assert {"R1", "R5"} <= {finding.check for finding in run_checks() if not finding.ok}


def test_an_adjustment_is_decided_once_by_many_at_once(tenant: Tenant):
    proposed = corrections.propose(
        tenant.organization_id, AdjustmentKind.CREDIT, USD, reason="r", key="k", by=operator("maker")
    )
    checkers = [operator("checker") for _ in range(THREADS)]
    decisions = [corrections.approve, corrections.reject]
    outcomes = together([partial(decisions[n % 2], proposed.pk, by=checker) for n, checker in enumerate(checkers)])
    assert sum(isinstance(outcome, CorrectionRefused) for outcome in outcomes) == THREADS - 1
    proposed.refresh_from_db()
    assert tenant.wallet.posted == (11 if proposed.state == "approved" else 10) * USD
    assert_reconciled()


def test_control_without_compare_and_set_an_adjustment_is_approved_and_rejected(tenant: Tenant, monkeypatch):
    """Each believes that it was the first to decide."""
    proposed = corrections.propose(
        tenant.organization_id, AdjustmentKind.CREDIT, USD, reason="r", key="k", by=operator("maker")
    )
    monkeypatch.setattr(corrections, "decide", lambda *args, **options: None)
    decisions = [corrections.approve, corrections.reject]
    outcomes = together([partial(decide, proposed.pk, by=operator("checker")) for decide in decisions])
    assert not any(isinstance(outcome, Exception) for outcome in outcomes)


def expiring_tenants(number: int) -> tuple[list[Tenant], datetime]:
    later = timezone.now() + timedelta(days=1)
    tenants = [new_tenant() for _ in range(number)]
    for each_of_them in tenants:
        each_of_them.grant(USD, kind=LotKind.PROMO, expires_at=later)
    return tenants, later


def test_sweeps_and_holds_at_once_expire_each_lot_once(transactional_db):
    tenants, later = expiring_tenants(4)

    def hold_late(owner: Tenant) -> Outcome:
        late = BatchRunner(connections["default"], owner="late", lease_seconds=60, clock=lambda: later)
        return late.run([HoldOp(owner.hold(output=100))])[0]

    holds = [partial(hold_late, owner) for owner in tenants]
    outcomes = together([*holds, *[partial(services.expire_lots, later)] * 4])
    assert all(isinstance(outcome, InsufficientCredits) for outcome in outcomes[:4])
    assert all(isinstance(outcome, int) for outcome in outcomes[4:])
    assert [owner.wallet.posted for owner in tenants] == [0] * 4
    assert Transfer.objects.filter(code="expire").count() == 4
    assert_reconciled()


def test_control_a_lot_that_is_believed_whole_expires_again(transactional_db, monkeypatch):
    """Removes the lock's effect: the second sweep sees wallet and lot as they were before the first."""
    (owner,), later = expiring_tenants(1)
    lot = CreditLot.objects.get(wallet_id=owner.organization_id)
    services.expire_lots(later)
    wallet = WalletRow(owner.organization_id, USD, 0, 0, frozen=False, expiry_due=True)
    Wallet.objects.update(next_expiry=later)
    monkeypatch.setattr(
        Books, "lock_wallets", lambda books, ids: books.wallets.update({wallet.organization_id: wallet})
    )
    monkeypatch.setattr(
        Books, "read_lots", lambda books, ids: books.lots.update({wallet.organization_id: [Lot(lot.pk, USD)]})
    )
    monkeypatch.setattr(expiry, "_dated_lots", lambda books, organization_id, **_: {lot.pk: ("promo", USD, True)})
    services.expire_lots(later)
    assert Transfer.objects.filter(code="expire").count() == 2
    assert "R2" in {finding.check for finding in run_checks() if not finding.ok}


def test_control_without_a_look_at_what_is_stored_a_repeated_hold_has_no_answer(tenant: Tenant, monkeypatch):
    """What remains is the key of the table, which refuses and cannot answer."""
    monkeypatch.setattr(Books, "read_holds", lambda books, request_ids: None)
    request = tenant.hold(output=100)
    outcomes = together([alone(HoldOp(request)) for _ in range(THREADS)])
    assert sum(isinstance(outcome, HoldGrant) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, IntegrityError) for outcome in outcomes) == THREADS - 1


def test_control_without_the_wallets_lock_a_grant_undoes_a_settlement(tenant: Tenant, monkeypatch):
    request = tenant.hold(output=10)
    runner().run([HoldOp(request)])
    stale_wallets(monkeypatch, tenant)
    runner().run([SettleOp(settlement(request.request_id, 10))])
    tenant.grant(5 * TOKEN)
    assert tenant.wallet.posted == 10 * USD + 5 * TOKEN, "the settlement's ten tokens are back"
    assert {"R1", "R2"} <= {finding.check for finding in run_checks() if not finding.ok}


def test_control_without_its_key_the_same_grant_is_given_each_time(tenant: Tenant, monkeypatch):
    granted, numbers = ledger.granted, iter(range(10**6))
    monkeypatch.setattr(ledger, "granted", lambda key, *args, **more: granted(f"{key}:{next(numbers)}", *args, **more))
    together([lambda: services.grant(tenant.organization_id, USD, reason="r", idempotency_key="same")] * THREADS)
    assert tenant.wallet.posted == (10 + THREADS) * USD


def holds_around_a_revocation(tenant: Tenant) -> tuple[list[object], list[object]]:
    """What holds beside a revocation came to, and those that began when it was over."""
    requests = [tenant.hold(output=10) for _ in range(20)]
    tasks: list[Callable[[], object]] = [alone(HoldOp(request)) for request in requests[:10]]
    tasks.insert(3, lambda: revoke(tenant))
    beside = together(tasks)
    del beside[3]
    return beside, together([alone(HoldOp(request)) for request in requests[10:]])


def test_once_a_key_is_revoked_nothing_is_held_with_it(tenant: Tenant):
    beside, after = holds_around_a_revocation(tenant)
    granted = [outcome for outcome in beside if isinstance(outcome, HoldGrant)]
    assert all(isinstance(outcome, HoldGrant | KeyNoLongerValid) for outcome in beside)
    assert [type(outcome) for outcome in after] == [KeyNoLongerValid] * 10
    assert tenant.wallet.held == len(granted) * 10 * TOKEN
    assert_reconciled()


def test_control_a_key_that_is_remembered_holds_after_its_revocation(tenant: Tenant, monkeypatch):
    def remember(books: Books, key_ids: object) -> None:
        books.keys = {tenant.api_key_id: tenant.organization_id}

    monkeypatch.setattr(Books, "read_keys", remember)
    _, after = holds_around_a_revocation(tenant)
    assert [type(outcome) for outcome in after] == [HoldGrant] * 10
