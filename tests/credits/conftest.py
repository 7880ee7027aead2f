from tests.credits.support import customer, ledger_writer, tenant  # noqa: F401 - fixtures
