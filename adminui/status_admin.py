"""The operators' page of how providers and targets have answered."""

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.formats import date_format
from unfold.admin import ModelAdmin

from credits.admin_forms import ReadOnly
from credits.models import TargetRollup
from credits.usage.target_status import Answering, Percentiles, Window
from gateway.resilience.breaker import State
from gateway.resilience.reading import troubles
from gateway.status import BreakerOf, PlatformStatus, ProviderStatus, platform_status

HEADERS = ("Target", "Breaker", "Uptime", "Attempts", "Failed", "First token", "Whole answer", "Tokens/s", "Errors")
NONE = "–"
BREAKERS = {State.CLOSED: "closed", State.OPEN: "open", State.HALF_OPEN: "half open"}
LABELS = {Window.HOUR: "1 hour", Window.DAY: "24 hours", Window.WEEK: "7 days"}


@admin.register(TargetRollup)
class TargetRollupAdmin(ReadOnly, ModelAdmin):
    """A single row is nothing to look at."""

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> TemplateResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        window = _window(request.GET.get("window"))
        status = platform_status(window, breaker_of=_breakers())
        context = {
            **self.admin_site.each_context(request),
            "title": "Provider status",
            "opts": self.model._meta,
            "windows": [(label, f"?window={each.value}", each is window) for each, label in LABELS.items()],
            "span": _span(status),
            "headers": HEADERS,
            "providers": [_card(provider) for provider in status.providers],
        }
        return TemplateResponse(request, "adminui/provider_status.html", context)


def _breakers() -> BreakerOf:
    """Read once for the whole page."""
    found = troubles()

    def breaker_of(mapping_id: int) -> str | None:
        state = found.state(mapping_id)
        return None if state is None else BREAKERS[state]

    return breaker_of


def _window(asked: str | None) -> Window:
    return Window(asked) if asked in list(Window) else Window.DAY


def _span(status: PlatformStatus) -> str:
    if status.until is None:
        return "Nothing has been added up yet: the worker does it every two minutes."
    return f"From {_moment(status.since)} to {_moment(status.until)}, UTC."


def _moment(moment: Any) -> str:
    return date_format(timezone.localtime(moment), "DATETIME_FORMAT")


def _card(provider: ProviderStatus) -> dict[str, Any]:
    rows = [
        (target.model or "unknown", ", ".join(target.models), _cells(target.answering, target.breaker or NONE))
        for target in provider.targets
    ]
    return {
        "name": provider.name,
        "kind": provider.kind or "no longer a provider",
        "state": "" if provider.enabled else "disabled",
        "probe": _probe(provider),
        "probe_ok": provider.probe is None or provider.probe.ok,
        "rows": [("All", "", _cells(provider.answering, "")), *rows] if provider.answering.attempts else rows,
        "empty": not provider.answering.attempts,
    }


def _probe(provider: ProviderStatus) -> str:
    probe = provider.probe
    if probe is None:
        return ""
    words = f"answered in {probe.milliseconds:,} ms" if probe.ok else f"failed: {probe.error.replace('_', ' ')}"
    return f"Health probe of {_moment(probe.at)}: {words}"


def _cells(answering: Answering, breaker: str) -> list[str]:
    errors = sorted(answering.errors.items(), key=lambda each: (-each[1], each[0]))
    speed = answering.tokens_per_second
    return [
        breaker,
        NONE if answering.uptime is None else f"{answering.uptime:.2%}",
        f"{answering.attempts:,}",
        f"{answering.failed:,}",
        _shown(answering.first_token),
        _shown(answering.total),
        NONE if speed is None else f"{speed:,.1f}",
        ", ".join(f"{count:,} {error.replace('_', ' ')}" for error, count in errors) or NONE,
    ]


def _shown(percentiles: Percentiles | None) -> str:
    """The 50th, 90th and 99th, in seconds."""
    if percentiles is None:
        return NONE
    return " / ".join(f"{ms / 1000:.2f}" for ms in (percentiles.p50, percentiles.p90, percentiles.p99))
