"""Payments at the stand-in: what each test card does, charges, refunds, disputes, and our balance."""

from ccm_site.demo_stripe.store import Json, Refused, Store

CARDS: dict[str, tuple[str, str]] = {
    "4242424242424242": ("visa", "works"),
    "5555555555554444": ("mastercard", "works"),
    "4000000000000002": ("visa", "card_declined"),
    "4000000000009995": ("visa", "insufficient_funds"),
    "4000000000000341": ("visa", "declined_later"),
    "4000002500003155": ("visa", "confirmed_once"),
    "4000002760003184": ("visa", "confirmed_always"),
    "4000000000000259": ("visa", "disputed"),
    "4000000000005423": ("visa", "warned"),
    "4000000000005126": ("visa", "refund_fails"),
    "4000000000007726": ("visa", "refund_pends"),
}
"""Number -> brand and what it does: Stripe's own test cards (https://docs.stripe.com/testing)."""
CONFIRMED = {"confirmed_once", "confirmed_always"}
DECLINES = {
    "card_declined": "Your card was declined.",
    "insufficient_funds": "Your card has insufficient funds.",
}
DISPUTE_FEE = 1500


def add_method(store: Store, number: str, month: int, year: int) -> Json:
    """A card, of which only the last four digits are kept."""
    brand, behaviour = CARDS.get(number, ("", ""))
    if not brand:
        raise Refused(402, "This stand-in knows only the test cards below.", type="card_error", code="incorrect_number")
    card = {"brand": brand, "last4": number[-4:], "exp_month": month, "exp_year": year}
    return store.add("pm", "payment_method", type="card", customer=None, card=card, _behaviour=behaviour)


def attach(store: Store, method: Json, customer: str) -> None:
    method["customer"] = customer
    store.emit("payment_method.attached", method)


def detach(store: Store, method: Json) -> None:
    customer, method["customer"] = method["customer"], None
    store.emit("payment_method.detached", method, previous_attributes={"customer": customer})


def decline(store: Store, intent: Json, code: str, message: str) -> Refused:
    """The payment intent after a declined card, and the API's answer."""
    declined = code in DECLINES
    error = {
        "type": "card_error", "code": "card_declined" if declined else code, "message": message,
        **({"decline_code": "generic_decline" if code == "card_declined" else code} if declined else {}),
    }  # fmt: skip
    intent["status"] = "requires_payment_method"
    intent["last_payment_error"] = error
    store.emit("payment_intent.payment_failed", intent)
    return Refused(402, message, **error, payment_intent=intent)


def confirm(store: Store, intent: Json, method: Json, *, off_session: bool = False, agreed: bool = False) -> bool:
    """Try to collect; False when the customer must confirm first (3-D Secure). `agreed`: they have. Raises Refused."""
    if intent["status"] in {"succeeded", "canceled"}:
        raise Refused(400, f"This PaymentIntent has {intent['status']}.", code="payment_intent_unexpected_state")
    behaviour = method["_behaviour"]
    intent["payment_method"] = method["id"]
    if behaviour in DECLINES:
        raise decline(store, intent, behaviour, DECLINES[behaviour])
    if behaviour == "declined_later" and off_session:
        raise decline(store, intent, "card_declined", DECLINES["card_declined"])
    needs = behaviour == "confirmed_always" or (behaviour == "confirmed_once" and not off_session)
    if needs and not agreed:
        if off_session:
            sentence = "Your card was declined. This transaction requires authentication."
            raise decline(store, intent, "authentication_required", sentence)
        intent["status"] = "requires_action"
        store.emit("payment_intent.requires_action", intent)
        return False
    _charge(store, intent, method)
    return True


