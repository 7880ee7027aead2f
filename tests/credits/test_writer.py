"""The writer, as its callers meet it."""

import asyncio
import threading

import pytest
from msgspec.structs import replace

from credits.batch import SettleOp
from credits.errors import (
    HoldClosed,
    HoldConflict,
    InsufficientCredits,
    KeyNoLongerValid,
    LedgerBusy,
    LedgerUnavailable,
    OutstandingDebt,
    WalletFrozen,
)
from credits.models import CreditLot, Hold, Transfer, UsageRecord, Wallet
from credits.models import PriceSnapshot as StoredPrice
from credits.types import MeterReading, Nanos, PriceSnapshot, PriceTier, Settlement, SettleRequest, UsageSource
from credits.writer import LedgerWriter, Ticket
from tests.credits.support import (
    FACTS,
    FLAT,
    FREE,
    TOKEN,
    USD,
    Tenant,
    assert_reconciled,
    flat,
    in_thread,
    larger,
    new_tenant,
    revoke,
    settlement,
)


def test_a_hold_reserves_the_worst_case_and_a_settlement_takes_what_was_used(
    tenant: Tenant, ledger_writer: LedgerWriter
):
    request = tenant.hold(prompt=100, output=900)
    grant = ledger_writer.hold_sync(request)
    assert (grant.amount, grant.max_tokens) == (1000 * TOKEN, 900)
    assert (tenant.wallet.posted, tenant.wallet.held) == (10 * USD, 1000 * TOKEN)
    assert Hold.objects.get(pk=request.request_id).state == "dispatched"

    settled = ledger_writer.settle_sync(settlement(request.request_id, 400, input=100))
    assert settled.charge == 500 * TOKEN
    wallet = tenant.wallet
    assert (wallet.posted, wallet.held, wallet.debt) == (10 * USD - 500 * TOKEN, 0, 0)
    assert Hold.objects.get(pk=request.request_id).state == "captured"
    assert_reconciled()


def test_the_searches_that_a_request_may_make_are_reserved_for(tenant: Tenant, ledger_writer: LedgerWriter):
    price = replace(FLAT, web_search=USD)
    request = replace(tenant.hold(prompt=100, output=900, price=price), web_searches=9)
    assert ledger_writer.hold_sync(request).amount == 9 * USD + 1000 * TOKEN
    settled = ledger_writer.settle_sync(settlement(request.request_id, 900, input=100, web_searches=9))
    assert settled.charge == 9 * USD + 1000 * TOKEN
    assert (tenant.wallet.posted, tenant.wallet.debt) == (USD - 1000 * TOKEN, 0)
    assert_reconciled()


