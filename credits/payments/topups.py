"""Top-ups: begun here, paid at Stripe, credited once.

A top-up is committed before Stripe is asked for anything. `advance` then takes it as far as it goes, whoever calls
it and however often: the task that the page starts, the sweep. Webhooks and the customer's return only `look` at
Stripe what has become of it. What is found is applied under the wallet's lock (`apply`).
"""

from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone

from accounts import audit
from accounts.models import User
from credits import ledger
from credits.entries import OpenBooks, bring_in, open_books
from credits.errors import InvalidAmount, PaymentRefused, PaymentsOff, PaymentsUnavailable, TransferConflict
from credits.models import LotKind
from credits.money import format_usd
from credits.payments import client, invoices, notices, reading
from credits.payments.accounts import billing_account, ensure_customer, sync_customer
from credits.payments.amounts import check_amount, fee_of
from credits.payments.client import StripeApi, stripe_api
from credits.payments.models import IN_FLIGHT, BillingAccount, TopUp, TopUpKind, TopUpState
from credits.payments.returns import clearing
from credits.payments.types import SeenPayment
from credits.services import ensure_wallet

log = structlog.get_logger("ccm.payments")

CLAIM = timedelta(minutes=2)
"""Longer than a worker speaks with Stripe about one top-up; a dead one's is taken over after that."""
SWEEP_LIMIT = 50
LOOK_AGAIN = timedelta(seconds=45)


def start(organization_id: int, amount: int, *, key: str, by: User) -> TopUp:
    """A top-up of `amount` nanos of credits, to be paid by `by`; nothing is asked of Stripe yet. The same `key` (a
    form sent twice) is the same top-up.

    Raises InvalidAmount, TransferConflict (the key was for another one), PaymentsOff, PaymentRefused (blocked)."""
    if not client.is_on():
        raise PaymentsOff("Credits cannot be bought here yet.")
    check_amount(amount, settings.TOP_UP_TERMS)
    ensure_wallet(organization_id)
    if billing_account(organization_id).blocked:
        raise PaymentRefused("blocked", "Your organisation cannot buy credits. Please write to support.")
    asked = {"organization_id": organization_id, "amount": amount, "kind": TopUpKind.MANUAL}
    with transaction.atomic():
        top_up, new = TopUp.objects.get_or_create(
            key=key, defaults={**asked, "fee": fee_of(amount, settings.TOP_UP_TERMS), "created_by": by}
        )
        if not new and any(getattr(top_up, name) != value for name, value in asked.items()):
            raise TransferConflict("This form has bought something else already. Open the page anew.")
        if new:
            audit.record(organization_id, by, "started buying", f"{format_usd(amount)} of credits")
    return top_up


# At Stripe


def advance(top_up_id: int) -> TopUp:
    """Take the top-up on: ask Stripe for what has not been asked for, and apply what is found. Does nothing while
    another worker does. Raises PaymentsUnavailable, after which it may be called again."""
    if not claim(top_up_id):
        return TopUp.objects.get(pk=top_up_id)
    try:
        top_up = TopUp.objects.get(pk=top_up_id)
        api = stripe_api()
        try:
            seen = _by_checkout(api, top_up) if top_up.kind == TopUpKind.MANUAL else invoices.advance(api, top_up)
        except PaymentRefused as refusal:
            seen = SeenPayment(
                TopUpState.FAILED, failure=refusal.code, failure_text=str(refusal), pay_url=refusal.confirm_url
            )
        return apply(top_up_id, seen)
    finally:
        TopUp.objects.filter(pk=top_up_id).update(claimed_until=None)


def claim(top_up_id: int, now: datetime | None = None) -> bool:
    """Whether it is ours to speak with Stripe about now (compare and set)."""
    now = now or timezone.now()
    free = Q(claimed_until=None) | Q(claimed_until__lt=now)
    return TopUp.objects.filter(free, pk=top_up_id).update(claimed_until=now + CLAIM) == 1


