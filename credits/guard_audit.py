"""Whether the database still has every guard: the triggers of `guards.py`, the CHECKs and unique keys
of `models.py`. A restored, copied or hand-repaired database may have lost some without anybody noticing."""

from typing import Any

from django.apps import apps
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import CheckConstraint, UniqueConstraint

from credits import guards

POSTGRESQL_CHECKS = """
SELECT conname FROM pg_constraint
WHERE contype = 'c' AND convalidated AND connamespace = current_schema()::regnamespace
"""
POSTGRESQL_UNIQUE = """
SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE i.indisunique AND i.indisvalid AND c.relnamespace = current_schema()::regnamespace
"""


def expected_constraints() -> dict[str, tuple[str, CheckConstraint | UniqueConstraint]]:
    """Constraint name -> (table, constraint) of this app's models."""
    return {
        constraint.name: (model._meta.db_table, constraint)
        for model in apps.get_app_config("credits").get_models()
        for constraint in model._meta.constraints
        if isinstance(constraint, CheckConstraint | UniqueConstraint)
    }


def problems(connection: BaseDatabaseWrapper) -> list[str]:
    """What is missing or not as it should be, in words; empty when all is there."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            return [*_postgresql_triggers(cursor), *_postgresql_constraints(cursor)]
        return [*_sqlite_triggers(cursor), *_sqlite_constraints(connection, cursor)]


def _sqlite_triggers(cursor: Any) -> list[str]:
    installed = guards.sqlite_triggers(cursor)
    found = []
    for guard in guards.guards("sqlite"):
        table, sql = installed.get(guard.name, ("", ""))
        if not sql:
            found.append(f"trigger {guard.name} is missing")
        elif (table, sql) != (guard.table, guards.sqlite_sql(guard)):
            found.append(f"trigger {guard.name} was changed")
    return found


def _sqlite_constraints(connection: BaseDatabaseWrapper, cursor: Any) -> list[str]:
    cursor.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND type IN ('table', 'index')", [])
    texts = dict(cursor.fetchall())
    found = []
    models = {model._meta.db_table: model for model in apps.get_app_config("credits").get_models()}
    editor = connection.SchemaEditorClass(connection, collect_sql=True)  # only asked for its wording, never entered
    editor.deferred_sql = []
    for name, (table, constraint) in expected_constraints().items():
        in_table = constraint.constraint_sql(models[table], editor)
        # A unique key with a condition is an index of its own.
        wanted = in_table or str(constraint.create_sql(models[table], editor))
        if wanted not in texts.get(table if in_table else name, ""):
            found.append(f"{_kind(constraint)} {name} is missing or was changed")
    return found


def _postgresql_triggers(cursor: Any) -> list[str]:
    installed = guards.postgresql_triggers(cursor)
    found = []
    for guard in guards.guards("postgresql"):
        trigger = installed.get(guard.name)
        if trigger is None:
            found.append(f"trigger {guard.name} is missing")
        elif trigger.enabled not in {"O", "A"}:
            found.append(f"trigger {guard.name} is disabled")
        elif not guards.is_as_wanted(guard, trigger):
            found.append(f"trigger {guard.name} was changed")
    wanted = guards.functions()
    cursor.execute(
        "SELECT proname, prosrc FROM pg_proc WHERE proname = ANY(%s) AND pronamespace = current_schema()::regnamespace",
        [list(wanted)],
    )
    stored = dict(cursor.fetchall())
    found += [f"function {name} is missing or was changed" for name, body in wanted.items() if stored.get(name) != body]
    return found


def _postgresql_constraints(cursor: Any) -> list[str]:
    """By name, and whether they are valid: PostgreSQL keeps its own wording."""
    cursor.execute(POSTGRESQL_CHECKS, [])
    checks = {name for (name,) in cursor.fetchall()}
    cursor.execute(POSTGRESQL_UNIQUE, [])
    unique = {name for (name,) in cursor.fetchall()}
    return [
        f"{_kind(constraint)} {name} is missing or not validated"
        for name, (_, constraint) in expected_constraints().items()
        if name not in (checks if isinstance(constraint, CheckConstraint) else unique)
    ]


def _kind(constraint: CheckConstraint | UniqueConstraint) -> str:
    return "CHECK" if isinstance(constraint, CheckConstraint) else "unique key"
