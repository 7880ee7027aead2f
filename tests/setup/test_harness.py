"""The test harness itself: the right database, a Valkey, and nothing beyond this machine."""

import asyncio
import os
import socket

import pytest
import redis
from django.conf import settings
from django.db import connection

from accounts.models import User
from tests.plugin.sockets import OutsideConnection
from tests.plugin.valkey import ValkeyServer


@pytest.mark.django_db
def test_the_database_is_the_one_asked_for() -> None:
    wanted = "postgresql" if "DATABASE_URL" in os.environ else "sqlite"
    assert connection.vendor == wanted
    assert User.objects.count() == 0


@pytest.mark.django_db(transaction=True)
def test_sqlite_is_set_up_to_carry_money() -> None:
    if connection.vendor != "sqlite":
        pytest.skip("SQLite only")
    with connection.cursor() as cursor:
        values = [
            cursor.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    assert values == ["wal", 2, 1]


def test_valkey_answers(valkey: str) -> None:
    assert valkey == settings.REDIS_URL
    with redis.Redis.from_url(valkey) as client:
        assert client.set("a", "1")
        assert client.get("a") == b"1"


def test_a_private_valkey_can_be_stopped(private_valkey: ValkeyServer) -> None:
    with redis.Redis.from_url(private_valkey.url) as client:
        assert client.ping()
        private_valkey.stop()
        with pytest.raises(redis.ConnectionError):
            client.ping()


def test_other_machines_cannot_be_reached() -> None:
    with socket.socket() as outside, pytest.raises(OutsideConnection):
        outside.connect(("192.0.2.1", 80))


@pytest.mark.asyncio
async def test_other_machines_cannot_be_reached_from_asyncio() -> None:
    with pytest.raises(OutsideConnection):
        await asyncio.open_connection("192.0.2.1", 80)
