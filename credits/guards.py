"""What the database itself refuses, on either vendor: triggers that keep the journal append-only
and the hold's state machine one-way. And the platform's ledger accounts, which are always there.

Installed after every `migrate` rather than in a migration: SQLite loses a table's triggers when
Django rebuilds the table, and a flush empties the accounts.
"""

from typing import Any

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from credits.models import PLATFORM_KINDS, HoldState, LedgerAccount

APPEND_ONLY = ("credits_transfer", "credits_lotconsumption", "credits_pricesnapshot")

EDGES: dict[str, tuple[str, ...]] = {
    HoldState.OPEN: (HoldState.DISPATCHED, HoldState.VOIDED, HoldState.EXPIRED),
    HoldState.DISPATCHED: (HoldState.CAPTURED, HoldState.VOIDED, HoldState.NEEDS_SETTLEMENT),
    HoldState.NEEDS_SETTLEMENT: (HoldState.CAPTURED, HoldState.VOIDED, HoldState.WRITTEN_OFF),
}
FIXED = (
    "id", "wallet_id", "api_key_id", "amount", "price_snapshot_id", "model", "input_tokens", "max_tokens",
    "fingerprint", "owner", "created_at",
)  # fmt: skip


def _quoted(words: tuple[str, ...]) -> str:
    return ", ".join(f"'{word}'" for word in words)


_FINISHED = f"OLD.state NOT IN ({_quoted(tuple(EDGES))})"
_ILLEGAL_EDGE = "NEW.state <> OLD.state AND NOT ({})".format(
    " OR ".join(f"(OLD.state = '{old}' AND NEW.state IN ({_quoted(new)}))" for old, new in EDGES.items())
)


def _sqlite_triggers() -> dict[str, tuple[str, str]]:
    """Trigger name -> (table, SQL)."""
    changed = " OR ".join(f"NEW.{column} IS NOT OLD.{column}" for column in FIXED)
    rules = [
        (f"{table}_no_{event.lower()}", table, event, "1") for table in APPEND_ONLY for event in ("UPDATE", "DELETE")
    ]
    rules += [
        ("credits_hold_no_delete", "credits_hold", "DELETE", "1"),
        ("credits_hold_edges", "credits_hold", "UPDATE", f"{_FINISHED} OR {_ILLEGAL_EDGE}"),
        ("credits_hold_fixed", "credits_hold", f"UPDATE OF {', '.join(FIXED)}", changed),
    ]
    return {
        name: (
            table,
            f"CREATE TRIGGER IF NOT EXISTS {name} BEFORE {event} ON {table} WHEN {condition} "
            f"BEGIN SELECT RAISE(ABORT, '{table} refuses this {event.split()[0]}'); END",
        )
        for name, table, event, condition in rules
    }


_REFUSE = """
CREATE OR REPLACE FUNCTION credits_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% refuses this %', TG_TABLE_NAME, TG_OP USING ERRCODE = 'restrict_violation';
END $$
"""


def _postgresql_triggers() -> dict[str, tuple[str, str]]:
    changed = " OR ".join(f"NEW.{column} IS DISTINCT FROM OLD.{column}" for column in FIXED)
    rules = [(f"{table}_append_only", table, "UPDATE OR DELETE", "ROW", "") for table in APPEND_ONLY]
    rules += [(f"{table}_no_truncate", table, "TRUNCATE", "STATEMENT", "") for table in (*APPEND_ONLY, "credits_hold")]
    rules += [
        ("credits_hold_no_delete", "credits_hold", "DELETE", "ROW", ""),
        ("credits_hold_edges", "credits_hold", "UPDATE", "ROW", f"WHEN ({_FINISHED} OR {_ILLEGAL_EDGE})"),
        ("credits_hold_fixed", "credits_hold", f"UPDATE OF {', '.join(FIXED)}", "ROW", f"WHEN ({changed})"),
    ]
    return {
        name: (
            table,
            f"CREATE OR REPLACE TRIGGER {name} BEFORE {event} ON {table} FOR EACH {level} {condition} "
            "EXECUTE FUNCTION credits_refuse()",
        )
        for name, table, event, level, condition in rules
    }


def _triggers(connection: BaseDatabaseWrapper) -> dict[str, tuple[str, str]]:
    return _postgresql_triggers() if connection.vendor == "postgresql" else _sqlite_triggers()


def install(connection: BaseDatabaseWrapper) -> None:
    """Create the triggers that are missing."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(_REFUSE)
        for _, sql in _triggers(connection).values():
            cursor.execute(sql)


def remove(connection: BaseDatabaseWrapper) -> None:
    """Drop the triggers: only a test that empties its database may want this."""
    with connection.cursor() as cursor:
        for name, (table, _) in _triggers(connection).items():
            on_table = f" ON {table}" if connection.vendor == "postgresql" else ""
            cursor.execute(f"DROP TRIGGER IF EXISTS {name}{on_table}")


def after_migrate(using: str, **_: Any) -> None:
    """Receiver of post_migrate: triggers and platform accounts. Does nothing before the tables are there."""
    connection = connections[using]
    if "credits_hold" not in connection.introspection.table_names():
        return
    with transaction.atomic(using=using):
        install(connection)
        known = set(LedgerAccount.objects.using(using).filter(organization=None).values_list("kind", flat=True))
        LedgerAccount.objects.using(using).bulk_create(
            [LedgerAccount(kind=kind) for kind in PLATFORM_KINDS if kind not in known]
        )
