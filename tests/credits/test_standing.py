"""What the writer remembers between two batches is given up as soon as anybody else has written."""

from collections.abc import Iterator

import pytest
from django.db import IntegrityError, connection

from credits import batch
from credits.batch import BatchRunner
from credits.books import Books, Standing
from credits.database import Dialect
from credits.errors import InsufficientCredits, KeyNoLongerValid, WalletFrozen
from credits.key_budgets import set_key_budget
from credits.models import Hold, KeyBudget, Wallet
from credits.types import HoldGrant
from credits.writer import LedgerWriter
from tests.credits.support import TOKEN, USD, Tenant, assert_reconciled, new_tenant, revoke, settlement


@pytest.fixture
def warm(tenant: Tenant, ledger_writer: LedgerWriter) -> Iterator[LedgerWriter]:
    """A writer that has served the tenant before."""
    request = tenant.hold(output=10)
    ledger_writer.hold_sync(request)
    ledger_writer.settle_sync(settlement(request.request_id, 10))
    yield ledger_writer


def counts_reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tables that the ledger's cursors read from now on."""
    from credits import database

    read: list[str] = []
    execute = database._SqliteCursor.execute

    def noting(self: database._SqliteCursor, sql: str, params: object = ()) -> object:
        if sql.startswith("SELECT"):
            read.append(sql.partition(" FROM ")[2].split()[0])
        return execute(self, sql, params)

    monkeypatch.setattr(database._SqliteCursor, "execute", noting)
    return read


def test_alone_it_reads_nothing_twice(tenant: Tenant, warm: LedgerWriter, monkeypatch: pytest.MonkeyPatch):
    if connection.vendor != "sqlite":
        pytest.skip("PostgreSQL tells nobody whether others have written: everything is read and locked there")
    read = counts_reads(monkeypatch)
    request = tenant.hold(output=10)
    warm.hold_sync(request)
    warm.settle_sync(settlement(request.request_id, 10))
    assert read == []
    tenant.grant(TOKEN)
    read.clear()
    warm.hold_sync(tenant.hold(output=10))
    assert {"credits_wallet", "accounts_apikey"} <= set(read)


def test_others_spend_the_same_credits(tenant: Tenant, warm: LedgerWriter):
    Wallet.objects.filter(pk=tenant.organization_id).update(held=10 * USD - 10 * TOKEN)
    with pytest.raises(InsufficientCredits):
        warm.hold_sync(tenant.hold(output=1000))


def test_control_with_a_version_that_never_changes_it_believes_what_it_remembers(
    tenant: Tenant, ledger_writer: LedgerWriter, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Dialect, "version", lambda self, cursor: 1)
    ledger_writer.hold_sync(tenant.hold(output=10))
    Wallet.objects.filter(pk=tenant.organization_id).update(frozen=True)
    assert isinstance(ledger_writer.hold_sync(tenant.hold(output=10)), HoldGrant)


def test_a_wallet_that_is_frozen_meanwhile(tenant: Tenant, warm: LedgerWriter):
    Wallet.objects.filter(pk=tenant.organization_id).update(frozen=True)
    with pytest.raises(WalletFrozen):
        warm.hold_sync(tenant.hold(output=10))


def test_a_key_that_is_revoked_meanwhile(tenant: Tenant, warm: LedgerWriter):
    revoke(tenant)
    with pytest.raises(KeyNoLongerValid):
        warm.hold_sync(tenant.hold(output=10))


def test_a_budget_that_is_set_and_taken_away_meanwhile(tenant: Tenant, warm: LedgerWriter):
    set_key_budget(tenant.organization_id, tenant.api_key_id, {"day": 100 * TOKEN})
    request = tenant.hold(output=20)
    warm.hold_sync(request)
    warm.settle_sync(settlement(request.request_id, 20))
    assert KeyBudget.objects.get().held == 0
    KeyBudget.objects.all().delete()
    assert warm.hold_sync(tenant.hold(output=1000)).max_tokens == 1000


def test_credits_that_come_in_meanwhile_are_used_in_their_order(tenant: Tenant, warm: LedgerWriter):
    tenant.grant(5 * USD)
    for _ in range(3):
        request = tenant.hold(output=10)
        warm.hold_sync(request)
        warm.settle_sync(settlement(request.request_id, 10))
    assert tenant.wallet.posted == 15 * USD - 40 * TOKEN
    assert_reconciled()


def test_a_hold_that_is_asked_for_again_is_the_same_hold(tenant: Tenant, warm: LedgerWriter):
    request = tenant.hold(output=10)
    first = warm.hold_sync(request)
    assert warm.hold_sync(request) == first
    assert Hold.objects.filter(pk=request.request_id).count() == 1
    assert_reconciled()


def test_a_batch_that_failed_leaves_nothing_behind_in_memory(
    tenant: Tenant, warm: LedgerWriter, monkeypatch: pytest.MonkeyPatch
):
    write, left = Books.write, [2]

    def fail_twice(books: Books) -> None:
        write(books)
        if left[0]:
            left[0] -= 1
            raise IntegrityError("of this test")

    monkeypatch.setattr(Books, "write", fail_twice)
    warm.hold_sync(tenant.hold(output=10))
    assert tenant.wallet.held == 10 * TOKEN
    assert_reconciled()


def test_versions_count_for_one_connection(tenant: Tenant, monkeypatch: pytest.MonkeyPatch):
    """Another connection's version may be the same number by chance."""
    monkeypatch.setattr(Dialect, "version", lambda self, cursor: 1)
    from django.utils import timezone

    runner = BatchRunner(connection, owner="test", lease_seconds=60, clock=timezone.now, alone=True)
    runner.run([batch.HoldOp(tenant.hold(output=10))])
    Wallet.objects.filter(pk=tenant.organization_id).update(frozen=True)
    connection.close()
    connection.ensure_connection()
    assert isinstance(runner.run([batch.HoldOp(tenant.hold(output=10))])[0], WalletFrozen)


def test_it_does_not_grow_without_bound(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("credits.books.MOST_STANDING", 3)
    standing = Standing()
    standing.is_of(7)
    standing.keys.update(dict.fromkeys(range(4), (1, None)))
    standing.is_of(7)
    assert not standing.keys


def test_two_organisations_in_turn(tenant: Tenant, warm: LedgerWriter):
    other = new_tenant(USD, name="other")
    for each in (tenant, other, tenant, other):
        request = each.hold(output=10)
        warm.hold_sync(request)
        warm.settle_sync(settlement(request.request_id, 10))
    assert (tenant.wallet.posted, other.wallet.posted) == (10 * USD - 30 * TOKEN, USD - 20 * TOKEN)
    assert_reconciled()
