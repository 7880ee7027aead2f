"""Catalogues, requests and decisions for the tests of routing."""

from typing import Any

import msgspec

from gateway.routing import Decision, merge_profiles, route
from providers.types import Catalogue, Model, Price, Profile, Target, Timeouts
from providers.wire.request import MessagesRequest

PRICE = Price(input=1, output=1, cache_read=1, cache_write=1, cache_write_1h=1)
ROUTES = Profile(
    default="the-default",
    think="the-thinker",
    background="the-cheap",
    websearch="the-searcher",
    image="the-seer",
    long_context="the-long",
    safety="the-guard",
)
ROUTE_MODELS = ("the-default", "the-thinker", "the-cheap", "the-searcher", "the-seer", "the-long", "the-guard")
ALL_ROUTES = merge_profiles(ROUTES)


def target(provider: str, actual_model: str) -> Target:
    return Target(
        mapping_id=1,
        provider_id=1,
        provider=provider,
        kind="demo",
        wire="anthropic",
        base_url="http://127.0.0.1:9",
        actual_model=actual_model,
        priority=1,
        weight=1,
        cost=PRICE,
        timeouts=Timeouts(),
    )


def model(name: str, *targets: Target, window: int | None = None, created_at: str = "2026-01-01T00:00:00Z") -> Model:
    return Model(
        id=1,
        name=name,
        display_name=name,
        description="",
        context_window=window,
        max_output=None,
        vision=True,
        tools=True,
        thinking=True,
        price=PRICE,
        targets=targets or (target("demo", name),),
        created_at=created_at,
    )


def catalogue(*models: Model | str) -> Catalogue:
    known = [entry if isinstance(entry, Model) else model(entry) for entry in models]
    return Catalogue(models={entry.name: entry for entry in known})


def provided(*pairs: str) -> Catalogue:
    """A catalogue of `provider,model` pairs; a model that several providers serve has their targets."""
    targets: dict[str, list[Target]] = {}
    for pair in pairs:
        provider, _, name = pair.partition(",")
        targets.setdefault(name, []).append(target(provider, name))
    return Catalogue(models={name: model(name, *of_model) for name, of_model in targets.items()})


def request(**fields: Any) -> MessagesRequest:
    body = {
        "model": "claude-opus-4-8",
        "max_tokens": 1000,
        "messages": [{"role": "user", "content": "hello"}],
        **fields,
    }
    return MessagesRequest.parse(msgspec.json.encode(body))


def decide(
    sent: MessagesRequest | None = None,
    *,
    headers: dict[str, str] | None = None,
    profile: Profile = ROUTES,
    known: Catalogue | None = None,
    tokens: int = 100,
    **fields: Any,
) -> Decision:
    return route(
        sent or request(**fields),
        headers=headers or {},
        profile=merge_profiles(profile),
        catalogue=known or catalogue(*ROUTE_MODELS),
        tokens=tokens,
    )
