"""The database refuses what the code would never do: every guard that its catalogue lists, attacked by raw SQL."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from django.db import DatabaseError, connection, transaction
from django.db.models import ProtectedError
from django.utils import timezone
from msgspec.structs import replace

from accounts.models import ApiKey, Organization
from credits import corrections, guard_audit, guards, promos
from credits.batch import BatchRunner, HoldOp, SettleOp
from credits.budgets import WINDOWS
from credits.correction_models import AdjustmentKind
from credits.key_budgets import set_key_budget
from credits.models import CreditLot, Hold, LedgerAccount, LotConsumption, PriceSnapshot, UsageArchive, UsageRecord
from credits.payments.models import (
    AutoTopUp,
    BalanceTransaction,
    BillingAccount,
    PaymentDispute,
    PaymentRefund,
    StripeEvent,
    TopUp,
)
from credits.reconcile import reconcile
from credits.types import MeterReading, SettleRequest
from credits.usage import rollups
from credits.usage.models import TargetLatency, TargetProgress, TargetRollup
from tests.credits.support import FACTS, FLAT, TOKEN, USD, Tenant, operator, raw, settlement

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
    assert reconcile().checkpoint is not None
    return customer


@pytest.fixture
def everything(used: Tenant) -> Tenant:
    """The same customer with one of everything else that there is in the ledger."""
    maker, checker = operator("maker"), operator("checker")
    promos.create_code("WELCOME", promos.Terms(USD, 30, 2))
    promos.redeem(used.organization_id, "WELCOME", by=maker)
    corrections.refund("req_captured", 3 * TOKEN, ticket="T", reason="r", by=maker)
    adjust = partial(corrections.propose, used.organization_id, AdjustmentKind.CREDIT, USD, reason="r", by=maker)
    corrections.approve(adjust(key="approved").pk, by=checker)
    adjust(key="proposed")
    runner = BatchRunner(connection, owner="test", lease_seconds=60, clock=timezone.now)
    runner.run([HoldOp(used.hold(request_id="req_stuck"))])
    raw("UPDATE credits_hold SET state = 'needs_settlement' WHERE id = 'req_stuck'")
    corrections.write_off_hold("req_stuck", reason="r", by=maker)
    runner.run([HoldOp(used.hold(request_id="req_session"))])
    in_session = replace(FACTS, session_id="s")
    runner.run([SettleOp(SettleRequest("req_session", MeterReading(output=1), None, in_session))])
    set_key_budget(used.organization_id, used.api_key_id, {"day": USD})
    rollups.roll_up(timezone.now() + timedelta(minutes=5))
    target = {"period": "hour", "starts_at": datetime(2020, 1, 1, tzinfo=UTC), "provider": "p", "model": "m"}
    TargetRollup.objects.create(**target, outcome="ok", attempts=1, output_tokens=1, stream_ms=1)
    TargetLatency.objects.create(**target, measure="total", ms=1, attempts=1)
    TargetProgress.objects.get_or_create(pk=1)
    assert reconcile(full=True).ok
    for month, deleted_at in ((1, timezone.now()), (2, None)):
        starts_at = datetime(2020, month, 1, tzinfo=UTC)
        UsageArchive.objects.create(
            organization_id=used.organization_id, starts_at=starts_at, ends_at=datetime(2020, month + 1, 1, tzinfo=UTC),
            path=f"p{month}", records=1, charge=0, sha256="0" * 64, deleted_at=deleted_at,
        )  # fmt: skip
    payments_of(used.organization_id)
    return used


def payments_of(organization_id: int) -> None:
    """One of every table of payments, the rows that attacks aim at first."""
    BillingAccount.objects.create(organization_id=organization_id, customer="cus_1")
    AutoTopUp.objects.create(organization_id=organization_id, threshold=1, amount=1, monthly_cap=1)
    now = timezone.now()
    paid = TopUp.objects.create(
        organization_id=organization_id, kind="manual", state="succeeded", amount=100, fee=1, key="paid", paid_at=now,
        checkout_session="cs_1", invoice="in_1", payment_intent="pi_1", charge="ch_1",
    )  # fmt: skip
    TopUp.objects.create(organization_id=organization_id, kind="auto", amount=100, key="waiting")
    parts = {"amount": 10, "credit": 9, "fee": 1, "tax": 0, "from_wallet": 5, "from_debt": 4}
    PaymentRefund.objects.create(id="r", top_up=paid, stripe_id="re_1", state="failed", **parts)
    PaymentDispute.objects.create(id="dp_1", top_up=paid, kind="dispute", state="won", **parts)
    for name, handled_at in (("evt_1", now), ("evt_2", None)):
        StripeEvent.objects.create(id=name, type="t", object_id="o", created_at=now, handled_at=handled_at)
    BalanceTransaction.objects.create(id="txn_1", type="payout", amount=1, fee=0, created_at=now)


def refusal(sql: str, *params: object) -> str:
    """What the database answers; "" when it does as it is told."""
    try:
        with transaction.atomic():
            raw(sql, *params)
            connection.check_constraints()
    except DatabaseError as error:
        return str(error)
    return ""


def refused(sql: str, *params: object) -> bool:
    return bool(refusal(sql, *params))


def copied(table: str, **changed: str) -> str:
    """An INSERT of a copy of the first row, with other values where `changed` names SQL for them."""
    with connection.cursor() as cursor:
        columns = [column.name for column in connection.introspection.get_table_description(cursor, table)]
        first = connection.introspection.get_primary_key_column(cursor, table)
    columns = [column for column in columns if column != "id" or column in changed]
    values = [changed.get(column, f'"{column}"') for column in columns]
    quoted = ", ".join(f'"{column}"' for column in columns)
    return f"INSERT INTO {table} ({quoted}) SELECT {', '.join(values)} FROM {table} ORDER BY {first} LIMIT 1"


def transfer(**changed: str) -> Callable[[], str]:
    return lambda: copied("credits_transfer", **{"idempotency_key": "'new'", **changed})


CHECK_ATTACKS: dict[str, str | Callable[[], str]] = {
    "credits_wallet_not_negative": "UPDATE credits_wallet SET debt = -1",
    "credits_wallet_covers_holds": "UPDATE credits_wallet SET posted = held - 1",
    "credits_account_owner": lambda: copied("credits_ledgeraccount", kind="'nonsense'"),
    "credits_transfer_amount": transfer(amount="0"),
    "credits_transfer_two_accounts": transfer(credit_id="debit_id"),
    "credits_lot_amount": "UPDATE credits_creditlot SET amount = 0, remaining = 0",
    "credits_lot_remaining": "UPDATE credits_creditlot SET remaining = amount + 1",
    "credits_lot_kind": "UPDATE credits_creditlot SET kind = 'gift'",
    "credits_consumption_amount": lambda: copied("credits_lotconsumption", amount="0"),
    "credits_price_not_negative": lambda: copied("credits_pricesnapshot", input="-1"),
    "credits_hold_amount": "UPDATE credits_hold SET amount = -1 WHERE id = 'req_open'",
    "credits_hold_state": "UPDATE credits_hold SET state = 'nonsense' WHERE id = 'req_dispatched'",
    "credits_hold_captured": "UPDATE credits_hold SET captured = 5 WHERE id = 'req_dispatched'",
    "credits_usage_not_negative": lambda: usage(charge="-1", margin="-1 - cost"),
    "credits_usage_margin": lambda: usage(margin="charge - cost + 1"),
    "credits_usage_counts": lambda: usage(output_tokens="-1"),
    "credits_run_times": lambda: copied("credits_reconciliationrun", finished_at="'2020-01-01 00:00:00'"),
    "credits_checkpoint_counts": lambda: copied("credits_reconciliationcheckpoint", number="-1", run_id=new_run()),
    "credits_balance_not_negative": "UPDATE credits_checkpointbalance SET debits = -1",
    "credits_transfer_code": transfer(code="'nonsense'"),
    "credits_lot_expired": "UPDATE credits_creditlot SET expired = -1",
    "credits_promo_amount": "UPDATE credits_promocode SET amount = 0",
    "credits_promo_normalised": "UPDATE credits_promocode SET code = 'lower'",
    "credits_promo_limit": "UPDATE credits_promocode SET redeemed = 9",
    "credits_promo_validity": "UPDATE credits_promocode SET valid_until = '2000-01-01 00:00:00'",
    "credits_promo_expiry": "UPDATE credits_promocode SET expires_in_days = 0",
    "credits_correction_amount": "UPDATE credits_correction SET amount = 0, restored = 0",
    "credits_correction_parts": "UPDATE credits_correction SET restored = restored + 1",
    "credits_reopening_amount": "UPDATE credits_lotreopening SET amount = 0",
    "credits_adjustment_amount": "UPDATE credits_adjustment SET amount = 0",
    "credits_adjustment_kind": "UPDATE credits_adjustment SET kind = 'nonsense'",
    "credits_adjustment_two_people": (
        "UPDATE credits_adjustment SET decided_by_id = proposed_by_id WHERE state <> 'proposed'"
    ),
    "credits_adjustment_decision": "UPDATE credits_adjustment SET state = 'approved' WHERE state = 'proposed'",
    "credits_hold_write_off_amount": "UPDATE credits_holdwriteoff SET amount = -1",
    "credits_rollup_period": "UPDATE credits_usagerollup SET period = 'year'",
    "credits_progress_single": "UPDATE credits_rollupprogress SET id = 2",
    "credits_target_progress_single": "UPDATE credits_targetprogress SET id = 2",
    "credits_archive_counts": "UPDATE credits_usagearchive SET records = -1",
    "credits_archive_span": "UPDATE credits_usagearchive SET ends_at = starts_at",
    "credits_budget_counters": "UPDATE credits_keybudget SET held = -1",
    "credits_billing_low_balance": "UPDATE credits_billingaccount SET low_balance = -1",
    "credits_autotopup_amounts": "UPDATE credits_autotopup SET monthly_cap = amount - 1, threshold = 0",
    "credits_topup_amounts": "UPDATE credits_topup SET fee = -1",
    "credits_topup_kind": "UPDATE credits_topup SET kind = 'gift'",
    "credits_topup_paid": "UPDATE credits_topup SET paid_at = NULL WHERE state = 'succeeded'",
    "credits_paymentrefund_parts": "UPDATE credits_paymentrefund SET from_debt = from_debt + 1",
    "credits_paymentrefund_state": "UPDATE credits_paymentrefund SET state = 'nonsense'",
    "credits_paymentdispute_parts": "UPDATE credits_paymentdispute SET fee = fee + 1",
    "credits_paymentdispute_state": "UPDATE credits_paymentdispute SET state = 'nonsense'",
    **{f"credits_budget_{window}": f"UPDATE credits_keybudget SET limit_{window} = -1" for window in WINDOWS},
}


def usage(**changed: str) -> str:
    return copied("credits_usagerecord", **{"request_id": "'new'", **changed})


def new_run() -> str:
    raw(copied("credits_reconciliationrun"))
    return "(SELECT MAX(id) FROM credits_reconciliationrun)"


UNIQUE_ATTACKS: dict[tuple[str, tuple[str, ...]], Callable[[], str]] = {
    ("credits_ledgeraccount", ("kind", "organization_id")): lambda: account("organization_id IS NOT NULL"),
    ("credits_ledgeraccount", ("kind",)): lambda: account("organization_id IS NULL"),
    ("credits_transfer", ("idempotency_key",)): lambda: copied("credits_transfer"),
    ("credits_creditlot", ("source_key",)): lambda: copied("credits_creditlot"),
    ("credits_pricesnapshot", tuple(sorted(PriceSnapshot.COLUMNS))): lambda: copied("credits_pricesnapshot"),
    ("credits_reconciliationcheckpoint", ("number",)): lambda: copied(
        "credits_reconciliationcheckpoint", run_id=new_run()
    ),
    ("credits_reconciliationcheckpoint", ("run_id",)): lambda: copied("credits_reconciliationcheckpoint", number="99"),
    ("credits_promoredemption", ("organization_id", "promo_code_id")): lambda: copied(
        "credits_promoredemption", transfer_key="'another'"
    ),
    ("credits_promoredemption", ("transfer_key",)): lambda: copied(
        "credits_promoredemption", organization_id="organization_id + 1000"
    ),
    ("credits_promocode", ("code",)): lambda: copied("credits_promocode"),
    ("credits_correction", ("hold_id", "ticket")): lambda: copied("credits_correction"),
    ("credits_adjustment", ("key",)): lambda: copied("credits_adjustment"),
    ("credits_holdwriteoff", ("hold_id",)): lambda: copied("credits_holdwriteoff"),
    ("credits_sessionslice", ("agent_id", "organization_id", "session_id", "starts_at")): lambda: copied(
        "credits_sessionslice"
    ),
    ("credits_usagesession", ("organization_id", "session_id")): lambda: copied("credits_usagesession"),
    ("credits_usagearchive", ("organization_id", "starts_at")): lambda: copied("credits_usagearchive"),
    (
        "credits_usagerollup",
        ("api_key_id", "model", "organization_id", "period", "provider", "route", "starts_at"),
    ): lambda: copied("credits_usagerollup"),
    ("credits_platformday", ("model", "provider", "starts_at")): lambda: copied("credits_platformday"),
    ("credits_targetrollup", ("model", "outcome", "period", "provider", "starts_at")): lambda: copied(
        "credits_targetrollup"
    ),
    ("credits_targetlatency", ("measure", "model", "ms", "period", "provider", "starts_at")): lambda: copied(
        "credits_targetlatency"
    ),
}


def another_top_up(**kept: str) -> Callable[[], str]:
    """A copy of the paid top-up that shares with it only what is in `kept`."""
    own = {"key": "'k'", "checkout_session": "NULL", "invoice": "NULL", "payment_intent": "'pi_2'", "charge": "NULL"}
    return lambda: copied("credits_topup", **{name: f'"{name}"' if name in kept else sql for name, sql in own.items()})


UNIQUE_ATTACKS |= {
    ("credits_topup", (name,)): another_top_up(**{name: ""})
    for name in ("key", "checkout_session", "invoice", "payment_intent", "charge")
}
UNIQUE_ATTACKS |= {
    ("credits_topup", ("organization_id",)): lambda: copied(
        "credits_topup", key="'k'", checkout_session="NULL", invoice="NULL", payment_intent="NULL", charge="NULL",
        kind="'auto'", state="'created'", paid_at="NULL",
    ),
    ("credits_billingaccount", ("customer",)): lambda: copied(
        "credits_billingaccount", organization_id="organization_id + 1000"
    ),
    ("credits_paymentrefund", ("stripe_id",)): lambda: copied("credits_paymentrefund", id="'another'"),
}  # fmt: skip


def account(where: str) -> str:
    return (
        "INSERT INTO credits_ledgeraccount (kind, organization_id) "
        f"SELECT kind, organization_id FROM credits_ledgeraccount WHERE {where} LIMIT 1"
    )


def trigger_attacks() -> dict[str, str]:
    """Trigger -> a statement that only this trigger refuses."""
    attacks = {
        "credits_hold_edges": "UPDATE credits_hold SET state = 'open', captured = 0 WHERE id = 'req_captured'",
        "credits_hold_fixed": "UPDATE credits_hold SET amount = amount + 1 WHERE id = 'req_dispatched'",
        "credits_wallet_fixed": "UPDATE credits_wallet SET created_at = '2020-01-01 00:00:00'",
        "credits_creditlot_fixed": "UPDATE credits_creditlot SET amount = amount + 1",
        "credits_usagerecord_kept": "DELETE FROM credits_usagerecord",
        "credits_correction_limit": (
            "INSERT INTO credits_correction (hold_id, amount, restored, debt_cancelled, credited, ticket, reason, "
            "created_by_id, created_at) SELECT hold_id, 9000000, 9000000, 0, 0, 'U', reason, created_by_id, created_at "
            "FROM credits_correction"
        ),
        "credits_adjustment_edges": "UPDATE credits_adjustment SET decision = 'x' WHERE state = 'approved'",
        "credits_adjustment_fixed": "UPDATE credits_adjustment SET reason = 'x' WHERE state = 'proposed'",
        "credits_promocode_count": "UPDATE credits_promocode SET redeemed = 0",
        "credits_promocode_fixed": "UPDATE credits_promocode SET amount = amount + 1",
        "credits_topup_edges": "UPDATE credits_topup SET state = 'failed', paid_at = NULL WHERE state = 'succeeded'",
        "credits_topup_fixed": "UPDATE credits_topup SET amount = amount + 1 WHERE state = 'succeeded'",
        "credits_topup_as_paid": "UPDATE credits_topup SET tax = tax + 1 WHERE state = 'succeeded'",
        "credits_paymentrefund_edges": "UPDATE credits_paymentrefund SET state = 'pending'",
        "credits_paymentrefund_fixed": "UPDATE credits_paymentrefund SET reason = 'x'",
        "credits_paymentdispute_edges": "UPDATE credits_paymentdispute SET state = 'open'",
        "credits_paymentdispute_fixed": "UPDATE credits_paymentdispute SET kind = 'warning'",
        "credits_stripeevent_handled": "UPDATE credits_stripeevent SET outcome = 'x' WHERE handled_at IS NOT NULL",
        "credits_stripeevent_fixed": "UPDATE credits_stripeevent SET type = 'x' WHERE handled_at IS NULL",
        "credits_billingaccount_fixed": "UPDATE credits_billingaccount SET created_at = '2020-01-01 00:00:00'",
        "credits_balancetransaction_no_update": "UPDATE credits_balancetransaction SET amount = amount + 1",
        "credits_usagearchive_ended": "UPDATE credits_usagearchive SET deleted_at = NULL",
        "credits_usagearchive_fixed": "UPDATE credits_usagearchive SET records = 7 WHERE deleted_at IS NULL",
        "credits_lotreopening_no_update": "UPDATE credits_lotreopening SET amount = amount + 1",
        "credits_correction_no_update": "UPDATE credits_correction SET reason = 'x'",
        "credits_promoredemption_no_update": "UPDATE credits_promoredemption SET organization_id = organization_id",
        "credits_holdwriteoff_no_update": "UPDATE credits_holdwriteoff SET reason = 'x'",
        "credits_transfer_no_update": "UPDATE credits_transfer SET reason = 'x'",
        "credits_lotconsumption_no_update": "UPDATE credits_lotconsumption SET amount = 1",
        "credits_pricesnapshot_no_update": "UPDATE credits_pricesnapshot SET input = 78 WHERE input = 77",
        "credits_ledgeraccount_no_update": "UPDATE credits_ledgeraccount SET kind = kind",
        "credits_usagerecord_no_update": "UPDATE credits_usagerecord SET charge = charge + 1, margin = margin + 1",
        "credits_reconciliationrun_no_update": "UPDATE credits_reconciliationrun SET ok = NOT ok",
        "credits_reconciliationcheckpoint_no_update": "UPDATE credits_reconciliationcheckpoint SET cut = 0",
    }
    # A row that nothing refers to, where there can be one: so that no foreign key does the guard's work.
    rows = {
        "credits_hold": "id = 'req_voided'",
        "credits_ledgeraccount": "kind = 'breakage'",
        "credits_transfer": "idempotency_key = 'unused'",
        "credits_creditlot": "source_key = 'lot'",
        "credits_pricesnapshot": "input = 77",
        "credits_wallet": "posted = 0",
        "credits_promocode": "code = 'UNUSED'",
        "credits_adjustment": "state = 'proposed'",
        "credits_topup": "state = 'created'",
    }
    for table in (*guards.APPEND_ONLY, *guards.KEPT):
        where = f" WHERE {rows[table]}" if table in rows else ""
        attacks[f"{table}_no_delete"] = f"DELETE FROM {table}{where}"
    if connection.vendor == "postgresql":
        for guard in guards.guards("postgresql"):
            if guard.event == "TRUNCATE":
                attacks[guard.name] = f"TRUNCATE {guard.table} CASCADE"
    return attacks


def add_rows_that_nothing_refers_to() -> None:
    """What the DELETEs aim at."""
    from credits.services import open_account

    raw(copied("credits_transfer", idempotency_key="'unused'"))
    raw(copied("credits_pricesnapshot", input="77"))
    raw(transfer(idempotency_key="'lot'")())
    raw(copied("credits_creditlot", source_key="'lot'"))
    open_account(email="another@example.com")
    promos.create_code("UNUSED", promos.Terms(USD, 30, 2))


def installed_triggers() -> set[str]:
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(
                "SELECT tgname FROM pg_trigger JOIN pg_class c ON c.oid = tgrelid "
                "WHERE NOT tgisinternal AND c.relname LIKE 'credits\\_%'"
            )
        else:
            cursor.execute("SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name LIKE 'credits_%'")
        return {name for (name,) in cursor.fetchall()}


def installed_constraints() -> tuple[set[str], set[tuple[str, tuple[str, ...]]]]:
    """The named CHECKs and the unique keys (other than primary ones) of the ledger's tables, by the catalogue."""
    checks: set[str] = set()
    unique: set[tuple[str, tuple[str, ...]]] = set()
    with connection.cursor() as cursor:
        tables = [t for t in connection.introspection.table_names(cursor) if t.startswith("credits_")]
        for table in tables:
            for name, about in connection.introspection.get_constraints(cursor, table).items():
                # SQLite has unnamed ones too, that a JSON column holds JSON; PostgreSQL's of positive columns
                # are called after the column.
                if about["check"] and name.startswith("credits_") and not name.endswith("_check"):
                    checks.add(name)
                if about["unique"] and not about["primary_key"]:
                    unique.add((table, tuple(sorted(about["columns"]))))
    return checks, unique


