"""What the database itself refuses beyond the CHECKs and unique keys of `models.py`, on either vendor:
triggers that keep the journal append-only, what a row was made with unchanged, the state machines of
holds, adjustments and payments one-way, refunds within what was charged, and usage records until they are
archived. And the platform's ledger accounts, which are always there.

Installed after every `migrate` rather than in a migration: SQLite loses a table's triggers when
Django rebuilds the table, and a flush empties the accounts. `manage.py reconcile` compares what is
installed with what stands here (check G, `guard_audit.py`).

None of them fires on an INSERT of what requests write, nor on an UPDATE of the columns that they
change: those are the ledger's hot path.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper

from credits.models import PLATFORM_KINDS, HoldState, LedgerAccount
from credits.payments.models import DisputeState, RefundState, TopUpState

PREFIX = "credits_"

APPEND_ONLY = (
    "credits_transfer", "credits_lotconsumption", "credits_pricesnapshot", "credits_ledgeraccount",
    "credits_reconciliationrun", "credits_reconciliationcheckpoint", "credits_lotreopening", "credits_correction",
    "credits_promoredemption", "credits_holdwriteoff", "credits_balancetransaction",
)  # fmt: skip
"""Rows that are never changed nor deleted."""

KEPT = (
    "credits_hold", "credits_wallet", "credits_creditlot", "credits_adjustment", "credits_promocode",
    "credits_usagearchive", "credits_topup", "credits_paymentrefund", "credits_paymentdispute", "credits_stripeevent",
    "credits_billingaccount",
)  # fmt: skip
"""Rows that change, but are never deleted."""

EDGES: dict[str, tuple[str, ...]] = {
    HoldState.OPEN: (HoldState.DISPATCHED, HoldState.VOIDED, HoldState.EXPIRED),
    HoldState.DISPATCHED: (HoldState.CAPTURED, HoldState.VOIDED, HoldState.NEEDS_SETTLEMENT),
    HoldState.NEEDS_SETTLEMENT: (HoldState.CAPTURED, HoldState.VOIDED, HoldState.WRITTEN_OFF),
}
PAYMENT_EDGES: dict[str, dict[str, tuple[str, ...]]] = {
    "credits_topup": {
        TopUpState.CREATED: (TopUpState.PROCESSING, TopUpState.SUCCEEDED, TopUpState.FAILED, TopUpState.CANCELED),
        TopUpState.PROCESSING: (TopUpState.SUCCEEDED, TopUpState.FAILED, TopUpState.CANCELED),
        TopUpState.FAILED: (TopUpState.SUCCEEDED, TopUpState.CANCELED),
        TopUpState.CANCELED: (TopUpState.SUCCEEDED,),
    },
    "credits_paymentrefund": {
        RefundState.REQUESTED: (RefundState.PENDING, RefundState.SUCCEEDED, RefundState.FAILED, RefundState.CANCELED),
        RefundState.PENDING: (RefundState.SUCCEEDED, RefundState.FAILED, RefundState.CANCELED),
        RefundState.SUCCEEDED: (RefundState.FAILED, RefundState.CANCELED),
    },
    "credits_paymentdispute": {
        DisputeState.OPEN: (DisputeState.WITHDRAWN, DisputeState.WON, DisputeState.LOST, DisputeState.CLOSED),
        DisputeState.WITHDRAWN: (DisputeState.WON, DisputeState.LOST),
    },
}
"""Table -> state -> the states that may follow. What customers paid is credited whatever was thought before."""
FIXED: dict[str, tuple[str, ...]] = {
    "credits_hold": (
        "id", "wallet_id", "api_key_id", "amount", "price_snapshot_id", "model", "input_tokens", "max_tokens",
        "fingerprint", "context", "owner", "created_at",
    ),
    "credits_wallet": ("organization_id", "created_at"),
    "credits_creditlot": ("id", "wallet_id", "kind", "amount", "refundable", "source_key", "created_at"),
    "credits_adjustment": (
        "id", "organization_id", "kind", "amount", "reason", "ticket", "key", "proposed_by_id", "proposed_at",
    ),
    "credits_promocode": (
        "id", "code", "amount", "priority", "expires_in_days", "valid_from", "max_redemptions", "generated",
        "created_by_id", "created_at",
    ),
    "credits_usagearchive": (
        "id", "organization_id", "starts_at", "ends_at", "path", "records", "charge", "sha256", "created_at",
    ),
    "credits_topup": ("id", "organization_id", "kind", "amount", "fee", "key", "created_by_id", "created_at"),
    "credits_paymentrefund": (
        "id", "top_up_id", "amount", "credit", "fee", "tax", "from_wallet", "from_debt", "reason", "created_by_id",
        "created_at",
    ),
    "credits_paymentdispute": ("id", "top_up_id", "kind", "created_at"),
    "credits_stripeevent": ("id", "type", "object_id", "payload", "source", "created_at", "received_at"),
    "credits_billingaccount": ("organization_id", "created_at"),
}  # fmt: skip
"""Table -> what a row was made with and keeps."""

# Beside the wallet's lock, under which corrections are made (`corrections.refund`).
_ABOVE_THE_CHARGE = (
    "(SELECT COALESCE(SUM(amount), 0) FROM credits_correction WHERE hold_id = NEW.hold_id) + NEW.amount > "
    "(SELECT captured FROM credits_hold WHERE id = NEW.hold_id)"
)
# A usage record may go once it is in an archive that was read back, and whose deletion is not over.
_NOT_ARCHIVED = (
    "NOT EXISTS (SELECT 1 FROM credits_usagearchive a WHERE a.organization_id = OLD.organization_id "
    "AND a.starts_at <= OLD.created_at AND a.ends_at > OLD.created_at AND a.deleted_at IS NULL)"
)


@dataclass(frozen=True, slots=True)
class Guard:
    """A trigger that refuses `event` on `table` where `condition` holds ("" for always). `reads`: the
    condition asks other rows, which in PostgreSQL takes a function of its own."""

    name: str
    table: str
    event: str
    condition: str = ""
    reads: bool = False

    @property
    def function(self) -> str:
        return f"{self.name}_refuse" if self.reads else "credits_refuse"

    @property
    def of_statement(self) -> bool:
        return self.event == "TRUNCATE"


def _one_of(column: str, words: Iterable[str]) -> str:
    """Spelled out: SQLite fills a table of its own with the words of an IN, each time a trigger is asked."""
    return "(" + " OR ".join(f"{column} = '{word}'" for word in words) + ")"


_FINISHED = f"NOT {_one_of('OLD.state', EDGES)}"


def _illegal(edges: dict[str, tuple[str, ...]]) -> str:
    allowed = " OR ".join(f"(OLD.state = '{old}' AND {_one_of('NEW.state', new)})" for old, new in edges.items())
    return f"NEW.state <> OLD.state AND NOT ({allowed})"


def guards(vendor: str) -> list[Guard]:
    """Every guard of this database. The names are the same on both, but for TRUNCATE, which SQLite has not."""
    postgresql = vendor == "postgresql"
    differs = "IS DISTINCT FROM" if postgresql else "IS NOT"
    return [
        *(Guard(f"{table}_no_update", table, "UPDATE") for table in (*APPEND_ONLY, "credits_usagerecord")),
        *(Guard(f"{table}_no_delete", table, "DELETE") for table in (*APPEND_ONLY, *KEPT)),
        Guard("credits_usagerecord_kept", "credits_usagerecord", "DELETE", _NOT_ARCHIVED, reads=True),
        Guard("credits_correction_limit", "credits_correction", "INSERT", _ABOVE_THE_CHARGE, reads=True),
        Guard("credits_hold_edges", "credits_hold", "UPDATE", f"{_FINISHED} OR {_illegal(EDGES)}"),
        Guard("credits_adjustment_edges", "credits_adjustment", "UPDATE", "OLD.state <> 'proposed'"),
        Guard("credits_promocode_count", "credits_promocode", "UPDATE OF redeemed", "NEW.redeemed < OLD.redeemed"),
        *(Guard(f"{table}_edges", table, "UPDATE OF state", _illegal(edges)) for table, edges in PAYMENT_EDGES.items()),
        Guard(
            "credits_topup_as_paid",
            "credits_topup",
            "UPDATE OF tax, paid_at, payment_intent",
            "OLD.state = 'succeeded' AND (NEW.tax <> OLD.tax OR NEW.paid_at <> OLD.paid_at "
            "OR NEW.payment_intent <> OLD.payment_intent)",
        ),
        Guard("credits_stripeevent_handled", "credits_stripeevent", "UPDATE", "OLD.handled_at IS NOT NULL"),
        Guard("credits_usagearchive_ended", "credits_usagearchive", "UPDATE", "OLD.deleted_at IS NOT NULL"),
        *(
            Guard(
                f"{table}_fixed",
                table,
                f"UPDATE OF {', '.join(columns)}",
                " OR ".join(f"NEW.{column} {differs} OLD.{column}" for column in columns),
            )
            for table, columns in FIXED.items()
        ),
        *(
            Guard(f"{table}_no_truncate", table, "TRUNCATE")
            for table in (*APPEND_ONLY, *KEPT, "credits_usagerecord")
            if postgresql
        ),
    ]


def guarded_tables() -> set[str]:
    return {guard.table for guard in guards("postgresql")}


# SQLite


def sqlite_sql(guard: Guard) -> str:
    """As SQLite keeps it too, so that it can be compared."""
    when = f" WHEN {guard.condition}" if guard.condition else ""
    return (
        f"CREATE TRIGGER {guard.name} BEFORE {guard.event} ON {guard.table}{when} "
        f"BEGIN SELECT RAISE(ABORT, '{guard.name}: {guard.table} refuses this {guard.event.split()[0]}'); END"
    )


def sqlite_triggers(cursor: CursorWrapper) -> dict[str, tuple[str, str]]:
    """Trigger name -> (table, SQL) of what is installed."""
    cursor.execute(
        "SELECT name, tbl_name, sql FROM sqlite_master WHERE type = 'trigger' AND name LIKE 'credits\\_%%' ESCAPE '\\'",
        [],
    )
    return {name: (table, sql) for name, table, sql in cursor.fetchall()}


# PostgreSQL

_RAISE = "RAISE EXCEPTION '%: % refuses this %', TG_NAME, TG_TABLE_NAME, TG_OP USING ERRCODE = 'restrict_violation';"
REFUSE = "credits_refuse"


def functions() -> dict[str, str]:
    """Name -> body of PostgreSQL's trigger functions."""
    reading = {
        guard.function: f"""
BEGIN
    IF {guard.condition} THEN
        {_RAISE}
    END IF;
    RETURN {"OLD" if guard.event == "DELETE" else "NEW"};
END """
        for guard in guards("postgresql")
        if guard.reads
    }
    return {REFUSE: f"\nBEGIN\n    {_RAISE}\nEND ", **reading}


