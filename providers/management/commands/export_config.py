"""`manage.py export_config`: the catalogue and the platform's routes as CCM TOML."""

from typing import Any

from django.core.management.base import BaseCommand

from providers.config_export import export_config


class Command(BaseCommand):
    help = "Write the catalogue and the platform's routes as CCM TOML, secrets as $ENV names."

    def handle(self, **_options: Any) -> None:
        self.stdout.write(export_config(), ending="")
