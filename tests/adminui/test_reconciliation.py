"""What operators and Prometheus see of the last reconciliation."""

from datetime import timedelta

import pytest
import redis
from django.test import Client
from django.utils import timezone

from accounts.models import User
from credits import tasks
from credits.models import ReconciliationRun
from credits.reconcile import reconcile
from gateway.reconciliation_metrics import ReconciliationMetrics
from tests.credits.support import Tenant, raw
from tests.credits.support import customer as customer  # noqa: PLC0414 - a fixture

RUN = "/admin/credits/reconciliationrun/run/"
LIST = "/admin/credits/reconciliationrun/"

pytestmark = pytest.mark.django_db


@pytest.fixture
def operator(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("root@example.com", "x"))
    return client


def test_each_check_of_a_run_has_its_line(operator: Client, customer: Tenant):
    raw("UPDATE credits_wallet SET held = held + 5")
    run = reconcile()
    assert "R3" in operator.get(LIST).content.decode()
    page = operator.get(f"{LIST}{run.pk}/change/").content.decode()
    assert "FAIL R3 1 differ" in page
    assert "ok R1 every wallet is the sum of its lots" in page


def test_an_operator_starts_a_full_run(operator: Client, customer: Tenant, valkey: str):
    assert operator.get(RUN, follow=True).status_code == 200
    with redis.Redis.from_url(valkey) as client:
        assert client.llen("celery") == 0, "asking starts nothing"
        page = operator.post(RUN, follow=True)
        assert "A full run was started" in page.content.decode()
        assert client.llen("celery") == 1
    tasks.reconcile(full=True)
    assert ReconciliationRun.objects.get().full


def test_staff_without_the_permission_starts_none(client: Client, customer: Tenant, valkey: str):
    user = User.objects.create_user("staff@example.com", "x")
    user.is_staff = True
    user.save()
    client.force_login(user)
    assert client.post(RUN, follow=True).status_code == 403


def test_a_run_that_is_late_is_on_the_operators_first_page(operator: Client, customer: Tenant):
    reconcile()
    assert "No reconciliation has run for more than a day" not in operator.get("/admin/").content.decode()
    long_ago = timezone.now() - timedelta(days=2)
    ReconciliationRun.objects.create(started_at=long_ago, finished_at=long_ago, ok=True)
    assert "No reconciliation has run for more than a day" in operator.get("/admin/").content.decode()


def test_metrics_tell_the_last_run_and_that_there_was_none(customer: Tenant):
    assert "ccm_reconciliation_age_seconds +Inf" in ReconciliationMetrics().render().decode()
    reconcile()
    raw("UPDATE credits_wallet SET held = held + 5")
    reconcile()
    text = ReconciliationMetrics().render().decode()
    assert "ccm_reconciliation_ok 0.0" in text
    assert 'ccm_reconciliation_check_ok{check="R1",severity="error"} 1.0' in text
    assert 'ccm_reconciliation_check_ok{check="R3",severity="error"} 0.0' in text
    assert 'ccm_reconciliation_check_difference_nanos{check="R3",severity="error"} 5.0' in text
    assert "ccm_reconciliation_full_age_seconds +Inf" not in text


def test_metrics_are_read_again_only_after_a_while(customer: Tenant, django_assert_num_queries):
    metrics = ReconciliationMetrics()
    with django_assert_num_queries(2):
        metrics.render()
        metrics.render()
