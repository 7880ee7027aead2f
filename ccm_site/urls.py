from django.contrib import admin
from django.urls import include, path

# Here, not at start-up: a process that only serves `/v1` never loads the pages.
admin.autodiscover()

urlpatterns = [
    path("admin/", admin.site.urls),
    path("", include("adminui.urls")),
]