def test_every_trigger_of_the_catalogue_is_attacked():
    assert installed_triggers() == set(trigger_attacks())


def test_every_check_and_unique_key_of_the_catalogue_is_attacked():
    checks, unique = installed_constraints()
    assert checks == set(CHECK_ATTACKS)
    assert unique == set(UNIQUE_ATTACKS)


@pytest.mark.parametrize("name", CHECK_ATTACKS)
def test_a_check_refuses(everything: Tenant, name: str):
    attack = CHECK_ATTACKS[name]
    guards.remove(connection)  # a trigger would be asked first
    assert name in refusal(attack if isinstance(attack, str) else attack())


@pytest.mark.parametrize("key", UNIQUE_ATTACKS, ids=lambda key: f"{key[0]}:{','.join(key[1])}")
def test_a_unique_key_refuses(everything: Tenant, key: tuple[str, tuple[str, ...]]):
    answer = refusal(UNIQUE_ATTACKS[key]()).lower()
    assert "unique constraint" in answer
    assert any(column in answer for column in key[1])


@pytest.mark.parametrize("name", trigger_attacks())
def test_a_trigger_refuses_what_nothing_else_does(everything: Tenant, name: str):
    """The control: with only this trigger away the same statement is carried out."""
    add_rows_that_nothing_refers_to()
    if name == "credits_reconciliationrun_no_delete":
        new_run()
        attack = "DELETE FROM credits_reconciliationrun WHERE id = (SELECT MAX(id) FROM credits_reconciliationrun)"
    elif name == "credits_wallet_no_delete":
        attack = "DELETE FROM credits_wallet WHERE posted = 0"
    else:
        attack = trigger_attacks()[name]
    table = next(guard.table for guard in guards.guards(connection.vendor) if guard.name == name)
    connection.check_constraints()  # PostgreSQL truncates no table with checks that are still to be made
    assert f"{name}: {table} refuses this" in refusal(attack)
    if name.endswith("_no_truncate"):
        guards.remove(connection)  # a TRUNCATE with CASCADE meets those of other tables too
    else:
        raw(f"DROP TRIGGER {name}" + (f" ON {table}" if connection.vendor == "postgresql" else ""))
    assert refusal(attack) == ""


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
def test_a_hold_moves_along_legal_edges_only(used: Tenant, old: str):
    for state in WAY_TO[old]:
        raw(move(state))
    for new in STATES:
        staying = old == new and old in {"open", "dispatched", "needs_settlement"}
        sid = transaction.savepoint()
        assert refused(move(new)) == ((old, new) not in LEGAL and not staying), new
        transaction.savepoint_rollback(sid)


