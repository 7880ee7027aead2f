"""The register of routes: who may use each, and how one names an object there. A new route needs one row here; without
it `test_isolation.py` fails.

- `page(PERMISSION, ...)`: a page or form of an organisation. `kwargs`, `query` and `form` say how an object of the
  organisation is named; left out, the route names none.
- `PUBLIC`: for everybody. `PERSON`: about whoever is signed in, or open to everyone who holds a token.
- `OPERATORS`: a customer is refused.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from accounts.models import ApiKey, Invitation, Organization, User
from accounts.permissions import Permission as May
from credits.payments.models import TopUp
from providers.models import Credential


@dataclass(frozen=True)
class Things:
    """What one tenant has: one object of each kind that a route can name."""

    organization: Organization
    owner: User
    member: User
    key: ApiKey
    credential: Credential
    invitation: Invitation
    top_up: TopUp
    request_id: str
    session_id: str


Named = Callable[[Things], Mapping[str, Any]]


def _nothing(_things: Things) -> Mapping[str, Any]:
    return {}


@dataclass(frozen=True)
class Row:
    permission: May | None = None
    method: str = "GET"
    kwargs: Named = _nothing
    query: Named = _nothing
    form: Named = _nothing
    fixed: Mapping[str, str] = field(default_factory=dict)
    """URL arguments that name no object."""
    public: bool = False
    """The page is for visitors too."""

    @property
    def names_an_object(self) -> bool:
        return any(named is not _nothing for named in (self.kwargs, self.query, self.form))


PUBLIC, PERSON, OPERATORS = "public", "person", "operators"


def page(permission: May | None = None, **more: Any) -> Row:
    return Row(permission, **more)


def post(permission: May | None = None, **more: Any) -> Row:
    return Row(permission, "POST", **more)


def _key(things: Things) -> Mapping[str, Any]:
    return {"key_id": things.key.pk}


def _key_named(things: Things) -> Mapping[str, Any]:
    return {"key": things.key.pk}


def _credential(things: Things) -> Mapping[str, Any]:
    return {"credential_id": things.credential.pk}


def _top_up(things: Things) -> Mapping[str, Any]:
    return {"top_up_id": things.top_up.pk}


def _member(things: Things) -> Mapping[str, Any]:
    return {"user_id": things.member.pk}


ROUTES: dict[str, Row | str] = {
    "home": page(public=True),
    "models": page(public=True),
    "sign-in": PUBLIC,
    "favicon": PUBLIC,
    "api-unknown": PUBLIC,
    "api:api-root": PUBLIC,
    "api:openapi-json": PUBLIC,
    "api:openapi-view": PUBLIC,
    "keys": page(May.USE_KEYS),
    "key-create": post(May.USE_KEYS),
    "key-one": page(May.USE_KEYS, kwargs=_key),
    "key-rotate": post(May.USE_KEYS, kwargs=_key),
    "key-disable": post(May.USE_KEYS, kwargs=_key),
    "key-enable": post(May.USE_KEYS, kwargs=_key),
    "key-revoke": post(May.USE_KEYS, kwargs=_key),
    "routing": page(May.VIEW_ROUTING, query=_key_named),
    "routing-revert": post(May.MANAGE_ROUTING, form=lambda things: {"key": things.key.pk, "version": 1}),
    "routing-try": post(May.VIEW_ROUTING, form=_key_named),
    "routing-savings": page(May.VIEW_USAGE),
    "own-keys": page(May.MANAGE_SETTINGS),
    "own-keys-only": post(May.MANAGE_SETTINGS),
    "own-key-replace": post(May.MANAGE_SETTINGS, kwargs=_credential, form=lambda _: {"secret": "sk-other"}),
    "own-key-switch": post(May.MANAGE_SETTINGS, kwargs=_credential),
    "own-key-test": post(May.MANAGE_SETTINGS, kwargs=_credential),
    "own-key-delete": post(May.MANAGE_SETTINGS, kwargs=_credential),
    "connect": page(May.USE_KEYS, query=_key_named),
    "connect-check": page(May.USE_KEYS, query=lambda things: {"key": things.key.pk, "since": 0}),
    "usage": page(May.VIEW_USAGE),
    "usage-requests": page(May.VIEW_USAGE),
    "usage-request": page(May.VIEW_USAGE, kwargs=lambda things: {"request_id": things.request_id}),
    "usage-export": page(May.VIEW_USAGE, fixed={"form": "csv"}),
    "usage-sessions": page(May.VIEW_USAGE),
    "usage-session": page(May.VIEW_USAGE, kwargs=lambda things: {"session_id": things.session_id}),
    "organization": page(May.VIEW_MEMBERS),
    "organization-rename": post(May.MANAGE_SETTINGS),
    "organization-invite": post(May.MANAGE_MEMBERS),
    "organization-withdraw": post(May.MANAGE_MEMBERS, kwargs=lambda things: {"invitation_id": things.invitation.pk}),
    "organization-role": post(May.MANAGE_MEMBERS, kwargs=_member),
    "organization-remove": post(kwargs=_member),  # everybody may leave
    "organization-log": page(May.MANAGE_MEMBERS),
    "organization-export": page(May.MANAGE_SETTINGS),
    "organization-close": page(May.OWN),
    "organization-prompt-logging": post(May.MANAGE_SETTINGS),
    "own-data": PERSON,
    "account-delete": PERSON,
    "billing": page(May.VIEW_BILLING),
    "billing-buy": page(May.MANAGE_BILLING),
    "billing-top-up": page(May.VIEW_BILLING, kwargs=_top_up),
    "billing-top-up-status": page(May.VIEW_BILLING, kwargs=_top_up),
    "billing-portal": post(May.MANAGE_BILLING),
    "billing-portal-wait": page(May.MANAGE_BILLING, fixed={"name": "a-name-that-nobody-has-made"}),
    "billing-auto": post(May.MANAGE_BILLING),
    "billing-low-balance": post(May.MANAGE_BILLING),
    "documents": PUBLIC,
    "document": PUBLIC,
    "stripe-webhook": PUBLIC,
    "organizations-new": PERSON,
    "invitation": PERSON,
    "redeem": post(May.MANAGE_BILLING),
}

ELSEWHERE = ("admin/", "^admin/api/", "account/", "password/", "api/v1/")
"""Beginnings of addresses whose routes are allauth's, the operators' (`test_customers_have_no_admin`) or the API's
(`api/test_isolation.py`)."""
