"""A CCM as processes, with fake providers behind it on real sockets: what most tests of the
whole product run against."""

import re
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

import httpx

from tests.fakes.anthropic import fake_anthropic
from tests.fakes.openai import fake_openai
from tests.fakes.server import FakeProvider, gone
from tests.processes import Ccm

METRICS_TOKEN = "metrics-of-the-tests"
PRICES = {"input": 3000, "output": 15000, "cache_read": 300, "cache_write": 3750}
"""Nano-USD a token, of every model here."""

ROUTER = """
[router]
default = "{model}"
"""
PROVIDER = """
[[providers]]
name = "{name}"
kind = "{kind}"
base_url = "{url}"
api_key = "secret-of-{name}"
[[models]]
name = "{name}-model"
context_window = 1000000
max_output = 32000
tools = true
vision = true
thinking = true
input = "3"
output = "15"
cache_read = "0.3"
cache_write = "3.75"
[[models.mappings]]
provider = "{name}"
actual_model = "{name}-actual"
cost = {{ input = "1", output = "5", cache_read = "0.1", cache_write = "1.25" }}
[[models]]
name = "{name}-agent"
context_window = 1000000
max_output = 32000
tools = true
thinking = true
input = "3"
output = "15"
cache_read = "0.3"
cache_write = "3.75"
[[models.mappings]]
provider = "{name}"
actual_model = "{name}-agent-actual"
cost = {{ input = "1", output = "5", cache_read = "0.1", cache_write = "1.25" }}
"""


class World:
    """One CCM with the providers `anthropic` and `openai` (fakes) and `down` (nobody listens).

    Each has two models: `<provider>-model` and `<provider>-agent`."""

    def __init__(self, *, database_url: str = "", settings: Mapping[str, str] | None = None) -> None:
        self._database_url = database_url
        self._settings = {"CCM_METRICS_TOKEN": METRICS_TOKEN, **(settings or {})}
        self._stack = ExitStack()
        self._default = ""

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.anthropic = stack.enter_context(fake_anthropic())
            self.openai = stack.enter_context(fake_openai())
            self.ccm = stack.enter_context(Ccm(database_url=self._database_url, settings=self._settings))
            with gone(self.anthropic) as url:
                down = PROVIDER.format(name="down", kind="anthropic-compatible", url=url)
            self._providers = "".join(
                [
                    PROVIDER.format(name="anthropic", kind="anthropic-compatible", url=self.anthropic.base_url),
                    PROVIDER.format(name="openai", kind="openai-compatible", url=self.openai.base_url),
                    down,
                ]
            )
            self.make_default("anthropic")
            self.ccm.start()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def fake(self, provider: str) -> FakeProvider:
        fakes = {"anthropic": self.anthropic, "openai": self.openai}
        return fakes[provider]

    def make_default(self, provider: str) -> None:
        """Route everything that says nothing else to this provider's model; the running server has
        taken it up when this returns."""
        if self._default == provider:
            return
        model = f"{provider}-model"
        self.ccm.import_config(ROUTER.format(model=model) + self._providers)
        self._default = provider
        if self.ccm.web is not None:
            self._await_route(model)

    def _await_route(self, model: str) -> None:
        self.await_model(self.ccm.create_key("probe@example.com", usd="1", name="probe"), "claude-opus-5-5", model)

    def await_model(self, key: str, asked: str, served: str = "") -> None:
        """Wait until the running server serves `asked` with the model `served` (itself, when not given).
        A probe is answered by CCM, and names the model that its route chose."""
        body = {"model": asked, "max_tokens": 1, "messages": [{"role": "user", "content": "Hi"}]}
        deadline = time.monotonic() + 10
        while (answer := self.post(key, body)).json().get("model") != (served or asked):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{asked} is not served by {served or asked}: {answer.text}")
            time.sleep(0.05)

    def await_told(self, key: str, fields: Mapping[str, Any], wanted: Callable[[Any], bool]) -> None:
        """Wait until the running server's dry run of a request with these fields says what is wanted."""
        body = {"model": "claude-opus-5-5", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}], **fields}
        headers = {"authorization": f"Bearer {key}"}
        deadline = time.monotonic() + 10
        while True:
            url = f"{self.ccm.url}/api/v1/route"
            told = httpx.post(url, json=body, headers=headers, timeout=60, trust_env=False).json()
            if wanted(told):
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"not what is wanted: {told}")
            time.sleep(0.05)

    def post(self, key: str, body: Mapping[str, Any]) -> httpx.Response:
        headers = {"authorization": f"Bearer {key}", "anthropic-version": "2023-06-01"}
        return httpx.post(f"{self.ccm.url}/v1/messages", json=body, headers=headers, timeout=60, trust_env=False)

    def variables(self, key: str, **more: str) -> dict[str, str]:
        """What a customer exports for Claude Code."""
        return {
            "ANTHROPIC_BASE_URL": self.ccm.url,
            "ANTHROPIC_AUTH_TOKEN": key,
            "CLAUDE_CODE_GATEWAY_HINT_HEADERS": "1",
            "CLAUDE_CODE_AUTO_MODE_SERVER": "0",
            **more,
        }

    def refusals(self) -> dict[str, int]:
        """How many requests CCM has refused or failed so far, by code."""
        headers = {"authorization": f"Bearer {METRICS_TOKEN}"}
        text = httpx.get(f"{self.ccm.url}/metrics", headers=headers, timeout=30, trust_env=False).text
        found = re.findall(r'^ccm_refusals_total\{code="([^"]*)",status="[^"]*"\} ([0-9.]+)$', text, re.MULTILINE)
        return {code: int(float(number)) for code, number in found}
