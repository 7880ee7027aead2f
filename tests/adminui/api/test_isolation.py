"""Every operation of /api/v1 with another tenant's ids: 404. A new operation needs a row."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from tests.adminui.api.support import api
from tests.adminui.api.test_schema import OPERATIONS
from tests.fakes.brain import saying
from tests.world import World

HELLO = {"model": "claude-x", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}


@dataclass(frozen=True)
class Ids:
    """One tenant's management key, and what the others' ids are worth to it: nothing."""

    key: str
    key_id: str
    request_id: str


@dataclass(frozen=True)
class Call:
    """How an operation names an object: in the address, or in the body. "{key}" and "{request}" stand for ids,
    "#{key}#" for one as a number."""

    path: str
    body: Mapping[str, Any] | None = None

    def of(self, ids: Ids) -> tuple[str, Any]:
        def filled(text: str) -> str:
            return text.replace("{key}", ids.key_id).replace("{request}", ids.request_id)

        text = filled(json.dumps(self.body)).replace('"#', "").replace('#"', "")
        return filled(self.path), json.loads(text)


NO_OBJECT = None
PROFILE: dict[str, Any] = {"scope": "key", "key_id": "#{key}#", "profile": {"think": "openai-model"}}
CALLS: dict[tuple[str, str], Call | None] = {
    ("GET", "/key"): NO_OBJECT,
    ("GET", "/keys"): NO_OBJECT,
    ("POST", "/keys"): NO_OBJECT,
    ("GET", "/keys/{hash}"): Call("/keys/{key}"),
    ("PATCH", "/keys/{hash}"): Call("/keys/{key}", {"name": "stolen"}),
    ("DELETE", "/keys/{hash}"): Call("/keys/{key}"),
    ("GET", "/credits"): NO_OBJECT,
    ("GET", "/activity"): Call("/activity?api_key_hash={key}"),
    ("GET", "/models"): NO_OBJECT,
    ("GET", "/models/count"): NO_OBJECT,
    ("GET", "/models/user"): NO_OBJECT,
    ("GET", "/models/{name}"): NO_OBJECT,
    ("GET", "/status"): NO_OBJECT,
    ("GET", "/generation"): Call("/generation?id={request}"),
    ("POST", "/route"): NO_OBJECT,
    ("GET", "/routing"): Call("/routing?key_id={key}"),
    ("PUT", "/routing"): Call("/routing", PROFILE),
    ("GET", "/routing/versions"): Call("/routing/versions?scope=key&key_id={key}"),
    ("POST", "/routing/revert"): Call("/routing/revert", {"scope": "key", "key_id": "#{key}#", "version": 1}),
    ("POST", "/what-if"): NO_OBJECT,
}
# What deletes comes last: the control of it deletes what the others name.
NAMING = sorted((method == "DELETE", method, path) for (method, path), call in CALLS.items() if call is not None)


@pytest.fixture(scope="module")
def tenants(world: World, _customers: list[tuple[str, str]], managers: dict[str, str]) -> tuple[Ids, Ids]:
    """Two, each with a key that has routes of its own, and a request that was served."""
    world.anthropic.clear()
    world.anthropic.brain = saying("Welcome.")
    made = []
    for _ in range(2):
        email, key = _customers.pop()
        served = world.post(key, HELLO)
        own = api(world, "GET", "/key", key).json()["data"]["hash"]
        ids = Ids(managers[email], own, served.headers["request-id"])
        body = {**PROFILE, "key_id": int(own)}
        assert api(world, "PUT", "/routing", ids.key, json=body).status_code == 200
        made.append(ids)
    return made[0], made[1]


def test_every_operation_has_a_row():
    assert {(method, path.removeprefix("/api/v1")) for method, path in OPERATIONS} == set(CALLS)


@pytest.mark.parametrize(("method", "path"), [(method, path) for _, method, path in NAMING])
def test_another_tenants_object_is_not_there(method: str, path: str, world: World, tenants: tuple[Ids, Ids]):
    mine, theirs = tenants
    call = CALLS[method, path]
    assert call is not None
    address, body = call.of(theirs)
    assert api(world, method, address, mine.key, json=body).status_code == 404
    own_address, own_body = call.of(mine)
    assert api(world, method, own_address, mine.key, json=own_body).status_code == 200
