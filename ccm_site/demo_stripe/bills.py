"""Checkout sessions and invoices at the stand-in: what they cost, and how they are paid."""

from typing import Any

from ccm_site.demo_stripe import money
from ccm_site.demo_stripe.store import Json, Refused, Store, truth

TAX_PERCENT = 19
"""Reckoned where automatic tax is asked for."""


def lines_of(asked: Any) -> list[Json]:
    """The lines that a request's `line_items` or `lines` ask for."""
    lines = []
    for line in asked or []:
        price = line["price_data"]
        if price["currency"] != "usd":
            raise Refused(400, "This stand-in takes dollars.", param="currency")
        each = int(price["unit_amount"]) * int(line.get("quantity") or 1)
        lines.append({"description": price["product_data"]["name"], "amount": each, "quantity": 1})
    return lines


def _reckoned(lines: list[Json], params: Json) -> tuple[int, int]:
    """What the lines cost together, and the tax on top."""
    subtotal = sum(line["amount"] for line in lines)
    taxed = truth((params.get("automatic_tax") or {}).get("enabled", "false"))
    return subtotal, subtotal * TAX_PERCENT // 100 if taxed else 0


def _intent(store: Store, customer: str, amount: int, metadata: Json) -> Json:
    return store.add(
        "pi", "payment_intent", amount=amount, amount_received=0, currency="usd", customer=customer, metadata=metadata,
        status="requires_payment_method", latest_charge=None, payment_method=None, last_payment_error=None,
    )  # fmt: skip


# Checkout


def new_session(store: Store, params: Json, origin: str) -> Json:
    store.get(params.get("customer", ""), "customer")
    expires_at = int(params.get("expires_at") or store.now + 86_400)
    if not store.now + 1800 <= expires_at <= store.now + 86_400:
        raise Refused(400, "The `expires_at` timestamp must be between 30 minutes and 24 hours.", param="expires_at")
    lines = lines_of(params.get("line_items"))
    subtotal, tax = _reckoned(lines, params)
    if subtotal < 50:
        raise Refused(400, "The total amount due must add up to at least $0.50 usd", code="amount_too_small")
    made = store.add(
        "cs_test", "checkout.session", mode=params["mode"], customer=params["customer"], currency="usd",
        client_reference_id=params.get("client_reference_id"), metadata=params.get("metadata") or {}, status="open",
        payment_status="unpaid", payment_intent=None, invoice=None,
        amount_subtotal=subtotal, amount_total=subtotal + tax,
        total_details={"amount_tax": tax, "amount_discount": 0, "amount_shipping": 0}, expires_at=expires_at,
        success_url=params["success_url"], cancel_url=params.get("cancel_url"), _lines=lines,
        _intent=params.get("payment_intent_data") or {}, _invoice=params.get("invoice_creation") or {},
    )  # fmt: skip
    made["url"] = f"{origin}/pay/{made['id']}"
    return made


def expire_if_due(store: Store, session: Json) -> None:
    if session["status"] == "open" and store.now >= session["expires_at"]:
        expire(store, session)


def expire(store: Store, session: Json) -> None:
    if session["status"] != "open":
        raise Refused(400, f"Only open sessions can be expired; this one is {session['status']}.")
    session.update(status="expired", url=None)
    store.emit("checkout.session.expired", session)


def pay_session(store: Store, session: Json, method: Json, origin: str, *, agreed: bool = False) -> bool:
    """False when the customer must confirm first. Raises Refused for a declined card: they may try another."""
    expire_if_due(store, session)
    if session["status"] != "open":
        raise Refused(400, f"This page is {session['status']}.")
    about = session["_intent"]
    if session["payment_intent"] is None:
        intent = _intent(store, session["customer"], session["amount_total"], about.get("metadata") or {})
        session["payment_intent"] = intent["id"]
    intent = store.get(session["payment_intent"])
    if not money.confirm(store, intent, method, agreed=agreed):
        return False
    _give_receipt(store, intent, origin)
    if about.get("setup_future_usage"):
        money.attach(store, method, session["customer"])
    session.update(status="complete", payment_status="paid", url=None)
    if truth(session["_invoice"].get("enabled", "false")):
        _bill_for(store, session, intent, origin)
    store.emit("checkout.session.completed", session)
    money.after_charge(store, intent)
    return True


def _give_receipt(store: Store, intent: Json, origin: str) -> None:
    store.get(intent["latest_charge"])["receipt_url"] = f"{origin}/receipt/{intent['latest_charge']}"


