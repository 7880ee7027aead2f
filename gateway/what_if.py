"""What recorded usage would have cost under another profile of the organisation's.

The rules choose anew for each group of requests that are alike, from the signals that were recorded with
them; the model that they choose is priced as it was at that time; tokens stay as they were. Nothing
is read request by request.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

import msgspec

from credits.explanations import by_why
from credits.money import ceil_div
from credits.rating import MILLION
from credits.types import MeterReading, PriceSnapshot, PriceTier
from credits.usage.groups import UsageGroup, usage_groups
from gateway.metering import price_snapshot
from gateway.routing import NoModels, Signals, UnknownModel, choose, find_model, merge
from gateway.routing.checks import ROUTES
from providers.catalogue import build
from providers.selectors import price_changes
from providers.types import Catalogue, Model, Profile

MOST_DAYS = 400
MOST_SLICES = 200

ASSUMED = "recorded before routes were explained: only the route that was taken is known, not what else asked for one"
NOT_LOOKED = "there was no think route, so nobody looked whether the client was in plan mode: taken not to be"
GONE = "the model that was asked for is not available any more: left as it was"
NO_PRICE = "the model that would have served had no price at the time: left as it was"
COARSE = "prices changed too often to follow each change: the price at the beginning of the period is used"
TOKENS = "another model may count, cache and write differently: its tokens are taken to be the same"


@dataclass(frozen=True, slots=True)
class Change:
    """Requests that took one route and would have taken another; nanos."""

    route: str
    model: str
    would_route: str
    would_model: str
    requests: int
    charged: int
    would: int


@dataclass(frozen=True, slots=True)
class Unknown:
    what: str
    requests: int


@dataclass(frozen=True, slots=True)
class WhatIf:
    """Nanos. What is `unknown` is counted as `changes` have it, with the assumption that it names."""

    since: datetime
    until: datetime
    requests: int
    charged: int
    would: int
    changes: tuple[Change, ...]
    """By what they save, the most first; those that stay the same too."""
    unknown: tuple[Unknown, ...]

    @staticmethod
    def usd(nanos: int) -> Decimal:
        return Decimal(nanos).scaleb(-9)


@dataclass(frozen=True, slots=True)
class _Outcome:
    route: str
    model: Model | None
    """None: as it was."""
    unknown: str = ""


def what_if(organization_id: int, profile: Profile, catalogue: Catalogue, since: datetime, until: datetime) -> WhatIf:
    """`profile` stands in for the organisation's; the keys' own and the platform's stay as `catalogue` has them."""
    pricing = _Pricing(organization_id, profile, catalogue)
    coarse = pricing.read(since, until)
    changes = tuple(sorted(pricing.changes(), key=lambda each: (each.would - each.charged, each.model, each.route)))
    unknown = [Unknown(what, number) for what, number in pricing.unknown.items()]
    requests = sum(each.requests for each in changes)
    if coarse:
        unknown.append(Unknown(COARSE, requests))
    moved = sum(each.requests for each in changes if each.model != each.would_model)
    if moved:
        unknown.append(Unknown(TOKENS, moved))
    return WhatIf(
        since=since,
        until=until,
        requests=requests,
        charged=sum(each.charged for each in changes),
        would=sum(each.would for each in changes),
        changes=changes,
        unknown=tuple(unknown),
    )


