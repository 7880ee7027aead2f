"""The customers' documentation: what it shows is true, and what it says to type works."""

import json
import os
import re
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import unescape
from typing import Any

import httpx
import pytest
from django.conf import settings
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from accounts.errors import AccountsUnavailable, InvalidKey
from accounts.models import User
from adminui.connect import ConnectModels, connect_snippet
from adminui.documents import DOCUMENTS, FOLDER, Document, find, render
from adminui.views.documents import facts
from credits.errors import InsufficientCredits
from gateway.errors import as_gateway_error
from providers.errors import InvalidRequest, RequestTooLarge
from providers.wire.failures import MEANINGS
from tests.fakes.brain import saying
from tests.gateway.conftest import world
from tests.world import World

pytestmark = pytest.mark.one_database

__all__ = ["world"]

BLOCK = re.compile(
    r'<pre class="code" id="[^"]*" data-language="([^"]*)" data-use="([^"]*)" tabindex="0"><code>(.*?)</code>',
    re.DOTALL,
)
SignedIn = Callable[[User], Client]


@dataclass(frozen=True)
class Snippet:
    page: str
    language: str
    use: str
    code: str


def snippets(page: str, html: str) -> list[Snippet]:
    return [Snippet(page, language, use, unescape(code)) for language, use, code in BLOCK.findall(html)]


def shown_html(slug: str) -> str:
    document = find(slug)
    assert document is not None
    return render(document, facts()).html


# --- the pages ----------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.slug)
def test_every_page_is_there_for_everybody(document: Document, customer: User, signed_in: SignedIn, demo_model: str):
    for client in (Client(), signed_in(customer)):
        answer = client.get(reverse("document", args=[document.slug]))
        page = answer.content.decode()
        assert answer.status_code == 200
        assert f"<h1>{document.title}</h1>" in page
        assert "style=" not in page
        assert page.count("<script") == page.count("<script src=")
        assert "{{" not in page
        assert "{%" not in page
        anchors = re.findall(r'<h[23] id="([^"]+)"', page)
        assert anchors == list(dict.fromkeys(anchors))
        assert set(re.findall(r'<a href="#([^"]+)"', page)) <= set(anchors)


@pytest.mark.django_db
def test_the_first_page_is_at_docs_and_all_are_in_the_navigation(client: Client):
    page = client.get("/docs/").content.decode()
    assert "<h1>Quick start</h1>" in page
    for document in DOCUMENTS[1:]:
        assert f'href="/docs/{document.slug}/"' in page
    assert client.get("/docs/nothing/").status_code == 404
    assert client.post("/docs/").status_code == 405
    assert 'href="/docs/"' in client.get("/").content.decode()


def test_every_file_is_a_page():
    assert {file.stem for file in FOLDER.glob("*.md")} == {document.slug for document in DOCUMENTS}


@pytest.mark.django_db
def test_links_to_our_own_pages_lead_somewhere(customer: User, signed_in: SignedIn, demo_model: str):
    client = signed_in(customer)
    links = {
        link
        for document in DOCUMENTS
        for link in re.findall(r'href="([^"]+)"', render(document, facts()).html)
        if link.startswith(settings.PUBLIC_URL)
    }
    assert len(links) > 10
    for link in links:
        assert client.get(link.removeprefix(settings.PUBLIC_URL), follow=True).status_code == 200, link


@pytest.mark.django_db
def test_numbers_come_from_the_catalogue_and_the_settings(demo_model: str, settings: Settings):
    pricing = shown_html("pricing")
    assert demo_model in pricing
    assert "$1.5625" in pricing
    settings.BYOK_FEE_BASIS_POINTS = 725
    assert "7.25%" in shown_html("pricing")
    settings.KEY_LIMITS = type(settings.KEY_LIMITS)(requests=1234)
    assert "1,234" in shown_html("limits")
    settings.USAGE_RETENTION_DAYS = 77
    assert "77 days" in shown_html("privacy")


@pytest.mark.django_db
def test_what_a_fact_holds_is_text(demo_model: str):
    told = facts() | {"model": "<b>bold</b>", "small_model": "`x`"}
    for document in DOCUMENTS:
        assert "<b>bold" not in render(document, told).html


@pytest.mark.django_db
def test_every_error_of_the_gateway_is_listed():
    page = (FOLDER / "errors.md").read_text()
    listed = set(re.findall(r"^\| (\d{3}) \| `([a-z_]+)`", page, re.MULTILINE))
    ours = [
        InvalidKey(""),
        AccountsUnavailable(""),
        InvalidRequest(""),
        RequestTooLarge(""),
        RuntimeError(),
    ]
    met = {(str(error.status), error.type) for error in map(as_gateway_error, ours)}
    met |= {(str(meaning.status), meaning.type) for meaning in MEANINGS.values()}
    met.add(("402", as_gateway_error(InsufficientCredits(needed=2, available=1)).type))
    assert met <= listed


