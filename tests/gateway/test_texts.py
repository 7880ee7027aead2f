"""Prompt logging: off for everybody; switched on, kept encrypted, after the answer, for some days."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django import Settings

from accounts.models import ApiKey, AuditEntry, Membership, Organization, User
from accounts.roles import Role
from accounts.selectors import principal_by_digest
from adminui.texts import readable
from gateway import texts
from gateway.exchange import Exchange
from gateway.models import RequestText
from gateway.texts import MOST_BYTES, Recording, TextKeeper, delete_old, store, text_of
from tests.adminui.conftest import customer, key, member, organization, signed_in, stranger, usage
from tests.fakes.brain import saying
from tests.world import World

__all__ = ["customer", "key", "member", "organization", "signed_in", "stranger", "usage"]

SignedIn = Callable[[User], Client]
SECRET = "the plans of the analytical engine"


def switch(client: Client, organization: Organization, *, on: bool) -> Any:
    return client.post(
        reverse("organization-prompt-logging"), {"organization": organization.pk, "on": "1" if on else "0"}
    )


async def nowhere(_message: Any) -> None: ...


def recorded(organization: Organization, request_id: str = "req_1", answer: bytes = b"{}") -> Recording:
    recording = Recording(nowhere, request_id, organization.pk, json.dumps({"prompt": SECRET}).encode())
    recording.answer = [answer]
    return recording


@pytest.fixture
def logging(organization: Organization) -> Organization:
    Organization.objects.filter(pk=organization.pk).update(keeps_text=True)
    return organization


# --- over the network ---------------------------------------------------------------------------


def test_text_is_kept_only_while_it_is_switched_on(world: World):
    world.make_default("anthropic")
    world.anthropic.clear()
    world.anthropic.brain = saying("Welcome.")
    [(email, key)] = world.ccm.create_customers(1)
    body = {"model": "claude-opus-5-5", "max_tokens": 50, "messages": [{"role": "user", "content": SECRET}]}
    before = world.post(key, body)
    flip = (
        "from accounts import members; from accounts.models import User; "
        f"user = User.objects.get(email={email!r}); "
        "members.set_keeps_text(organization=user.personal_organization, on=True, by=user)"
    )
    world.ccm.python(flip)
    # The announcement has reached the server when a request is kept: those until then may not be.
    read = (
        "import json, time; from accounts.models import User; from gateway.texts import texts_of\n"
        f"organization = User.objects.get(email={email!r}).personal_organization.pk\n"
        "print(json.dumps([[t.request_id, t.request, t.answer] for t in texts_of(organization)]))"
    )
    kept: list[Any] = []
    sent: list[str] = []
    for stream in (False, True, False, True):
        answer = world.post(key, {**body, "stream": stream})
        assert answer.status_code == 200
        sent.append(answer.headers["request-id"])
    for _ in range(5):
        kept = json.loads(world.ccm.python(read).splitlines()[-1])
        if len(kept) >= 2:
            break
    ids = {each[0] for each in kept}
    assert ids <= set(sent)
    assert sent[-1] in ids
    assert before.headers["request-id"] not in ids
    for _, request, answer_text in kept:
        assert SECRET in request
        assert "Welcome." in answer_text
    assert SECRET not in world.ccm.log.read_text()
    assert "Welcome." not in world.ccm.log.read_text()


# --- what is stored -----------------------------------------------------------------------------


@pytest.mark.django_db
def test_what_is_stored_is_encrypted_and_of_this_tenant(logging: Organization, stranger: User):
    store(recorded(logging, answer=b'{"a": "Ada"}'))
    [row] = RequestText.objects.values()
    assert SECRET not in str(row)
    found = text_of(logging.pk, "req_1")
    assert found is not None
    assert SECRET in found.request
    assert not found.cut
    assert text_of(stranger.personal_organization.pk, "req_1") is None


@pytest.mark.django_db
def test_with_a_lost_key_the_page_has_no_text(logging: Organization, settings: Settings):
    store(recorded(logging))
    settings.ENCRYPTION_KEYS = ["MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="]
    assert text_of(logging.pk, "req_1") is None


@pytest.mark.django_db
def test_nothing_is_stored_for_who_has_switched_it_off_meanwhile(organization: Organization):
    store(recorded(organization))
    assert not RequestText.objects.exists()


@pytest.mark.django_db
def test_old_texts_are_deleted(logging: Organization, settings: Settings, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(texts, "BATCH", 2)
    for number in range(5):
        store(recorded(logging, f"req_{number}"))
    RequestText.objects.exclude(pk="req_4").update(
        created_at=timezone.now() - timedelta(days=settings.TEXT_RETENTION_DAYS, seconds=1)
    )
    assert delete_old() == 4
    assert [row.pk for row in RequestText.objects.all()] == ["req_4"]


@pytest.mark.asyncio
async def test_a_recording_passes_everything_on_and_keeps_a_bounded_copy():
    passed: list[Any] = []

    async def send(message: Any) -> None:
        passed.append(message)

    exchange = Exchange({"method": "POST", "path": "/v1/messages", "headers": []}, receive, send)
    exchange.record(7, b"q" * (MOST_BYTES + 1))
    await exchange.start(200, [])
    for _ in range(3):
        await exchange.write(b"x" * (MOST_BYTES // 2))
    await exchange.finish()
    recording = exchange.recording
    assert recording is not None
    assert len(passed) == 5
    assert sum(len(message.get("body", b"")) for message in passed) == 3 * (MOST_BYTES // 2)
    assert len(b"".join(recording.answer)) == MOST_BYTES
    assert len(recording.request) == MOST_BYTES


async def receive() -> Any:
    raise AssertionError


@pytest.mark.asyncio
async def test_what_cannot_be_stored_harms_nobody(caplog: pytest.LogCaptureFixture):
    stored: list[str] = []

    async def run_blocking(_store: Any, recording: Recording) -> None:
        if recording.request_id == "req_0":
            raise OSError(SECRET)
        stored.append(recording.request_id)

    keeper = TextKeeper(run_blocking)
    for number in range(texts.MOST_WAITING + 3):
        keeper.keep(Recording(nowhere, f"req_{number}", 1, SECRET.encode()))
    await keeper.flush()
    assert len(stored) == texts.MOST_WAITING - 1
    assert SECRET not in caplog.text


# --- the pages ----------------------------------------------------------------------------------


@pytest.mark.django_db
def test_an_owner_switches_it_on_and_off(customer: User, organization: Organization, key: ApiKey, signed_in: SignedIn):
    client = signed_in(customer)
    assert principal_by_digest(key.digest).keeps_text is False  # type: ignore[union-attr]
    switch(client, organization, on=True)
    assert principal_by_digest(key.digest).keeps_text is True  # type: ignore[union-attr]
    assert "Switch off and delete" in client.get(reverse("organization")).content.decode()
    store(recorded(organization))
    switch(client, organization, on=False)
    assert not RequestText.objects.exists()
    log = AuditEntry.objects.filter(organization=organization, action__startswith="switched").order_by("pk")
    assert [entry.action for entry in log] == ["switched prompt logging on", "switched prompt logging off"]


@pytest.mark.django_db
@pytest.mark.parametrize("role", [Role.DEVELOPER, Role.BILLING])
def test_others_neither_switch_nor_read(
    logging: Organization, member: User, customer: User, signed_in: SignedIn, usage: Callable[..., None], role: Role
):
    Membership.objects.filter(user=member).update(role=role)
    usage(logging, model="m", charge=1)
    store(recorded(logging, "req_1"))
    assert switch(signed_in(member), logging, on=False).status_code == 403
    path = reverse("usage-request", args=["req_1"])
    assert SECRET not in signed_in(member).get(path).content.decode()
    assert SECRET in signed_in(customer).get(path).content.decode()


STREAM = """event: content_block_start
data: {"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "name": "Bash"}}

event: content_block_delta
data: {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": "{\\"a\\": 1}"}}

event: content_block_delta
data: {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": " Wel"}}

data: {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "come"""


def test_a_stream_is_shown_as_what_it_says():
    shown = readable(texts.Text("req_1", timezone.now(), '{"a":1}', STREAM, cut=True))
    assert shown.request == '{\n  "a": 1\n}'
    assert shown.answer == '[tool_use Bash]\n{"a": 1} Wel'
    assert readable(texts.Text("r", timezone.now(), "cut {", "[1]", cut=True)).request == "cut {"
