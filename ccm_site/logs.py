"""Logs: one JSON object a line, an event name plus fields; never a secret, a prompt or a key."""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

SECRET = re.compile(r"sk-[A-Za-z0-9_\-]{6,}|(?i:bearer)\s+[A-Za-z0-9._\-]{8,}|AIza[A-Za-z0-9_\-]{20,}")
SECRET_FIELDS = {"authorization", "x-api-key", "api_key", "key", "secret", "password", "token", "cookie"}
# What uvicorn and Celery add for their own formats: the event once more, and a task's arguments.
UNWANTED_FIELDS = ("color_message", "data")


def scrub(text: str) -> str:
    """`text` with everything that looks like a key or a bearer token replaced by `[secret]`."""
    return SECRET.sub("[secret]", text)


def scrub_event(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name in UNWANTED_FIELDS:
        event.pop(name, None)
    for name, value in event.items():
        if name.lower() in SECRET_FIELDS:
            event[name] = "[secret]"
        elif isinstance(value, str):
            event[name] = scrub(value)
    return event


def configure(config: dict[str, str]) -> None:
    """Set up logging with the LOGGING setting: `level`, the least severe level to write."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        scrub_event,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(config["level"])
    for noisy in ("uvicorn.access", "aiohttp.access", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
