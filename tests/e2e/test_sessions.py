"""Claude Code works through CCM, is routed and charged: on either wire, with either client."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import clients
from tests.fakes.brain import CodingSession, saying, session_prompt
from tests.fakes.server import Received
from tests.world import PRICES, World

WIRES = ["anthropic", "openai"]


@pytest.mark.parametrize("provider", WIRES)
def test_a_coding_session_runs_to_its_end_and_is_charged(
    world: World, client: Path, provider: str, folder: Path, email: str
) -> None:
    world.make_default(provider)
    fake = world.fake(provider)
    fake.clear()
    fake.brain = session = CodingSession(subagent_model=f"{provider}-agent")
    key = world.ccm.create_key(email)

    outcome = clients.run(
        client, session_prompt(str(folder / "notes.txt")), folder=folder, variables=world.variables(key)
    )

    assert fake.violations == []
    assert outcome.text.startswith("CODING-SESSION-DONE"), (outcome, session.steps)
    for learnt in ("the secret word is marzipan", "28", "product-42", "report=agent-63"):
        assert learnt in outcome.text
    assert {"read", "tools", "agent", "subagent tool", "subagent report", "final"} <= set(session.steps)
    if "newest" in client.parts:
        assert session.steps.index("search") < session.steps.index("loaded")
    check_routes(world.ccm.usage_records(email), provider)
    check_subagent(fake.requests, provider)
    check_books(world, world.ccm.usage_records(email), fake.requests)


def check_routes(records: Iterable[dict[str, Any]], provider: str) -> None:
    routed = {(record["route"], record["model"]) for record in records}
    assert routed == {("default", f"{provider}-model"), ("subagent", f"{provider}-agent")}


def check_subagent(requests: Iterable[Received], provider: str) -> None:
    """The tag chose the agent's model, and no provider ever sees a tag."""
    models = Counter(request.body["model"] for request in requests)
    assert models[f"{provider}-agent-actual"] == 2
    agents = [request for request in requests if request.body["model"] == f"{provider}-agent-actual"]
    assert not any(b"CCM-SUBAGENT-MODEL" in request.raw for request in agents)
    assert not any(b"secret-of-" in request.raw or b"sk-ccm-" in request.raw for request in requests)


def check_books(world: World, records: list[dict[str, Any]], requests: list[Received]) -> None:
    """One record a request, with the tokens that the provider told and the price of each."""
    told = Counter((t.input, t.cache_read, t.cache_write, t.output) for r in requests if (t := r.tokens))
    recorded = Counter(
        (r["input_tokens"], r["cache_read_tokens"], r["cache_write_tokens"], r["output_tokens"]) for r in records
    )
    assert recorded == told
    for record in records:
        rated = sum(record[f"{kind}_tokens"] * price for kind, price in PRICES.items())
        assert record["charge"] == rated, record
        assert record["status"] == 200
    assert world.ccm.run("reconcile").returncode == 0


@pytest.mark.parametrize("provider", WIRES)
def test_a_named_model_is_served_as_named(world: World, client: Path, provider: str, folder: Path, email: str) -> None:
    other = next(name for name in WIRES if name != provider)
    world.make_default(other)
    fake = world.fake(provider)
    fake.clear()
    fake.brain = saying("Served as named.")
    key = world.ccm.create_key(email)
    outcome = clients.run(
        client,
        "hello",
        folder=folder,
        variables=world.variables(key),
        arguments=["--model", f"{provider}-model"],
    )
    assert outcome.text == "Served as named."
    assert {record["model"] for record in world.ccm.usage_records(email)} == {f"{provider}-model"}
    assert fake.violations == []
