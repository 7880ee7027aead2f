"""The database refuses what the code would never do: every CHECK and trigger, attacked by raw SQL."""

from functools import partial

import pytest
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from credits import corrections, guards, promos
from credits.batch import BatchRunner, HoldOp, SettleOp
from credits.correction_models import Adjustment, AdjustmentKind, Correction, PromoCode, PromoRedemption
from credits.models import CreditLot, Hold, LedgerAccount, LotConsumption, PriceSnapshot, Transfer, UsageRecord
from tests.credits.support import (
    FACTS,
    FLAT,
    TOKEN,
    USD,
    Tenant,
    assert_reconciled,
    operator,
    raw,
    settlement,
)  # fmt: skip

pytestmark = pytest.mark.django_db


@pytest.fixture
def used(customer: Tenant) -> Tenant:
    """A customer with one captured, one voided and one row of everything else that there is."""
    runner = BatchRunner(connection, owner="test", lease_seconds=60, clock=timezone.now)
    for request_id, output in (("req_captured", 10), ("req_voided", 0)):
        runner.run([HoldOp(customer.hold(request_id=request_id))])
        runner.run([SettleOp(settlement(request_id, output))])
    runner.run([HoldOp(customer.hold(request_id="req_dispatched"))])
    runner.run([HoldOp(customer.hold(request_id="req_open"), dispatch=False)])
    return customer


@pytest.fixture
def corrected(used: Tenant) -> Tenant:
    """The same customer with one of everything that promo codes and corrections leave."""
    maker, checker = operator("maker"), operator("checker")
    promos.create_code("WELCOME", promos.Terms(USD, 30, 2))
    promos.redeem(used.organization_id, "WELCOME", by=maker)
    corrections.refund("req_captured", 3 * TOKEN, ticket="T", reason="r", by=maker)
    adjust = partial(corrections.propose, used.organization_id, AdjustmentKind.CREDIT, USD, reason="r", by=maker)
    corrections.approve(adjust(key="approved").pk, by=checker)
    adjust(key="proposed")
    stuck = used.hold(request_id="req_stuck")
    BatchRunner(connection, owner="test", lease_seconds=60, clock=timezone.now).run([HoldOp(stuck)])
    raw("UPDATE credits_hold SET state = 'needs_settlement' WHERE id = 'req_stuck'")
    corrections.write_off_hold("req_stuck", reason="r", by=maker)
    assert_reconciled()
    return used


def refused(sql: str, *params: object) -> bool:
    try:
        with transaction.atomic():
            raw(sql, *params)
    except DatabaseError:
        return True
    return False


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE credits_wallet SET posted = -1, held = -1",
        "UPDATE credits_wallet SET posted = held - 1",
        "UPDATE credits_wallet SET held = -1",
        "UPDATE credits_wallet SET debt = -1",
        "UPDATE credits_creditlot SET remaining = amount + 1",
        "UPDATE credits_creditlot SET remaining = -1",
        "UPDATE credits_creditlot SET amount = 0, remaining = 0",
        "UPDATE credits_hold SET amount = -1",
        "UPDATE credits_hold SET captured = 5 WHERE id = 'req_dispatched'",
        "UPDATE credits_hold SET state = 'captured', captured = 0 WHERE id = 'req_dispatched'",
        "UPDATE credits_hold SET state = 'nonsense' WHERE id = 'req_dispatched'",
        "UPDATE credits_usagerecord SET charge = -1, margin = -1",
        "UPDATE credits_usagerecord SET margin = margin + 1",
        "UPDATE credits_ledgeraccount SET organization_id = NULL WHERE kind = 'wallet'",
        "UPDATE credits_transfer SET amount = 1",
        "UPDATE credits_transfer SET reason = 'x'",
        "DELETE FROM credits_transfer",
        "UPDATE credits_lotconsumption SET amount = 1",
        "DELETE FROM credits_lotconsumption",
        "UPDATE credits_pricesnapshot SET input = 0",
        "DELETE FROM credits_pricesnapshot",
        "DELETE FROM credits_hold",
        "UPDATE credits_creditlot SET expired = -1",
        "UPDATE credits_correction SET amount = 1, restored = 1",
        "UPDATE credits_correction SET reason = 'x'",
        "DELETE FROM credits_correction",
        "UPDATE credits_lotreopening SET amount = 1",
        "DELETE FROM credits_lotreopening",
        "UPDATE credits_promoredemption SET organization_id = organization_id",
        "DELETE FROM credits_promoredemption",
        "UPDATE credits_holdwriteoff SET reason = 'x'",
        "DELETE FROM credits_holdwriteoff",
        "DELETE FROM credits_promocode",
        "UPDATE credits_promocode SET amount = amount + 1",
        "UPDATE credits_promocode SET code = 'OTHER'",
        "UPDATE credits_promocode SET max_redemptions = 9",
        "UPDATE credits_promocode SET redeemed = 0",
        "UPDATE credits_promocode SET redeemed = 3",
        "UPDATE credits_promocode SET valid_until = '2000-01-01 00:00:00'",
        "DELETE FROM credits_adjustment",
        "UPDATE credits_adjustment SET amount = amount + 1 WHERE state = 'proposed'",
        "UPDATE credits_adjustment SET organization_id = organization_id + 1 WHERE state = 'proposed'",
        "UPDATE credits_adjustment SET proposed_by_id = NULL WHERE state = 'proposed'",
        "UPDATE credits_adjustment SET kind = 'debit' WHERE state = 'proposed'",
        "UPDATE credits_adjustment SET state = 'approved' WHERE state = 'proposed'",
        "UPDATE credits_adjustment SET decided_at = proposed_at WHERE state = 'proposed'",
        "UPDATE credits_adjustment SET decision = 'x' WHERE state = 'approved'",
        "UPDATE credits_adjustment SET state = 'proposed', decided_by_id = NULL, decided_at = NULL "
        "WHERE state = 'approved'",
        "UPDATE credits_adjustment SET state = 'rejected' WHERE state = 'approved'",
        "UPDATE credits_adjustment SET state = 'approved', decided_by_id = proposed_by_id, decided_at = proposed_at "
        "WHERE state = 'proposed'",
    ],
)
def test_the_database_refuses(corrected: Tenant, sql: str):
    assert refused(sql)