def _charge(store: Store, intent: Json, method: Json) -> None:
    amount = intent["amount"]
    charge = store.add(
        "ch", "charge", amount=amount, currency="usd", status="succeeded", paid=True, customer=intent["customer"],
        payment_intent=intent["id"], payment_method=method["id"], amount_refunded=0, refunded=False, receipt_url="",
    )  # fmt: skip
    line = book(store, "charge", charge["id"], amount, fee=amount * 29 // 1000 + 30)
    charge["balance_transaction"] = line["id"]
    intent.update(status="succeeded", amount_received=amount, latest_charge=charge["id"], last_payment_error=None)
    store.emit("charge.succeeded", charge)
    store.emit("payment_intent.succeeded", intent)


def book(store: Store, type_: str, source: str, amount: int, fee: int = 0) -> Json:
    """A line of our balance."""
    return store.add(
        "txn", "balance_transaction", type=type_, reporting_category=type_, source=source, amount=amount, fee=fee,
        net=amount - fee, currency="usd", status="available", available_on=store.now, fee_details=[],
    )  # fmt: skip


def refund(store: Store, intent: Json, amount: int | None, metadata: Json) -> Json:
    charge = store.get(intent["latest_charge"] or "", "charge") if intent.get("latest_charge") else None
    if charge is None:
        raise Refused(400, "This PaymentIntent does not have a successful charge to refund.")
    left = charge["amount"] - charge["amount_refunded"]
    amount = left if amount is None else amount
    if not 0 < amount <= left:
        code = "charge_already_refunded" if left == 0 else "amount_too_large"
        raise Refused(400, f"Refund amount ({amount}) is greater than unrefunded amount on charge ({left})", code=code)
    behaviour = store.get(charge["payment_method"])["_behaviour"]
    made = store.add(
        "re", "refund", amount=amount, currency="usd", charge=charge["id"], payment_intent=intent["id"],
        metadata=metadata, status="pending" if behaviour == "refund_pends" else "succeeded", failure_reason=None,
    )  # fmt: skip
    made["balance_transaction"] = book(store, "refund", made["id"], -amount)["id"]
    charge["amount_refunded"] += amount
    charge["refunded"] = charge["amount_refunded"] == charge["amount"]
    store.emit("refund.created", made)
    store.emit("charge.refunded", charge)
    if behaviour == "refund_fails":
        fail_refund(store, made)
    return made


def settle_refund(store: Store, made: Json) -> None:
    made["status"] = "succeeded"
    store.emit("refund.updated", made)


def fail_refund(store: Store, made: Json, reason: str = "expired_or_canceled_card") -> None:
    """The customer's bank sent it back."""
    made.update(status="failed", failure_reason=reason)
    made["failure_balance_transaction"] = book(store, "refund_failure", made["id"], made["amount"])["id"]
    charge = store.get(made["charge"], "charge")
    charge["amount_refunded"] -= made["amount"]
    charge["refunded"] = False
    store.emit("refund.failed", made)


def after_charge(store: Store, intent: Json) -> None:
    """What the card's bank does later."""
    behaviour = store.get(intent["payment_method"])["_behaviour"]
    if behaviour == "disputed":
        open_dispute(store, intent)
    elif behaviour == "warned":
        warn(store, intent)


def open_dispute(store: Store, intent: Json, amount: int | None = None, reason: str = "fraudulent") -> Json:
    charge = store.get(intent["latest_charge"], "charge")
    amount = charge["amount"] if amount is None else amount
    made = store.add(
        "dp", "dispute", amount=amount, currency="usd", charge=charge["id"], payment_intent=intent["id"],
        status="needs_response", reason=reason, metadata={}, balance_transactions=[], is_charge_refundable=False,
    )  # fmt: skip
    store.emit("charge.dispute.created", made)
    made["balance_transactions"].append(book(store, "adjustment", made["id"], -amount, fee=DISPUTE_FEE))
    store.emit("charge.dispute.funds_withdrawn", made)
    return made


def end_dispute(store: Store, made: Json, status: str) -> None:
    """`status`: won, lost."""
    made["status"] = status
    store.emit("charge.dispute.closed", made)
    if status == "won":
        made["balance_transactions"].append(book(store, "adjustment", made["id"], made["amount"]))
        store.emit("charge.dispute.funds_reinstated", made)


def warn(store: Store, intent: Json) -> Json:
    made = store.add(
        "issfr", "radar.early_fraud_warning", charge=intent["latest_charge"], payment_intent=intent["id"],
        actionable=True, fraud_type="made_with_stolen_card",
    )  # fmt: skip
    store.emit("radar.early_fraud_warning.created", made)
    return made
