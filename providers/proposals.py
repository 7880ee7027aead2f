"""Price changes that an operator decides on.

Costs follow the price source. Customers' prices follow their cost: a price keeps the ratio to the
cost that it had when it took effect. A model with a markup needs no proposal, and a first price is
never proposed: what a model is sold for is a decision, not arithmetic. Nothing changes before a
proposal is approved; approving adds a new row that holds from now on.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import structlog
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from accounts.models import User
from providers import prices
from providers.errors import ConfigError
from providers.models import (
    CatalogueVersion,
    DatedRates,
    Decision,
    Mapping,
    Model,
    PriceProposal,
    one_change,
)
from providers.price_source import BundledPrices, PriceSource
from providers.prices import following, read, written
from providers.selectors import current_cost, current_price
from providers.services import set_cost, set_price
from providers.types import Price

BY_RATIO = "the same ratio to the cost as before"

log = structlog.get_logger("ccm.prices")


@dataclass(slots=True)
class SyncReport:
    """`unknown` are enabled mappings that the source has no price for."""

    source: str
    created: list[PriceProposal] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Decided:
    """`refused` are proposals that could not be decided, each with the reason in words."""

    done: list[PriceProposal] = field(default_factory=list)
    refused: list[tuple[PriceProposal, str]] = field(default_factory=list)


def propose(source: PriceSource | None = None, now: datetime | None = None) -> SyncReport:
    """Compare what is stored with `source` (by default the installed genai-prices) and propose the
    differences. Running it again adds nothing; a difference that is gone takes its proposal with it."""
    source = source or BundledPrices()
    now = now or timezone.now()
    report = SyncReport(source.version)
    with transaction.atomic():
        _one_at_a_time()
        mappings = Mapping.objects.filter(enabled=True, provider__enabled=True, model__enabled=True)
        for mapping in mappings.select_related("provider", "model"):
            _propose_cost(mapping, source, now, report)
        report.created += _propose_prices(Model.objects.filter(enabled=True), source.version, now)
    log.info("prices_compared", source=source.version, proposed=len(report.created), unknown=len(report.unknown))
    return report


def _one_at_a_time() -> None:
    """Two workers that compare at once would propose everything twice."""
    CatalogueVersion.objects.get_or_create(pk=CatalogueVersion.ONLY)
    CatalogueVersion.objects.select_for_update().get(pk=CatalogueVersion.ONLY)


def _propose_cost(mapping: Mapping, source: PriceSource, now: datetime, report: SyncReport) -> None:
    found = source.find(mapping.provider, mapping.actual_model, now)
    if found is None:
        report.unknown.append(str(mapping))
    if found is None or mapping.costs.filter(effective_from__gt=now).exists():  # an operator's own plan goes first
        _outdate(PriceProposal.objects.filter(mapping=mapping), now)
        return
    current = _price_of(current_cost(mapping, now))
    new = found.price
    if not found.searches and current is not None:
        new = prices.with_searches(new, current.web_search)
    proposal = PriceProposal(
        model=mapping.model,
        mapping=mapping,
        source=found.name[:200],
        source_version=source.version,
        created_at=now,
    )
    report.created += _put(proposal, current, new)


def _propose_prices(models: Iterable[Model], version: str, now: datetime) -> list[PriceProposal]:
    created = []
    for model in models:
        current = current_price(model, now)
        is_decided = model.markup is not None or model.prices.filter(effective_from__gt=now).exists()
        moved = None if current is None or is_decided else _moved_costs(model, current.effective_from, now)
        if current is None or moved is None:
            _outdate(PriceProposal.objects.filter(model=model, mapping=None), now)
            continue
        before, after = moved
        proposal = PriceProposal(model=model, source=BY_RATIO, source_version=version, created_at=now)
        created += _put(proposal, current.price, following(current.price, before=before, after=after))
    return created


def _moved_costs(model: Model, since: datetime, now: datetime) -> tuple[Price, Price] | None:
    """What the dearest mapping cost when the price took effect (or, if nobody knew it then, at first),
    and what it costs with the proposals that are pending. None when no cost is known."""
    before, after = [], []
    pending = {
        proposal.mapping_id: read(proposal.new)
        for proposal in PriceProposal.objects.filter(model=model, mapping__isnull=False, state=Decision.PENDING)
    }
    for mapping in model.mappings.filter(enabled=True, provider__enabled=True):
        costs = list(mapping.costs.filter(effective_from__lte=now).order_by("effective_from"))
        if not costs:
            continue
        then = [cost for cost in costs if cost.effective_from <= since] or costs[:1]
        before.append(then[-1].price)
        after.append(pending.get(mapping.pk) or costs[-1].price)
    return (prices.dearest(before), prices.dearest(after)) if before else None


def _put(proposal: PriceProposal, old: Price | None, new: Price) -> list[PriceProposal]:
    """Store `proposal`, unless there is nothing to propose, it is pending already, or an operator
    has rejected the same new rates last time."""
    of_target = PriceProposal.objects.filter(model=proposal.model, mapping=proposal.mapping)
    if old == new:
        _outdate(of_target, proposal.created_at)
        return []
    proposal.old, proposal.new = (None if old is None else written(old)), written(new)
    pending = of_target.filter(state=Decision.PENDING).first()
    if pending is not None and (pending.old, pending.new) == (proposal.old, proposal.new):
        return []
    _outdate(of_target, proposal.created_at)
    last = of_target.filter(state__in=(Decision.APPROVED, Decision.REJECTED)).order_by("-decided_at", "-id").first()
    if last is not None and last.state == Decision.REJECTED and last.new == proposal.new:
        return []
    proposal.save()
    return [proposal]


def _outdate(proposals: QuerySet[PriceProposal], now: datetime) -> None:
    proposals.filter(state=Decision.PENDING).update(state=Decision.OUTDATED, decided_at=now)


def _price_of(row: DatedRates | None) -> Price | None:
    return None if row is None else row.price


def approve(proposal_ids: Sequence[int], *, by: User | None) -> Decided:
    """Let the proposed rates hold from now on, costs before the prices that follow from them."""
    return _decide(proposal_ids, by, approved=True)


def reject(proposal_ids: Sequence[int], *, by: User | None) -> Decided:
    """Leave things as they are; the same rates are not proposed again until they change."""
    return _decide(proposal_ids, by, approved=False)


def approve_all(*, by: User | None = None) -> Decided:
    """Every pending proposal, for `sync_prices --apply`."""
    pending = PriceProposal.objects.filter(state=Decision.PENDING)
    return approve(list(pending.values_list("pk", flat=True)), by=by)


def _decide(proposal_ids: Sequence[int], by: User | None, *, approved: bool) -> Decided:
    decided = Decided()
    now = timezone.now()
    with one_change():
        _one_at_a_time()
        chosen = PriceProposal.objects.filter(pk__in=proposal_ids).select_related("model", "mapping__model")
        for proposal in sorted(chosen, key=lambda row: (row.mapping_id is None, row.pk)):
            why = _why_not(proposal, now, approved=approved)
            if not why and approved:
                why = _apply(proposal, now)
            if why:
                decided.refused.append((proposal, why))
                continue
            proposal.state = Decision.APPROVED if approved else Decision.REJECTED
            proposal.decided_at, proposal.decided_by = now, by
            proposal.save(update_fields=("state", "decided_at", "decided_by"))
            decided.done.append(proposal)
            log.info("price_proposal_decided", proposal=proposal.pk, state=proposal.state, by=by.pk if by else None)
        touched = {proposal.model_id: proposal for proposal in decided.done if proposal.mapping_id is not None}
        for proposal in touched.values():
            _propose_prices([proposal.model], proposal.source_version, timezone.now())
    return decided


def _why_not(proposal: PriceProposal, now: datetime, *, approved: bool) -> str:
    """Why the proposal cannot be decided so, in words; "" when it can."""
    if proposal.state != Decision.PENDING:
        return f"it is {proposal.get_state_display().lower()} already."
    if not approved:
        return ""
    row = current_cost(proposal.mapping, now) if proposal.mapping else current_price(proposal.model, now)
    present = None if row is None else written(row.price)
    if present != proposal.old or (proposal.mapping is None and proposal.model.markup is not None):
        _outdate(PriceProposal.objects.filter(pk=proposal.pk), now)
        return "it was changed since this was proposed. Compare again with manage.py sync_prices."
    costs = PriceProposal.objects.filter(model=proposal.model, mapping__isnull=False, state=Decision.PENDING)
    if proposal.mapping is None and costs.exists():
        return f"decide on the cost of {proposal.model} first: the price follows from it."
    return ""


def _apply(proposal: PriceProposal, now: datetime) -> str:
    """The new row; "" or, in words, why there cannot be one."""
    rates = prices.rates_of(read(proposal.new))
    try:
        if proposal.mapping is not None:
            set_cost(mapping=proposal.mapping, rates=rates, now=now)
        else:
            set_price(model=proposal.model, rates=rates, now=now)
    except ConfigError as error:
        return str(error)
    except ValidationError as error:
        return " ".join(error.messages)
    return ""
