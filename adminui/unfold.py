"""The look and the sidebar of the operators' pages (django-unfold). Imported by the settings:
nothing here may touch models or URLs before a request comes in."""

from typing import Any

from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse

# group -> (label, app_label.model, Material symbol); a model that is not registered is left out.
SIDEBAR: dict[str, tuple[tuple[str, str, str], ...]] = {
    "Customers": (
        ("Users", "accounts.user", "person"),
        ("E-mail addresses", "account.emailaddress", "alternate_email"),
        ("Second factors", "mfa.authenticator", "phonelink_lock"),
        ("Groups", "auth.group", "groups"),
        ("Operator tokens", "accounts.operatortoken", "vpn_key"),
        ("Organisations", "accounts.organization", "apartment"),
        ("API keys", "accounts.apikey", "key"),
        ("Key budgets", "credits.keybudget", "savings"),
        ("Wallets", "credits.wallet", "account_balance_wallet"),
        ("Usage", "credits.usagerollup", "monitoring"),
        ("Requests", "credits.usagerecord", "receipt_long"),
        ("Usage archives", "credits.usagearchive", "inventory_2"),
        ("Promo codes", "credits.promocode", "redeem"),
        ("Redemptions", "credits.promoredemption", "how_to_reg"),
    ),
    "Payments": (
        ("Top-ups", "credits.topup", "add_card"),
        ("Disputes", "credits.paymentdispute", "gavel"),
        ("Auto top-ups", "credits.autotopup", "autorenew"),
        ("Billing accounts", "credits.billingaccount", "contact_page"),
        ("Stripe events", "credits.stripeevent", "webhook"),
    ),
    "Routing": (
        ("Providers", "providers.provider", "dns"),
        ("Provider status", "credits.targetrollup", "vital_signs"),
        ("Models", "providers.model", "neurology"),
        ("Prices", "providers.modelprice", "sell"),
        ("Costs", "providers.mappingcost", "request_quote"),
        ("Price proposals", "providers.priceproposal", "price_change"),
        ("Router profiles", "providers.routerprofile", "alt_route"),
        ("Profile versions", "providers.profileversion", "history"),
    ),
    "Ledger": (
        ("Holds", "credits.hold", "lock_clock"),
        ("Transfers", "credits.transfer", "swap_horiz"),
        ("Refunds", "credits.correction", "undo"),
        ("Adjustments", "credits.adjustment", "balance"),
        ("Holds written off", "credits.holdwriteoff", "money_off"),
        ("Reconciliation runs", "credits.reconciliationrun", "fact_check"),
    ),
}


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """The sidebar: what this operator may see, in the order of SIDEBAR."""
    from django.contrib import admin

    registered = {model._meta.label_lower: page for model, page in admin.site._registry.items()}
    groups: list[dict[str, Any]] = [
        {"items": [{"title": "Overview", "icon": "dashboard", "link": reverse("admin:index")}]}
    ]
    for title, entries in SIDEBAR.items():
        items = [
            {"title": label, "icon": icon, "link": reverse(f"admin:{name.replace('.', '_')}_changelist")}
            for label, name, icon in entries
            if name in registered and registered[name].has_view_permission(request)
        ]
        if items:
            groups.append({"title": title, "separator": True, "items": items})
    return groups


UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "CCM",
    "SITE_HEADER": "CCM",
    "SITE_SUBHEADER": "Operations",
    "SITE_SYMBOL": "alt_route",
    "SITE_URL": "/",
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": lambda _request: static("adminui/favicon.svg")},
    ],
    "SHOW_HISTORY": True,
    "SHOW_VIEW_ON_SITE": True,
    "DASHBOARD_CALLBACK": "adminui.operations.dashboard",
    "COLORS": {
        "primary": {
            "50": "#ecfdf7",
            "100": "#d1faec",
            "200": "#a7f3da",
            "300": "#6ee7c3",
            "400": "#34d3a6",
            "500": "#14b88c",
            "600": "#0a8f6c",
            "700": "#0b7259",
            "800": "#0e5a48",
            "900": "#0e4a3c",
            "950": "#042a23",
        }
    },
    "SIDEBAR": {"show_search": True, "show_all_applications": False, "navigation": "adminui.unfold.navigation"},
    "COMMAND": {"search_models": False},
}
