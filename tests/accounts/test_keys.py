"""How API keys are recognised: the cache in front of the database."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from accounts import keys
from accounts.errors import AccountsUnavailable, InvalidKey
from accounts.types import Principal


def principal(**changes: object) -> Principal:
    fields: dict[str, object] = {
        "api_key_id": 1,
        "api_key_name": "laptop",
        "organization_id": 7,
        "organization_name": "Acme",
        **changes,
    }
    return Principal(**fields)  # type: ignore[arg-type]


class Lookup:
    """Answers like the database: from `known`, counting, and blocking while `gate` is closed."""

    def __init__(self, known: dict[str, Principal]) -> None:
        self.known = known
        self.calls = 0
        self.asked = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()
        self.failure: Exception | None = None

    async def __call__(self, digest: str) -> Principal | None:
        self.calls += 1
        answer = self.known.get(digest)
        self.asked.set()
        await self.gate.wait()
        if self.failure:
            raise self.failure
        return answer


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_new_key_has_the_documented_shape_and_is_never_the_same() -> None:
    made = {keys.generate() for _ in range(200)}
    assert len(made) == 200
    assert all(keys.SHAPE.fullmatch(key) for key in made)
    assert all(len(key) == len("sk-ccm-") + 43 for key in made)


def test_the_digest_depends_on_the_pepper(settings: Callable[..., object]) -> None:
    key = keys.generate()
    settings.KEY_PEPPER = "one"  # type: ignore[attr-defined]
    first = keys.digest(key)
    settings.KEY_PEPPER = "two"  # type: ignore[attr-defined]
    assert keys.digest(key) != first
    assert len(first) == 64
    assert key not in first


@pytest.mark.asyncio
async def test_a_known_key_is_looked_up_once_and_remembered() -> None:
    key = keys.generate()
    lookup = Lookup({keys.digest(key): principal()})
    cache = keys.KeyCache(lookup)
    assert await cache.authenticate(key) == principal()
    assert await cache.authenticate(key) == principal()
    assert lookup.calls == 1


@pytest.mark.asyncio
async def test_what_is_remembered_runs_out() -> None:
    key, clock = keys.generate(), Clock()
    lookup = Lookup({keys.digest(key): principal()})
    cache = keys.KeyCache(lookup, clock)
    await cache.authenticate(key)
    clock.now += keys.KNOWN_SECONDS + 1
    lookup.known.clear()
    with pytest.raises(InvalidKey):
        await cache.authenticate(key)
    assert lookup.calls == 2


@pytest.mark.asyncio
async def test_many_requests_with_one_new_key_cause_one_look_up() -> None:
    key = keys.generate()
    lookup = Lookup({keys.digest(key): principal()})
    lookup.gate.clear()
    cache = keys.KeyCache(lookup)
    waiting = [asyncio.create_task(cache.authenticate(key)) for _ in range(50)]
    await asyncio.sleep(0)
    lookup.gate.set()
    assert await asyncio.gather(*waiting) == [principal()] * 50
    assert lookup.calls == 1


@pytest.mark.asyncio
async def test_one_caller_that_gives_up_does_not_take_the_answer_from_the_others() -> None:
    key = keys.generate()
    lookup = Lookup({keys.digest(key): principal()})
    lookup.gate.clear()
    cache = keys.KeyCache(lookup)
    impatient = asyncio.create_task(cache.authenticate(key))
    patient = asyncio.create_task(cache.authenticate(key))
    await asyncio.sleep(0)
    impatient.cancel()
    lookup.gate.set()
    assert await patient == principal()
    assert lookup.calls == 1
    assert impatient.cancelled()


@pytest.mark.asyncio
async def test_a_revocation_takes_effect_at_once() -> None:
    key = keys.generate()
    lookup = Lookup({keys.digest(key): principal()})
    cache = keys.KeyCache(lookup)
    await cache.authenticate(key)
    lookup.known.clear()
    cache.forget(keys.digest(key))
    with pytest.raises(InvalidKey):
        await cache.authenticate(key)


@pytest.mark.asyncio
async def test_a_revocation_during_a_look_up_is_not_overwritten_by_the_older_answer() -> None:
    key = keys.generate()
    lookup = Lookup({keys.digest(key): principal()})
    lookup.gate.clear()
    cache = keys.KeyCache(lookup)
    before = asyncio.create_task(cache.authenticate(key))
    await lookup.asked.wait()
    lookup.known.clear()
    cache.forget(keys.digest(key))
    lookup.gate.set()
    await before  # it was asked before the revocation, so it may still pass
    with pytest.raises(InvalidKey):
        await cache.authenticate(key)


@pytest.mark.asyncio
async def test_a_database_that_is_down_is_not_remembered_as_an_unknown_key() -> None:
    key = keys.generate()
    lookup = Lookup({keys.digest(key): principal()})
    lookup.failure = AccountsUnavailable("down")
    cache = keys.KeyCache(lookup)
    with pytest.raises(AccountsUnavailable):
        await cache.authenticate(key)
    lookup.failure = None
    assert await cache.authenticate(key) == principal()


@pytest.mark.asyncio
async def test_a_key_that_expires_while_it_is_remembered_is_refused() -> None:
    key = keys.generate()
    gone = principal(expires_at=datetime.now(UTC) - timedelta(seconds=1))
    cache = keys.KeyCache(Lookup({keys.digest(key): gone}))
    with pytest.raises(InvalidKey):
        await cache.authenticate(key)


@pytest.mark.asyncio
async def test_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "CAPACITY", 3)
    cache = keys.KeyCache(Lookup({}))
    for _ in range(10):
        with pytest.raises(InvalidKey):
            await cache.authenticate(keys.generate())
    assert len(cache._entries) == 3


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("presented", "says"),
    [
        ("", "No API key was sent"),
        ("sk-ant-api03-something", "Anthropic credential"),
        ("sk-ccm-short", "50 characters"),
        ("sk-ccm-" + "a" * 42 + "!", "begins with sk-ccm-"),
        ("sk-ccm-" + "a" * 43, "unknown, revoked or expired"),
    ],
)
async def test_a_wrong_key_is_refused_in_words_that_help(presented: str, says: str) -> None:
    with pytest.raises(InvalidKey, match=says):
        await keys.KeyCache(Lookup({})).authenticate(presented)