CHANGES = {
    "model": "'x'", "fingerprint": "'x'", "owner": "'x'", "id": "'x'", "kind": "'paid'", "source_key": "'x'",
    "reason": "'x'", "ticket": "'x'", "key": "'x'", "code": "'OTHER'", "path": "'x'", "sha256": "'x'",
    "generated": "NOT generated", "created_by_id": "12345", "proposed_at": "'2020-01-01 00:00:00'",
    "valid_from": "'2020-01-01 00:00:00'", "starts_at": "'2019-01-01 00:00:00'", "ends_at": "'2021-01-01 00:00:00'",
    "created_at": "'2020-01-01 00:00:00'", "received_at": "'2020-01-01 00:00:00'", "type": "'x'", "object_id": "'x'",
    "payload": "'{\"a\": 1}'", "source": "'poll'", "context": "'{\"a\": 1}'", "refundable": "NOT refundable",
}  # fmt: skip


@pytest.mark.parametrize(
    ("table", "column"), [(table, column) for table in guards.FIXED for column in guards.FIXED[table]]
)
def test_what_a_row_was_made_with_never_changes(everything: Tenant, table: str, column: str):
    rows = {
        "credits_hold": "id = 'req_dispatched'", "credits_adjustment": "state = 'proposed'",
        "credits_usagearchive": "deleted_at IS NULL", "credits_stripeevent": "handled_at IS NULL",
    }  # fmt: skip
    where = f" WHERE {rows[table]}" if table in rows else ""
    value = CHANGES.get(column, f"{column} + 1")
    named = {"credits_hold", "credits_paymentrefund", "credits_paymentdispute", "credits_stripeevent"}
    if column == "id" and table not in named:
        value = "id + 1"
    assert f"{table}_fixed" in refusal(f"UPDATE {table} SET {column} = {value}{where}")


