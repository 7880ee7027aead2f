"""What the stand-in remembers: objects as the API's JSON has them, events, and the answers of idempotency keys."""

import contextlib
import copy
import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

Json = dict[str, Any]
API_VERSION = "2026-10-28.endive"


class Refused(Exception):
    """An answer that is no success; `body` is the API's error object."""

    def __init__(self, status: int, message: str, /, **more: Any) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"type": more.pop("type", "invalid_request_error"), "message": message, **more}


class Store:
    """Guarded by `lock`, which a caller holds for a whole request. `file` keeps it over restarts, None nothing does.
    `tell` is called with each new event; `clock` gives seconds."""

    def __init__(self, file: Path | None = None, clock: Callable[[], float] = time.time) -> None:
        self.lock = threading.RLock()
        self.clock = clock
        self.tell: Callable[[Json], object] = lambda _event: None
        self.objects: dict[str, Json] = {}
        self.answers: dict[str, Json] = {}
        self._file = file
        self._told: list[Json] = []
        if file is not None and file.exists():
            kept = json.loads(file.read_text())
            self.objects, self.answers = kept["objects"], kept["answers"]

    @contextlib.contextmanager
    def change(self) -> Iterator[None]:
        """One request's changes: kept, and told of, whether the block ends well or the API refuses."""
        told: list[Json] = []
        try:
            with self.lock:
                try:
                    yield
                finally:
                    self._save()
                    told, self._told = self._told, []
        finally:
            for event in told:
                self.tell(event)

    def _save(self) -> None:
        if self._file is None:
            return
        new = self._file.with_suffix(".new")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            json.dump({"objects": self.objects, "answers": self.answers}, stream)
        new.replace(self._file)

    @property
    def now(self) -> int:
        return int(self.clock())

    def add(self, prefix: str, kind: str, **fields: Any) -> Json:
        made = {
            "id": f"{prefix}_{secrets.token_hex(12)}", "object": kind, "created": self.now, "livemode": False, **fields,
        }  # fmt: skip
        self.objects[made["id"]] = made
        return made

    def get(self, id_: str, kind: str = "") -> Json:
        found = self.objects.get(id_)
        if found is None or (kind and found["object"] != kind):
            word = kind.replace("_", " ") or "object"
            raise Refused(404, f"No such {word}: '{id_}'", code="resource_missing", param="id")
        return found

    def all(self, kind: str, **wanted: Any) -> list[Json]:
        """Newest first."""
        found = [each for each in self.objects.values() if each["object"] == kind]
        matching = [each for each in found if all(each.get(name) == value for name, value in wanted.items())]
        return list(reversed(matching))

    def emit(self, type_: str, about: Json, **data: Any) -> Json:
        """An event with the object as it is now."""
        event = self.add(
            "evt",
            "event",
            api_version=API_VERSION,
            type=type_,
            pending_webhooks=1,
            request={"id": None, "idempotency_key": None},
            data={"object": copy.deepcopy(about), **data},
        )
        self._told.append(event)
        return event


def expanded(store: Store, about: Any, paths: list[str]) -> Any:
    """A copy with the references in `paths` ("a.b", "data.a") replaced by the objects."""
    copied = copy.deepcopy(about)
    for path in paths:
        _expand(store, copied, path.split("."))
    return copied


def _expand(store: Store, at: Any, names: list[str]) -> None:
    if isinstance(at, list):
        for each in at:
            _expand(store, each, names)
        return
    if not names or not isinstance(at, dict):
        return
    name, *rest = names
    value = at.get(name)
    if isinstance(value, str) and value in store.objects:
        value = at[name] = copy.deepcopy(store.objects[value])
    _expand(store, value, rest)


def listed(found: list[Json], params: Mapping[str, Any], url: str) -> Json:
    """A page of a list, as `limit`, `starting_after` and `created[gte]` ask for it."""
    since = int((params.get("created") or {}).get("gte", 0))
    rows = [each for each in found if each["created"] >= since]
    after = params.get("starting_after")
    if after:
        ids = [each["id"] for each in rows]
        rows = rows[ids.index(after) + 1 :] if after in ids else []
    limit = int(params.get("limit") or 10)
    return {"object": "list", "data": rows[:limit], "has_more": len(rows) > limit, "url": url}


def truth(value: Any) -> bool:
    return str(value).lower() in {"true", "1"}
