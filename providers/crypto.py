"""Encryption at rest for providers' credentials: Fernet, with keys that can be rotated.

The first key of CCM_ENCRYPTION_KEYS encrypts, every one of them decrypts.
"""

import functools

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from providers.errors import ProvidersError

SHOWN = 4
LONG_ENOUGH_TO_SHOW_ITS_END = 16


class CannotDecrypt(ProvidersError):
    code = "cannot_decrypt"


def encrypt(secret: str) -> str:
    """The sealed form of `secret`. Raises ImproperlyConfigured when a key is no Fernet key."""
    return _box().encrypt(secret.encode()).decode()


def decrypt(sealed: str) -> str:
    """Raises CannotDecrypt when none of the keys fits, ImproperlyConfigured when a key is no Fernet key."""
    try:
        return _box().decrypt(sealed.encode()).decode()
    except InvalidToken:
        raise CannotDecrypt(
            "None of the keys in CCM_ENCRYPTION_KEYS decrypts this credential. Enter its secret again, "
            "or put the key it was encrypted with back at the end of the list."
        ) from None


def encrypt_bytes(content: bytes) -> str:
    """As `encrypt`, of what is no text."""
    return _box().encrypt(content).decode()


def decrypt_bytes(sealed: str) -> bytes | None:
    """None when none of the keys fits."""
    try:
        return _box().decrypt(sealed.encode())
    except InvalidToken:
        return None


def rotate(sealed: str) -> str:
    """`sealed`, encrypted anew with the first key. Raises CannotDecrypt."""
    return encrypt(decrypt(sealed))


def mask(secret: str) -> str:
    """What may be shown of `secret`: its last four characters, if that gives nothing away."""
    return "…" + (secret[-SHOWN:] if len(secret) >= LONG_ENOUGH_TO_SHOW_ITS_END else "")


def _box() -> MultiFernet:
    return _multi_fernet(tuple(settings.ENCRYPTION_KEYS))


@functools.lru_cache(maxsize=4)
def _multi_fernet(keys: tuple[str, ...]) -> MultiFernet:
    if not keys:
        raise ImproperlyConfigured("CCM_ENCRYPTION_KEYS must hold at least one key.")
    return MultiFernet([_fernet(key, place) for place, key in enumerate(keys, start=1)])


def _fernet(key: str, place: int) -> Fernet:
    try:
        return Fernet(key)
    except ValueError:
        # Without the key itself: this text reaches logs and terminals.
        raise ImproperlyConfigured(
            f"CCM_ENCRYPTION_KEYS: key {place} is not a Fernet key (32 bytes in URL-safe base64). Make one with "
            'python -c "from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())".'
        ) from None
