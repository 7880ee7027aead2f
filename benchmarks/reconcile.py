"""How long each check of `manage.py reconcile` takes on a ledger of a million transfers.

    python -m benchmarks.reconcile [--transfers 1000000] [--new 10000]

Fills a database of its own by SQL (PostgreSQL if DATABASE_URL names one or with --postgres, which
starts a private one; else SQLite), then runs a full reconciliation, one right after it, and one
after `--new` more requests.
"""

import argparse
import os
import time

from benchmarks.writer import database

ORGANIZATIONS = 1000
LOTS = 5
GRANT = 10**15
CHARGE = 1_000_000

# {numbered} yields the requests' numbers n, each with its wallet w; their times are a second apart.
REQUEST = "'req_' || {hex} || '{tail}'"
STATEMENTS = (
    # Holds first: SQLite looks for what already refers to a row that is made.
    (
        "holds",
        "INSERT INTO credits_hold (id, wallet_id, api_key_id, amount, captured, state, price_snapshot_id, model, "
        "input_tokens, max_tokens, fingerprint, context, checkpoint, owner, lease_until, created_at, updated_at) "
        "SELECT {request}, w.organization, w.api_key, {charge} * 3, {charge}, 'captured', {price}, 'demo-opus', 20000, "
        "4096, '0123456789abcdef0123456789abcdef', "
        '\'{{"route":"default","requested_model":"claude-opus","session_id":"0123456789abcdef0123456789abcdef"}}\', '
        "NULL, 'bench', {time}, {time}, {time} FROM {numbered}",
    ),
    (
        "transfers of requests",
        "INSERT INTO credits_transfer (debit_id, credit_id, amount, code, idempotency_key, group_id, hold_id, reason, "
        "created_at) SELECT w.account, {revenue}, {charge}, 'capture', 'hold:' || {request} || ':capture', "
        "'hold:' || {request}, {request}, '', {time} FROM {numbered}",
    ),
    (
        "lot consumption",
        "INSERT INTO credits_lotconsumption (transfer_key, lot_id, amount) SELECT 'hold:' || {request} || ':capture', "
        "w.lot, {charge} FROM {numbered}",
    ),
    (
        "usage records",
        "INSERT INTO credits_usagerecord (request_id, organization_id, api_key_id, created_at, model, requested_model, "
        "route, why, provider, actual_model, attempts, status, error_code, stop_reason, streamed, first_token_ms, "
        "total_ms, session_id, agent_id, parent_agent_id, request_class, client, input_tokens, cache_read_tokens, "
        "cache_write_tokens, cache_write_1h_tokens, output_tokens, reasoning_tokens, web_searches, usage_source, "
        "price_snapshot_id, charge, cost, margin) SELECT {request}, w.organization, w.api_key, {time}, 'demo-opus', "
        "'claude-opus', 'default', '[{{\"rule\":\"default\",\"matched\":true,\"why\":\"nothing else\"}}]', 'demo', "
        "'demo-opus', '[{{\"provider\":\"demo\",\"model\":\"demo-opus\",\"ms\":812}}]', 200, '', 'end_turn', {true}, "
        "310, 812, '0123456789abcdef0123456789abcdef0123', '', '', '', 'claude-cli/2.1', 1200, 18000, 0, 0, 300, 0, 0, "
        "'provider', {price}, {charge}, {charge} / 2, {charge} - {charge} / 2 "
        "FROM {numbered}",
    ),
    (
        "lots",
        "UPDATE credits_creditlot SET remaining = remaining - {charge} * used.times FROM (SELECT w.lot, "
        "COUNT(*) AS times FROM {numbered} GROUP BY w.lot) AS used "
        "WHERE used.lot = credits_creditlot.id",
    ),
    (
        "wallets",
        "UPDATE credits_wallet SET posted = (SELECT SUM(remaining) FROM credits_creditlot "
        "WHERE wallet_id = organization_id AND remaining > 0)",
    ),
)  # fmt: skip


