from typing import Any

from django.apps import AppConfig
from django.db.models.signals import pre_delete


class ProvidersConfig(AppConfig):
    name = "providers"
    verbose_name = "Providers"

    def ready(self) -> None:
        """A signal, since `Model.delete` is not called for cascades and bulk deletes; it is sent
        inside their transaction."""
        from providers.models import CatalogueEntry

        for model in self.get_models():
            if issubclass(model, CatalogueEntry):
                pre_delete.connect(_raise_version, sender=model)


def _raise_version(**_signal: Any) -> None:
    from providers.models import CatalogueVersion

    CatalogueVersion.bump()
