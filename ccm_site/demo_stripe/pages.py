"""The pages of the stand-in that customers see: Checkout, 3-D Secure, the portal, invoices, receipts. Pure over the
store. Plain forms, no script."""

from collections.abc import Mapping
from html import escape
from pathlib import Path
from urllib.parse import urlsplit

from ccm_site.demo_stripe import bills, money
from ccm_site.demo_stripe.store import Json, Refused, Store

STYLE = (Path(__file__).parent / "style.css").read_text()

EXPLAINED = {
    "4242424242424242": "pays",
    "4000000000000002": "is declined",
    "4000000000009995": "has insufficient funds",
    "4000002500003155": "asks for confirmation (3-D Secure), once",
    "4000002760003184": "asks for confirmation each time: auto top-up cannot use it",
    "4000000000000341": "pays here, and is declined later",
    "4000000000000259": "pays, and the payment is disputed at once",
    "4000000000005423": "pays, and the bank warns of fraud",
    "4000000000005126": "pays, and a refund fails later",
}
"""What the page says of the test cards it offers."""


class Redirect(Exception):
    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.url = url


def usd(cents: int) -> str:
    return f"${cents // 100:,}.{cents % 100:02d}"


def spaced(number: str) -> str:
    return " ".join(number[start : start + 4] for start in range(0, len(number), 4))


def page(title: str, body: str) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1"><meta name="robots" content="noindex">'
        f'<title>{escape(title)}</title><link rel="stylesheet" href="/style.css"></head><body><main>'
        '<p class="demo">This plays Stripe in the demo: no card is charged, and only test cards work.</p>'
        f"{body}</main></body></html>"
    )


def _options(chosen: str) -> str:
    return "".join(
        f'<option value="{number}"{" selected" if number == chosen else ""}>{spaced(number)} – {escape(what)}</option>'
        for number, what in EXPLAINED.items()
    )


def _card_form(action: str, button: str, error: str, chosen: str = "") -> str:
    told = f'<p class="error" role="alert">{escape(error)}</p>' if error else ""
    return (
        f'{told}<form method="post" action="{escape(action)}"><label for="number">Test card</label>'
        f'<select id="number" name="number">{_options(chosen)}</select>'
        f"<button>{escape(button)}</button></form>"
    )


def _lines(lines: list[Json], tax: int, total: int) -> str:
    rows = "".join(f"<dt>{escape(line['description'])}</dt><dd>{usd(line['amount'])}</dd>" for line in lines)
    taxed = f"<dt>Tax</dt><dd>{usd(tax)}</dd>" if tax else ""
    return f'<dl>{rows}{taxed}<dt class="total">Total</dt><dd class="total">{usd(total)}</dd></dl>'


# Checkout


def checkout(store: Store, id_: str, error: str = "", chosen: str = "") -> str:
    session = store.get(id_, "checkout.session")
    bills.expire_if_due(store, session)
    if session["status"] != "open":
        raise Redirect(session["success_url"])
    lines = _lines(session["_lines"], session["total_details"]["amount_tax"], session["amount_total"])
    back = f'<p class="note"><a href="{escape(session["cancel_url"] or "")}">Back without paying</a></p>'
    form = _card_form(f"/pay/{id_}", f"Pay {usd(session['amount_total'])}", error, chosen)
    return page("Checkout", f'<div class="card"><h1>Pay for credits</h1>{lines}{form}{back}</div>')


def pay(store: Store, id_: str, form: Mapping[str, str], origin: str) -> str:
    session = store.get(id_, "checkout.session")
    number = form.get("number", "").replace(" ", "")
    try:
        method = _method(store, session, form)
        if bills.pay_session(store, session, method, origin, agreed=form.get("agreed") == "yes"):
            raise Redirect(session["success_url"])
    except Refused as refused:
        return checkout(store, id_, str(refused), number)
    hidden = f'<input type="hidden" name="method" value="{method["id"]}">'
    return _confirmation(f"/pay/{id_}", hidden, usd(session["amount_total"]))


def _method(store: Store, about: Json, form: Mapping[str, str]) -> Json:
    """The card that was chosen, or the one that is being confirmed."""
    if form.get("method"):
        intent = store.get(about["payment_intent"] or "", "payment_intent")
        if form.get("agreed") != "yes":
            raise Refused(402, "The payment was not confirmed. Try again or take another card.")
        if intent["payment_method"] != form["method"]:
            raise Refused(400, "This is not the card that was to be confirmed.")
        return store.get(form["method"], "payment_method")
    return money.add_method(store, form.get("number", "").replace(" ", ""), 12, 2034)


def _confirmation(action: str, hidden: str, total: str) -> str:
    def button(word: str, value: str) -> str:
        return (
            f'<form method="post" action="{escape(action)}">{hidden}<input type="hidden" name="agreed" value="{value}">'
            f"<button>{word}</button></form>"
        )

    body = f'<div class="card"><h1>Your bank asks</h1><p>Confirm the payment of {total}?</p>'
    return page("3-D Secure", f"{body}{button('Confirm', 'yes')}{button('Refuse', 'no')}</div>")