POSTGRESQL_TRIGGERS = """
SELECT t.tgname, c.relname, t.tgenabled::text, pg_get_triggerdef(t.oid), obj_description(t.oid, 'pg_trigger')
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
WHERE NOT t.tgisinternal AND t.tgname LIKE 'credits\\_%%' AND c.relnamespace = current_schema()::regnamespace
"""


def postgresql_sql(guard: Guard) -> str:
    level = "STATEMENT" if guard.of_statement else "ROW"
    when = f" WHEN ({guard.condition})" if guard.condition and not guard.reads else ""
    return (
        f"CREATE TRIGGER {guard.name} BEFORE {guard.event} ON {guard.table} FOR EACH {level}{when} "
        f"EXECUTE FUNCTION {guard.function}()"
    )


@dataclass(frozen=True, slots=True)
class InstalledTrigger:
    """A trigger as PostgreSQL's catalogue has it. `note` is our comment on it (`mark`)."""

    table: str
    enabled: str
    definition: str
    note: str | None


def mark(sql: str, definition: str) -> str:
    """PostgreSQL keeps its own wording of a trigger: this ties that to ours."""
    return f"{hashlib.sha256(sql.encode()).hexdigest()[:32]} {hashlib.sha256(definition.encode()).hexdigest()[:32]}"


