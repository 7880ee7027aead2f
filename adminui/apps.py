from django.apps import AppConfig


class AdminUiConfig(AppConfig):
    name = "adminui"

    def ready(self) -> None:
        from django.contrib import admin

        admin.site.index_title = "Overview"
        admin.site.index_template = "adminui/operations.html"
