"""The HTTP pages that show usage, and what an export takes of memory: a part of `benchmarks.usage`.

The pages are asked for through Django's handler, middleware and templates included, without a network."""

import asyncio
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

PASSES = 20
FLAT_MEGABYTES = 32
"""What an export may take beyond what its first lines took."""


def owner_of(organization_id: int) -> Any:
    """A person who may see the organisation's pages."""
    from accounts.models import Membership, User
    from accounts.roles import Role

    user, _ = User.objects.get_or_create(email=f"owner-{organization_id}@example.com")
    Membership.objects.get_or_create(organization_id=organization_id, user=user, defaults={"role": Role.OWNER})
    return user


def pages(organization_id: int) -> dict[str, Callable[[], Any]]:
    """Raises RuntimeError when a page is not there."""
    from django.test import Client

    from credits.usage import requests, sessions

    client = Client(SERVER_NAME="127.0.0.1")
    client.force_login(owner_of(organization_id))
    newest = requests.requests_page(organization_id)
    paths = {
        "dashboard": "/",
        "usage": "/usage/",
        "usage by member, 90 days": "/usage/?span=90d&by=member",
        "requests": "/usage/requests/",
        "requests, second page": f"/usage/requests/?after={newest.next}",
        "one request": f"/usage/requests/{newest.rows[-1].request_id}/",
        "sessions": "/usage/sessions/",
        "one session": f"/usage/sessions/{sessions.sessions_page(organization_id)[0].session_id}/",
        "organisation": "/organization/",
    }

    def ask(path: str) -> None:
        answer = client.get(path)
        if answer.status_code != 200:
            raise RuntimeError(f"{path} answers {answer.status_code}")

    for path in paths.values():
        ask(path)  # templates are compiled, modules loaded
    return {f"page: {name}": partial(ask, path) for name, path in paths.items()}


def exports(organization_id: int) -> bool:
    """Print how each grows the process; False when one is not flat."""
    from django.conf import settings

    within = True
    settings.ALLOWED_HOSTS = ["*"]  # the client's own name
    for path in ("/usage/export.csv?span=90d", "/usage/export.json?span=90d", "/organization/export/"):
        size, early, late = asyncio.run(_export(path, owner_of(organization_id)))
        flat = late - early <= FLAT_MEGABYTES
        within &= flat
        print(f"{late - early:+8.1f} MB  {path.partition('?')[0]}, {size / 2**20:.1f} MB{'' if flat else '  NOT FLAT'}")
    return within


async def _export(path: str, user: Any) -> tuple[int, float, float]:
    """Bytes sent; megabytes of the process after the first of them, and at most afterwards."""
    from asgiref.sync import sync_to_async
    from django.db import connections
    from django.test import AsyncClient

    client = AsyncClient()
    await client.aforce_login(user)
    answer = await client.get(path)
    if answer.status_code != 200:
        raise RuntimeError(f"{path} answers {answer.status_code}")
    parts: Any = answer.streaming_content  # type: ignore[attr-defined]
    size, number, early, late = 0, 0, 0.0, 0.0
    async for part in parts:
        size += len(part)
        number += 1
        if number == PASSES:
            early = _resident()
        elif number > PASSES:
            late = max(late, _resident())
    await sync_to_async(connections.close_all)()  # of the thread that has asked the database
    return size, early or _resident(), late or _resident()


def _resident() -> float:
    """Megabytes of memory that the process has."""
    pages_held = int(Path("/proc/self/statm").read_text().split()[1])
    return pages_held * os.sysconf("SC_PAGE_SIZE") / 2**20
