"""The stand-in's HTTP API: which path does what. Pure over the store."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from ccm_site.demo_stripe import bills, money
from ccm_site.demo_stripe.store import Json, Refused, Store, expanded, listed, truth

Call = Callable[[Store, Json, str, str], Json]
"""Called with the store, the parameters, the id in the path ("" for none) and the stand-in's own address."""


def nested(pairs: list[tuple[str, str]]) -> Json:
    """`a[b][0][c]=v` as Stripe's clients send it, as nested objects and lists."""
    tree: Json = {}
    for name, value in pairs:
        keys = re.findall(r"[^\[\]]+", name)
        at = tree
        for key in keys[:-1]:
            at = at.setdefault(key, {})
        if name.endswith("[]"):
            at.setdefault(keys[-1], {})[str(len(at[keys[-1]]))] = value
        else:
            at[keys[-1]] = value
    return {key: _listed(value) for key, value in tree.items()}


def _listed(at: Any) -> Any:
    if not isinstance(at, dict):
        return at
    inner = {key: _listed(value) for key, value in at.items()}
    if inner and all(key.isdecimal() for key in inner):
        return [inner[key] for key in sorted(inner, key=int)]
    return inner


def _customer(store: Store, params: Json, _id: str, _origin: str) -> Json:
    fields = {name: params.get(name) for name in ("name", "email")}
    made = store.add(
        "cus", "customer", **fields, metadata=params.get("metadata") or {},
        invoice_settings={"default_payment_method": None},
    )  # fmt: skip
    store.emit("customer.created", made)
    return made


def _change_customer(store: Store, params: Json, id_: str, _origin: str) -> Json:
    found = store.get(id_, "customer")
    found["invoice_settings"].update(params.get("invoice_settings") or {})
    store.emit("customer.updated", found)
    return found


def _delete_customer(store: Store, _params: Json, id_: str, _origin: str) -> Json:
    found = store.get(id_, "customer")
    found["deleted"] = True
    store.emit("customer.deleted", found)
    return {"id": id_, "object": "customer", "deleted": True}


def _methods(store: Store, params: Json, id_: str, _origin: str) -> Json:
    store.get(id_, "customer")
    return listed(store.all("payment_method", customer=id_), params, f"/v1/customers/{id_}/payment_methods")


def _portal(store: Store, params: Json, _id: str, origin: str) -> Json:
    store.get(params.get("customer", ""), "customer")
    made = store.add("bps", "billing_portal.session", customer=params["customer"], return_url=params.get("return_url"))
    made["url"] = f"{origin}/portal/{made['id']}"
    return made


def _session(store: Store, params: Json, _id: str, origin: str) -> Json:
    return bills.new_session(store, params, origin)


def _read_session(store: Store, _params: Json, id_: str, _origin: str) -> Json:
    found = store.get(id_, "checkout.session")
    bills.expire_if_due(store, found)
    return found


def _expire_session(store: Store, _params: Json, id_: str, _origin: str) -> Json:
    found = store.get(id_, "checkout.session")
    bills.expire(store, found)
    return found


def _pay(store: Store, params: Json, id_: str, origin: str) -> Json:
    invoice = store.get(id_, "invoice")
    method = store.get(params.get("payment_method") or invoice["default_payment_method"] or "", "payment_method")
    return bills.pay_invoice(store, invoice, method, origin, off_session=truth(params.get("off_session", "false")))


def _refund(store: Store, params: Json, _id: str, _origin: str) -> Json:
    amount = int(params["amount"]) if "amount" in params else None
    intent = store.get(params.get("payment_intent", ""), "payment_intent")
    return money.refund(store, intent, amount, params.get("metadata") or {})


def _invoice_payments(store: Store, params: Json, _id: str, _origin: str) -> Json:
    intent = (params.get("payment") or {}).get("payment_intent")
    found = [each for each in store.all("invoice_payment") if each["payment"]["payment_intent"] == intent]
    return listed(found, params, "/v1/invoice_payments")


def _setup_intent(store: Store, params: Json, _id: str, _origin: str) -> Json:
    """Keeps a card of a customer for later."""
    method = store.get(params.get("payment_method", ""), "payment_method")
    money.attach(store, method, store.get(params.get("customer", ""), "customer")["id"])
    made = store.add(
        "seti", "setup_intent", customer=params["customer"], payment_method=method["id"], status="succeeded",
        usage="off_session",
    )  # fmt: skip
    store.emit("setup_intent.succeeded", made)
    return made


def _read(kind: str) -> Call:
    return lambda store, _params, id_, _origin: store.get(id_, kind)


