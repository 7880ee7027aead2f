"""The door of the operators' API. REST framework is loaded by the first who comes through it: neither the gateway nor
the other pages need it."""

from django.http import HttpRequest, JsonResponse
from django.http.response import HttpResponseBase
from django.urls import Resolver404, get_resolver
from django.views.decorators.csrf import csrf_exempt

URLS = "adminui.operators.urls"


@csrf_exempt  # REST framework asks for the token where a session signs in
def enter(request: HttpRequest) -> HttpResponseBase:
    try:
        match = get_resolver(URLS).resolve(request.path_info)
    except Resolver404:
        error = {"code": "not_found", "message": "There is no such address: see /admin/api/docs/.", "fields": {}}
        return JsonResponse({"error": error}, status=404)
    request.resolver_match = match
    answer: HttpResponseBase = match.func(request, *match.args, **match.kwargs)
    return answer