def test_the_controls_of_those_are_accepted(corrected: Tenant):
    """What is left open is open: the statements above are refused for what they change."""
    assert not refused("UPDATE credits_promocode SET redeemed = redeemed + 1, enabled = NOT enabled, note = 'x'")
    checker = Adjustment.objects.get(state="approved").decided_by_id
    sql = (
        "UPDATE credits_adjustment SET state = 'rejected', decided_by_id = %s, decided_at = proposed_at WHERE state = "
    )
    assert not refused(f"{sql}'proposed'", checker)


def test_a_refund_above_the_charge_is_refused_by_the_database_too(corrected: Tenant):
    done = Correction.objects.get()
    about = {"hold_id": done.hold_id, "reason": "r", "created_by_id": done.created_by_id}

    def add(ticket: str, amount: int) -> None:
        with transaction.atomic():
            Correction.objects.create(ticket=ticket, amount=amount, restored=amount, **about)

    with pytest.raises(DatabaseError):
        add("U", 7 * TOKEN + 1)
    with pytest.raises(DatabaseError):
        add("T", 1)  # the ticket's second refund of this request
    with pytest.raises(DatabaseError), transaction.atomic():
        Correction.objects.create(ticket="U", amount=5, restored=3, credited=1, **about)
    add("U", 7 * TOKEN)


def test_a_code_is_redeemed_once_an_organisation_in_the_database_too(corrected: Tenant):
    done = PromoRedemption.objects.get()
    other = Transfer.objects.filter(code="grant")[0]
    with pytest.raises(DatabaseError), transaction.atomic():
        PromoRedemption.objects.create(
            promo_code=done.promo_code, organization=done.organization, transfer=other, redeemed_by=done.redeemed_by
        )
    for wrong in ({"code": "lower"}, {"code": ""}, {"amount": 0}, {"expires_in_days": 0}):
        with pytest.raises(DatabaseError), transaction.atomic():
            PromoCode.objects.create(**{"code": "FINE", "amount": 1, **wrong})


def test_a_transfer_needs_an_amount_two_accounts_and_a_new_key(used: Tenant):
    row = Transfer.objects.get(code="capture")
    insert = (
        "INSERT INTO credits_transfer (debit_id, credit_id, amount, code, idempotency_key, group_id, reason, "
        "created_at) VALUES (%s, %s, %s, 'capture', %s, 'g', '', %s)"
    )
    now = connection.ops.adapt_datetimefield_value(timezone.now())
    assert refused(insert, row.debit_id, row.credit_id, 0, "new", now)
    assert refused(insert, row.debit_id, row.credit_id, -5, "new", now)
    assert refused(insert, row.debit_id, row.debit_id, 5, "new", now)
    assert refused(insert, row.debit_id, row.credit_id, 5, row.idempotency_key, now)
    assert refused(insert.replace("'capture'", "'nonsense'"), row.debit_id, row.credit_id, 5, "new", now)
    assert not refused(insert, row.debit_id, row.credit_id, 5, "new", now)


def test_lots_consumption_and_accounts_are_checked_when_they_are_made(used: Tenant):
    lot, transfer = CreditLot.objects.get(), Transfer.objects.get(code="capture")
    consumption = "INSERT INTO credits_lotconsumption (transfer_key, lot_id, amount) VALUES (%s, %s, %s)"
    assert refused(consumption, transfer.idempotency_key, lot.pk, 0)
    account = "INSERT INTO credits_ledgeraccount (kind, organization_id) VALUES (%s, %s)"
    assert refused(account, "revenue", None)  # there is one already
    assert refused(account, "revenue", used.organization_id)
    assert refused(account, "wallet", None)
    assert refused(account, "wallet", used.organization_id)


