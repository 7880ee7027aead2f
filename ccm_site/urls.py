from allauth.account.decorators import secure_admin_login
from django.contrib import admin
from django.urls import include, path, re_path

import ccm_site.celery  # noqa: F401 - so that tasks which a page starts go to the configured broker
from adminui.operators import entry as operators
from credits.payments.views import webhook

# Here, not at start-up: a process that only serves `/v1` never loads the pages.
admin.autodiscover()
# Operators sign in where customers do: with the same second factor and the same patience with wrong passwords.
admin.site.login = secure_admin_login(admin.site.login)  # type: ignore[method-assign]

urlpatterns = [
    re_path(r"^admin/api/", operators.enter),
    path("admin/", admin.site.urls),
    path("account/", include("allauth.urls")),
    path("webhooks/stripe", webhook, name="stripe-webhook"),
    path("", include("adminui.urls")),
]
