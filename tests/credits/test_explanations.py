"""Why requests took their routes: stored once each, with the records that refer to them."""

import json
from datetime import date, timedelta

import pytest
from django.db import OperationalError, connection
from msgspec.structs import replace

from credits.batch import BatchRunner, HoldOp, InterruptOp, SettleOp
from credits.books import Books
from credits.explanations import by_why, explained, forget_before
from credits.models import Explanation as Row
from credits.models import Hold, UsageRecord
from credits.records import Checkpoint
from credits.types import Explanation, MeterReading, SettleRequest
from tests.credits.support import FACTS, USD, Tenant, new_tenant, settlement
from tests.credits.usage.support import NOW, Clock, use

RULES = {"rules": [{"rule": "default", "matched": True, "why": "Nothing else: \u00e9\u2026"}]}
ONE = Explanation.of(json.dumps(RULES).encode())
OTHER = Explanation.of(b'{"rules":[]}')


def settling(request_id: str) -> SettleRequest:
    return replace(settlement(request_id, 1), facts=replace(FACTS, explanation=ONE))


@pytest.fixture
def tenant(db: None) -> Tenant:
    return new_tenant(10 * USD)


def test_requests_with_the_same_explanation_share_it(tenant: Tenant):
    made = [use(tenant, NOW, explanation=each) for each in (ONE, OTHER, ONE)]
    whys = {record.pk: record.why for record in UsageRecord.objects.all()}
    assert [whys[request_id] for request_id in made] == [ONE.ref, OTHER.ref, ONE.ref]
    assert Row.objects.count() == 2
    assert explained(ONE.ref) == RULES
    assert by_why(whys.values()) == {ONE.ref: RULES, OTHER.ref: {"rules": []}}


def test_each_says_on_which_day_it_was_last_used(tenant: Tenant):
    clock = Clock()
    runner = BatchRunner(connection, owner="test", lease_seconds=60, clock=clock)
    days = []
    for number, moment in enumerate((NOW, NOW, NOW + timedelta(days=1), NOW)):
        clock.now = moment
        hold = tenant.hold(request_id=f"req_{number}")
        runner.run([HoldOp(hold)])
        runner.run([SettleOp(settling(hold.request_id))])
        days.append(Row.objects.get().used_on)
    assert days == [NOW.date(), NOW.date(), NOW.date() + timedelta(days=1), NOW.date() + timedelta(days=1)]


def test_a_request_that_its_process_left_is_explained_by_its_checkpoint(tenant: Tenant):
    runner = BatchRunner(connection, owner="test", lease_seconds=60, clock=Clock())
    hold = tenant.hold()
    runner.run([HoldOp(hold)])
    left = Checkpoint(MeterReading(input=1, output=1), replace(FACTS, explanation=ONE))
    Hold.objects.filter(pk=hold.request_id).update(checkpoint=json.loads(left.stored()))
    runner.run([InterruptOp(hold.request_id)])
    assert explained(UsageRecord.objects.get().why) == RULES


def test_a_batch_that_fails_has_stored_nothing_and_remembers_nothing(tenant: Tenant, monkeypatch: pytest.MonkeyPatch):
    runner = BatchRunner(connection, owner="test", lease_seconds=60, clock=Clock())
    hold = tenant.hold()
    runner.run([HoldOp(hold)])
    write = Books.write

    def fail(books: Books) -> None:
        write(books)
        raise OperationalError("the connection broke")

    monkeypatch.setattr(Books, "write", fail)
    with pytest.raises(OperationalError):
        runner.run([SettleOp(settling(hold.request_id))])
    assert not Row.objects.exists()
    monkeypatch.setattr(Books, "write", write)
    runner.run([SettleOp(settling(hold.request_id))])
    assert explained(UsageRecord.objects.get().why) == RULES


def test_records_of_before_hold_their_rules_themselves(tenant: Tenant):
    assert explained([{"rule": "x"}]) == {"rules": [{"rule": "x"}]}
    assert explained("no-such-ref") == {"rules": []}
    assert explained([]) == {"rules": []}


def test_what_no_kept_record_refers_to_is_forgotten(tenant: Tenant):
    use(tenant, NOW, explanation=ONE)
    assert forget_before(NOW.date()) == 0
    assert forget_before(date(2030, 1, 1)) == 1
