"""The same decisions over HTTP: `POST /api/v1/route` of the real application, on a catalogue of the test's.

Django, the API and the dry run are the product's; only the key and the catalogue are given, so that a
hundred cases need no database.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import httpx
import msgspec
import pytest

from accounts import keys
from accounts.types import Principal
from gateway.resilience import Resilience
from gateway.routing import UnknownModel, merge_profiles
from providers import tokens as counting
from providers.types import Catalogue, Profile
from providers.wire.request import MessagesRequest
from tests.gateway.routing_cases import ROUTE_MODELS, ROUTES, catalogue, request

PRINCIPAL = Principal(api_key_id=1, api_key_name="test", organization_id=1, organization_name="test")
KEY = keys.PREFIX + "k" * keys.LENGTH


@dataclass(frozen=True, slots=True)
class Told:
    """An answer of the dry run, as `Decision` has it."""

    answer: dict[str, Any]

    @property
    def route(self) -> str:
        return str(self.answer["route"])

    @property
    def model(self) -> SimpleNamespace:
        return SimpleNamespace(name=self.answer["model"])

    @property
    def provider(self) -> str | None:
        provider: str | None = self.answer["provider"]
        return provider

    @property
    def session_id(self) -> str:
        return str(self.answer["session_id"])

    @property
    def warnings(self) -> list[str]:
        return list(self.answer["warnings"])

    @property
    def request(self) -> SimpleNamespace:
        return SimpleNamespace(value=self.answer["request"].get)


def deciding_over_http(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Told]:
    """A `decide` that asks the API."""
    from ccm_site.asgi import Application

    application: Any = Application()
    application.gateway = application.health = object()

    def decide(
        sent: MessagesRequest | None = None,
        *,
        headers: dict[str, str] | None = None,
        profile: Profile = ROUTES,
        known: Catalogue | None = None,
        tokens: int = 100,
        **fields: Any,
    ) -> Told:
        sent = sent or request(**fields)
        known = replace(known or catalogue(*ROUTE_MODELS), platform_profile=_scaled(profile, sent, tokens))
        answer = asyncio.run(_ask(monkeypatch, application, known, sent, headers or {}))
        content = answer.json()
        if answer.status_code == 400 and content["error"]["metadata"].get("code") == "unknown_model":
            raise UnknownModel(sent.model)
        assert answer.status_code == 200, answer.text
        return Told(content)

    return decide


def _scaled(profile: Profile, sent: MessagesRequest, tokens: int) -> Profile:
    """The case says how many tokens the request has; the API counts them itself. So the threshold
    is as far from what it counts as the case's threshold is from the case's number."""
    merged = merge_profiles(profile)
    counts = (counting.count(sent).total, counting.estimate(sent, len(sent.encode())))
    threshold = merged.long_context_threshold or 0
    if tokens > threshold:
        return msgspec.structs.replace(merged, long_context_threshold=min(counts) - 1)
    return msgspec.structs.replace(merged, long_context_threshold=max(counts) + threshold - tokens)


async def _ask(
    monkeypatch: pytest.MonkeyPatch, application: Any, known: Catalogue, sent: MessagesRequest, headers: dict[str, str]
) -> httpx.Response:
    async def look_up(_digest: str) -> Principal:
        return PRINCIPAL

    runtime = SimpleNamespace(
        keys=keys.KeyCache(look_up),
        catalogue=SimpleNamespace(current=known),
        search=object(),  # a search engine, as far as routing cares
        resilience=Resilience(processes=1),
    )
    monkeypatch.setattr("gateway.runtime._running", runtime)
    told = {"authorization": f"Bearer {KEY}", "content-type": "application/json", **headers}
    transport = httpx.ASGITransport(app=application)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        return await client.post("/api/v1/route", content=sent.encode(), headers=told)
