"""Pictures of the pages, to be looked at: `python -m tests.e2e.shots FOLDER [/path/ ...] [--operator] [--visitor]`.

Starts a CCM of its own with the demo's data and some usage, signs in, and takes each page wide, dark and as on a
phone. Prints what a page complains of: errors in its console, and widths that do not fit.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from playwright.sync_api import Browser, Page, sync_playwright

from tests.fakes.stripe import KEY, SECRET, FakeStripe, fake_stripe
from tests.processes import Ccm

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
LOOKS = {
    "wide": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 800}, "color_scheme": "light"},
}
CUSTOMER = ["/", "/keys/", "/connect/"]
VISITOR = ["/", "/account/login/", "/account/signup/"]
SEED = """
import json, os
from pathlib import Path
from ccm_site.demo import seed
seed(Path(os.environ["CCM_DATA_DIR"]), {})
print((Path(os.environ["CCM_DATA_DIR"]) / "demo.json").read_text())
"""
PROMPTS = ("hello", "what is the time?", "a long story about money", "use the tool Bash", "count to ten")


STRIPE = {"DEMO_STRIPE_KEY": KEY, "DEMO_STRIPE_SECRET": SECRET}
BUY = """
from accounts.models import User
from credits.payments import topups
from credits.payments.models import TopUp
user = User.objects.get(email="customer@example.org")
begun = topups.start(user.personal_organization.pk, {usd} * 10**9, key="shots{usd}", by=user)
print(topups.advance(begun.pk).checkout_session)
"""
LOOK = """
from credits.payments import topups
from credits.payments.models import TopUp
for top_up in TopUp.objects.all():
    topups.look(top_up)
"""


def buy(ccm: Ccm, stripe: FakeStripe) -> None:
    """The customer has bought credits twice, once with a card that was declined first, and has begun to once more."""
    for usd, cards in ((25, ["4242424242424242"]), (50, ["4000000000000002", "4242424242424242"]), (10, [])):
        session = ccm.python(BUY.format(usd=usd)).splitlines()[-1]
        for card in cards:
            stripe.pay(session, card)
    ccm.python(LOOK)


@contextmanager
def demo() -> Iterator[tuple[Ccm, dict[str, dict[str, str]]]]:
    """A running CCM with the demo's log-ins, and some requests served."""

    with (
        fake_stripe() as stripe,
        Ccm(settings={"CCM_DEMO": "1", **STRIPE, "DEMO_STRIPE_URL": stripe.stripe.origin}) as ccm,
    ):
        known = json.loads(ccm.python(SEED))
        ccm.start()
        buy(ccm, stripe)
        for number in range(12):
            body = {
                "model": ("demo-sonnet", "demo-haiku", "demo-opus")[number % 3],
                "max_tokens": 1000,
                "messages": [{"role": "user", "content": PROMPTS[number % len(PROMPTS)]}],
            }
            headers = {"x-api-key": known["customer"]["api_key"], "x-claude-code-session-id": f"session-{number % 2}"}
            httpx.post(f"{ccm.url}/v1/messages", json=body, headers=headers, trust_env=False, timeout=30)
        yield ccm, known


def sign_in(page: Page, email: str, password: str, path: str = "/account/login/") -> None:
    page.goto(path)
    page.locator("input[name=login]").fill(email)
    page.locator("input[name=password]").fill(password)
    page.get_by_role("button", name="Sign In", exact=True).click()
    page.wait_for_load_state()


def visit(page: Page, path: str) -> int:
    """The status. `first:/path/` is the page that the first link in a table on /path/ leads to."""
    if not path.startswith("first:"):
        answer = page.goto(path)
        return answer.status if answer else 0
    page.goto(path.removeprefix("first:"))
    with page.expect_navigation() as navigation:
        page.locator("tbody a").first.click()
    return navigation.value.status


def shoot(browser: Browser, base_url: str, who: dict[str, str] | None, paths: list[str], folder: Path) -> None:
    for look, options in LOOKS.items():
        context = browser.new_context(base_url=base_url, **options)  # type: ignore[arg-type]
        page = context.new_page()
        page.on("console", lambda message: print(f"  console: {message.type}: {message.text}", file=sys.stderr))
        page.on("pageerror", lambda error: print(f"  error: {error}", file=sys.stderr))
        if who is not None:
            sign_in(page, who["email"], who["password"])
        for path in paths:
            status = visit(page, path)
            page.wait_for_load_state("networkidle")
            name = f"{path.strip('/').replace('/', '_').replace('?', '_').replace(':', '_') or 'home'}.{look}.png"
            page.screenshot(path=folder / name, full_page=True)
            wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            print(f"{status} {path} {look} -> {name}{f'  too wide by {wide} px' if wide > 0 else ''}", file=sys.stderr)
        context.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("paths", nargs="*")
    parser.add_argument("--operator", action="store_true", help="signed in as the operator")
    parser.add_argument("--visitor", action="store_true", help="not signed in")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    with demo() as (ccm, known), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        who = None if asked.visitor else known["operator" if asked.operator else "customer"]
        paths = asked.paths or (VISITOR if asked.visitor else ["/admin/"] if asked.operator else CUSTOMER)
        shoot(browser, ccm.url, who, paths, asked.folder)
        browser.close()


if __name__ == "__main__":
    main()
