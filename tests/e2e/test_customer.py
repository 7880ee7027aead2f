"""A customer's whole way, from the first page to the cent: sign up, verify, key, pay, connect, see what it cost."""

import os
import re
import subprocess
import time
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.e2e.product import Installation

PASSWORD = "marzipan on a wet tuesday"
CODE = re.compile(r"Subject: (\S+) is your code for CCM")
WAIT_MS = 60_000


def mailed_code(installation: Installation, email: str) -> str:
    """The code in the mail to `email`."""
    deadline = time.monotonic() + WAIT_MS / 1000
    while time.monotonic() < deadline:
        mails = installation.mails.split("Subject: ")[1:]
        for mail in mails:
            if f"To: {email}" in mail and (found := CODE.match(f"Subject: {mail}")):
                return found[1]
        time.sleep(0.2)
    raise AssertionError(f"no mail to {email}")


def ask(client: Path, snippet: str, home: Path) -> str:
    """What Claude Code answers in a shell where the snippet was pasted."""
    done = subprocess.run(
        ["bash", "-c", f"{snippet}\nexec {client} -p 'Say hello.'"],
        env={"HOME": str(home), "PATH": os.environ["PATH"], "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"},
        cwd=home, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=180,
    )  # fmt: skip
    assert done.returncode == 0, done
    return done.stdout


def test_from_signing_up_to_the_cost_of_the_first_request(
    installation: Installation, page: Page, client: Path, tmp_path: Path
) -> None:
    page.set_default_timeout(WAIT_MS)
    expect.set_options(timeout=WAIT_MS)
    email = f"marie-{tmp_path.name}@example.com"

    page.goto("/")
    page.get_by_role("link", name=re.compile("sign up|get started|create", re.IGNORECASE)).first.click()
    page.locator("input[name=email]").fill(email)
    page.locator("input[name=password1]").fill(PASSWORD)
    page.get_by_role("button", name=re.compile("sign up", re.IGNORECASE)).click()
    page.locator("input[name=code]").fill(mailed_code(installation, email))
    page.get_by_role("button", name=re.compile("confirm|verify", re.IGNORECASE)).first.click()

    page.goto("/keys/")
    page.get_by_label("Name", exact=True).fill("laptop")
    page.get_by_role("button", name="Create key").click()
    snippet = page.locator("#snippet-shell").inner_text()
    assert "sk-ccm-" in snippet

    page.goto("/billing/")
    page.get_by_role("link", name=re.compile(r"^\$25\.00")).click()
    page.get_by_role("button", name=re.compile("^Pay ")).click()
    page.wait_for_url(re.compile("/pay/"))
    page.get_by_label("Test card").select_option("4242424242424242")
    page.get_by_role("button", name=re.compile("^Pay ")).click()
    expect(page.get_by_text("$25.00 of credits are yours.")).to_be_visible()

    page.goto("/connect/")
    waits = page.get_by_text("Waiting for your first request")
    expect(waits).to_be_visible()
    assert ask(client, snippet, tmp_path).strip()
    expect(page.get_by_text("Connected.")).to_be_visible()
    page.get_by_role("link", name="See it").click()
    cost = page.locator("body").inner_text()
    assert re.search(r"\$0\.\d+", cost), cost

    page.goto("/usage/requests/")
    expect(page.locator("table tbody tr").first).to_contain_text("demo")
    page.goto("/")
    balance = page.locator("dl.figures .main dd").first.inner_text()
    assert 20 < float(balance.strip().lstrip("$").replace(",", "")) <= 30, balance