def _list(kind: str, *filters: str) -> Call:
    def call(store: Store, params: Json, _id: str, _origin: str) -> Json:
        found = store.all(kind, **{name: params[name] for name in filters if name in params})
        if len(params.get("types", [])) > 20:
            raise Refused(400, "Array above maximum size 20", param="types")
        if "types" in params:
            found = [each for each in found if each["type"] in params["types"]]
        return listed(found, params, f"/v1/{kind}s")

    return call


ROUTES: list[tuple[str, str, Call]] = [
    ("POST", "customers", _customer),
    ("POST", "customers/{id}", _change_customer),
    ("DELETE", "customers/{id}", _delete_customer),
    ("GET", "customers/{id}", _read("customer")),
    ("GET", "customers/{id}/payment_methods", _methods),
    ("POST", "billing_portal/sessions", _portal),
    ("POST", "checkout/sessions", _session),
    ("GET", "checkout/sessions", _list("checkout.session", "payment_intent")),
    ("GET", "checkout/sessions/{id}", _read_session),
    ("POST", "checkout/sessions/{id}/expire", _expire_session),
    ("POST", "setup_intents", _setup_intent),
    ("GET", "payment_intents/{id}", _read("payment_intent")),
    ("GET", "invoices", _list("invoice", "customer")),
    ("POST", "invoices", lambda store, params, _id, _origin: bills.new_invoice(store, params)),
    ("GET", "invoices/{id}", _read("invoice")),
    (
        "POST",
        "invoices/{id}/add_lines",
        lambda store, params, id_, _o: bills.add_lines(store.get(id_, "invoice"), params),
    ),
    (
        "POST",
        "invoices/{id}/finalize",
        lambda store, _p, id_, origin: bills.finalize(store, store.get(id_, "invoice"), origin),
    ),
    ("POST", "invoices/{id}/pay", _pay),
    ("POST", "invoices/{id}/void", lambda store, _p, id_, _o: bills.void(store, store.get(id_, "invoice"))),
    ("GET", "invoice_payments", _invoice_payments),
    ("POST", "refunds", _refund),
    ("GET", "refunds", _list("refund", "payment_intent")),
    ("GET", "refunds/{id}", _read("refund")),
    ("GET", "disputes/{id}", _read("dispute")),
    ("GET", "radar/early_fraud_warnings/{id}", _read("radar.early_fraud_warning")),
    ("GET", "events", _list("event")),
    ("GET", "balance_transactions", _list("balance_transaction")),
]
PATTERNS = [
    (method, re.compile("/v1/" + path.replace("{id}", "([A-Za-z0-9_]+)")), call) for method, path, call in ROUTES
]


def call(store: Store, method: str, path: str, params: Json, origin: str) -> Json:
    """The answer to an API request. Raises Refused."""
    for wanted, pattern, function in PATTERNS:
        match = pattern.fullmatch(path)
        if match and wanted == method:
            expand = params.pop("expand", [])
            found = function(store, params, match.group(1) if pattern.groups else "", origin)
            if found.get("deleted"):
                found = {"id": found["id"], "object": found["object"], "deleted": True}
            paths = expand if isinstance(expand, list) else []
            if any(path.count(".") > 3 for path in paths):
                raise Refused(400, "You cannot expand more than 4 levels of a property.", param="expand")
            if found["object"] == "invoice" and not any(path.split(".")[0] == "payments" for path in paths):
                found = {name: value for name, value in found.items() if name != "payments"}
            answer: Json = shown(expanded(store, found, paths))
            return answer
    raise Refused(404, f"Unrecognized request URL ({method}: {path}).")


def shown(at: Any) -> Any:
    """Without what is the stand-in's own."""
    if isinstance(at, list):
        return [shown(each) for each in at]
    if isinstance(at, dict):
        return {key: shown(value) for key, value in at.items() if not key.startswith("_")}
    return at


MOST_ANSWERS = 2000


def once(store: Store, key: str, asked: str, answer: Callable[[], tuple[int, Json]]) -> tuple[int, Json, bool]:
    """The answer to a request with an idempotency key: the first one again, whatever it was, for the same request.
    Raises Refused when the key was used for another. The last says whether it is a repetition."""
    if not key:
        return (*answer(), False)
    kept = store.answers.get(key)
    if kept is not None:
        if kept["asked"] != asked:
            raise Refused(
                400,
                "Keys for idempotent requests can only be used with the parameters they were first used with.",
                type="idempotency_error",
            )
        return kept["status"], kept["body"], True
    status, body = answer()
    if len(store.answers) >= MOST_ANSWERS:
        del store.answers[next(iter(store.answers))]
    store.answers[key] = {"asked": asked, "status": status, "body": body}
    return status, body, False


def fingerprint(method: str, path: str, params: Mapping[str, Any]) -> str:
    return json.dumps([method, path, params], sort_keys=True)
