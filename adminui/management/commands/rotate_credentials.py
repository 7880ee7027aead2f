"""`manage.py rotate_credentials`: encrypts what is encrypted at rest anew with the first encryption key."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from adminui.second_factors import rotate_second_factors
from providers.services import rotate_credentials


class Command(BaseCommand):
    help = (
        "Encrypt every provider's credential and every second factor's secret anew with the first of "
        "CCM_ENCRYPTION_KEYS. To change keys: put the new one first, restart, run this, then remove the old one."
    )

    def handle(self, **_options: Any) -> None:
        credentials, factors = rotate_credentials(), rotate_second_factors()
        self.stdout.write(f"{credentials.rotated} credentials are encrypted with the first key.")
        self.stdout.write(f"{factors.rotated} second factors are encrypted with the first key.")
        if credentials.failed or factors.failed:
            raise CommandError("None of the keys decrypts: " + "; ".join([*credentials.failed, *factors.failed]))