STATES = ("open", "dispatched", "captured", "voided", "expired", "needs_settlement", "written_off")
LEGAL = {
    ("open", "dispatched"), ("open", "voided"), ("open", "expired"), ("dispatched", "captured"),
    ("dispatched", "voided"), ("dispatched", "needs_settlement"), ("needs_settlement", "captured"),
    ("needs_settlement", "voided"), ("needs_settlement", "written_off"),
}  # fmt: skip
WAY_TO = {
    "open": (), "dispatched": ("dispatched",), "captured": ("dispatched", "captured"), "voided": ("voided",),
    "expired": ("expired",), "needs_settlement": ("dispatched", "needs_settlement"),
    "written_off": ("dispatched", "needs_settlement", "written_off"),
}  # fmt: skip


def move(state: str) -> str:
    return f"UPDATE credits_hold SET state = '{state}', captured = {int(state == 'captured')} WHERE id = 'req_open'"


@pytest.mark.parametrize("old", STATES)
@pytest.mark.parametrize("new", STATES)
def test_a_hold_moves_along_legal_edges_only(used: Tenant, old: str, new: str):
    for state in WAY_TO[old]:
        raw(move(state))
    staying = old == new and old in {"open", "dispatched", "needs_settlement"}
    assert refused(move(new)) == ((old, new) not in LEGAL and not staying)


@pytest.mark.parametrize(
    "change",
    ["id = 'other'", "amount = amount + 1", "wallet_id = wallet_id + 1", "price_snapshot_id = price_snapshot_id + 1",
     "api_key_id = api_key_id + 1", "fingerprint = 'x'", "max_tokens = 1"],
)  # fmt: skip
def test_what_a_hold_was_made_with_never_changes(used: Tenant, change: str):
    assert refused(f"UPDATE credits_hold SET {change} WHERE id = 'req_dispatched'")


def test_lease_and_checkpoint_are_updated_in_place_until_the_hold_is_finished(used: Tenant):
    now = connection.ops.adapt_datetimefield_value(timezone.now())
    update = "UPDATE credits_hold SET lease_until = %s, checkpoint = '{}' WHERE id = %s"
    assert not refused(update, now, "req_dispatched")
    assert refused(update, now, "req_captured")
    assert refused(update, now, "req_voided")


def test_control_without_its_triggers_the_database_accepts_all_of_that(corrected: Tenant):
    guards.remove(connection)
    try:
        assert not refused("UPDATE credits_transfer SET reason = 'x'")
        assert not refused("DELETE FROM credits_lotconsumption")
        assert not refused("UPDATE credits_hold SET state = 'open', captured = 0 WHERE id = 'req_captured'")
        assert not refused("UPDATE credits_hold SET amount = amount + 1 WHERE id = 'req_open'")
        assert not refused("UPDATE credits_correction SET reason = 'x'")
        assert not refused("UPDATE credits_adjustment SET state = 'rejected' WHERE state = 'approved'")
        assert not refused("UPDATE credits_promocode SET redeemed = 0, amount = 1")
    finally:
        guards.install(connection)
    assert refused("UPDATE credits_transfer SET reason = 'y'")


@pytest.mark.skipif("connection.vendor != 'postgresql'")
@pytest.mark.parametrize("table", [*guards.APPEND_ONLY, *guards.KEPT])
def test_truncating_is_refused(used: Tenant, table: str):
    assert refused(f"TRUNCATE {table} CASCADE")


def test_money_keeps_organisations_keys_and_wallets_from_being_deleted(used: Tenant):
    from django.db.models import ProtectedError

    from accounts.models import ApiKey, Organization

    for row in (Organization.objects.get(pk=used.organization_id), ApiKey.objects.get(pk=used.api_key_id), used.wallet):
        with pytest.raises(ProtectedError):
            row.delete()


def test_the_accounts_of_the_platform_are_there_and_made_once(db):
    kinds = sorted(LedgerAccount.objects.filter(organization=None).values_list("kind", flat=True))
    guards.after_migrate("default")
    assert sorted(LedgerAccount.objects.filter(organization=None).values_list("kind", flat=True)) == kinds
    assert "revenue" in kinds
    assert len(kinds) == 8


def test_a_price_is_stored_once(used: Tenant):
    assert PriceSnapshot.objects.count() == 1
    assert PriceSnapshot.objects.get().output == FLAT.output


def test_everything_was_written(used: Tenant):
    assert {hold.pk: hold.state for hold in Hold.objects.all()} == {
        "req_captured": "captured", "req_voided": "voided", "req_dispatched": "dispatched", "req_open": "open",
    }  # fmt: skip
    assert LotConsumption.objects.get().amount == 10 * TOKEN
    assert UsageRecord.objects.get(pk="req_captured").requested_model == FACTS.requested_model
    assert used.wallet.posted == 10 * USD - 10 * TOKEN
