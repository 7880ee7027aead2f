"""Content-Security-Policy: Django 5.2 sets none itself."""

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils.deprecation import MiddlewareMixin

COMMON = "default-src 'none'; img-src 'self' data:; font-src 'self'; connect-src 'self'; base-uri 'none'; "
COMMON += "form-action 'self'; frame-ancestors 'none'; "
PAGES = COMMON + "script-src 'self'; style-src 'self'"
# Unfold's pages are built on Alpine expressions and inline styles.
ADMIN = COMMON + "script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'"


class ContentSecurityPolicyMiddleware(MiddlewareMixin):
    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        policy = ADMIN if request.path.startswith(reverse("admin:index")) else PAGES
        response.setdefault("Content-Security-Policy", policy)
        return response