@pytest.mark.parametrize(("searches", "granted"), [(4, 300), (5, None)])
def test_fewer_credits_than_the_worst_case_go_to_searches_first(
    tenant: Tenant, ledger_writer: LedgerWriter, searches: int, granted: int | None
):
    """Half of ten dollars pays for four searches and 300 tokens, or for five searches and none."""
    price = replace(FLAT, output=USD * 10**6 // 300, web_search=USD)
    request = replace(tenant.hold(output=100_000, price=price), web_searches=searches)
    if granted is None:
        with pytest.raises(InsufficientCredits) as refused:
            ledger_writer.hold_sync(request)
        assert (refused.value.available, refused.value.needed) == (
            10 * USD,
            2 * (5 * USD + 256 * price.output // 10**6 + 1),
        )
        return
    grant = ledger_writer.hold_sync(request)
    assert grant.max_tokens == granted
    assert grant.amount <= 5 * USD


def test_the_usage_record_holds_the_facts_the_price_and_the_margin(tenant: Tenant, ledger_writer: LedgerWriter):
    request = tenant.hold(output=1000)
    ledger_writer.hold_sync(request)
    half = flat(USD // 2)
    reading = MeterReading(input=1, cache_read=2, cache_write=3, cache_write_1h=4, output=90, reasoning=8)
    settled = ledger_writer.settle_sync(SettleRequest(request.request_id, reading, half, FACTS))
    assert (settled.charge, settled.cost) == (100 * TOKEN, 50 * TOKEN)
    record = UsageRecord.objects.get(pk=request.request_id)
    assert (record.charge, record.cost, record.margin) == (100 * TOKEN, 50 * TOKEN, 50 * TOKEN)
    assert (record.organization_id, record.api_key_id) == (tenant.organization_id, tenant.api_key_id)
    assert (record.input_tokens, record.cache_read_tokens, record.cache_write_tokens) == (1, 2, 3)
    assert (record.cache_write_1h_tokens, record.output_tokens, record.reasoning_tokens) == (4, 90, 8)
    assert (record.model, record.route, record.provider, record.usage_source) == ("m", "default", "p", "provider")
    assert record.price_snapshot.input == USD


def test_a_settlement_may_be_at_another_price_and_tell_what_failed_attempts_cost(
    tenant: Tenant, ledger_writer: LedgerWriter
):
    request = tenant.hold(output=100)
    ledger_writer.hold_sync(request)
    own_key = replace(settlement(request.request_id, 40), price=flat(USD // 20), cost_price=None, spent=7)
    assert ledger_writer.settle_sync(own_key) == Settlement(request.request_id, Nanos(40 * TOKEN // 20), Nanos(7))
    record = UsageRecord.objects.select_related("price_snapshot").get(pk=request.request_id)
    assert (record.charge, record.cost, record.margin) == (40 * TOKEN // 20, 7, 40 * TOKEN // 20 - 7)
    assert record.price_snapshot.output == USD // 20
    assert tenant.wallet.held == 0
    assert_reconciled()


def test_no_usage_voids_the_hold_and_leaves_a_record(tenant: Tenant, ledger_writer: LedgerWriter):
    request = tenant.hold()
    ledger_writer.hold_sync(request)
    nothing = SettleRequest(request.request_id, MeterReading(source=UsageSource.NONE), None, FACTS)
    assert ledger_writer.settle_sync(nothing).charge == 0
    assert Hold.objects.get(pk=request.request_id).state == "voided"
    assert tenant.wallet.available == 10 * USD
    assert UsageRecord.objects.get(pk=request.request_id).charge == 0
    assert not Transfer.objects.filter(hold_id=request.request_id).exists()
    assert_reconciled()


def test_what_the_wallet_cannot_afford_whole_gets_half_of_what_is_free(transactional_db, ledger_writer: LedgerWriter):
    poor = new_tenant(2000 * TOKEN)
    grant = ledger_writer.hold_sync(poor.hold(prompt=100, output=5000))
    assert (grant.amount, grant.max_tokens) == (1000 * TOKEN, 900)


def test_a_refusal_names_what_would_have_been_enough(transactional_db, ledger_writer: LedgerWriter):
    poor = new_tenant(600 * TOKEN)
    with pytest.raises(InsufficientCredits) as refusal:
        ledger_writer.hold_sync(poor.hold(prompt=100, output=5000))
    assert refusal.value.available == 600 * TOKEN
    assert refusal.value.needed == 2 * (100 + 256) * TOKEN
    poor.grant(refusal.value.needed - refusal.value.available)
    assert ledger_writer.hold_sync(poor.hold(prompt=100, output=5000)).max_tokens == 256


def test_a_small_request_needs_no_more_than_it_costs(transactional_db, ledger_writer: LedgerWriter):
    poor = new_tenant(9 * TOKEN)
    with pytest.raises(InsufficientCredits) as refusal:
        ledger_writer.hold_sync(poor.hold(output=10))
    assert refusal.value.needed == 10 * TOKEN
    assert ledger_writer.hold_sync(poor.hold(output=9)).max_tokens == 9


def test_the_input_is_held_at_its_dearest_class(tenant: Tenant, ledger_writer: LedgerWriter):
    price = PriceSnapshot(input=USD, output=USD, cache_read=1, cache_write=USD, cache_write_1h=2 * USD)
    assert ledger_writer.hold_sync(tenant.hold(prompt=10, output=5, price=price)).amount == 25 * TOKEN


def test_a_free_model_holds_nothing(transactional_db, ledger_writer: LedgerWriter):
    broke = new_tenant()
    request = broke.hold(prompt=10**6, output=10**6, price=FREE)
    grant = ledger_writer.hold_sync(request)
    assert (grant.amount, grant.max_tokens) == (0, 10**6)
    assert ledger_writer.settle_sync(settlement(request.request_id, 10**6)).charge == 0


def test_usage_beyond_the_hold_becomes_debt_that_blocks_until_repaid(transactional_db, ledger_writer: LedgerWriter):
    poor = new_tenant(1000 * TOKEN)
    request = poor.hold(output=1000)
    ledger_writer.hold_sync(request)
    ledger_writer.settle_sync(settlement(request.request_id, 1500))
    assert (poor.wallet.posted, poor.wallet.held, poor.wallet.debt) == (0, 0, 500 * TOKEN)
    with pytest.raises(OutstandingDebt) as refusal:
        ledger_writer.hold_sync(poor.hold(price=FREE))
    assert refusal.value.debt == 500 * TOKEN
    assert_reconciled()
    poor.grant(2000 * TOKEN)
    assert (poor.wallet.posted, poor.wallet.debt) == (1500 * TOKEN, 0)
    ledger_writer.hold_sync(poor.hold(output=10))
    assert_reconciled()


def test_an_overage_never_touches_what_another_hold_reserved(transactional_db, ledger_writer: LedgerWriter):
    tenant = new_tenant(1500 * TOKEN)
    first, second = tenant.hold(output=1000), tenant.hold(output=500)
    ledger_writer.hold_sync(first)
    ledger_writer.hold_sync(second)
    ledger_writer.settle_sync(settlement(first.request_id, 1200))
    assert (tenant.wallet.posted, tenant.wallet.held, tenant.wallet.debt) == (500 * TOKEN, 500 * TOKEN, 200 * TOKEN)
    # What the other hold then leaves over repays the debt at once.
    ledger_writer.settle_sync(settlement(second.request_id, 100))
    assert (tenant.wallet.posted, tenant.wallet.held, tenant.wallet.debt) == (200 * TOKEN, 0, 0)
    assert_reconciled()


def test_lots_are_used_up_in_the_designed_order(transactional_db, ledger_writer: LedgerWriter):
    from datetime import timedelta

    from django.utils import timezone

    from credits.models import LotKind

    tenant = new_tenant()
    soon, late = timezone.now() + timedelta(days=1), timezone.now() + timedelta(days=9)
    tenant.grant(100 * TOKEN)
    tenant.grant(100 * TOKEN, kind=LotKind.PROMO)
    tenant.grant(100 * TOKEN, expires_at=late)
    tenant.grant(100 * TOKEN, expires_at=soon)
    plain, promo, ends_late, ends_soon = CreditLot.objects.order_by("id")
    CreditLot.objects.filter(pk=plain.pk).update(priority=100)
    for used in (50, 100, 100, 100):
        request = tenant.hold(output=used)
        ledger_writer.hold_sync(request)
        ledger_writer.settle_sync(settlement(request.request_id, used))
    left = {lot.pk: lot.remaining // TOKEN for lot in CreditLot.objects.all()}
    assert left == {ends_soon.pk: 0, ends_late.pk: 0, promo.pk: 0, plain.pk: 50}
    assert_reconciled()


def test_a_priority_comes_before_everything_else(transactional_db, ledger_writer: LedgerWriter):
    tenant = new_tenant(100 * TOKEN)
    tenant.grant(100 * TOKEN)
    newest = CreditLot.objects.order_by("-id")[0]
    CreditLot.objects.filter(pk=newest.pk).update(priority=1)
    request = tenant.hold(output=60)
    ledger_writer.hold_sync(request)
    ledger_writer.settle_sync(settlement(request.request_id, 60))
    newest.refresh_from_db()
    assert newest.remaining == 40 * TOKEN


def test_a_revoked_key_holds_nothing(tenant: Tenant, ledger_writer: LedgerWriter):
    revoke(tenant)
    with pytest.raises(KeyNoLongerValid):
        ledger_writer.hold_sync(tenant.hold())
    assert tenant.wallet.held == 0


def test_an_expired_key_and_a_key_of_another_organisation_hold_nothing(tenant: Tenant, ledger_writer: LedgerWriter):
    from django.utils import timezone

    from accounts.models import ApiKey

    other = new_tenant(USD)
    with pytest.raises(KeyNoLongerValid):
        ledger_writer.hold_sync(Tenant(tenant.organization_id, other.api_key_id).hold())
    ApiKey.objects.filter(pk=tenant.api_key_id).update(expires_at=timezone.now())
    with pytest.raises(KeyNoLongerValid):
        ledger_writer.hold_sync(tenant.hold())


def test_a_frozen_wallet_holds_nothing(tenant: Tenant, ledger_writer: LedgerWriter):
    Wallet.objects.update(frozen=True)
    with pytest.raises(WalletFrozen):
        ledger_writer.hold_sync(tenant.hold(price=FREE))


def test_a_repeated_hold_gets_the_same_grant_and_is_held_once(tenant: Tenant, ledger_writer: LedgerWriter):
    request = tenant.hold()
    assert ledger_writer.hold_sync(request) == ledger_writer.hold_sync(request)
    assert tenant.wallet.held == 1000 * TOKEN
    with pytest.raises(HoldConflict):
        ledger_writer.hold_sync(larger(request))
    ledger_writer.settle_sync(settlement(request.request_id, 1))
    with pytest.raises(HoldConflict):
        ledger_writer.hold_sync(request)
    assert_reconciled()


def test_a_repeated_settlement_gets_the_stored_answer_and_another_is_refused(
    tenant: Tenant, ledger_writer: LedgerWriter
):
    request = tenant.hold()
    ledger_writer.hold_sync(request)
    first = ledger_writer.settle_sync(settlement(request.request_id, 7))
    assert ledger_writer.settle_sync(settlement(request.request_id, 7)) == first
    with pytest.raises(HoldClosed):
        ledger_writer.settle_sync(settlement(request.request_id, 8))
    with pytest.raises(HoldClosed):
        ledger_writer.settle_sync(settlement("req_unknown", 8))
    assert tenant.wallet.posted == 10 * USD - 7 * TOKEN
    assert Transfer.objects.filter(hold_id=request.request_id).count() == 1
    assert_reconciled()


def test_a_providers_nonsense_counts_as_nothing(tenant: Tenant, ledger_writer: LedgerWriter):
    request = tenant.hold()
    ledger_writer.hold_sync(request)
    assert ledger_writer.settle_sync(settlement(request.request_id, -5, input=3)).charge == 3 * TOKEN


@pytest.mark.asyncio
async def test_a_bad_operation_does_not_sink_its_neighbours(tenant: Tenant):
    writer = LedgerWriter(lease_seconds=30)
    writer.start()
    good = [tenant.hold() for _ in range(3)]
    bad = tenant.hold()
    bad = replace(bad, request_id=object())  # nothing that a database could store
    tasks = [asyncio.create_task(writer.hold(request)) for request in (*good[:2], bad, good[2])]
    results = await asyncio.gather(*tasks, return_exceptions=True)
    await writer.close()
    assert [type(result).__name__ for result in results] == ["HoldGrant", "HoldGrant", "LedgerUnavailable", "HoldGrant"]


@pytest.mark.asyncio
async def test_many_callers_share_their_commits(tenant: Tenant, ledger_writer: LedgerWriter):
    requests = [tenant.hold(output=10) for _ in range(100)]
    grants = await asyncio.gather(*map(ledger_writer.hold, requests))
    assert {grant.amount for grant in grants} == {10 * TOKEN}
    await asyncio.gather(*(ledger_writer.settle(settlement(request.request_id, 5)) for request in requests))
    wallet = await in_thread(lambda: tenant.wallet)
    assert (wallet.posted, wallet.held) == (10 * USD - 500 * TOKEN, 0)
    await in_thread(assert_reconciled)


@pytest.mark.parametrize(("before", "told"), [(1, []), (3, [False, True]), (2, [True, True])])
def test_a_batch_waits_for_as_many_as_the_one_before_it_had_and_is_woken_by_the_last(
    monkeypatch, before: int, told: list[bool]
):
    writer = LedgerWriter(lease_seconds=30)
    monkeypatch.setattr(writer, "_thread", threading.current_thread())  # what is queued stays there
    seen: list[bool] = []

    def queue() -> None:
        writer._enqueue(Ticket(SettleOp(settlement("req_x", 1))))

    class Company(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            for _ in range(2):
                queue()
                seen.append(self.is_set())
            return True

    for _ in range(before):
        queue()
    assert len(writer._take()) == before
    writer._complete = Company()
    queue()
    assert len(writer._take()) == 1 + len(told)
    assert seen == told


@pytest.mark.asyncio
async def test_a_full_queue_refuses_holds_and_never_settlements(tenant: Tenant, monkeypatch):
    writer = LedgerWriter(capacity=1, lease_seconds=30)
    monkeypatch.setattr(writer, "_take", list)  # the thread runs, and takes nothing
    writer.start()
    waiting = asyncio.create_task(writer.hold(tenant.hold()))
    await asyncio.sleep(0)
    with pytest.raises(LedgerBusy):
        await writer.hold(tenant.hold())
    settling = asyncio.create_task(writer.settle(settlement("req_x", 1)))
    await asyncio.sleep(0)
    assert writer.depth == 2
    monkeypatch.undo()
    assert isinstance((await asyncio.gather(waiting, settling, return_exceptions=True))[1], HoldClosed)
    await writer.close()


@pytest.mark.asyncio
async def test_closing_finishes_what_is_queued_and_takes_nothing_more(tenant: Tenant):
    writer = LedgerWriter(lease_seconds=30)
    writer.start()
    assert writer.alive
    tasks = [asyncio.create_task(writer.hold(tenant.hold(output=1))) for _ in range(50)]
    await asyncio.sleep(0)
    await writer.close()
    assert len([await task for task in tasks]) == 50
    assert not writer.alive
    with pytest.raises(LedgerUnavailable):
        await writer.hold(tenant.hold())


def test_a_tiered_price_is_stored_once_and_read_back_by_whoever_settles(tenant: Tenant, ledger_writer: LedgerWriter):
    """Another process ends the hold: it knows the tiers from the database alone."""
    tiered = replace(FLAT, tiers=(PriceTier(500, 2 * USD, 3 * USD, USD, 4 * USD, 5 * USD),))
    held = [tenant.hold(prompt=1000, output=100, price=price) for price in (FLAT, tiered, tiered)]
    grants = [ledger_writer.hold_sync(request) for request in held]
    assert [grant.amount for grant in grants] == [1100 * TOKEN, 5300 * TOKEN, 5300 * TOKEN]
    assert StoredPrice.objects.count() == 2
    other = LedgerWriter(lease_seconds=30)
    other.start()
    try:
        charges = [
            other.settle_sync(settlement(request.request_id, 100, input=tokens)).charge
            for request, tokens in zip(held, (501, 500, 501), strict=True)
        ]
    finally:
        other.close_sync()
    assert charges == [601 * TOKEN, 600 * TOKEN, (1002 + 300) * TOKEN]
    assert_reconciled()
