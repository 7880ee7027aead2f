"""What the database itself refuses, on either vendor: triggers that keep the journal append-only,
the hold's and the adjustment's state machine one-way, a refund within what was charged, and usage
records until they are archived. And the platform's ledger accounts, which are always there.

Installed after every `migrate` rather than in a migration: SQLite loses a table's triggers when
Django rebuilds the table, and a flush empties the accounts.
"""

from typing import Any

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from credits.models import PLATFORM_KINDS, HoldState, LedgerAccount

APPEND_ONLY = (
    "credits_transfer", "credits_lotconsumption", "credits_pricesnapshot", "credits_lotreopening", "credits_correction",
    "credits_promoredemption", "credits_holdwriteoff",
)  # fmt: skip
KEPT = ("credits_hold", "credits_adjustment", "credits_promocode", "credits_usagearchive")
"""Rows that change, but are never deleted."""

EDGES: dict[str, tuple[str, ...]] = {
    HoldState.OPEN: (HoldState.DISPATCHED, HoldState.VOIDED, HoldState.EXPIRED),
    HoldState.DISPATCHED: (HoldState.CAPTURED, HoldState.VOIDED, HoldState.NEEDS_SETTLEMENT),
    HoldState.NEEDS_SETTLEMENT: (HoldState.CAPTURED, HoldState.VOIDED, HoldState.WRITTEN_OFF),
}
FIXED = (
    "id", "wallet_id", "api_key_id", "amount", "price_snapshot_id", "model", "input_tokens", "max_tokens",
    "fingerprint", "owner", "created_at",
)  # fmt: skip
FIXED_OF_ADJUSTMENT = (
    "id", "organization_id", "kind", "amount", "reason", "ticket", "key", "proposed_by_id", "proposed_at",
)  # fmt: skip
FIXED_OF_PROMO_CODE = (
    "id", "code", "amount", "priority", "expires_in_days", "valid_from", "max_redemptions", "generated",
    "created_by_id", "created_at",
)  # fmt: skip

FIXED_OF_ARCHIVE = (
    "id", "organization_id", "starts_at", "ends_at", "path", "records", "charge", "sha256", "created_at",
)  # fmt: skip
_ARCHIVED = (
    "EXISTS (SELECT 1 FROM credits_usagearchive a WHERE a.organization_id = OLD.organization_id "
    "AND a.starts_at <= OLD.created_at AND a.ends_at > OLD.created_at AND a.deleted_at IS NULL)"
)
"""A usage record may be deleted: it is in an archive that was read back, and whose deletion is not over."""


def _quoted(words: tuple[str, ...]) -> str:
    return ", ".join(f"'{word}'" for word in words)


_FINISHED = f"OLD.state NOT IN ({_quoted(tuple(EDGES))})"
_ILLEGAL_EDGE = "NEW.state <> OLD.state AND NOT ({})".format(
    " OR ".join(f"(OLD.state = '{old}' AND NEW.state IN ({_quoted(new)}))" for old, new in EDGES.items())
)
# (name, table, event, condition), in words that both databases understand; {differs} is theirs.
_CHANGES = (
    ("credits_hold_edges", "credits_hold", "UPDATE", f"{_FINISHED} OR {_ILLEGAL_EDGE}"),
    ("credits_adjustment_edges", "credits_adjustment", "UPDATE", "OLD.state <> 'proposed'"),
    ("credits_promocode_count", "credits_promocode", "UPDATE OF redeemed", "NEW.redeemed < OLD.redeemed"),
    ("credits_usagearchive_ended", "credits_usagearchive", "UPDATE", "OLD.deleted_at IS NOT NULL"),
    *(
        (
            f"{table}_fixed",
            table,
            f"UPDATE OF {', '.join(columns)}",
            " OR ".join(f"NEW.{column} {{differs}} OLD.{column}" for column in columns),
        )
        for table, columns in (
            ("credits_hold", FIXED),
            ("credits_adjustment", FIXED_OF_ADJUSTMENT),
            ("credits_promocode", FIXED_OF_PROMO_CODE),
            ("credits_usagearchive", FIXED_OF_ARCHIVE),
        )
    ),
)
# Beside the wallet's lock, under which corrections are made (`corrections.refund`).
_ABOVE_THE_CHARGE = (
    "(SELECT COALESCE(SUM(amount), 0) FROM credits_correction WHERE hold_id = NEW.hold_id) + NEW.amount > "
    "(SELECT captured FROM credits_hold WHERE id = NEW.hold_id)"
)


