"""The secrets of authenticator apps and recovery codes, encrypted at rest (signing_up.MfaAdapter)."""

from allauth.mfa.models import Authenticator
from django.db import transaction

from providers import crypto
from providers.crypto import CannotDecrypt
from providers.services import Rotation

SEALED = ("secret", "seed")
"""The entries of an authenticator's data that allauth encrypts."""


def rotate_second_factors() -> Rotation:
    """Encrypt them anew with the first of CCM_ENCRYPTION_KEYS."""
    rotated = 0
    failed: list[str] = []
    for pk in list(Authenticator.objects.values_list("pk", flat=True)):
        with transaction.atomic():
            row = Authenticator.objects.select_for_update(of=("self",)).select_related("user").filter(pk=pk).first()
            if row is None or not any(name in row.data for name in SEALED):
                continue
            try:
                row.data |= {name: crypto.rotate(row.data[name]) for name in SEALED if name in row.data}
            except CannotDecrypt:
                failed.append(f"{row.user}: {row.get_type_display()}")
                continue
            row.save(update_fields=("data",))
            rotated += 1
    return Rotation(rotated, tuple(failed))