class _Pricing:
    def __init__(self, organization_id: int, profile: Profile, catalogue: Catalogue) -> None:
        self._organization_id = organization_id
        self._profile = profile
        self._catalogue = catalogue
        self._signals: dict[str, Signals] = {}
        self._sums: dict[tuple[str, str, str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
        self._edges = _edges(catalogue, merge(None, profile, catalogue.platform_profile).profile)
        self.unknown: dict[str, int] = defaultdict(int)

    def changes(self) -> Iterable[Change]:
        return (Change(*key, *sums) for key, sums in self._sums.items())

    def read(self, since: datetime, until: datetime) -> bool:
        """Whether there were too many price changes to follow each."""
        moments = sorted(set(price_changes(self._named(), since, until)))
        is_coarse = len(moments) > MOST_SLICES
        times = [since] if is_coarse else [since, *moments]
        for begin, end in zip(times, [*times[1:], until], strict=True):
            self._add(self._groups(begin, end), build(begin).models)
        return is_coarse

    def _named(self) -> set[str]:
        """The models that the profiles name: only to these does a request move that was served by another,
        but for a name that stands for nothing any more and takes the newest model of its kind."""
        profiles = (self._profile, self._catalogue.platform_profile, *self._catalogue.key_profiles.values())
        names = (getattr(profile, route) for profile in profiles for route in ROUTES)
        found = (find_model(self._catalogue, name) for name in names if name)
        return {each.model.name for each in found if each is not None}

    def _groups(self, since: datetime, until: datetime) -> Sequence[UsageGroup]:
        groups = usage_groups(
            self._organization_id, since, until, edges=self._edges, keys_apart=self._catalogue.key_profiles.keys()
        )
        new = {group.ref for group in groups if group.ref} - self._signals.keys()
        for ref, explanation in by_why(new).items():
            self._signals[ref] = msgspec.convert(explanation.get("signals", {}), Signals)
        return groups

    def _add(self, groups: Iterable[UsageGroup], then: Mapping[str, Model]) -> None:
        for group in groups:
            outcome = self._decide(group)
            would_route, would_model, would = group.route, group.model, group.charge
            unknown = outcome.unknown
            if outcome.model is not None:
                would_route, would_model = outcome.route, outcome.model.name
                if would_model != group.model:
                    known = then.get(would_model)
                    if known is None or known.price is None:
                        would_route, would_model, unknown = group.route, group.model, NO_PRICE
                    else:
                        would = self._price(group, price_snapshot(known.price))
            if unknown:
                self.unknown[unknown] += group.requests
            sums = self._sums[group.route, group.model, would_route, would_model]
            for place, number in enumerate((group.requests, group.charge, would)):
                sums[place] += number

    def _decide(self, group: UsageGroup) -> _Outcome:
        signals = self._signals.get(group.ref)
        assumed = "" if signals else ASSUMED
        if signals is None:
            signals = _assumed(group)
        elif group.route == "safety" and not signals.classifier:
            # CCM's own check of a tool call, which is no request of the client's.
            signals = msgspec.structs.replace(signals, classifier=True)
        own = self._catalogue.key_profiles.get(group.api_key_id)
        profile = merge(own, self._profile, self._catalogue.platform_profile).profile
        try:
            choice = choose(
                signals,
                asked=group.requested_model,
                tokens=self._representative(group.bucket),
                profile=profile,
                catalogue=self._catalogue,
            )
        except (UnknownModel, NoModels):
            return _Outcome(group.route, None, GONE)
        if signals.plan_mode is None and profile.think and choice.route in {"background", "default", "explicit"}:
            assumed = NOT_LOOKED
        return _Outcome(choice.route, choice.found.model, assumed)

    def _representative(self, bucket: int) -> int:
        """A number of input tokens for which every rule says what it says for the whole bucket."""
        return self._edges[bucket - 1] + 1 if bucket else min(1, self._edges[0]) if self._edges else 1

    def _price(self, group: UsageGroup, price: PriceSnapshot) -> int:
        """To within a nano a request: the sum is rounded up once, not each request."""
        rates: PriceSnapshot | PriceTier = price
        for tier in price.tiers:
            if self._representative(group.bucket) > tier.above:
                rates = tier
        tokens: MeterReading = group.tokens
        millionths = (
            tokens.input * rates.input
            + tokens.cache_read * rates.cache_read
            + tokens.cache_write * rates.cache_write
            + tokens.cache_write_1h * rates.cache_write_1h
            + tokens.output * rates.output
            + tokens.web_searches * price.web_search * MILLION
        )
        return ceil_div(millionths, MILLION)


def _edges(catalogue: Catalogue, profile: Profile) -> list[int]:
    """The numbers of input tokens at which a rule or a price turns."""
    edges = {profile.long_context_threshold or 0}
    edges |= {each.long_context_threshold for each in catalogue.key_profiles.values() if each.long_context_threshold}
    for model in catalogue.models.values():
        if model.context_window:
            edges.add(model.context_window)
        if model.price is not None:
            edges |= {tier.above for tier in model.price.tiers}
    return sorted(edges)


def _assumed(group: UsageGroup) -> Signals:
    """What must have been, for the request to take its route; and no more."""
    match group.route:
        case "websearch":
            return Signals(web_search=True)
        case "subagent":
            return Signals(subagent=True)
        case "image":
            return Signals(image=True)
        case "think":
            return Signals(thinking="enabled")
        case "background":
            return Signals(helper="background")
        case "safety":
            return Signals(classifier=True)
        case _:
            return Signals()
