"""Which event loops the providers' asynchronous tests run on."""

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, LoopFactory]:
    """uvloop, which production runs on. The transport is tested on both: it must read their
    different errors as the same failures."""
    factories: dict[str, LoopFactory] = {"uvloop": uvloop.new_event_loop}
    if item.path.name == "test_transport.py":
        factories["asyncio"] = asyncio.new_event_loop
    return factories
