"""The demo sells credits: a customer buys on the page that plays Stripe, and webhooks tell the product of it."""

import json
import os
import re
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import httpx
import pytest

from ccm_site.supervisor.installation import plays_stripe
from ccm_site.supervisor.processes import free_port
from tests.setup.test_make_run import PATIENCE, environment_for, running

T = TypeVar("T")


def awaited(what: Callable[[], T | None], why: str) -> T:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found = what()
        if found:
            return found
        time.sleep(0.1)
    pytest.fail(why)


def token(page: str) -> str:
    found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
    assert found, page
    return found[1]


def signed_in(url: str, who: dict[str, str]) -> httpx.Client:
    browser = httpx.Client(base_url=url, follow_redirects=True, trust_env=False, timeout=60, headers={"referer": url})
    page = browser.get("/account/login/").text
    form = {"login": who["email"], "password": who["password"], "csrfmiddlewaretoken": token(page)}
    assert browser.post("/account/login/", data=form).status_code == 200
    return browser


def handled(data_dir: Path) -> int:
    with closing(sqlite3.connect(data_dir / "ccm.sqlite3")) as database:
        sql = "SELECT COUNT(*) FROM credits_stripeevent WHERE source = 'webhook' AND handled_at IS NOT NULL"
        return int(database.execute(sql).fetchone()[0])


@pytest.mark.skipif(
    "DATABASE_URL" in os.environ or sys.platform != "linux", reason="runs once, on the embedded services (Linux)"
)
def test_a_customer_of_the_demo_buys_credits_with_a_test_card(project: Path, tmp_path: Path) -> None:
    data_dir, port = tmp_path / "data", free_port()
    with running(project, environment_for(data_dir, port)) as supervisor:
        supervisor.wait_for("CCM is ready at")
        who = json.loads((data_dir / "demo.json").read_text())["customer"]
        with closing(signed_in(f"http://127.0.0.1:{port}", who)) as browser:
            review = browser.get("/billing/buy/", params={"amount": "25"}).text
            key = re.search(r'name="key" value="([0-9a-f]+)"', review)
            assert key
            form = {"amount": "25", "key": key[1], "csrfmiddlewaretoken": token(review)}
            waiting = browser.post("/billing/buy/", data=form)
            assert "Opening the payment page" in waiting.text
            status = waiting.url.path + "status/"

            def to_stripe() -> str | None:
                return str(browser.get(f"{status}?pay=1").headers.get("HX-Redirect", ""))

            pay = awaited(to_stripe, "the worker made no payment page")
            assert f":{port}/" not in pay, "on a port of its own"
            assert "Pay $26.25" in browser.get(pay).text
            declined = browser.post(pay, data={"number": "4000000000000002"})
            assert "Your card was declined." in declined.text
            back = browser.post(pay, data={"number": "4242424242424242"})
            assert back.url.path == waiting.url.path
            awaited(lambda: "$25.00 of credits are yours" in browser.get(status).text, "the credits did not arrive")
            awaited(lambda: handled(data_dir) >= 3, "no webhook was handled")
            assert "Visa ending in 4242" in browser.get("/billing/").text
        assert supervisor.stop() == 0


def test_the_stand_in_is_never_beside_a_real_account_nor_outside_the_demo() -> None:
    assert plays_stripe({"CCM_DEMO": "1"})
    assert not plays_stripe({"CCM_DEMO": "1", "STRIPE_SECRET_KEY": "sk_live_x"})
    assert not plays_stripe({"CCM_DEMO": "1", "STRIPE_SECRET_KEY_FILE": "/run/secrets/x"})
    assert not plays_stripe({"CCM_DEMO": "0"})
    assert not plays_stripe({})
