"""A short fault run, on the run's database; `make faults` is the long one."""

import os

import psycopg
import pytest

from tests.faults.proxy import CommitProxy, Cut
from tests.faults.run import Options, run
from tests.processes import NewDatabase

QUICK = Options(faults=8, seed=3, pause=0.5, lease=6, busy_timeout=0.4, callers=10)


def test_faults_under_load_lose_and_double_nothing(new_database: NewDatabase):
    with new_database() as url:
        outcome = run(QUICK, url)
    assert outcome.sound, str(outcome)
    assert sum(outcome.injected.values()) == QUICK.faults
    seen = {seen for seen, _ in outcome.report.outcomes}
    assert {"whole answer", "answer cut", "no answer"} <= seen, "the load has met the faults"


@pytest.mark.parametrize(("cut", "stored"), [(Cut.BEFORE, 0), (Cut.AFTER, 1)])
def test_the_proxy_loses_the_connection_at_commit_and_at_no_other_moment(
    new_database: NewDatabase, cut: Cut, stored: int
):
    if not os.environ.get("DATABASE_URL", "").startswith("postgres"):
        pytest.skip("SQLite has no connection to lose")
    with new_database() as url, CommitProxy(url) as proxy, psycopg.connect(url, autocommit=True) as direct:
        direct.execute("CREATE TABLE written (number int)")
        with psycopg.connect(proxy.url) as connection:
            connection.execute("SELECT 1")
            connection.commit()
            fired = proxy.cut_next_commit(cut)
            connection.execute("INSERT INTO written VALUES (1)")
            assert not fired.is_set()
            with pytest.raises(psycopg.OperationalError):
                connection.commit()
            assert fired.wait(10)
        assert direct.execute("SELECT count(*) FROM written").fetchone() == (stored,)
        proxy.leave()
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(proxy.url, connect_timeout=5)
        proxy.come_back()
        psycopg.connect(proxy.url, connect_timeout=5).close()