def test_lease_and_checkpoint_are_updated_in_place_until_the_hold_is_finished(used: Tenant):
    now = connection.ops.adapt_datetimefield_value(timezone.now())
    update = "UPDATE credits_hold SET lease_until = %s, checkpoint = '{}' WHERE id = %s"
    assert not refused(update, now, "req_dispatched")
    assert refused(update, now, "req_captured")
    assert refused(update, now, "req_voided")


def test_retention_may_delete_what_is_in_an_archive_that_is_not_ended(everything: Tenant):
    for month, deletable in (("01", False), ("02", True), ("03", False)):
        raw(usage(request_id=f"'{month}'", created_at=f"'2020-{month}-10 00:00:00'"))
        assert refused(f"DELETE FROM credits_usagerecord WHERE request_id = '{month}'") != deletable


def test_money_keeps_organisations_keys_and_wallets_from_being_deleted(used: Tenant):
    for row in (Organization.objects.get(pk=used.organization_id), ApiKey.objects.get(pk=used.api_key_id), used.wallet):
        with pytest.raises(ProtectedError):
            row.delete()


def test_the_accounts_of_the_platform_are_there_and_made_once(db):
    kinds = sorted(LedgerAccount.objects.filter(organization=None).values_list("kind", flat=True))
    guards.after_migrate("default")
    assert sorted(LedgerAccount.objects.filter(organization=None).values_list("kind", flat=True)) == kinds
    assert "revenue" in kinds
    assert len(kinds) == 8