def _by_checkout(api: StripeApi, top_up: TopUp) -> SeenPayment:
    if top_up.checkout_session is None:
        if top_up.state not in IN_FLIGHT:
            return SeenPayment(TopUpState(top_up.state))
        customer = ensure_customer(api, top_up.organization_id)
        # Each attempt has a key of its own: Stripe repeats a key's first answer, a failure too. A session that was
        # made for a lost answer is never shown to anybody; if it were paid, its metadata would lead here.
        attempt = top_up.attempt
        TopUp.objects.filter(pk=top_up.pk).update(attempt=attempt + 1)
        url = f"{settings.PUBLIC_URL}/billing/top-ups/{top_up.pk}/"
        made = api.create_checkout(top_up, customer, url, f"topup:{client.installation()}:{top_up.pk}:{attempt}")
        TopUp.objects.filter(pk=top_up.pk, checkout_session=None).update(checkout_session=made.id, pay_url=made.url)
        return SeenPayment(TopUpState.PROCESSING, pay_url=made.url)
    return api.checkout(top_up.checkout_session)


def look(top_up: TopUp) -> TopUp:
    """See at Stripe what has become of the top-up, and apply it. Asks for nothing, so anybody may at any time."""
    api = stripe_api()
    if top_up.checkout_session:
        return apply(top_up.pk, api.checkout(top_up.checkout_session))
    if top_up.invoice:
        return apply(top_up.pk, api.invoice(top_up.invoice).payment)
    return top_up


def cancel(top_up: TopUp) -> TopUp:
    """The customer came back without paying: close the Checkout, unless it has been paid after all."""
    if top_up.state in IN_FLIGHT and top_up.checkout_session:
        try:
            stripe_api().expire_checkout(top_up.checkout_session)
        except PaymentRefused:
            log.info("checkout_not_expired", top_up=top_up.pk)  # it has ended otherwise: look how
    return look(top_up)


# In the ledger


def apply(top_up_id: int, seen: SeenPayment) -> TopUp:
    """Bring the top-up to what Stripe says. Paid is credited, once, whatever was thought before; what is over stays
    over. Raises InvalidAmount when less was paid than was asked for: nothing is credited, and somebody must look."""
    if seen.state == TopUpState.SUCCEEDED:
        return credit(top_up_id, seen)
    now = timezone.now()
    urls = {name: getattr(seen, name) for name in ("pay_url", "invoice_url") if getattr(seen, name)}
    ids = {"payment_intent": seen.payment_intent} if seen.payment_intent else {}
    changes = {**urls, **ids, "updated_at": now}
    with transaction.atomic():
        if seen.state in {TopUpState.FAILED, TopUpState.CANCELED}:
            ended = TopUp.objects.filter(pk=top_up_id, state__in=IN_FLIGHT).update(
                state=seen.state, failure=seen.failure[:60], failure_text=seen.failure_text[:300], **changes
            )
            if ended:
                _tell_end(TopUp.objects.select_related("organization").get(pk=top_up_id), now)
        else:
            TopUp.objects.filter(pk=top_up_id, state__in=IN_FLIGHT).update(state=TopUpState.PROCESSING, **changes)
    return TopUp.objects.get(pk=top_up_id)


def _tell_end(top_up: TopUp, now: datetime) -> None:
    log.info("top_up_ended", top_up=top_up.pk, state=top_up.state, failure=top_up.failure)
    if top_up.kind == TopUpKind.AUTO:
        invoices.count_failure(top_up, now)


def credit(top_up_id: int, seen: SeenPayment) -> TopUp:
    """Bring a paid top-up's credits into the wallet: once, however often it is seen. Debt is repaid from them first."""
    organization_id = TopUp.objects.values_list("organization_id", flat=True).get(pk=top_up_id)
    now = timezone.now()
    with open_books(organization_id, now) as opened:
        top_up = TopUp.objects.get(pk=top_up_id)  # under the wallet's lock, so that only one sees it unpaid
        new = top_up.state != TopUpState.SUCCEEDED
        if new:
            _check_paid(top_up, seen)
            _post(opened, top_up, seen)
            notices.add(
                f"receipt:{top_up.pk}", organization_id, notices.RECEIPT,
                top_up=top_up.pk, amount=top_up.amount, fee=top_up.fee, tax=seen.tax,
                receipt_url=seen.receipt_url, invoice_url=seen.invoice_url, auto=top_up.kind == TopUpKind.AUTO,
            )  # fmt: skip
            log.info("top_up_credited", top_up=top_up_id, organization=organization_id, nanos=top_up.amount)
    if new:
        _learn_card(organization_id)
    return TopUp.objects.get(pk=top_up_id)


