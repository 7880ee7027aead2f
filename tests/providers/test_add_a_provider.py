"""docs/add-a-provider.md, followed to the letter in a copy of the project: a provider in less than 30 lines."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.product import copy_project
from tests.fakes.answers import Reply, Text, Tokens
from tests.fakes.brain import always
from tests.fakes.openai import fake_openai
from tests.fakes.server import FakeProvider
from tests.processes import Ccm

MOST_LINES = 30
LINE_LENGTH = 120
ADDRESS = "https://api.acme.example/v1"
PRICES = {"input": 1000, "output": 3000}
"""Of the page, in nano-USD a token."""


@pytest.fixture(scope="module")
def snippets(project: Path) -> dict[str, str]:
    """The page's code, by language."""
    page = (project / "docs" / "add-a-provider.md").read_text()
    found = re.findall(r"^```(\w+)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert [language for language, _ in found] == ["python", "toml"]
    return dict(found)


@pytest.fixture(scope="module")
def acme() -> Iterator[FakeProvider]:
    with fake_openai(always(Reply([Text("Hello from Acme.")], tokens=Tokens(30, 5)))) as fake:
        yield fake


@pytest.fixture(scope="module")
def added(
    project: Path, snippets: dict[str, str], acme: FakeProvider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ccm]:
    """CCM with the page's row at the end of the table. Only the address is another, since nobody is there."""
    copy = copy_project(project, tmp_path_factory.mktemp("copy"))
    kinds = copy / "providers" / "kinds.py"
    before, end, after = kinds.read_text().partition("\n)\n")
    kinds.write_text(f"{before}\n{snippets['python'].rstrip()},\n{end[1:]}{after}".replace(ADDRESS, acme.base_url))
    with Ccm(project=copy, settings={"ACME_API_KEY": "secret-of-acme"}) as ccm:
        ccm.import_config(snippets["toml"].replace(ADDRESS, acme.base_url))
        yield ccm.start()


def test_it_takes_less_than_thirty_lines(snippets: dict[str, str]) -> None:
    lines = [line for code in snippets.values() for line in code.splitlines() if line.strip()]
    assert 0 < len(lines) < MOST_LINES
    assert max(map(len, lines)) <= LINE_LENGTH


def test_the_added_provider_serves_and_is_charged(added: Ccm, acme: FakeProvider) -> None:
    key = added.create_key("acme@example.com", usd="1")
    body = {"model": "acme-large", "max_tokens": 500, "messages": [{"role": "user", "content": "Hello"}]}
    headers = {"x-api-key": key}
    answer = httpx.post(f"{added.url}/v1/messages", json=body, headers=headers, timeout=60, trust_env=False)
    assert answer.status_code == 200, answer.text
    assert answer.json()["content"] == [{"type": "text", "text": "Hello from Acme."}]
    (asked,) = acme.requests
    assert asked.headers["authorization"] == "Bearer secret-of-acme"
    assert asked.body["model"] == "acme-large-2"
    assert acme.violations == []
    (record,) = added.usage_records("acme@example.com")
    assert record["charge"] == 30 * PRICES["input"] + 5 * PRICES["output"]