# --- what they say to type ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def shown(world: World) -> list[Snippet]:
    """Of the pages as a running CCM shows them."""
    world.make_default("anthropic")
    world.anthropic.clear()
    world.anthropic.brain = saying("Welcome.")
    found = []
    for document in DOCUMENTS:
        page = httpx.get(f"{world.ccm.url}/docs/{document.slug}/", trust_env=False, timeout=60)
        assert page.status_code == 200
        found += snippets(document.slug, page.text)
    return found


@pytest.fixture(scope="module")
def key(world: World) -> Iterator[str]:
    (_, made), *_ = world.ccm.create_customers(1)
    kept = os.environ.get("CCM_API_KEY")
    os.environ["CCM_API_KEY"] = made
    yield made
    del os.environ["CCM_API_KEY"]
    if kept is not None:
        os.environ["CCM_API_KEY"] = kept


def test_every_snippet_says_what_is_done_with_it(shown: list[Snippet]):
    assert len(shown) > 15
    uses = {(each.language, each.use.split(" ")[0]) for each in shown}
    assert uses <= {
        ("sh", "run"), ("sh", "settings"), ("sh", "shown"), ("sh", "fails"), ("python", "run"), ("json", "settings"),
        ("json", "shown"), ("toml", "settings"), ("text", "shown"),
    }  # fmt: skip


def test_the_commands_work(world: World, shown: list[Snippet], key: str):
    """In the order of the pages, in one shell that stops at the first error."""
    commands = [each for each in shown if (each.language, each.use) == ("sh", "run")]
    assert len(commands) >= 8
    for each in commands:
        done = in_shell(each.code, key)
        assert done.returncode == 0, (each.page, each.code, done.stdout, done.stderr)
        for answer in json_in(done.stdout):
            assert answer.get("type") != "error", (each.page, answer)


def test_the_failing_command_fails_as_the_page_says(world: World, shown: list[Snippet], key: str):
    failing = [each for each in shown if each.use.startswith("fails ")]
    assert failing
    for each in failing:
        _, status, kind = each.use.split(" ")
        done = in_shell(each.code, key)
        assert status in done.stderr  # curl names it
        assert json.loads(done.stdout)["error"]["type"] == kind


def test_the_programs_work(
    world: World, shown: list[Snippet], key: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    programs = [each for each in shown if each.language == "python"]
    assert len(programs) == 2
    for each in programs:
        names: dict[str, Any] = {"__name__": "__main__"}
        exec(compile(each.code, each.page, "exec"), names)
        names["client"].close()
        assert capsys.readouterr().out.count("Welcome.") == 2


def test_settings_are_those_that_the_connect_page_makes(world: World, shown: list[Snippet]):
    [shell] = [each.code for each in shown if (each.language, each.use) == ("sh", "settings")]
    [as_json] = [each.code for each in shown if (each.language, each.use) == ("json", "settings")]
    variables = json.loads(as_json)["env"]
    assert variables["ANTHROPIC_BASE_URL"] == world.ccm.url
    ours = connect_snippet("http://x", None, models_of(variables))
    assert variables == {**ours.variables, "ANTHROPIC_BASE_URL": world.ccm.url}
    read = subprocess.run(["bash", "-c", f"{shell}\nenv -0"], env={"PATH": "/usr/bin:/bin"}, capture_output=True)
    exported = dict(entry.split("=", 1) for entry in read.stdout.decode().split("\0") if entry)
    assert variables.items() <= exported.items()


def test_codex_is_pointed_at_this_server(world: World, shown: list[Snippet]):
    [written] = [tomllib.loads(each.code) for each in shown if each.language == "toml"]
    provider = written["model_providers"][written["model_provider"]]
    assert provider["base_url"] == f"{world.ccm.url}/v1"
    assert provider["wire_api"] == "responses"


def models_of(variables: dict[str, str]) -> ConnectModels:
    opus, sonnet, haiku = (variables.get(f"ANTHROPIC_DEFAULT_{tier}_MODEL", "") for tier in ("OPUS", "SONNET", "HAIKU"))
    window = variables.get("CLAUDE_CODE_MAX_CONTEXT_TOKENS")
    return ConnectModels(opus, sonnet, haiku, context_window=int(window) if window else None)


def in_shell(code: str, key: str) -> "subprocess.CompletedProcess[str]":
    """A refusal fails, and no proxy is asked."""
    fail = "curl() { command curl --fail-with-body --show-error --noproxy '*' --max-time 60 \"$@\"; }"
    script = f"set -eo pipefail\n{fail}\n{code}"
    environment = {"PATH": os.environ["PATH"], "CCM_API_KEY": key}
    return subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, timeout=120)


def json_in(text: str) -> Iterator[dict[str, object]]:
    """The JSON documents that stand one after the other in `text`."""
    decoder, place = json.JSONDecoder(), 0
    while place < len(text.rstrip()):
        found, place = decoder.raw_decode(text, place)
        yield found
        while place < len(text) and text[place].isspace():
            place += 1
