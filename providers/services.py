"""The verbs of the providers app."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import structlog
from django.db import transaction
from django.utils import timezone

from providers import crypto
from providers.calibration import Batch, Batches, Measured, blended, differ, factors_of
from providers.crypto import CannotDecrypt
from providers.errors import ConfigError
from providers.models import (
    CatalogueVersion,
    Credential,
    DatedRates,
    MappingCost,
    Model,
    ModelPrice,
    Provider,
    TokenFactor,
)
from providers.models import Mapping as MappingRow
from providers.prices import CLASSES
from providers.selectors import current_cost, current_price
from providers.types import TokenFactors

log = structlog.get_logger("ccm.providers")

RATES = (*CLASSES, "web_search")
MERGE_ATTEMPTS = 8
MOST_SAMPLES = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Rotation:
    rotated: int
    failed: tuple[str, ...]
    """The credentials that no key decrypts, by provider and label."""


@transaction.atomic
def set_price(
    *, model: Model, rates: Mapping[str, Any], effective_from: datetime | None = None, now: datetime | None = None
) -> bool:
    """Let customers pay `rates` (RATES: USD per million tokens, `web_search` USD per 1000; `tiers`)
    from `effective_from`, by default from now on. False when they already do. Raises ConfigError
    for a moment that has passed, ValidationError for rates that are none.

    `now` is the one moment of a change that sets several prices and costs."""
    row = ModelPrice(model=model, **_wanted(rates))
    return _add(row, current_price(model), effective_from, now)


@transaction.atomic
def set_cost(
    *,
    mapping: MappingRow,
    rates: Mapping[str, Any],
    effective_from: datetime | None = None,
    now: datetime | None = None,
) -> bool:
    """As `set_price`: what the operator pays for the mapping's tokens."""
    row = MappingCost(mapping=mapping, **_wanted(rates))
    return _add(row, current_cost(mapping), effective_from, now)


def _wanted(rates: Mapping[str, Any]) -> dict[str, Any]:
    wanted = {name: rates.get(name) for name in RATES}
    return {**wanted, "web_search": wanted["web_search"] or Decimal(0), "tiers": list(rates.get("tiers") or ())}


def _add(row: DatedRates, current: DatedRates | None, begins: datetime | None, moment: datetime | None) -> bool:
    """`current` is in effect now; `moment` is now, or a little earlier, when this change began."""
    now = timezone.now()
    if begins is not None and begins < (moment or now):
        raise ConfigError("A price can begin now or later, never in the past: requests were charged already.")
    if begins is None:
        if current is not None and all(getattr(current, name) == getattr(row, name) for name in (*RATES, "tiers")):
            return False
        begins = moment or now
        if current is not None and current.effective_from >= begins:  # somebody else was faster: be the newer one
            begins = now
    row.effective_from = begins
    row.full_clean(exclude=("model", "mapping"))
    row.save()
    return True


@transaction.atomic
def put_credential(*, provider: Provider, label: str, secret: str, weight: int = 1) -> str:
    """Store `secret` in the pool of `provider`: "created", "changed" or "unchanged".

    A secret that is in the pool under another label stays there."""
    pool = list(provider.credentials.all())
    row = next((row for row in pool if row.label == label), None) or next(
        (row for row in pool if _opens_to(row, secret)), None
    )
    if row is None:
        row = Credential(provider=provider, label=label, weight=weight)
        row.set_secret(secret)
        row.full_clean(exclude=("provider",))
        row.save()
        return "created"
    if _opens_to(row, secret) and row.weight == weight:
        return "unchanged"
    row.set_secret(secret)
    row.weight = weight
    row.full_clean(exclude=("provider",))
    row.save()
    return "changed"


def _opens_to(row: Credential, secret: str) -> bool:
    try:
        return row.open_secret() == secret
    except CannotDecrypt:
        return False


@transaction.atomic
def set_providers_enabled(*, provider_ids: Iterable[int], enabled: bool) -> int:
    """How many providers this changed."""
    return Provider.objects.filter(pk__in=tuple(provider_ids)).exclude(enabled=enabled).update(enabled=enabled)


@transaction.atomic
def set_models_enabled(*, model_ids: Iterable[int], enabled: bool) -> int:
    """How many models this changed."""
    return Model.objects.filter(pk__in=tuple(model_ids)).exclude(enabled=enabled).update(enabled=enabled)


def rotate_credentials() -> Rotation:
    """Encrypt every credential anew with the first of CCM_ENCRYPTION_KEYS."""
    rotated = 0
    failed = []
    for pk in list(Credential.objects.values_list("pk", flat=True)):
        with transaction.atomic():
            row = Credential.objects.select_for_update(of=("self",)).select_related("provider").filter(pk=pk).first()
            if row is None:
                continue
            try:
                row.sealed = crypto.rotate(row.sealed)
            except CannotDecrypt:
                failed.append(f"{row.provider.name}: {row.label}")
                continue
            row.save(update_fields=("sealed",))
            rotated += 1
    log.info("credentials_rotated", rotated=rotated, failed=len(failed))
    return Rotation(rotated=rotated, failed=tuple(failed))


def merge_token_factors(batches: Batches, known: Mapping[int, TokenFactors]) -> int:
    """Add what a process has seen to the stored factors; how many models' changed. `known` is what the
    caller's catalogue says: a factor that has moved away from it raises the catalogue's version.
    Several processes may merge at once: a row that another one has changed is read again."""
    return sum(_merge_token_factor(model_id, kinds, known.get(model_id)) for model_id, kinds in batches.items())


def _merge_token_factor(model_id: int, kinds: Mapping[Measured, Batch], known: TokenFactors | None) -> bool:
    """False when the model is gone, or others were faster again and again: it is only a sample."""
    for _ in range(MERGE_ATTEMPTS):
        row = TokenFactor.objects.filter(model_id=model_id).first()
        if row is None:
            if not Model.objects.filter(pk=model_id).exists():
                return False
            row, _created = TokenFactor.objects.get_or_create(model_id=model_id)
        for kind, batch in kinds.items():
            samples = getattr(row, f"{kind}_samples")
            setattr(row, kind, blended(getattr(row, kind), samples, batch))
            setattr(row, f"{kind}_samples", min(samples + batch.samples, MOST_SAMPLES))
        if _store(row, kinds, known):
            return True
    return False


@transaction.atomic
def _store(row: TokenFactor, kinds: Iterable[Measured], known: TokenFactors | None) -> bool:
    """Whether nobody has changed the row in the meantime."""
    values = {name: getattr(row, name) for kind in kinds for name in (kind, f"{kind}_samples")}
    unchanged = TokenFactor.objects.filter(pk=row.pk, version=row.version)
    stored = unchanged.update(**values, version=row.version + 1, updated_at=timezone.now())
    if stored and known is not None and differ(known, factors_of(row, known)):
        CatalogueVersion.bump()
    return bool(stored)
