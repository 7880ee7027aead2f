"""Claude Code's WebSearch on a model that cannot search: CCM searches, and the model quotes what it found."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import clients
from tests.fakes.answers import Answer, Reply, Text, ToolUse
from tests.fakes.brain import Conversation
from tests.fakes.search import KEY, FakeEngine, fake_engine
from tests.world import World

MARK = "WEBSEARCH-RUN"
QUERY = "marzipan museum"


def researcher(conversation: Conversation) -> Answer:
    """Plays both models: the one that works for the person, and the one behind its WebSearch tool."""
    if MARK not in conversation.text:
        return _searcher(conversation)
    searched = conversation.called("WebSearch")
    if searched and searched[-1].result is not None:
        return Reply(blocks=[Text(f"REPORT[{' '.join(searched[-1].result.split())}]")])
    if "WebSearch" not in conversation.tools and not conversation.called("ToolSearch"):
        return Reply(blocks=[ToolUse("ToolSearch", {"query": "select:WebSearch", "max_results": 5})])
    return Reply(blocks=[ToolUse("WebSearch", {"query": QUERY})])


def _searcher(conversation: Conversation) -> Answer:
    done = conversation.called("web_search")
    if done and done[-1].result is not None:
        year = "1923" if "1923" in done[-1].result else "unknown"
        return Reply(blocks=[Text(f"It opened in {year}.")])
    if "web_search" in conversation.tools:
        return Reply(blocks=[ToolUse("web_search", {"query": QUERY})])
    return Reply(blocks=[Text("Nothing to do here.")])


@pytest.fixture(scope="module")
def engine() -> Iterator[FakeEngine]:
    with fake_engine("tavily") as made:
        yield made


@pytest.fixture(scope="module")
def searching(project: Path, engine: FakeEngine) -> Iterator[World]:
    settings = {
        "CCM_SEARCH_BACKEND": "tavily", "CCM_SEARCH_URL": engine.url, "CCM_SEARCH_KEY": KEY,
        "CCM_ALLOW_PRIVATE_UPSTREAMS": "1",
    }  # fmt: skip
    with World(settings=settings) as world:
        world.make_default("openai")
        yield world


def test_a_search_is_made_quoted_and_charged(
    searching: World, engine: FakeEngine, client: Path, folder: Path, email: str
) -> None:
    engine.clear()
    searching.openai.clear()
    searching.openai.brain = researcher
    key = searching.ccm.create_key(email)
    outcome = clients.run(client, MARK, folder=folder, variables=searching.variables(key))

    assert outcome.text.startswith("REPORT["), outcome
    assert f'Web search results for query: "{QUERY}"' in outcome.text
    assert '"https://museum.example/marzipan"' in outcome.text
    assert "It opened in 1923." in outcome.text
    assert [asked.query for asked in engine.asked] == [QUERY]
    assert searching.openai.violations == []
    records = [r for r in searching.ccm.usage_records(email) if r["route"] == "websearch"]
    assert sorted(record["web_searches"] for record in records) == [0, 1]
    assert sum(usage["webSearchRequests"] for usage in outcome.report["modelUsage"].values()) == 1