def _bill_for(store: Store, session: Json, intent: Json, origin: str) -> None:
    metadata = (session["_invoice"].get("invoice_data") or {}).get("metadata") or {}
    invoice = _invoice(store, session["customer"], metadata)
    invoice["lines"]["data"] = session["_lines"]
    tax = session["total_details"]["amount_tax"]
    _total(invoice, session["amount_subtotal"], tax)
    invoice.update(status="paid", attempted=True, amount_paid=session["amount_total"], amount_remaining=0)
    _number(store, invoice, origin)
    _paid_by(store, invoice, intent)
    session["invoice"] = invoice["id"]
    store.emit("invoice.paid", invoice)


# Invoices


def _invoice(store: Store, customer: str, metadata: Json) -> Json:
    return store.add(
        "in", "invoice", customer=customer, currency="usd", metadata=metadata, status="draft", attempted=False,
        auto_advance=False, lines={"object": "list", "data": [], "has_more": False}, subtotal=0, total=0, amount_due=0,
        amount_paid=0, amount_remaining=0, total_taxes=[], number=None, hosted_invoice_url=None, invoice_pdf=None,
        payments={"object": "list", "data": [], "has_more": False}, default_payment_method=None, _tax={},
    )  # fmt: skip


def new_invoice(store: Store, params: Json) -> Json:
    customer = store.get(params.get("customer", ""), "customer")
    made = _invoice(store, customer["id"], params.get("metadata") or {})
    made["default_payment_method"] = params.get("default_payment_method")
    made["_tax"] = {"automatic_tax": params.get("automatic_tax") or {}}
    store.emit("invoice.created", made)
    return made


def add_lines(invoice: Json, params: Json) -> Json:
    _expect(invoice, "draft")
    invoice["lines"]["data"] += lines_of(params.get("lines"))
    _total(invoice, *_reckoned(invoice["lines"]["data"], invoice["_tax"]))
    return invoice


def _total(invoice: Json, subtotal: int, tax: int) -> None:
    invoice.update(subtotal=subtotal, total=subtotal + tax, amount_due=subtotal + tax, amount_remaining=subtotal + tax)
    invoice["total_taxes"] = [{"amount": tax, "tax_behavior": "exclusive"}] if tax else []


def _number(store: Store, invoice: Json, origin: str) -> None:
    url = f"{origin}/invoice/{invoice['id']}"
    count = sum(each["number"] is not None for each in store.all("invoice"))
    invoice.update(number=f"DEMO-{count + 1:04d}", hosted_invoice_url=url, invoice_pdf=url)


def finalize(store: Store, invoice: Json, origin: str) -> Json:
    _expect(invoice, "draft")
    invoice["status"] = "open"
    _number(store, invoice, origin)
    _paid_by(store, invoice, _intent(store, invoice["customer"], invoice["amount_due"], {}))
    store.emit("invoice.finalized", invoice)
    return invoice


def _paid_by(store: Store, invoice: Json, intent: Json) -> None:
    payment = store.add(
        "inpay", "invoice_payment", invoice=invoice["id"], amount_requested=invoice["amount_due"], currency="usd",
        is_default=True, status="open", payment={"type": "payment_intent", "payment_intent": intent["id"]},
    )  # fmt: skip
    invoice["payments"]["data"] = [payment]


def intent_of(store: Store, invoice: Json) -> Json:
    return store.get(invoice["payments"]["data"][0]["payment"]["payment_intent"])


def pay_invoice(
    store: Store, invoice: Json, method: Json, origin: str, *, off_session: bool, agreed: bool = False
) -> Json:
    """Raises Refused when it cannot be collected."""
    if invoice["status"] == "paid":
        raise Refused(400, "Invoice is already paid", code="invoice_already_paid")
    _expect(invoice, "open")
    invoice["attempted"] = True
    intent = intent_of(store, invoice)
    try:
        collected = money.confirm(store, intent, method, off_session=off_session, agreed=agreed)
    except Refused:
        store.emit("invoice.payment_failed", invoice)
        raise
    if collected:
        _give_receipt(store, intent, origin)
        invoice.update(status="paid", amount_paid=invoice["amount_due"], amount_remaining=0)
        invoice["payments"]["data"][0]["status"] = "paid"
        store.emit("invoice.paid", invoice)
        money.after_charge(store, intent)
    return invoice


def void(store: Store, invoice: Json) -> Json:
    _expect(invoice, "open")
    invoice["status"] = "void"
    intent_of(store, invoice)["status"] = "canceled"
    store.emit("invoice.voided", invoice)
    return invoice


def _expect(invoice: Json, status: str) -> None:
    if invoice["status"] != status:
        raise Refused(400, f"This invoice is {invoice['status']}, not {status}.", code="invoice_not_editable")
