"""Claude Code works through CCM on every wire, with either client: what a working day holds, in few sessions."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import clients
from tests.e2e.wires import (
    AGAIN_MARK,
    AUTO_MARK,
    DOCUMENT,
    FOUND,
    IMAGE,
    PLAN_MARK,
    SUMMARY,
    WAYS,
    Tour,
    Way,
    WiredWorld,
    pdf,
    png,
    sent,
)
from tests.fakes.brain import SESSION_MARK, SUBAGENT_MARK, session_prompt
from tests.fakes.search import fake_engine
from tests.fakes.server import FakeProvider
from tests.world import PRICES

PDF_OMITTED = b"this model cannot read PDF files"


@pytest.fixture(scope="session")
def wired(project: Path) -> Iterator[WiredWorld]:
    with fake_engine("tavily") as engine, WiredWorld(engine) as world:
        yield world


@dataclass
class Served:
    """One customer of one way with one client, and the model that plays along."""

    world: WiredWorld
    way: Way
    fake: FakeProvider
    tour: Tour
    client: Path
    folder: Path
    email: str
    key: str

    @property
    def is_newest(self) -> bool:
        return "newest" in self.client.parts

    def run(self, prompt: str, *arguments: str, home: Path | None = None, **options: Any) -> clients.Outcome:
        outcome = clients.run(
            self.client,
            prompt,
            folder=self.folder,
            variables=options.pop("variables", None) or self.world.variables(self.key),
            arguments=arguments,
            home=home,
            **options,
        )
        assert self.fake.violations == [], (outcome, self.tour.steps)
        return outcome

    def routes(self) -> Counter[tuple[str, str]]:
        return Counter((r["route"], r["model"]) for r in self.world.ccm.usage_records(self.email) if r["status"] == 200)


@pytest.fixture(params=list(WAYS))
def served(request: pytest.FixtureRequest, wired: WiredWorld, client: Path, folder: Path) -> Served:
    way = WAYS[request.param]
    fake = wired.fakes[way.name]
    fake.clear()
    wired.judge.clear()
    fake.brain = tour = Tour(subagent_model=f"{way.name}-agent", way=way, folder=folder)
    (folder / IMAGE).write_bytes(png())
    (folder / DOCUMENT).write_bytes(pdf())
    return Served(wired, way, fake, tour, client, folder, *wired.customer(way))


def test_a_day_of_coding(served: Served) -> None:
    """Reads a file, runs tools at once, sees a picture and a PDF, finds and loads tools, searches the web,
    gets a subagent's report; and all of it is routed and charged as it should be."""
    outcome = served.run(session_prompt(str(served.folder / "notes.txt")))
    for learnt in ("the secret word is marzipan", "product-42", "report=agent-63", FOUND[1], "1923"):
        assert learnt in outcome.text, (outcome, served.tour.steps)
    steps = served.tour.steps
    assert {"read", "tools", "media", "web", "searched", "agent", "subagent tool", "subagent report"} <= set(steps)
    if served.is_newest:
        assert steps.index("search") < steps.index("web")
    raw = b"\n".join(request.raw for request in served.fake.requests)
    assert sent(png()) in raw
    assert (sent(pdf()) if served.way.reads_pdf else PDF_OMITTED) in raw
    assert b"sk-ccm-" not in raw
    agents = [r.raw for r in served.fake.requests if SUBAGENT_MARK in str(r.body) and SESSION_MARK not in str(r.body)]
    assert agents
    assert not any(b"CCM-SUBAGENT-MODEL" in agent for agent in agents)

    records = served.world.ccm.usage_records(served.email)
    routes = {(record["route"], record["model"]) for record in records}
    assert {("default", f"{served.way.name}-model"), ("subagent", f"{served.way.name}-agent")} <= routes
    assert {route for route, _ in routes} == {"default", "subagent", "websearch"}
    check_books(served, records)


def check_books(served: Served, records: list[dict[str, Any]]) -> None:
    """Every answer of the provider is paid for, with the tokens that it told, and nothing else is."""
    told = sum(request.tokens.prompt + request.tokens.output for request in served.fake.requests if request.tokens)
    assert sum(sum(record[f"{kind}_tokens"] for kind in PRICES) for record in records) == told
    for record in records:
        rated = sum(record[f"{kind}_tokens"] * price for kind, price in PRICES.items())
        assert record["charge"] == rated or record["web_searches"], record
        assert record["status"] == 200


def test_a_plan_and_a_full_context(served: Served, tmp_path: Path) -> None:
    """Plan mode takes the think route; when the provider's context is full, the client compacts and goes on."""
    home = tmp_path / "home"
    home.mkdir()
    planned = served.run(PLAN_MARK, home=home, permissions=("--permission-mode", "plan"))
    assert planned.text == "PLAN: bake marzipan bread.", planned
    assert served.routes() == Counter({("think", f"{served.way.name}-agent"): 1})

    if not served.is_newest:  # it compacts no single exchange
        served.run("And what else?", "--continue", home=home)
    again = served.run(AGAIN_MARK, "--continue", home=home)
    assert again.text == f"COMPACTED[{SUMMARY}]", (again, served.tour.steps)
    assert served.tour.steps.index("overflow") < served.tour.steps.index("compaction")
    refused = [record for record in served.world.ccm.usage_records(served.email) if record["status"] != 200]
    assert refused
    assert all(record["status"] == 400 and record["charge"] == 0 for record in refused)


def test_auto_mode_runs_what_is_safe_and_refuses_what_is_flagged(served: Served) -> None:
    if not served.is_newest:
        pytest.skip("the older client has no safeguards: it asks the classifier itself")
    if served.way.name == "anthropic":
        pytest.skip("Anthropic judges by itself")
    variables = served.world.variables(served.key)
    del variables["CLAUDE_CODE_AUTO_MODE_SERVER"]
    outcome = served.run(AUTO_MARK, variables=variables, permissions=("--permission-mode", "auto"))
    assert "AUTO[made | " in outcome.text, (outcome, served.tour.steps)
    assert "Forbidden files stay." in outcome.text, outcome
    assert (served.folder / "made.txt").exists()
    assert not (served.folder / "forbidden.txt").exists()
    assert not any(b"safeguards" in request.raw for request in served.fake.requests)
    assert any(route == "safety" for route, _ in served.routes())
