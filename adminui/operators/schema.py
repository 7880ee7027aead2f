"""What the API says of itself: the OpenAPI schema, and a page that shows it."""

import json
from types import SimpleNamespace
from typing import Any

from django.conf import settings
from django.contrib.admin.views.decorators import staff_member_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.views import SpectacularAPIView
from rest_framework.permissions import IsAdminUser
from rest_framework.renderers import JSONRenderer

from adminui.operators.entry import URLS

TITLE = "CCM operators"
ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "fields"],
            "properties": {
                "code": {"type": "string"},
                "message": {"type": "string"},
                "fields": {"type": "object", "additionalProperties": {"type": "string"}},
            },
        }
    },
}
REFUSALS = {
    "400": "A field is wrong; `fields` names it.",
    "401": "No operator token or session, or one that is not valid.",
    "403": "Your permissions do not allow it.",
    "404": "There is no such thing.",
    "405": "The address takes another method.",
    "409": "It conflicts with what is there, or somebody else must do it.",
    "415": "The body is not JSON.",
    "429": "Too many requests: wait `retry-after` seconds.",
    "503": "The database did not answer: try again.",
}


class TokenScheme(OpenApiAuthenticationExtension):
    target_class = "adminui.operators.auth.TokenAuthentication"
    name = "token"

    def get_security_definition(self, _auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer"}


class SessionScheme(OpenApiAuthenticationExtension):
    target_class = "adminui.operators.auth.OperatorSession"
    name = "session"

    def get_security_definition(self, _auto_schema: Any) -> dict[str, str]:
        return {"type": "apiKey", "in": "cookie", "name": settings.SESSION_COOKIE_NAME}


class Schema(SpectacularAPIView):
    permission_classes = [IsAdminUser]  # noqa: RUF012 - REST framework's
    renderer_classes = [JSONRenderer]  # noqa: RUF012 - the same
    urlconf = URLS
    schema = None
    needs = ""
    custom_settings = {  # noqa: RUF012 - drf-spectacular's
        "TITLE": TITLE,
        "VERSION": "1",
        "DESCRIPTION": "What the pages at /admin/ do, for programs. Sign in with `Authorization: Bearer ccm-op-…` "
        "(Operator tokens in the admin) or with the admin's session. Amounts are US dollars, as text.",
        "COMPONENT_SPLIT_REQUEST": True,
        "POSTPROCESSING_HOOKS": [],
    }

    def _get_schema_response(self, request: Any) -> Any:
        response = super()._get_schema_response(request)
        with_refusals(response.data)
        return response


def with_refusals(schema: dict[str, Any]) -> None:
    """Each operation may be refused: said once, here."""
    components = schema.setdefault("components", {})
    components.setdefault("schemas", {})["Error"] = ERROR
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    for path in schema.get("paths", {}).values():
        for operation in path.values():
            for status, description in REFUSALS.items():
                operation["responses"].setdefault(status, {"description": description, "content": content})


@staff_member_required(login_url="account_login")
def docs(request: HttpRequest) -> HttpResponse:
    page = json.dumps({"url": "/admin/api/schema/", "layout": "BaseLayout", "deepLinking": True})
    context = {"api": SimpleNamespace(title=TITLE), "swagger_settings": page, "csrf": True}
    return render(request, "adminui/api_docs.html", context)
