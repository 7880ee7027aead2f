from django.apps import AppConfig
from django.db.models.signals import post_migrate


class CreditsConfig(AppConfig):
    name = "credits"

    def ready(self) -> None:
        from credits import guards

        post_migrate.connect(guards.after_migrate, sender=self, dispatch_uid="credits.guards")
