"""`manage.py rotate_credentials`: encrypts every credential anew with the first encryption key."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from providers.services import rotate_credentials


class Command(BaseCommand):
    help = (
        "Encrypt every provider's credential anew with the first of CCM_ENCRYPTION_KEYS. "
        "To change keys: put the new one first, restart, run this, then remove the old one."
    )

    def handle(self, **_options: Any) -> None:
        rotation = rotate_credentials()
        self.stdout.write(f"{rotation.rotated} credentials are encrypted with the first key.")
        if rotation.failed:
            raise CommandError("None of the keys decrypts: " + "; ".join(rotation.failed))
