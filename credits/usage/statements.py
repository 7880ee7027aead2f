"""The SQL that rollups are made with: on PostgreSQL and SQLite, times as each stores them."""

from datetime import datetime

from django.db import connection

from credits.database import Dialect


def on_postgresql() -> bool:
    return connection.vendor == "postgresql"


def execute(sql: str, *moments: datetime) -> None:
    time = Dialect(connection).time
    with connection.cursor() as cursor:
        # Without parameters nothing is filled in, and a percent sign means itself.
        cursor.execute(sql, [time(moment) for moment in moments] or None)
