"""Lets a transactional test empty the ledger afterwards, which the ledger's triggers refuse."""

from collections.abc import Iterator

import pytest
from django.db.backends.base.operations import BaseDatabaseOperations

from credits import guards


@pytest.fixture(autouse=True, scope="session")
def flushable_ledger() -> Iterator[None]:
    """The triggers are away only while Django's flush runs."""
    flush = BaseDatabaseOperations.execute_sql_flush

    def flush_without_triggers(self: BaseDatabaseOperations, sql_list: list[str]) -> None:
        guards.remove(self.connection)
        try:
            flush(self, sql_list)
        finally:
            guards.install(self.connection)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BaseDatabaseOperations, "execute_sql_flush", flush_without_triggers)
        yield
