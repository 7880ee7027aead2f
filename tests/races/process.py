"""Another process's part in a race: `python -m tests.races.process DATABASE ORDERS`.

It says "ready", waits for a line, does what the JSON of ORDERS says, and prints what came of it as JSON:
for each operation the name of its outcome. The order "believe_unfinished" removes the guards first."""

import json
import os
import sys
from collections.abc import Callable
from typing import Any


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "ccm_site.settings")
    import django

    django.setup()
    from django.db import connection
    from django.utils import timezone

    connection.settings_dict["NAME"] = sys.argv[1]
    import pytest

    from credits import ledger
    from credits.batch import BatchRunner, HoldOp, Operation, SettleOp
    from credits.errors import CreditsError
    from tests.credits.support import Tenant, settlement, sweep_lapsed
    from tests.races.test_credits_races import believe_unfinished

    orders: dict[str, Any] = json.loads(sys.argv[2])
    if orders.get("believe_unfinished"):
        believe_unfinished(pytest.MonkeyPatch())
        ledger.capture_key = lambda request_id: f"hold:{request_id}:{os.getpid()}"  # the key's uniqueness too
    runner = BatchRunner(connection, owner=f"race-{os.getpid()}", lease_seconds=60, clock=timezone.now)
    tenant = Tenant(*orders["tenant"])
    connection.ensure_connection()

    def alone(operation: Operation) -> str:
        try:
            outcome = runner.run([operation])[0]
        except CreditsError as error:
            outcome = error
        return type(outcome).__name__

    def hold(id_: str) -> str:
        return alone(HoldOp(tenant.hold(output=100, request_id=id_)))

    def settle(id_: str) -> str:
        return alone(SettleOp(settlement(id_, orders["tokens"])))

    def sweep(_: str) -> str:
        return f"{sweep_lapsed().settled} settled"

    verbs: dict[str, Callable[[str], str]] = {"hold": hold, "settle": settle, "sweep": sweep}
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps([verbs[verb](id_) for verb, id_ in orders["do"]]), flush=True)


if __name__ == "__main__":
    main()
