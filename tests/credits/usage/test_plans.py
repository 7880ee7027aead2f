"""The pages' queries go by an index, whatever the tenant's size: their plans on PostgreSQL, never a duration."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from benchmarks import usage
from credits.usage import rollups

TABLES = ("credits_usagerecord", "credits_usagerollup", "credits_sessionslice", "credits_usagesession")
RECORDS = 20_000


@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="the plans are PostgreSQL's")
@pytest.mark.django_db
def test_no_question_of_an_organisation_reads_a_whole_table(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(usage, "ORGANIZATIONS", 100)
    now = timezone.now()
    big, small = usage.seed(RECORDS, now, vacuum=False)
    rollups.roll_up(now - timedelta(hours=1))
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    for organization_id in (big, small):
        for name, ask in usage.questions(organization_id, now).items():
            found = usage.plans(ask)
            assert found, name
            for plan in found:
                for table in TABLES:
                    assert f"Seq Scan on {table}" not in plan, f"{name}: {plan}"


@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="the plans are PostgreSQL's")
@pytest.mark.django_db
def test_control_without_the_index_the_plan_shows_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(usage, "ORGANIZATIONS", 100)
    now = timezone.now()
    _, small = usage.seed(RECORDS, now, vacuum=False)
    with connection.cursor() as cursor:
        cursor.execute("DROP INDEX credits_usage_of_org")
        cursor.execute("ANALYZE")
    ask: Callable[[], Any] = usage.questions(small, now)["newest requests"]
    assert "Seq Scan on credits_usagerecord" in "".join(usage.plans(ask))
