"""A provider's key as somebody pastes it: an API key, or the JSON of a key file. Pure."""

import json

from providers.errors import ConfigError


def pasted_secret(text: str) -> str:
    """On one line. Raises ConfigError for what is damaged; an empty text is the caller's to judge."""
    secret = text.strip()
    if secret.startswith("{"):
        try:
            return json.dumps(json.loads(secret))
        except ValueError:
            words = "This key looks like JSON, but is cut or damaged. Paste the whole file."
            raise ConfigError(words) from None
    if any(character.isspace() or not character.isprintable() for character in secret):
        raise ConfigError("An API key holds no spaces and line ends. Paste it again.")
    return secret
