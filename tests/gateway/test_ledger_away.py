"""The database goes away in the middle of an answer: the customer gets the answer, and pays for it once."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager

import pytest

from tests.fakes.answers import End, many_deltas
from tests.fakes.brain import always
from tests.faults.proxy import CommitProxy
from tests.gateway.test_crash import await_settled, read_until, streamed
from tests.processes import NewDatabase
from tests.world import PRICES, World

TOLD = 100 * PRICES["input"] + 20 * PRICES["output"]
"""What the fakes tell of every answer."""

SETTLE_SECONDS = 120
SETTINGS = {"CCM_HOLD_LEASE_SECONDS": "60"}
"""No lease runs out here: what is settled is settled for other reasons."""


@contextmanager
def locked(world: World) -> Iterator[None]:
    with closing(sqlite3.connect(world.ccm.data_dir / "ccm.sqlite3", isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


@contextmanager
def cut_off(proxy: CommitProxy) -> Iterator[None]:
    proxy.leave()
    yield
    proxy.come_back()


@pytest.fixture
def fragile(new_database: NewDatabase) -> Iterator[tuple[World, Callable[[], AbstractContextManager[None]]]]:
    """A CCM of this test's own, and what takes its database away for the length of a `with`."""
    with new_database() as url:
        if not url:
            with World(database_url="sqlite:///?timeout=0.3", settings=SETTINGS) as world:
                yield world, lambda: locked(world)
            return
        with CommitProxy(url) as proxy, World(database_url=proxy.url, settings=SETTINGS) as world:
            yield world, lambda: cut_off(proxy)


def read_on(pieces: Iterator[str], needle: str) -> None:
    text = ""
    while needle not in text:
        text += next(pieces)


@pytest.mark.parametrize("killed", [False, True], ids=["and comes back", "and the process dies"])
def test_an_answer_whose_settlement_failed_is_charged_exactly(fragile, email: str, killed: bool) -> None:
    world, away = fragile
    key = world.ccm.create_key(email)
    world.anthropic.brain = always(many_deltas(20, events=10, end=End.STALL))
    with streamed(world, key) as response:
        pieces = response.iter_text()
        read_on(pieces, "w0003")
        with away():
            world.anthropic.resume()
            read_on(pieces, "message_stop")
            if killed:
                world.ccm.kill()
    if killed:
        world.ccm.start()
        record = await_settled(world, email)
    else:
        record = await_record(world, email)
    assert record["charge"] == TOLD
    assert world.ccm.run("reconcile").returncode == 0


def await_record(world: World, email: str) -> dict[str, object]:
    """Without any sweep: the process itself settles what it could not before."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while not (records := world.ccm.usage_records(email)):
        assert time.monotonic() < deadline, "it was never settled"
        time.sleep(0.2)
    (record,) = records
    assert record["status"] == 200
    return record


def test_the_frame_of_an_answer_without_a_word_costs_nothing(world: World, email: str) -> None:
    key = world.ccm.create_key(email)
    world.make_default("anthropic")
    world.anthropic.brain = always(many_deltas(20, events=3, end=End.RESET))
    with streamed(world, key) as response:
        read_until(response, "event: error")
    record = await_settled(world, email)
    assert (record["charge"], record["usage_source"]) == (0, "none")
