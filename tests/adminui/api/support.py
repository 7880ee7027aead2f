"""Calls of /api/v1 on a running CCM."""

from typing import Any

import httpx

from tests.world import World


def api(world: World, method: str, path: str, key: str, **options: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}", **options.pop("headers", {})} if key else options.pop("headers", {})
    url = f"{world.ccm.url}/api/v1{path}"
    return httpx.request(method, url, headers=headers, timeout=60, trust_env=False, **options)


def data(response: httpx.Response) -> Any:
    assert response.status_code == 200, response.text
    return response.json()["data"]
