"""Races between real processes on one database, as two web servers and a worker run them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from django.db import connection

from credits.models import Hold, UsageRecord
from credits.reconcile import run_checks
from tests.credits.support import TOKEN, USD, Tenant, assert_reconciled
from tests.credits.support import tenant as tenant  # noqa: PLC0414 - a fixture
from tests.races.test_credits_races import overdue

ROOT = Path(__file__).resolve().parents[2]


def race(tenant: Tenant, *parts: list[list[str]], tokens: int = 60, **more: Any) -> list[list[str]]:
    """Each of `parts` done by a process of its own, all at once: what came of each operation."""
    processes = []
    for do in parts:
        orders = {"tenant": [tenant.organization_id, tenant.api_key_id], "do": do, "tokens": tokens, **more}
        command = [sys.executable, "-m", "tests.races.process", str(connection.settings_dict["NAME"])]
        processes.append(
            subprocess.Popen(
                [*command, json.dumps(orders)],
                cwd=ROOT,
                env={**os.environ, "DJANGO_SETTINGS_MODULE": "ccm_site.settings"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        return [json.loads(process.communicate(timeout=60)[0]) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def test_two_processes_hold_and_settle_the_same_requests_once(tenant: Tenant):
    ids = [f"req_{number}" for number in range(20)]
    do = [["hold", id_] for id_ in ids] + [["settle", id_] for id_ in ids]
    outcomes = race(tenant, do, do)
    # Whoever comes to a hold when the other has settled it already is told so.
    assert {*outcomes[0][20:], *outcomes[1][20:]} == {"Settlement"}
    assert {*outcomes[0][:20], *outcomes[1][:20]} <= {"HoldGrant", "HoldConflict"}
    assert Hold.objects.filter(state="captured").count() == UsageRecord.objects.count() == 20
    assert tenant.wallet.posted == 10 * USD - 20 * 60 * TOKEN
    assert_reconciled()


def test_sweepers_of_two_processes_and_a_late_settlement_end_each_hold_once(tenant: Tenant):
    ids = overdue([tenant], 30)
    outcomes = race(tenant, [["sweep", ""]], [["sweep", ""]], [["settle", id_] for id_ in ids[::3]], tokens=70)
    late = {id_ for id_, outcome in zip(ids[::3], outcomes[2], strict=True) if outcome == "Settlement"}
    assert set(outcomes[2]) <= {"Settlement", "HoldClosed"}
    charges = dict(UsageRecord.objects.values_list("request_id", "charge"))
    assert charges == {id_: (70 if id_ in late else 30) * TOKEN for id_ in ids}
    swept = sum(int(outcome.split()[0]) for part in outcomes[:2] for outcome in part)
    assert swept == len(ids) - len(late)
    assert tenant.wallet.posted == 10 * USD - sum(charges.values())
    assert_reconciled()


def test_control_without_the_state_check_two_processes_charge_the_same_request_twice(tenant: Tenant):
    ids = overdue([tenant], 2)
    settle = [["settle", ids[0]]]
    race(tenant, settle, settle, believe_unfinished=True)
    assert tenant.wallet.posted == 10 * USD - 2 * 60 * TOKEN
    assert {"R3", "R5"} <= {finding.check for finding in run_checks() if not finding.ok}
