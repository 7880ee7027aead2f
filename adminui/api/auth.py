"""Who asks: an API key of CCM, looked up in the same cache as for `/v1`."""

from typing import Any

from asgiref.sync import sync_to_async
from django.http import HttpRequest
from ninja.security.http import HttpAuthBase

from accounts.models import User
from accounts.permissions import Permission, may
from accounts.selectors import role_in
from accounts.types import Principal
from gateway.errors import GatewayError
from gateway.runtime import running


class KeyAuth(HttpAuthBase):
    """`Authorization: Bearer` or `x-api-key`. Raises what `KeyCache.authenticate` raises."""

    openapi_scheme = "bearer"
    is_async = True

    async def __call__(self, request: HttpRequest) -> Principal:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        presented = token.strip() if scheme.lower() == "bearer" else request.headers.get("x-api-key", "").strip()
        return await running().keys.authenticate(presented)


def principal_of(request: HttpRequest) -> Principal:
    principal: Any = request.auth  # type: ignore[attr-defined]
    assert isinstance(principal, Principal)
    return principal


async def require(request: HttpRequest, permission: Permission) -> Principal:
    """The principal, when whoever made its key may do this in the organisation. Raises GatewayError (403):
    a key may never do more than the person it was made by."""
    principal = principal_of(request)
    role = await sync_to_async(role_in)(principal.organization_id, principal.created_by_id)
    if not may(role, permission):
        raise GatewayError(
            403,
            "permission_error",
            f"This API key may not {permission.value}: only keys made by a member whose role allows it may.",
            should_retry=False,
        )
    return principal


async def require_management(request: HttpRequest, permission: Permission) -> Principal:
    """The principal, when its key is a management key and whoever made that may do this. Raises GatewayError (403)."""
    if not principal_of(request).is_management:
        raise GatewayError(
            403,
            "permission_error",
            "Only management keys can do this. Owners and admins make them on the page API keys.",
            should_retry=False,
        )
    return await require(request, permission)


def author_of(principal: Principal) -> User | None:
    """Who answers for what the key does: whoever made it. Blocking."""
    return User.objects.filter(pk=principal.created_by_id).first() if principal.created_by_id is not None else None
