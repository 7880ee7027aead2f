"""The catalogue: built of the database's rows, kept in memory, rebuilt when they change.

`build` reads; `LiveCatalogue` is what a long-running process holds.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import TypeVar

import structlog
from django.db import DatabaseError, InterfaceError, connection
from django.db.models import Min, OuterRef, Subquery
from django.utils import timezone

from providers import models, prices
from providers.calibration import factors_of
from providers.crypto import CannotDecrypt
from providers.families import family_of
from providers.kinds import KINDS, Kind
from providers.types import Catalogue, CredentialSecret, Model, Policy, Price, Profile, Target, Timeouts, TokenFactors

RETRIES = 5
FREE = Price(0, 0, 0, 0, 0)
"""What the operator pays where a tenant's own key is used."""
HEALTHY_SECONDS = 30.0

log = structlog.get_logger("ccm.catalogue")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A catalogue, and the moment from which the next price or cost makes it out of date."""

    catalogue: Catalogue
    next_change_at: datetime | None


def build(now: datetime | None = None) -> Catalogue:
    """The catalogue as it is now: twelve queries, whatever its size."""
    return build_snapshot(now or timezone.now()).catalogue


def build_snapshot(now: datetime) -> Snapshot:
    """Read again when an edit came in between, so that no half of one is seen. (A transaction would
    do, but SQLite's would lock out every writer.)"""
    version = models.CatalogueVersion.current()
    snapshot = _read(version, now)
    for _ in range(RETRIES):
        latest = models.CatalogueVersion.current()
        if latest == version:
            break
        version = latest
        snapshot = _read(version, now)
    return snapshot


def _read(version: int, now: datetime) -> Snapshot:
    providers = {provider.pk: provider for provider in models.Provider.objects.filter(enabled=True)}
    credentials, own_credentials = _credentials()
    targets: dict[int, list[Target]] = defaultdict(list)
    own_targets: dict[int, dict[int, list[Target]]] = defaultdict(lambda: defaultdict(list))
    costs: dict[int, list[Price | None]] = defaultdict(list)
    known = {mapping: row.price for mapping, row in _current(models.MappingCost, "mapping", now).items()}
    mappings = models.Mapping.objects.filter(enabled=True, provider__enabled=True, model__enabled=True)
    for mapping in mappings.order_by("priority", "pk"):
        cost = known.get(mapping.pk)
        costs[mapping.model_id].append(cost)
        provider = providers.get(mapping.provider_id)
        if provider is None:
            continue
        target = target_of(mapping, provider, credentials.get(mapping.provider_id), cost)
        if target:
            targets[mapping.model_id].append(target)
        for organization_id, pool in own_credentials.get(mapping.provider_id, {}).items():
            if own := target_of(mapping, provider, tuple(pool), FREE):
                own_targets[mapping.model_id][organization_id].append(replace(own, is_own=True))
    current = _current(models.ModelPrice, "model", now)
    learnt = {row.model_id: row for row in models.TokenFactor.objects.all()}
    listed = [
        model_of(
            row,
            _price(row, current.get(row.pk), costs[row.pk]),
            tuple(targets[row.pk]),
            {organization: tuple(own) for organization, own in own_targets[row.pk].items()},
            learnt.get(row.pk),
        )
        for row in models.Model.objects.filter(enabled=True)
    ]
    platform, by_organization, by_key = _profiles()
    catalogue = Catalogue(
        version=version,
        models={model.name: model for model in listed},
        providers=frozenset(provider.name for provider in providers.values()),
        platform_profile=platform,
        organization_profiles=by_organization,
        key_profiles=by_key,
    )
    return Snapshot(catalogue, _next_change_at(now))


def model_of(
    row: models.Model,
    price: Price | None,
    targets: tuple[Target, ...],
    own_targets: Mapping[int, tuple[Target, ...]] | None = None,
    learnt: models.TokenFactor | None = None,
) -> Model:
    return Model(
        id=row.pk,
        name=row.name,
        display_name=row.display_name or row.name,
        description=row.description,
        context_window=row.context_window,
        max_output=row.max_output,
        vision=row.vision,
        tools=row.tools,
        thinking=row.thinking,
        price=price,
        targets=targets,
        created_at=row.created_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        discoverable=row.discoverable,
        policy=Policy(row.policy),
        own_targets=own_targets or {},
        token_factors=factors_of(learnt, _usual_factors(targets[0].actual_model if targets else row.name)),
    )


def _usual_factors(actual_model: str) -> TokenFactors:
    return TokenFactors(counted=family_of(actual_model).per_vocabulary_token)


def _credentials() -> tuple[dict[int, tuple[CredentialSecret, ...]], dict[int, dict[int, list[CredentialSecret]]]]:
    """Usable credentials by provider, and those of tenants by provider and organisation. A provider
    whose credentials are all unusable has an empty tuple."""
    pools: dict[int, list[CredentialSecret]] = defaultdict(list)
    own: dict[int, dict[int, list[CredentialSecret]]] = defaultdict(lambda: defaultdict(list))
    for row in models.Credential.objects.order_by("pk"):
        is_own = row.organization_id is not None
        pool = own[row.provider_id][row.organization_id] if is_own else pools[row.provider_id]
        if row.enabled and (credential := credential_of(row)):
            pool.append(credential)
    return {provider: tuple(pool) for provider, pool in pools.items()}, own


def credential_of(row: models.Credential) -> CredentialSecret | None:
    """None, and a line in the log, when it cannot be decrypted."""
    try:
        return CredentialSecret(
            id=row.pk,
            weight=row.weight,
            secret=row.open_secret(),
            requests_per_minute=row.requests_per_minute,
            concurrency=row.concurrency,
        )
    except CannotDecrypt:
        log.error("credential_not_decrypted", credential_id=row.pk, provider_id=row.provider_id)
        return None


def target_of(
    mapping: models.Mapping,
    provider: models.Provider,
    pool: tuple[CredentialSecret, ...] | None,
    cost: Price | None,
) -> Target | None:
    """None when the provider cannot be called: its kind is unknown, or it lacks a credential. `cost`
    is what the operator pays now, None when that is unknown."""
    kind = KINDS.get(provider.kind)
    if kind is None or not (provider.base_url or kind.base_url):
        return None
    if pool == () or (pool is None and needs_credential(provider, kind)):
        return None
    return Target(
        mapping_id=mapping.pk,
        provider_id=provider.pk,
        provider=provider.name,
        kind=kind.name,
        wire=provider.wire or kind.wire,
        base_url=provider.base_url or kind.base_url,
        actual_model=mapping.actual_model,
        priority=mapping.priority,
        weight=mapping.weight,
        cost=cost,
        timeouts=Timeouts(
            connect=provider.connect_timeout,
            first_byte=provider.first_byte_timeout,
            idle=provider.idle_timeout,
            total=provider.total_timeout,
        ),
        credentials=pool or (),
        extra_body=mapping.extra_body,
        counts_tokens=kind.counts_tokens if provider.count_tokens is None else provider.count_tokens,
    )


def needs_credential(provider: models.Provider, kind: Kind) -> bool:
    """Services on the Internet do; a server of one's own may not."""
    is_own_server = not (provider.base_url or kind.base_url).startswith("https://") or kind.base_url.startswith(
        "http://"
    )
    return kind.auth != "none" and not is_own_server


def price_by_markup(costs: Sequence[Price | None], markup: Decimal) -> Price | None:
    """The dearest of the mappings' costs and `markup`: whichever of them answers, nothing is sold
    under cost. None while there is none, or one is unknown."""
    known = [cost for cost in costs if cost is not None]
    return prices.with_markup(prices.dearest(known), markup) if known and len(known) == len(costs) else None


def _price(row: models.Model, current: models.ModelPrice | None, costs: Sequence[Price | None]) -> Price | None:
    """What customers pay; None (then the gateway refuses the model) when nobody has decided it.

    The costs are those of all enabled mappings to enabled providers: the price of a markup does not
    move because a provider's credential fails."""
    if row.markup is not None:
        return price_by_markup(costs, row.markup)
    return None if current is None else current.price


DatedRow = TypeVar("DatedRow", models.ModelPrice, models.MappingCost)


def _current(kind: type[DatedRow], owner: str, now: datetime) -> dict[int, DatedRow]:
    """The rates in effect, by the id of their `owner` ("model", "mapping")."""
    effective = kind.objects.filter(effective_from__lte=now)
    newest = effective.filter(**{owner: OuterRef(owner)}).order_by("-effective_from").values("pk")[:1]
    return {getattr(row, f"{owner}_id"): row for row in effective.filter(pk=Subquery(newest))}


def _next_change_at(now: datetime) -> datetime | None:
    """When the next price or cost takes effect."""
    coming = (
        kind.objects.filter(effective_from__gt=now).aggregate(at=Min("effective_from"))["at"]
        for kind in (models.ModelPrice, models.MappingCost)
    )
    return min((at for at in coming if at is not None), default=None)


def _profiles() -> tuple[Profile, dict[int, Profile], dict[int, Profile]]:
    platform = Profile()
    by_organization: dict[int, Profile] = {}
    by_key: dict[int, Profile] = {}
    for row in models.RouterProfile.objects.all():
        if row.organization_id is not None:
            by_organization[row.organization_id] = profile_of(row)
        elif row.api_key_id is not None:
            by_key[row.api_key_id] = profile_of(row)
        else:
            platform = profile_of(row)
    return platform, by_organization, by_key


def profile_of(row: models.RouterProfile) -> Profile:
    values = {name: getattr(row, name) for name in Profile.__struct_fields__}
    for pattern in ("auto_map_regex", "background_regex"):
        values[pattern] = values[pattern] or None
    if values["think_efforts"] is not None:
        values["think_efforts"] = frozenset(values["think_efforts"])
    return Profile(**values)


class LiveCatalogue:
    """The present catalogue of a long-running process. `current` is read without any I/O and is
    always a whole snapshot; while the database is down it stays the last good one."""

    def __init__(
        self, *, clock: Callable[[], datetime] = timezone.now, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.current = Catalogue()
        self._clock = clock
        self._monotonic = monotonic
        self._next_change_at: datetime | None = None
        self._checked_at: float | None = None
        self._reachable = True
        self._refreshing = threading.Lock()

    @property
    def age(self) -> float:
        """Seconds since `current` was last known to be the database's state; infinite before the first time."""
        return float("inf") if self._checked_at is None else self._monotonic() - self._checked_at

    @property
    def healthy(self) -> bool:
        return self.age < HEALTHY_SECONDS

    def refresh_if_changed(self) -> bool:
        """Bring `current` up to date; True when it changed. Blocking; call it in a thread, as often
        as you like. A database that does not answer leaves everything as it is."""
        with self._refreshing:
            if not connection.in_atomic_block:  # else it is the caller's, who would lose the transaction
                connection.close_if_unusable_or_obsolete()
            started = self._monotonic()
            try:
                changed = self._refresh()
            except (DatabaseError, InterfaceError) as error:
                if self._reachable:
                    log.warning("catalogue_unreachable", error=type(error).__name__)
                self._reachable = False
                return False
            self._reachable = True
            self._checked_at = started
            return changed

    def _refresh(self) -> bool:
        now = self._clock()
        change_is_due = self._next_change_at is not None and self._next_change_at <= now
        up_to_date = self._checked_at is not None and not change_is_due
        if up_to_date and models.CatalogueVersion.current() == self.current.version:
            return False
        snapshot = build_snapshot(now)
        self._next_change_at = snapshot.next_change_at
        self.current = snapshot.catalogue
        log.info("catalogue_built", version=snapshot.catalogue.version, models=len(snapshot.catalogue.models))
        return True
