"""Every page that visitors and customers see, in a browser, in light, in dark and on a phone: axe finds nothing, the
console is silent, nothing is asked of another host, no page is wider than the screen, and no policy allows inline code.

A page of another kind needs a line in VISITORS or CUSTOMERS. `first:` is the page behind the first link of a table.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, Response, expect, sync_playwright

from adminui.documents import DOCUMENTS
from tests.e2e.shots import FLAGS, LOOKS, demo, sign_in, visit
from tests.processes import Ccm

VISITORS = ["/", "/models/", "/account/login/", "/account/signup/", "/account/password/reset/", "/nothing/"]
VISITORS += [f"/docs/{document.slug}/" for document in DOCUMENTS]
CUSTOMERS = [
    "/", "/keys/", "first:/keys/", "/models/", "/routing/", "/routing/savings/", "/provider-keys/", "/connect/",
    "/usage/", "/usage/requests/", "first:/usage/requests/", "/usage/sessions/", "first:/usage/sessions/",
    "/billing/", "/docs/", "/organization/", "/organization/close/", "/organization/log/",
    "/organizations/new/", "/account/email/", "/account/password/change/",
    "/account/2fa/", "/account/sessions/",
]  # fmt: skip
EXPECTED = {"/nothing/": 404}
Demo = tuple[Ccm, dict[str, dict[str, str]]]


@dataclass
class Watched:
    """A page, and what was wrong with what it showed."""

    page: Page
    origin: str
    at: str = ""
    troubles: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.tell(f"error: {error}"))
        self.page.on("request", self._asked)
        self.page.on("response", self._answered)

    def tell(self, text: str) -> None:
        self.troubles.append(f"{self.at}: {text}")

    def _said(self, message: ConsoleMessage) -> None:
        expected = EXPECTED.get(self.at) and "404" in message.text
        if message.type in {"error", "warning"} and not expected:
            self.tell(f"console: {message.text}")

    def _asked(self, request: Request) -> None:
        if not request.url.startswith((self.origin, "data:")):
            self.tell(f"asks another host: {request.url}")

    def _answered(self, response: Response) -> None:
        if response.request.resource_type != "document":
            return
        policy = response.headers.get("content-security-policy", "")
        if "default-src 'none'" not in policy or "unsafe" in policy:
            self.tell(f"policy: {policy!r}")

    def look(self, path: str) -> None:
        self.at = path
        status = visit(self.page, path)
        if status != EXPECTED.get(path, 200):
            self.tell(f"status {status}")
        self.examine()

    def examine(self) -> None:
        self.page.wait_for_load_state("networkidle")
        for violation in Axe().run(self.page).response["violations"]:
            places = [node["html"][:150] for node in violation["nodes"][:3]]
            self.tell(f"axe: {violation['id']}: {violation['help']}: {places}")
        wide = self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        if wide > 0:
            self.tell(f"too wide by {wide} px")


@pytest.fixture(scope="module")
def running_demo() -> Iterator[Demo]:
    with demo() as made:
        yield made


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(params=list(LOOKS))
def watched(request: pytest.FixtureRequest, browser: Browser, running_demo: Demo) -> Iterator[Watched]:
    ccm, _ = running_demo
    look: Any = LOOKS[request.param]
    context = browser.new_context(base_url=ccm.url, reduced_motion="reduce", **look)
    context.set_default_timeout(60_000)
    yield Watched(context.new_page(), ccm.url)
    context.close()


def test_what_visitors_see(watched: Watched) -> None:
    for path in VISITORS:
        watched.look(path)
    assert not watched.troubles, "\n".join(watched.troubles)


def test_what_customers_see(watched: Watched, running_demo: Demo) -> None:
    who = running_demo[1]["customer"]
    sign_in(watched.page, who["email"], who["password"])
    for path in CUSTOMERS:
        watched.look(path)
    assert not watched.troubles, "\n".join(watched.troubles)


def test_what_customers_do(watched: Watched, running_demo: Demo) -> None:
    """The pages that come after a form."""
    who, page = running_demo[1]["customer"], watched.page
    sign_in(page, who["email"], who["password"])
    watched.at = "a new key"
    page.goto("/keys/")
    page.get_by_label("Name", exact=True).fill("robot")
    page.get_by_text("Budget, limits, models").click()
    page.get_by_label("Per day ($)").fill("2.50")
    page.get_by_role("button", name="Create key").click()
    expect(page.get_by_text("Copy it now")).to_be_visible()
    watched.examine()
    watched.at = "a key that cannot be"
    page.goto("/keys/")
    page.get_by_label("Name", exact=True).fill("robot")
    page.get_by_text("Budget, limits, models").click()
    page.get_by_label("Per day ($)").fill("much")
    watched.page.remove_listener("console", watched._said)  # a 400 is said there
    page.get_by_role("button", name="Create key").click()
    expect(page.get_by_text("is not an amount")).to_be_visible()
    watched.examine()
    watched.page.on("console", watched._said)
    watched.at = "a dry run"
    page.goto("/routing/")
    page.get_by_label("Thinking is on").check()
    page.get_by_role("button", name="Try", exact=True).click()
    expect(page.get_by_text("It would take the route")).to_contain_text("think")
    watched.examine()
    watched.at = "a change of routes"
    page.get_by_label("Subagent", exact=True).select_option("demo-haiku")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("The routes are saved")).to_be_visible()
    page.get_by_label("Subagent", exact=True).select_option("")
    page.get_by_role("button", name="What would it have cost?").click()
    expect(page.get_by_text("Nothing is saved yet")).to_be_visible()
    watched.examine()
    page.get_by_role("button", name="Save", exact=True).click()
    assert not watched.troubles, "\n".join(watched.troubles)
