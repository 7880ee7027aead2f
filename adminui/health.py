"""What of a provider is not well just now: its targets' breakers, its credentials' cool-downs."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from django.http import HttpRequest
from django.utils.html import format_html_join
from unfold.decorators import display

from gateway.resilience.breaker import State
from gateway.resilience.reading import CredentialTrouble, TargetTrouble, Troubles, troubles
from providers.admin import ProviderAdmin
from providers.models import Credential, Mapping, Provider

STATES = {State.OPEN: "passed over", State.HALF_OPEN: "being tried again"}


class ProviderWithHealthAdmin(ProviderAdmin):
    readonly_fields: tuple[str, ...] = (*ProviderAdmin.readonly_fields, "health")

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        sets = super().get_fieldsets(request, obj)
        return sets if obj is None else (*sets, ("Just now", {"fields": ("health",)}))

    @display(description="what is not well")
    def health(self, provider: Provider) -> str:
        found = troubles()
        if not found.known:
            return "Not known: Redis or Valkey does not answer."
        lines = [*target_lines(provider, found), *credential_lines(provider, found)]
        return format_html_join("", "<div>{}: {}</div>", lines) or "All targets and credentials are well."


def target_lines(provider: Provider, found: Troubles) -> Iterator[tuple[str, str]]:
    mappings = Mapping.objects.filter(provider=provider, pk__in=found.targets).select_related("model")
    for mapping in mappings:
        yield f"{mapping.model} ({mapping.actual_model})", _of_target(found.targets[mapping.pk])


def credential_lines(provider: Provider, found: Troubles) -> Iterator[tuple[str, str]]:
    for credential in Credential.objects.filter(provider=provider):
        for trouble in found.of_credential(credential.pk):
            yield f"credential {credential.label}", _of_credential(trouble)


def refused_credentials() -> list[str]:
    """Names of credentials that their providers refuse: only an operator can put them right."""
    refused = {each.credential_id for each in troubles().credentials if each.refused}
    rows = Credential.objects.filter(pk__in=refused).select_related("provider") if refused else ()
    return [f"{row.provider.name} {row.label}" for row in rows]


def _of_target(trouble: TargetTrouble) -> str:
    return (
        f"{STATES[trouble.state]} until {_time(trouble.until)}, failing since {_time(trouble.since)}. {trouble.error}"
    )


def _of_credential(trouble: CredentialTrouble) -> str:
    what = "refused" if trouble.refused else "limited"
    where = "" if trouble.mapping_id is None else " for one model"
    until = f"used again from {_time(trouble.until)}" if trouble.cooling else "not used since"
    return f"{what}{where} at {_time(trouble.since)}, {until}. {trouble.error}"


def _time(moment: float) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%H:%M:%S} UTC"