# Portal


def portal(store: Store, id_: str, error: str = "") -> str:
    visit = store.get(id_, "billing_portal.session")
    customer = store.get(visit["customer"], "customer")
    default = customer["invoice_settings"]["default_payment_method"]
    cards = "".join(
        f'<div class="row"><span>{escape(each["card"]["brand"].title())} ending in {each["card"]["last4"]}'
        f"{' (default)' if each['id'] == default else ''}</span><span>"
        f"{_button(id_, 'default', each['id'], 'Make default')} "
        f"{_button(id_, 'remove', each['id'], 'Remove')}</span></div>"
        for each in store.all("payment_method", customer=customer["id"])
    )
    bills_ = "".join(
        f"<li><a href='/invoice/{each['id']}'>{each['number']}</a> – {usd(each['total'])}, {each['status']}</li>"
        for each in store.all("invoice", customer=customer["id"])
        if each["number"]
    )
    add = _card_form(f"/portal/{id_}", "Add this card", error)
    back = f'<p class="note"><a href="{escape(visit["return_url"] or "/")}">Back to CCM</a></p>'
    body = f"<h2>Cards</h2>{cards or '<p class=note>None yet.</p>'}{add}"
    body += f"<h2>Invoices</h2><ul>{bills_ or '<li>None yet.</li>'}</ul>"
    return page("Billing", f'<div class="card"><h1>Cards and invoices</h1>{body}{back}</div>')


def _button(id_: str, what: str, method: str, word: str) -> str:
    return (
        f'<form class="line" method="post" action="/portal/{id_}"><input type="hidden" name="{what}" value="{method}">'
        f'<button class="plain">{word}</button></form>'
    )


def change(store: Store, id_: str, form: Mapping[str, str], _origin: str) -> str:
    visit = store.get(id_, "billing_portal.session")
    customer = store.get(visit["customer"], "customer")
    try:
        if form.get("remove"):
            method = store.get(form["remove"], "payment_method")
            if customer["invoice_settings"]["default_payment_method"] == method["id"]:
                customer["invoice_settings"]["default_payment_method"] = None
            money.detach(store, method)
        else:
            chosen = form.get("default")
            if not chosen:
                made = money.add_method(store, form.get("number", "").replace(" ", ""), 12, 2034)
                money.attach(store, made, customer["id"])
                chosen = made["id"]
            customer["invoice_settings"]["default_payment_method"] = store.get(chosen, "payment_method")["id"]
            store.emit("customer.updated", customer)
    except Refused as refused:
        return portal(store, id_, str(refused))
    raise Redirect(f"/portal/{id_}")


# Invoices and receipts


def invoice(store: Store, id_: str, error: str = "") -> str:
    found = store.get(id_, "invoice")
    tax = sum(each["amount"] for each in found["total_taxes"])
    pay_form = _card_form(f"/invoice/{id_}", f"Pay {usd(found['total'])}", error) if found["status"] == "open" else ""
    lines = _lines(found["lines"]["data"], tax, found["total"])
    title = f"Invoice {found['number'] or ''}"
    return page(
        title, f'<div class="card"><h1>{title}</h1><p class="note">{found["status"]}</p>{lines}{pay_form}</div>'
    )


def pay_bill(store: Store, id_: str, form: Mapping[str, str], origin: str) -> str:
    """The customer is there, so what the bank asked for is confirmed with it."""
    found = store.get(id_, "invoice")
    try:
        method = money.add_method(store, form.get("number", "").replace(" ", ""), 12, 2034)
        bills.pay_invoice(store, found, method, origin, off_session=False, agreed=True)
    except Refused as refused:
        return invoice(store, id_, str(refused))
    raise Redirect(f"/invoice/{id_}")


def receipt(store: Store, id_: str) -> str:
    charge = store.get(id_, "charge")
    card = store.get(charge["payment_method"])["card"]
    gone = f"<dt>Refunded</dt><dd>{usd(charge['amount_refunded'])}</dd>" if charge["amount_refunded"] else ""
    body = f"<dl><dt>{card['brand'].title()} ending in {card['last4']}</dt><dd>{usd(charge['amount'])}</dd>{gone}</dl>"
    return page("Receipt", f'<div class="card"><h1>Receipt</h1>{body}</div>')


def may_send_to(store: Store, path: str) -> str:
    """Where this page's form may lead, beside here: a form's redirect counts as its target."""
    name, _, id_ = path.strip("/").partition("/")
    found = store.objects.get(id_) if name == "pay" else None
    if found is None or "success_url" not in found:
        return ""
    parts = urlsplit(found["success_url"])
    return f" {parts.scheme}://{parts.netloc}"
