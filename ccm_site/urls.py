from django.contrib import admin
from django.urls import include, path

import ccm_site.celery  # noqa: F401 - so that tasks which a page starts go to the configured broker

# Here, not at start-up: a process that only serves `/v1` never loads the pages.
admin.autodiscover()

urlpatterns = [
    path("admin/", admin.site.urls),
    path("", include("adminui.urls")),
]
