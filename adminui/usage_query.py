"""What a usage page is asked for by its address: a time, what to add up by, and filters."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlencode

from django.http import Http404, QueryDict

from credits.usage.requests import RequestFilters
from credits.usage.selectors import By
from credits.usage.types import Filters, Span

SPANS = {"24h": "24 hours", "7d": "7 days", "30d": "30 days", "90d": "90 days", "month": "This month"}
DAYS = {"7d": 7, "30d": 30, "90d": 90}
GROUPS = {
    "model": "Model", "route": "Route", "provider": "Provider", "key": "API key", "member": "Member",
}  # fmt: skip
BY = {"model": By.MODEL, "route": By.ROUTE, "provider": By.PROVIDER, "key": By.API_KEY, "member": By.API_KEY}
FILTERS = ("model", "route", "provider", "key", "session", "agent")


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """`values` are the address's own words, of FILTERS, `errors` among them when it is set."""

    span: Span
    span_name: str
    group: str
    values: dict[str, str]

    @classmethod
    def parse(cls, asked: QueryDict, now: datetime) -> "UsageQuery":
        """Raises Http404 for a time, a group or a key that there is not: addresses are made by the pages."""
        span_name, group = asked.get("span", "30d"), asked.get("by", "model")
        if span_name not in SPANS or group not in GROUPS:
            raise Http404("There is no such time or group.")
        values = {name: asked[name] for name in (*FILTERS, "errors") if asked.get(name)}
        if not values.get("key", "1").isdecimal() or any("\0" in value for value in values.values()):
            raise Http404("There is no such filter.")
        return cls(span_of(span_name, now), span_name, group, values)

    @property
    def time(self) -> By:
        """What a chart's bar stands for."""
        return By.HOUR if self.span_name == "24h" else By.DAY

    @property
    def filters(self) -> Filters:
        return Filters(self._key, *(self.values.get(name) for name in ("model", "provider", "route")))

    @property
    def request_filters(self) -> RequestFilters:
        return RequestFilters(
            self._key,
            *(self.values.get(name) for name in ("model", "provider", "route")),
            session_id=self.values.get("session"),
            agent_id=self.values.get("agent") if "session" in self.values else None,
            errors="errors" in self.values,
        )

    @property
    def _key(self) -> int | None:
        return int(self.values["key"]) if "key" in self.values else None

    def address(self, **changed: str | None) -> str:
        """The query part of the address of the same page with something else; None leaves it out."""
        asked = {"span": self.span_name, "by": self.group, **self.values, **changed}
        return "?" + urlencode({name: value for name, value in asked.items() if value})


def span_of(name: str, now: datetime) -> Span:
    if name == "24h":
        return Span(now - timedelta(hours=23), now)
    return Span.this_month(now) if name == "month" else Span.last_days(now, DAYS[name])
