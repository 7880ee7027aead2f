"""The door of the operators' API. REST framework is loaded by the first who comes through it: neither the gateway nor
the other pages need it."""

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import get_resolver
from django.views.decorators.csrf import csrf_exempt

URLS = "adminui.operators.urls"


@csrf_exempt  # REST framework asks for the token where a session signs in
def enter(request: HttpRequest) -> HttpResponseBase:
    """Raises Resolver404, which is a 404."""
    match = get_resolver(URLS).resolve(request.path_info)
    request.resolver_match = match
    answer: HttpResponseBase = match.func(request, *match.args, **match.kwargs)
    return answer