def test_everything_was_written(used: Tenant):
    assert {hold.pk: hold.state for hold in Hold.objects.all()} == {
        "req_captured": "captured", "req_voided": "voided", "req_dispatched": "dispatched", "req_open": "open",
    }  # fmt: skip
    assert LotConsumption.objects.get().amount == 10 * TOKEN
    assert UsageRecord.objects.get(pk="req_captured").requested_model == FACTS.requested_model
    assert used.wallet.posted == 10 * USD - 10 * TOKEN
    assert PriceSnapshot.objects.get().output == FLAT.output
    assert CreditLot.objects.count() == 1


# What check G says of a database that has lost some


def test_a_whole_database_has_no_guard_problems(db):
    assert guard_audit.problems(connection) == []


@pytest.mark.parametrize("guard", guards.guards(connection.vendor), ids=lambda guard: guard.name)
def test_a_lost_trigger_is_told_and_comes_back_with_migrate(db, guard: guards.Guard):
    raw(f"DROP TRIGGER {guard.name}" + (f" ON {guard.table}" if connection.vendor == "postgresql" else ""))
    assert guard_audit.problems(connection) == [f"trigger {guard.name} is missing"]
    guards.after_migrate("default")
    assert guard_audit.problems(connection) == []


def test_a_weakened_trigger_is_told_and_replaced(db):
    name, table = "credits_hold_edges", "credits_hold"
    if connection.vendor == "postgresql":
        raw(f"DROP TRIGGER {name} ON {table}")
        raw(
            f"CREATE TRIGGER {name} BEFORE UPDATE ON {table} FOR EACH ROW WHEN (false) "
            "EXECUTE FUNCTION credits_refuse()"
        )
    else:
        raw(f"DROP TRIGGER {name}")
        raw(f"CREATE TRIGGER {name} BEFORE UPDATE ON {table} WHEN 0 BEGIN SELECT 1; END")
    assert guard_audit.problems(connection) == [f"trigger {name} was changed"]
    guards.install(connection)
    assert guard_audit.problems(connection) == []


