from tests.credits.support import customer, tenant  # noqa: F401 - fixtures
