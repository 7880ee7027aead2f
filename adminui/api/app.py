"""The API put together: a new resource is a module with a `router`, and a line here."""

from ninja import NinjaAPI

from adminui.api import account, generation, keys, models, route, routing, what_if
from adminui.api.auth import KeyAuth
from adminui.api.docs import Docs
from adminui.api.errors import handle_errors
from adminui.api.render import JsonRenderer

api = NinjaAPI(
    title="CCM",
    version="1",
    description="Everything a key may ask about its organisation. Authenticate as for /v1: "
    "`Authorization: Bearer sk-ccm-…`. Amounts are US dollars.",
    urls_namespace="api",
    docs=Docs(),
    docs_url="/docs",
    openapi_url="/openapi.json",
    auth=KeyAuth(),
    renderer=JsonRenderer(),
)
for resource in (keys, account, models, generation, route, routing, what_if):
    api.add_router("", resource.router)
handle_errors(api)