def _sqlite_triggers() -> dict[str, tuple[str, str]]:
    """Trigger name -> (table, SQL)."""
    rules = [
        (f"{table}_no_{event.lower()}", table, event, "1") for table in APPEND_ONLY for event in ("UPDATE", "DELETE")
    ]
    rules += [(f"{table}_no_delete", table, "DELETE", "1") for table in KEPT]
    rules += [(name, table, event, condition.format(differs="IS NOT")) for name, table, event, condition in _CHANGES]
    rules.append(("credits_correction_limit", "credits_correction", "INSERT", _ABOVE_THE_CHARGE))
    rules.append(("credits_usagerecord_kept", "credits_usagerecord", "DELETE", f"NOT {_ARCHIVED}"))
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
# A trigger's WHEN takes no subquery here.
_KEEP_USAGE = f"""
CREATE OR REPLACE FUNCTION credits_keep_usage() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT {_ARCHIVED} THEN
        RAISE EXCEPTION 'credits_usagerecord refuses this DELETE' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN OLD;
END $$
"""


_REFUSE_ABOVE_THE_CHARGE = f"""
CREATE OR REPLACE FUNCTION credits_refuse_above_the_charge() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF {_ABOVE_THE_CHARGE} THEN
        RAISE EXCEPTION 'credits_correction refuses more than was charged' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$
"""


def _postgresql_triggers() -> dict[str, tuple[str, str]]:
    refuse = "credits_refuse"
    emptied = (*APPEND_ONLY, *KEPT, "credits_usagerecord")
    rules = [(f"{table}_append_only", table, "UPDATE OR DELETE", "ROW", "", refuse) for table in APPEND_ONLY]
    rules += [(f"{table}_no_truncate", table, "TRUNCATE", "STATEMENT", "", refuse) for table in emptied]
    rules += [(f"{table}_no_delete", table, "DELETE", "ROW", "", refuse) for table in KEPT]
    rules += [
        (name, table, event, "ROW", f"WHEN ({condition.format(differs='IS DISTINCT FROM')})", refuse)
        for name, table, event, condition in _CHANGES
    ]
    above = "credits_refuse_above_the_charge"
    rules.append(("credits_correction_limit", "credits_correction", "INSERT", "ROW", "", above))
    rules.append(("credits_usagerecord_kept", "credits_usagerecord", "DELETE", "ROW", "", "credits_keep_usage"))
    return {
        name: (
            table,
            f"CREATE OR REPLACE TRIGGER {name} BEFORE {event} ON {table} FOR EACH {level} {condition} "
            f"EXECUTE FUNCTION {function}()",
        )
        for name, table, event, level, condition, function in rules
    }


def _triggers(connection: BaseDatabaseWrapper) -> dict[str, tuple[str, str]]:
    return _postgresql_triggers() if connection.vendor == "postgresql" else _sqlite_triggers()


def install(connection: BaseDatabaseWrapper) -> None:
    """Create the triggers that are missing."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(_REFUSE)
            cursor.execute(_REFUSE_ABOVE_THE_CHARGE)
            cursor.execute(_KEEP_USAGE)
        for _, sql in _triggers(connection).values():
            cursor.execute(sql)


def remove(connection: BaseDatabaseWrapper) -> None:
    """Drop the triggers: only a test that empties its database may want this."""
    with connection.cursor() as cursor:
        for name, (table, _) in _triggers(connection).items():
            on_table = f" ON {table}" if connection.vendor == "postgresql" else ""
            cursor.execute(f"DROP TRIGGER IF EXISTS {name}{on_table}")


def after_migrate(using: str, **_: Any) -> None:
    """Receiver of post_migrate: triggers and platform accounts. Does nothing before all the
    tables are there."""
    connection = connections[using]
    guarded = {table for table, _ in _triggers(connection).values()}
    if not guarded <= set(connection.introspection.table_names()):
        return
    with transaction.atomic(using=using):
        install(connection)
        known = set(LedgerAccount.objects.using(using).filter(organization=None).values_list("kind", flat=True))
        LedgerAccount.objects.using(using).bulk_create(
            [LedgerAccount(kind=kind) for kind in PLATFORM_KINDS if kind not in known]
        )
