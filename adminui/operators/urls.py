"""The resources of the operators' API: a new one is a view set and a line here."""

from django.urls import include, path
from django.views.decorators.csrf import ensure_csrf_cookie
from rest_framework.routers import SimpleRouter

from adminui.operators import accounts, catalogue, money, profiles, schema

router = SimpleRouter()
router.register("providers", catalogue.Providers)
router.register("credentials", catalogue.Credentials)
router.register("models", catalogue.Models)
router.register("mappings", catalogue.Mappings)
router.register("prices", catalogue.Prices)
router.register("costs", catalogue.Costs)
router.register("profiles", profiles.Profiles)
router.register("organizations", accounts.Organizations)
router.register("keys", accounts.Keys)
router.register("wallets", money.Wallets)
router.register("holds", money.Holds)
router.register("usage", money.Usage)
router.register("adjustments", money.Adjustments)

urlpatterns = [
    path("admin/api/", include(router.urls)),
    path("admin/api/schema/", schema.Schema.as_view()),
    path("admin/api/docs/", ensure_csrf_cookie(schema.docs)),
]