def postgresql_triggers(cursor: CursorWrapper) -> dict[str, InstalledTrigger]:
    cursor.execute(POSTGRESQL_TRIGGERS, [])
    return {row[0]: InstalledTrigger(*row[1:]) for row in cursor.fetchall()}


# Both


def install(connection: BaseDatabaseWrapper) -> None:
    """Bring the triggers to what stands here: missing and changed ones are made, ours of old are dropped."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            _install_on_postgresql(cursor)
        else:
            _install_on_sqlite(cursor)


def _install_on_sqlite(cursor: CursorWrapper) -> None:
    wanted = {guard.name: sqlite_sql(guard) for guard in guards("sqlite")}
    installed = {name: sql for name, (_, sql) in sqlite_triggers(cursor).items()}
    for name, sql in installed.items():
        if wanted.get(name) != sql:
            cursor.execute(f"DROP TRIGGER {name}")
    for name, sql in wanted.items():
        if installed.get(name) != sql:
            cursor.execute(sql)


def _install_on_postgresql(cursor: CursorWrapper) -> None:
    for name, body in functions().items():
        cursor.execute(f"CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $${body}$$")
    wanted = {guard.name: guard for guard in guards("postgresql")}
    installed = postgresql_triggers(cursor)
    for name, trigger in installed.items():
        guard = wanted.get(name)
        if guard is None or not is_as_wanted(guard, trigger):
            cursor.execute(f"DROP TRIGGER {name} ON {trigger.table}")
    kept = postgresql_triggers(cursor)
    for name, guard in wanted.items():
        if name not in kept:
            cursor.execute(postgresql_sql(guard))
    for name, trigger in postgresql_triggers(cursor).items():
        if name not in kept:
            note = mark(postgresql_sql(wanted[name]), trigger.definition)
            cursor.execute(f"COMMENT ON TRIGGER {name} ON {trigger.table} IS '{note}'")


def is_as_wanted(guard: Guard, trigger: InstalledTrigger) -> bool:
    """Enabled for ordinary sessions, on its table, and neither our words nor PostgreSQL's have changed."""
    return (
        trigger.table == guard.table
        and trigger.enabled in {"O", "A"}
        and trigger.note == mark(postgresql_sql(guard), trigger.definition)
    )


def remove(connection: BaseDatabaseWrapper) -> None:
    """Drop the triggers: only a test that empties its database may want this."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            for name, trigger in postgresql_triggers(cursor).items():
                cursor.execute(f"DROP TRIGGER {name} ON {trigger.table}")
        else:
            for name in sqlite_triggers(cursor):
                cursor.execute(f"DROP TRIGGER {name}")


def after_migrate(using: str, **_: Any) -> None:
    """Receiver of post_migrate: triggers and platform accounts. Does nothing before all the tables are there."""
    connection = connections[using]
    if not guarded_tables() <= set(connection.introspection.table_names()):
        return
    with transaction.atomic(using=using):
        install(connection)
        known = set(LedgerAccount.objects.using(using).filter(organization=None).values_list("kind", flat=True))
        LedgerAccount.objects.using(using).bulk_create(
            [LedgerAccount(kind=kind) for kind in PLATFORM_KINDS if kind not in known]
        )