def make_wallets(count: int) -> None:
    """`count` customers with lots each, and a table that numbers what requests refer to."""
    from django.db import connection, transaction

    from accounts.services import create_key
    from credits.models import CreditLot, LedgerAccount, PriceSnapshot
    from credits.services import grant, open_account

    price = PriceSnapshot.objects.create(input=1, output=1, cache_read=1, cache_write=1, cache_write_1h=1, web_search=0)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE bench_wallets (number bigint PRIMARY KEY, organization bigint, api_key bigint, "
            "account bigint, lot bigint)"
        )
        for number in range(count):
            account = open_account(email=f"bench{number}@example.com")
            key = create_key(organization=account.organization, name="bench", created_by=None)
            for lot in range(LOTS):
                grant(account.organization.pk, GRANT, reason="bench", idempotency_key=f"bench:{number}:{lot}")
            wallet = LedgerAccount.objects.get(organization=account.organization, kind="wallet").pk
            first = CreditLot.objects.filter(wallet_id=account.organization.pk).order_by("pk")[0].pk
            cursor.execute(
                "INSERT INTO bench_wallets VALUES (%s, %s, %s, %s, %s)",
                [number, account.organization.pk, key.id, wallet, first],
            )
    assert price.pk


def add_requests(first: int, last: int) -> None:
    """Captured requests of these numbers, each with all that a request leaves."""
    from django.db import connection, transaction

    from credits.models import LedgerAccount, PriceSnapshot

    postgresql = connection.vendor == "postgresql"
    begin = int(time.time()) - 30 * 86400
    if postgresql:
        series = f"generate_series({first}, {last}) AS numbers(n)"
        hexadecimal, now = f"lpad(to_hex(({begin} + n)::bigint * 1000), 11, '0')", f"to_timestamp({begin} + n)"
    else:
        series = (
            f"(WITH RECURSIVE numbers(n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM numbers WHERE n < {last}) "
            "SELECT n FROM numbers) AS numbers"
        )
        hexadecimal, now = f"printf('%011x', ({begin} + n) * 1000)", f"datetime({begin} + n, 'unixepoch')"
    values = {
        "numbered": f"{series} CROSS JOIN bench_wallets w WHERE w.number = n % {ORGANIZATIONS}",
        "request": REQUEST.format(hex=hexadecimal, tail="0123456789abcdef"),
        "time": now,
        "charge": CHARGE,
        "revenue": LedgerAccount.objects.get(kind="revenue").pk,
        "price": PriceSnapshot.objects.get().pk,
        "true": "true" if postgresql else "1",
    }
    with transaction.atomic(), connection.cursor() as cursor:
        if postgresql:
            cursor.execute("SET LOCAL statement_timeout = 0")
        for _, sql in STATEMENTS:
            cursor.execute(sql.format(**values))


def report(title: str, *, full: bool) -> None:
    from credits.reconcile import Finding, reconcile

    began = time.monotonic()
    run = reconcile(full=full)
    print(f"\n{title}: {time.monotonic() - began:.2f} s")
    for result in run.results:
        finding = Finding(**result)
        print(f"  {finding.milliseconds / 1000:6.2f} s  {finding}")


def fill(transfers: int) -> None:
    from django.db import connection

    began = time.monotonic()
    make_wallets(ORGANIZATIONS)
    add_requests(0, transfers - ORGANIZATIONS * LOTS - 1)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    seconds = time.monotonic() - began
    print(f"{connection.vendor}: {transfers} transfers of {ORGANIZATIONS} organisations, filled in {seconds:.0f} s")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--transfers", type=int, default=1_000_000)
    parser.add_argument("--new", type=int, default=10_000, help="requests between two incremental runs")
    parser.add_argument("--postgres", action="store_true", help="on a private PostgreSQL")
    options = parser.parse_args()
    postgresql = options.postgres or os.environ.get("DATABASE_URL", "").startswith("postgres")
    with database("postgres" if postgresql else "sqlite"):
        fill(options.transfers)
        report("full, the first", full=True)
        report("incremental, nothing new", full=False)
        add_requests(options.transfers, options.transfers + options.new - 1)
        report(f"incremental, {options.new} new requests", full=False)
        report("full, with checkpoints", full=True)


if __name__ == "__main__":
    main()