def _check_paid(top_up: TopUp, seen: SeenPayment) -> None:
    expected = top_up.amount + top_up.fee + seen.tax
    if seen.currency != "usd" or seen.received != expected or not seen.payment_intent:
        log.error("top_up_differs", top_up=top_up.pk, received=seen.received, expected=expected, currency=seen.currency)
        raise InvalidAmount(
            f"{top_up}: {format_usd(seen.received)} {seen.currency} was paid, and {format_usd(expected)} asked for."
        )


def _post(opened: OpenBooks, top_up: TopUp, seen: SeenPayment) -> None:
    credit_, *others = ledger.topped_up(
        top_up.pk, clearing(opened), opened.accounts,
        credit=top_up.amount, fee=top_up.fee, tax=seen.tax, by=top_up.created_by_id,
    )  # fmt: skip
    bring_in(opened, credit_, LotKind.PAID)
    opened.books.postings += others
    TopUp.objects.filter(pk=top_up.pk).update(
        state=TopUpState.SUCCEEDED, tax=seen.tax, paid_at=opened.now, updated_at=opened.now, pay_url="", failure="",
        failure_text="", payment_intent=seen.payment_intent, charge=seen.charge, receipt_url=seen.receipt_url,
        invoice_url=seen.invoice_url,
    )  # fmt: skip
    if top_up.kind == TopUpKind.AUTO:
        invoices.forget_failures(top_up.organization_id)


def _learn_card(organization_id: int) -> None:
    """The card that was just used is the one that auto top-up may use; that it cannot be read now is of no matter."""
    customer = BillingAccount.objects.filter(pk=organization_id).values_list("customer", flat=True).first()
    if customer:
        try:
            sync_customer(customer)
        except (PaymentRefused, PaymentsOff, PaymentsUnavailable) as error:
            log.info("card_not_read", organization=organization_id, error=type(error).__name__)


# Finding and sweeping


def find(*, session: str = "", invoice: str = "", intent: str = "") -> TopUp | None:
    """The top-up that has this object of Stripe's."""
    ids = {"checkout_session": session, "invoice": invoice, "payment_intent": intent}
    named = {name: id_ for name, id_ in ids.items() if id_}
    return TopUp.objects.filter(**named).first() if named else None


def adopt(metadata: "reading.Json", *, session: str = "", invoice: str = "", intent: str = "") -> TopUp | None:
    """The top-up that an object of Stripe's says it is of, and which then has it; None for another installation's.
    Raises TopUp.DoesNotExist when it says so of one that is not there."""
    if metadata.get(client.INSTALLATION) != client.installation() or client.TOP_UP not in metadata:
        return None
    top_up = TopUp.objects.get(pk=int(metadata[client.TOP_UP]))
    for name, id_ in {"checkout_session": session, "invoice": invoice, "payment_intent": intent}.items():
        if id_ and getattr(top_up, name) is None:
            try:
                with transaction.atomic():
                    TopUp.objects.filter(pk=top_up.pk, **{name: None}).update(**{name: id_})
            except IntegrityError:
                log.warning("stripe_object_claimed_twice", top_up=top_up.pk, kind=name)
    return TopUp.objects.get(pk=top_up.pk)


def of_payment(payment_intent: str) -> TopUp | None:
    """The top-up that a payment is of, with the Checkout session that it was paid in; None for one of none of ours."""
    top_up = find(intent=payment_intent)
    if top_up is None:
        top_up = adopt(stripe_api().owner_of(payment_intent))
    if top_up is not None and top_up.kind == TopUpKind.MANUAL and top_up.checkout_session is None:
        session = stripe_api().session_of(payment_intent)
        top_up = adopt({**client.tags(), client.TOP_UP: str(top_up.pk)}, session=session)
    return top_up


def sweep(now: datetime | None = None) -> int:
    """Take on what nobody has looked at for a while: a task that was lost, a webhook that never came. How many."""
    now = now or timezone.now()
    waiting = TopUp.objects.filter(state__in=IN_FLIGHT, updated_at__lt=now - LOOK_AGAIN).order_by("updated_at")
    looked = 0
    for top_up_id in list(waiting.values_list("pk", flat=True)[:SWEEP_LIMIT]):
        TopUp.objects.filter(pk=top_up_id).update(updated_at=now)  # the next sweep begins with others
        try:
            advance(top_up_id)
            looked += 1
        except (InvalidAmount, PaymentsUnavailable) as error:
            log.warning("top_up_not_advanced", top_up=top_up_id, error=type(error).__name__)
    return looked
