"""An organisation's own keys at providers: stored encrypted, never shown again, and used for it alone.

Every verb writes a line in the organisation's audit log, in the transaction of the change.
"""

import json
from dataclasses import dataclass

from django.db import transaction
from django.db.models import QuerySet

from accounts import audit
from accounts.models import User
from providers import connection
from providers.connection import ConnectionResult
from providers.errors import ConfigError
from providers.google_tokens import GOOGLE_TOKENS
from providers.kinds import KINDS
from providers.models import Credential, Mapping, Provider
from providers.pasted import pasted_secret

MOST = 50
LONGEST = 20_000


@dataclass(frozen=True, slots=True)
class OwnKey:
    """`models` are what it opens."""

    id: int
    provider_id: int
    provider: str
    label: str
    masked: str
    enabled: bool
    models: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OpenProvider:
    """A provider that takes an organisation's own key."""

    id: int
    name: str
    kind: str
    models: tuple[str, ...]


def open_providers() -> list[OpenProvider]:
    """Enabled ones that take a key and serve a model that customers can see, by name."""
    found = []
    for row in Provider.objects.filter(enabled=True).order_by("name"):
        kind = KINDS.get(row.kind)
        models = _models_of(row)
        if kind is not None and models and kind.auth != "none":
            found.append(OpenProvider(row.pk, row.name, kind.label, models))
    return found


def own_keys(organization_id: int) -> list[OwnKey]:
    rows = _of(organization_id).order_by("provider__name", "pk")
    return [
        OwnKey(row.pk, row.provider_id, row.provider.name, row.label, row.masked, row.enabled, _models_of(row.provider))
        for row in rows
    ]


@transaction.atomic
def add(*, organization_id: int, provider_id: int, label: str, secret: str, by: User) -> int:
    """The id of the new key. Raises ConfigError, which names the field."""
    provider = next((each for each in open_providers() if each.id == provider_id), None)
    if provider is None:
        raise ConfigError("provider: choose one of the list.")
    label = label.strip()
    if not label or len(label) > 80 or not label.isprintable():
        raise ConfigError("label: give it a name of 1 to 80 characters.")
    mine = _of(organization_id)
    if mine.count() >= MOST:
        raise ConfigError(f"There are {MOST} keys already: delete some first.")
    if mine.filter(provider_id=provider_id, label=label).exists():
        raise ConfigError("label: you have a key of that name at this provider.")
    row = Credential(provider_id=provider_id, organization_id=organization_id, label=label)
    row.set_secret(checked_secret(secret))
    row.save()
    audit.record(organization_id, by, "added the provider key", f"{provider.name}: {label}")
    return row.pk


@transaction.atomic
def replace_secret(*, organization_id: int, credential_id: int, secret: str, by: User) -> None:
    """Raises Credential.DoesNotExist, and ConfigError for a secret that is none."""
    row = _of(organization_id).get(pk=credential_id)
    row.set_secret(checked_secret(secret))
    row.save()
    audit.record(organization_id, by, "replaced the secret of the provider key", f"{row.provider.name}: {row.label}")


@transaction.atomic
def set_enabled(*, organization_id: int, credential_id: int, enabled: bool, by: User) -> None:
    """Raises Credential.DoesNotExist."""
    row = _of(organization_id).get(pk=credential_id)
    if row.enabled == enabled:
        return
    row.enabled = enabled
    row.save()
    action = "enabled the provider key" if enabled else "disabled the provider key"
    audit.record(organization_id, by, action, f"{row.provider.name}: {row.label}")


@transaction.atomic
def delete(*, organization_id: int, credential_id: int, by: User) -> None:
    """The secret is gone with the row. Raises Credential.DoesNotExist."""
    row = _of(organization_id).get(pk=credential_id)
    name = f"{row.provider.name}: {row.label}"
    row.delete()
    audit.record(organization_id, by, "deleted the provider key", name)


def test_connection(organization_id: int, credential_id: int) -> ConnectionResult:
    """One tiny real call with this key, which its owner pays. Blocks for at most a minute; call it outside any
    transaction. Raises Credential.DoesNotExist."""
    row = _of(organization_id).get(pk=credential_id)
    return connection.check_own(row.provider, row)


def checked_secret(text: str) -> str:
    """A service account's key names the address that its tokens come from: CCM calls Google's alone, not whatever a
    tenant writes there. Raises ConfigError."""
    if not text.strip() or len(text) > LONGEST:
        raise ConfigError("secret: Paste the provider's API key.")
    try:
        secret = pasted_secret(text)
    except ConfigError as error:
        raise ConfigError(f"secret: {error}") from None
    if secret.startswith("{") and json.loads(secret).get("token_uri", GOOGLE_TOKENS) != GOOGLE_TOKENS:
        raise ConfigError(f"secret: The key's token_uri must be {GOOGLE_TOKENS}.")
    return secret


def _of(organization_id: int) -> "QuerySet[Credential]":
    return Credential.objects.filter(organization_id=organization_id).select_related("provider")


def _models_of(provider: Provider) -> tuple[str, ...]:
    mappings = Mapping.objects.filter(
        provider=provider, enabled=True, model__enabled=True, model__discoverable=True
    ).order_by("model__name")
    return tuple(dict.fromkeys(mappings.values_list("model__name", flat=True)))