def test_a_trigger_of_an_earlier_version_is_dropped(db):
    if connection.vendor == "postgresql":
        raw("CREATE TRIGGER credits_old BEFORE UPDATE ON credits_hold FOR EACH ROW EXECUTE FUNCTION credits_refuse()")
    else:
        raw("CREATE TRIGGER credits_old BEFORE UPDATE ON credits_hold BEGIN SELECT RAISE(ABORT, 'old'); END")
    guards.install(connection)
    assert "credits_old" not in installed_triggers()


@pytest.mark.skipif("connection.vendor != 'postgresql'")
@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        ("ALTER TABLE credits_transfer DISABLE TRIGGER credits_transfer_no_update", "no_update is disabled"),
        ("ALTER TABLE credits_wallet DROP CONSTRAINT credits_wallet_covers_holds", "CHECK credits_wallet_covers_holds"),
        ("ALTER TABLE credits_ledgeraccount DROP CONSTRAINT credits_account_once", "unique key credits_account_once"),
        ("DROP INDEX credits_platform_account_once", "unique key credits_platform_account_once"),
        (
            "CREATE OR REPLACE FUNCTION credits_refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
            "function credits_refuse",
        ),
    ],
)
def test_other_lost_guards_of_postgresql_are_told(db, damage: str, problem: str):
    raw(damage)
    (told,) = guard_audit.problems(connection)
    assert problem in told


@pytest.mark.skipif("connection.vendor != 'sqlite'")
def test_other_lost_guards_of_sqlite_are_told(db):
    raw("DROP INDEX credits_platform_account_once")
    raw("ALTER TABLE credits_lotconsumption RENAME TO old")
    raw("CREATE TABLE credits_lotconsumption AS SELECT * FROM old")
    told = " ".join(guard_audit.problems(connection))
    assert "unique key credits_platform_account_once" in told
    assert "CHECK credits_consumption_amount" in told
