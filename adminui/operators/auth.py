"""Who asks: an operator's token, or the session of somebody who signed in to the admin; and what they may do."""

from typing import Any

from django.contrib.auth.models import AnonymousUser
from rest_framework.authentication import BaseAuthentication, SessionAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import DjangoModelPermissions
from rest_framework.request import Request

from accounts import operator_tokens
from accounts.models import User


class TokenAuthentication(BaseAuthentication):
    """`Authorization: Bearer ccm-op-…`."""

    def authenticate(self, request: Request) -> tuple[User, Any] | None:
        scheme, _, token = get_authorization_header(request).decode("latin-1").partition(" ")
        if scheme.lower() != "bearer":
            return None
        found = operator_tokens.find(token.strip())
        if found is None:
            raise AuthenticationFailed(
                f"This is no operator token that is valid: one begins with {operator_tokens.PREFIX} and is made at "
                "/admin/ (Operator tokens)."
            )
        return found.user, found

    def authenticate_header(self, _request: Request) -> str:
        return "Bearer"


class OperatorSession(SessionAuthentication):
    """With Django's token against forged requests, as its pages."""


class OperatorPermissions(DjangoModelPermissions):
    """Django's permissions, as in the admin; reading takes the right to view. An action's `needs` stands for
    the permission that its method would ask for."""

    perms_map = {  # noqa: RUF012 - REST framework's
        **DjangoModelPermissions.perms_map,
        "GET": ["%(app_label)s.view_%(model_name)s"],
        "HEAD": ["%(app_label)s.view_%(model_name)s"],
        "OPTIONS": ["%(app_label)s.view_%(model_name)s"],
    }

    def has_permission(self, request: Request, view: Any) -> bool:
        user = request.user
        if user is None or isinstance(user, AnonymousUser) or not (user.is_staff and user.is_active):
            return False
        needs = getattr(view, "needs", "")
        return bool(user.has_perm(needs) if needs else super().has_permission(request, view))
