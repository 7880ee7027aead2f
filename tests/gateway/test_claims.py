"""A request stands in the journal from before its hold exists until that has ended."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from credits.errors import HoldClosed, InsufficientCredits, LedgerDrift, LedgerUnavailable
from credits.journal import Journal, standing
from credits.types import HoldGrant, HoldRequest, MeterReading, Nanos, Settlement, SettleRequest
from gateway import pipeline, run
from gateway.exchange import InProcessExchange
from gateway.routing import Decision
from gateway.run import Run
from providers.types import Model, Price
from providers.wire.request import MessagesRequest

MODEL = Model(1, "m", "M", "", None, None, True, True, True, Price(1, 1, 1, 1, 1), ())
BODY = b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"x"}]}'
TARGET = SimpleNamespace(provider="p", actual_model="a", cost=None)


class Writer:
    """`says` answers each operation, or raises."""

    def __init__(self, says: Callable[[], Any]) -> None:
        self.says = says
        self.asked: list[HoldRequest | SettleRequest] = []

    async def hold(self, request: HoldRequest) -> Any:
        self.asked.append(request)
        return self.says()

    settle = hold


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path, "own")
    yield made
    made.let_go()


async def begun(journal: Journal, writer: Writer) -> Run:
    runtime = SimpleNamespace(
        journal=journal,
        writer=writer,
        transport=None,
        media=None,
        resilience=SimpleNamespace(is_well=lambda _target: True),
    )
    decision = Decision("default", MODEL, "m", MessagesRequest.parse(BODY))
    targets = (SimpleNamespace(target=TARGET),)
    principal = SimpleNamespace(organization_id=1, api_key_id=1)
    return await pipeline.begin(InProcessExchange(), runtime, principal, decision, targets, 5)  # type: ignore[arg-type]


@pytest.mark.asyncio
async def test_a_request_is_in_the_journal_before_its_hold_is_asked_for(journal: Journal, tmp_path: Path) -> None:
    seen: list[set[str]] = []

    def grant() -> HoldGrant:
        seen.append(standing(tmp_path))
        return HoldGrant("req", Nanos(1), 9)

    made = await begun(journal, Writer(grant))
    assert seen == [{made.exchange.request_id}]
    assert standing(tmp_path) == {made.exchange.request_id}


@pytest.mark.parametrize(
    "error", [InsufficientCredits(needed=2, available=1), LedgerUnavailable("away"), asyncio.CancelledError()]
)
@pytest.mark.asyncio
async def test_a_request_without_a_hold_leaves_the_journal(
    journal: Journal, tmp_path: Path, error: BaseException
) -> None:
    def refuse() -> None:
        raise error

    with pytest.raises(type(error)):
        await begun(journal, Writer(refuse))
    assert standing(tmp_path) == set()


@pytest.fixture
def writer() -> Writer:
    return Writer(lambda: HoldGrant("req", Nanos(1), 9))


async def answered(journal: Journal, writer: Writer) -> Run:
    """With a whole answer that is not settled yet."""
    made = await begun(journal, writer)
    made._reading = MeterReading(input=3, output=4)
    return made


@pytest.mark.asyncio
async def test_a_settled_request_leaves_the_journal(journal: Journal, tmp_path: Path, writer: Writer) -> None:
    made = await answered(journal, writer)
    settlement = Settlement("req", Nanos(1), Nanos(1))
    writer.says = lambda: settlement
    assert await made.settle() == settlement
    assert standing(tmp_path) == set()


@pytest.mark.parametrize("error", [LedgerUnavailable("away"), LedgerDrift("no"), asyncio.CancelledError()])
@pytest.mark.asyncio
async def test_what_the_ledger_did_not_take_stays_in_the_journal_before_anything_more_is_sent(
    journal: Journal, tmp_path: Path, writer: Writer, error: BaseException
) -> None:
    made = await answered(journal, writer)

    def refuse() -> None:
        raise error

    writer.says = refuse
    try:
        await made.settle()
    except asyncio.CancelledError:
        assert isinstance(error, asyncio.CancelledError)
    assert made.unsettled is not None
    journal.let_go()  # the process dies before the answer goes out
    from credits.journal import recover

    with recover(tmp_path) as left:
        (reading,) = left.values()
    assert reading is not None
    assert (reading.input, reading.output) == (3, 4)


@pytest.mark.asyncio
async def test_books_that_contradict_themselves_are_tried_again_once_a_minute(
    journal: Journal, tmp_path: Path, writer: Writer
) -> None:
    made = await answered(journal, writer)
    now = [0.0]
    made.now = lambda: now[0]

    def drift() -> None:
        raise LedgerDrift("no")

    writer.says = drift
    await made.settle()
    asked = len(writer.asked)
    for _ in range(3):
        await made.settle_again()
    assert len(writer.asked) == asked + 1
    now[0] += run.DRIFT_SECONDS
    writer.says = lambda: Settlement("req", Nanos(1), Nanos(1))
    await made.settle_again()
    assert made.unsettled is None
    assert standing(tmp_path) == set()


@pytest.mark.asyncio
async def test_what_somebody_else_has_ended_is_over(journal: Journal, tmp_path: Path, writer: Writer) -> None:
    made = await answered(journal, writer)

    def closed() -> None:
        raise HoldClosed("ended")

    writer.says = closed
    assert await made.settle() is None
    assert made.unsettled is None
    assert standing(tmp_path) == set()
