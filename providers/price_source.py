"""The price source: what the package genai-prices says that providers charge.

Only the data that the package brings along is read; its updates over the network stay off. It is
imported when it is needed, since it takes a second and some 35 MB.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_CEILING, Decimal
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Protocol

from providers import prices
from providers.kinds import KINDS
from providers.models import Provider
from providers.types import Price

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice
    from genai_prices.types import Provider as SourceProvider

PACKAGE = "genai-prices"
NANO = Decimal("1e-9")
SEARCH = Decimal("1e-6")
LARGEST = Decimal(10**5)
# Fees that no class of ours stands for: what they are left out of would be sold under cost.
NOT_PRICED = ("requests_kcount", "output_reasoning_mtok", "output_citation_mtok")
SOURCE_KEYS = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cache_read": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
    "cache_write_1h": "cache_write_1h_mtok",
}
BY_KIND = {
    "anthropic": "anthropic",
    "openai": "openai",
    "openrouter": "openrouter",
    "z.ai": "zai",
    "minimax": "minimax",
    "deepseek": "deepseek",
    "moonshot": "moonshotai",
    "groq": "groq",
    "together": "together",
    "fireworks": "fireworks",
    "mistral": "mistral",
    "xai": "x-ai",
    "cerebras": "cerebras",
    "novita": "novita",
    "baseten": "baseten",
    "gemini": "google",
    "cohere": "cohere",
}
"""Kind -> the source's id of the same company. The other kinds are known by their address, if at all."""


@dataclass(frozen=True, slots=True)
class SourcePrice:
    """`name` is the source's own; `searches` tells whether it knows what a web search costs."""

    name: str
    price: Price
    searches: bool


class PriceSource(Protocol):
    @property
    def version(self) -> str: ...

    def find(self, provider: Provider, actual_model: str, now: datetime) -> SourcePrice | None:
        """What `provider` charges for its model now; None when the source does not know."""


class BundledPrices:
    """The data inside genai-prices, as of the installed version."""

    def __init__(self) -> None:
        from genai_prices.data import providers

        self._providers = providers
        self.version = f"{PACKAGE} {version(PACKAGE)}"

    def find(self, provider: Provider, actual_model: str, now: datetime) -> SourcePrice | None:
        company = self._company(provider)
        model = company.find_model(actual_model) if company else None
        if company is None or model is None:
            return None
        found = [price for moment in _moments(model, now) if (price := _price(model.get_prices(moment)))]
        if not found:
            return None
        searches = any(price.web_search for price in found)
        return SourcePrice(f"{company.id}/{model.id}", prices.dearest(found), searches)

    def _company(self, provider: Provider) -> "SourceProvider | None":
        kind = KINDS.get(provider.kind)
        url = provider.base_url or (kind.base_url if kind else "")
        wanted = BY_KIND.get(provider.kind)
        for company in self._providers:
            if company.id == wanted if wanted else url and re.match(company.api_pattern, url):
                return company
        return None


def _moments(model: "ModelInfo", now: datetime) -> Iterator[datetime]:
    """Now; and, where the price depends on the hour, the beginnings of today's other prices, so that
    the dearest of them is found."""
    yield now
    for conditional in model.prices if isinstance(model.prices, list) else ():
        for edge in ("start_time", "end_time"):
            time = getattr(conditional.constraint, edge, None)
            if time is not None:
                yield datetime.combine(now.date(), time, tzinfo=time.tzinfo or now.tzinfo)


def _price(source: "ModelPrice") -> Price | None:
    """None for what is not charged by tokens alone.

    A class that the source does not price is charged as the class that it is part of: cached tokens
    as input. An hour's cache write is twice the input where writing has a price at all."""
    if any(getattr(source, key) for key in NOT_PRICED):
        return None
    columns = {name: getattr(source, key) for name, key in SOURCE_KEYS.items()}
    starts = sorted({tier.start for value in columns.values() for tier in getattr(value, "tiers", ())})
    rates = [_rates(columns, tokens) for tokens in (0, *(start + 1 for start in starts))]
    if any(row is None for row in rates):
        return None
    base, *tiers = [row for row in rates if row is not None]
    searches = _at(source.web_searches_kcount, 0)
    return prices.price(
        **base,
        web_search=None if searches is None else searches.quantize(SEARCH, ROUND_CEILING),
        tiers=[
            {"above": start, **{name: prices.plain(value) for name, value in tier.items()}}
            for start, tier in zip(starts, tiers, strict=True)
        ],
    )


def _rates(columns: dict[str, Any], tokens: int) -> dict[str, Decimal] | None:
    told = {name: _at(value, tokens) for name, value in columns.items()}
    paid, output, cache_write = told["input"], told["output"], told["cache_write"]
    if paid is None or output is None:
        return None
    rates = {
        "input": paid,
        "output": output,
        "cache_read": _or(told["cache_read"], paid),
        "cache_write": _or(cache_write, paid),
        "cache_write_1h": _or(told["cache_write_1h"], paid if cache_write is None else 2 * paid),
    }
    if any(not 0 <= rate < LARGEST for rate in rates.values()):
        return None
    return {name: rate.quantize(NANO, ROUND_CEILING) for name, rate in rates.items()}


def _at(value: Any, tokens: int) -> Decimal | None:
    """The source's price of one class for a request with so many input tokens."""
    if value is None or isinstance(value, Decimal):
        return value
    price: Decimal = value.base
    for tier in value.tiers:
        if tokens > tier.start:
            price = tier.price
    return price


def _or(value: Decimal | None, otherwise: Decimal) -> Decimal:
    return otherwise if value is None else value
