"""`make run` on a fresh machine: its own lines make Claude Code answer, its log-ins open its pages."""

import os
import subprocess
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.e2e.product import Installation


def test_the_pasted_lines_make_claude_code_answer(installation: Installation, client: Path, tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "claude").symlink_to(client)
    done = subprocess.run(
        ["bash", "-c", "\n".join(installation.lines)],
        env={"HOME": str(tmp_path), "PATH": f"{programs}:{os.environ['PATH']}"},
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done
    assert done.stdout.strip()
    assert "API Error" not in done.stdout


def test_a_customer_signs_in_and_makes_a_key_that_works(installation: Installation, page: Page) -> None:
    email, password = installation.log_in("customer")
    page.goto("/")
    page.goto("/sign-in/")
    page.locator("input[name=login]").fill(email)
    page.locator("input[name=password]").fill(password)
    page.get_by_role("button", name="Sign In", exact=True).click()
    page.goto("/keys/")
    expect(page.get_by_role("heading", name="API keys")).to_be_visible()
    page.get_by_label("Name").fill("from the browser")
    page.get_by_role("button", name="Create key").click()
    expect(page.get_by_text("sk-ccm-").first).to_be_visible()
    page.goto("/keys/")
    expect(page.get_by_role("cell", name="from the browser")).to_be_visible()


def test_an_operator_sees_the_catalogue_and_the_usage(installation: Installation, page: Page) -> None:
    email, password = installation.log_in("operator")
    page.goto("/admin/")
    page.locator("input[name=login]").fill(email)
    page.locator("input[name=password]").fill(password)
    page.get_by_role("button", name="Sign In", exact=True).click()
    page.wait_for_load_state()
    for path in ("providers/provider/", "providers/model/", "credits/wallet/", "credits/usagerecord/"):
        response = page.goto(f"/admin/{path}")
        assert response is not None
        assert response.status == 200
    page.goto("/admin/providers/provider/")
    expect(page.get_by_role("link", name="demo").first).to_be_visible()
