"""Logs: one JSON object a line, and nothing in it that must stay secret."""

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import structlog

from ccm_site.logs import configure, scrub


@contextmanager
def written() -> Iterator[list[dict[str, Any]]]:
    """What is logged within, as it is written: filled at the end."""
    root = logging.getLogger()
    handlers, level, stream = root.handlers[:], root.level, io.StringIO()
    lines: list[dict[str, Any]] = []
    try:
        configure({"level": "INFO"})
        (handler,) = root.handlers
        assert isinstance(handler, logging.StreamHandler)
        handler.setStream(stream)
        yield lines
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    lines += map(json.loads, stream.getvalue().splitlines())


def test_an_event_is_one_json_line_with_its_fields() -> None:
    with written() as lines:
        structlog.get_logger("ccm.test").info("something_happened", count=3)
    (event,) = lines
    assert event.pop("timestamp")
    assert event == {"event": "something_happened", "count": 3, "level": "info", "logger": "ccm.test"}


def test_a_library_logs_in_the_same_form_without_its_own_decoration() -> None:
    with written() as lines:
        logging.getLogger("celery").info("Task %s", "ended", extra={"data": {"args": "(1,)"}, "color_message": "x"})
    (event,) = lines
    assert event.pop("timestamp")
    assert event == {"event": "Task ended", "level": "info", "logger": "celery"}


def test_no_secret_is_written() -> None:
    with written() as lines:
        structlog.get_logger("ccm.test").info(
            "called", authorization="Basic abcdefgh", url="/?k=AIzaSyA12345678901234567890", text="sk-ccm-abcdefgh"
        )
        try:
            raise ValueError("refused: sk-ant-api03-abcdefgh")
        except ValueError:
            logging.getLogger("library").exception("failed with Bearer abcdefghijkl")
    text = json.dumps(lines)
    assert text.count("[secret]") >= 5
    for secret in ("abcdefgh", "AIza", "sk-"):
        assert secret not in text


@pytest.mark.parametrize("text", ["sk-ccm-0123456789", "bearer abcdefghi.jkl", "key AIzaSyA1234567890123456789012"])
def test_what_looks_like_a_key_is_replaced(text: str) -> None:
    assert "[secret]" in scrub(text)
