"""Django's cache in Valkey, which may be away: then nothing is found and nothing is kept, and pages go on."""

from collections.abc import Callable
from typing import Any

import structlog
from django.core.cache.backends.redis import RedisCache
from redis.exceptions import RedisError

log = structlog.get_logger("ccm.cache")


class ForgivingRedisCache(RedisCache):
    """What it counts (failed sign-ins) is not counted while Valkey is away: nobody is locked out by that."""

    def get(self, key: str, default: Any = None, version: int | None = None) -> Any:
        return self._or(default, super().get, key, default, version)

    def set(self, key: str, value: Any, timeout: Any = 300, version: int | None = None) -> None:
        self._or(None, super().set, key, value, timeout, version)

    def add(self, key: str, value: Any, timeout: Any = 300, version: int | None = None) -> bool:
        return bool(self._or(True, super().add, key, value, timeout, version))

    def incr(self, key: str, delta: int = 1, version: int | None = None) -> int:
        return int(self._or(delta, super().incr, key, delta, version))

    def touch(self, key: str, timeout: Any = 300, version: int | None = None) -> bool:
        return bool(self._or(False, super().touch, key, timeout, version))

    def delete(self, key: str, version: int | None = None) -> bool:
        return bool(self._or(False, super().delete, key, version))

    def get_many(self, keys: Any, version: int | None = None) -> dict[str, Any]:
        found: dict[str, Any] = self._or({}, super().get_many, keys, version)
        return found

    def set_many(self, data: dict[str, Any], timeout: Any = 300, version: int | None = None) -> list[Any]:
        failed: list[Any] = self._or([], super().set_many, data, timeout, version)
        return failed

    @staticmethod
    def _or(otherwise: Any, call: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return call(*arguments)
        except RedisError as error:
            log.warning("cache_away", error=type(error).__name__)
            return otherwise
