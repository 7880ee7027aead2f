"""Tells every process that something changed: a key was revoked, the catalogue was edited.

Best effort over Redis pub/sub. A listener that misses a message still learns of it: keys
are checked again inside each hold's transaction, and the catalogue's version is polled.
"""

import functools

import redis
import structlog
from django.conf import settings
from django.db import transaction

CHANNEL = "ccm:changes"
KEY = "key"
CATALOGUE = "catalogue"

log = structlog.get_logger("ccm.changes")


@functools.cache
def _client() -> "redis.Redis":
    return redis.Redis.from_url(settings.REDIS_URL, socket_connect_timeout=0.5, socket_timeout=0.5)


def publish(topic: str, subject: str = "") -> None:
    """Announce a change of `topic` (KEY with the key's digest as `subject`, or CATALOGUE)
    as soon as the surrounding transaction has committed."""
    transaction.on_commit(functools.partial(_publish, f"{topic} {subject}".strip()), robust=True)


def _publish(message: str) -> None:
    try:
        _client().publish(CHANNEL, message)
    except redis.RedisError as error:
        log.warning("change_not_published", topic=message.split(" ")[0], error=type(error).__name__)
