"""Import by upload: what is shown is what is imported, or nothing; secrets go in and never come out."""

import json
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import User
from providers.config_export import export_config
from providers.import_admin import READS, WRITES
from providers.models import Credential, Model, Provider, StagedImport
from providers.staged_imports import LIFETIME, MOST_UPLOADED, forget_expired
from tests.providers.catalogue_support import SECRET, make_provider

pytestmark = pytest.mark.django_db

LITERAL = "sk-literal-in-the-file"
FILE = {
    "PORT": 3456,
    "Providers": [
        {
            "name": "acme",
            "api_base_url": "https://llm.example/v1/chat/completions",
            "api_key": LITERAL,
            "models": ["<b>m</b>"],
        },
        {
            "name": "other",
            "api_base_url": "https://other.example/v1/chat/completions",
            "api_key": "$OTHER_KEY",
            "models": ["n"],
        },
    ],
    "Router": {"default": "acme,<b>m</b>"},
}
UPLOAD = "admin:providers_provider_import_file"


def signed_in(client: Client, *, permissions: tuple[str, ...] = (), superuser: bool = False) -> User:
    user = User.objects.create_user(f"operator{User.objects.count()}@example.com", "a long password", is_staff=True)
    user.is_superuser = superuser
    user.save()
    for name in permissions:
        app, _, codename = name.partition(".")
        user.user_permissions.add(Permission.objects.get(content_type__app_label=app, codename=codename))
    client.force_login(user)
    return user


@pytest.fixture
def operator(client: Client) -> Client:
    signed_in(client, permissions=(*WRITES, "providers.view_provider"))
    return client


def upload(client: Client, content: Any = FILE, **fields: Any) -> Any:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return client.post(reverse(UPLOAD), {"file": SimpleUploadedFile("config.json", raw), **fields}, follow=True)


def messages_of(response: Any) -> list[str]:
    return [str(message) for message in response.context["messages"]]


def test_a_file_is_shown_and_then_imported_as_it_was_shown(operator):
    page = upload(operator, markup="0.2")
    text = page.content.decode()
    assert not Provider.objects.exists()
    for words in ("provider acme", "credential acme/api_key", "PORT", "CCM listens where HOST and PORT say.",
                  "environment variable OTHER_KEY is not set", "&lt;b&gt;m&lt;/b&gt;"):  # fmt: skip
        assert words in text
    assert "<b>m</b>" not in text
    staged = StagedImport.objects.get()
    assert LITERAL not in text + staged.sealed
    done = operator.post(page.request["PATH_INFO"], {"expected": page.context["preview"].report.digest}, follow=True)
    assert any("Imported config.json: 8 created, 0 changed." in message for message in messages_of(done))
    assert Credential.objects.get().open_secret() == LITERAL
    assert str(Model.objects.get(name="other/n").markup) == "0.200000"
    assert not StagedImport.objects.exists()
    assert "8 created" in LogEntry.objects.get().change_message
    again = upload(operator).content.decode()
    assert "Nothing to import" in again
    assert 'name="confirm"' not in again


def test_secrets_of_the_files_environment_are_asked_for_and_never_taken_from_the_servers_own(operator, monkeypatch):
    monkeypatch.setenv("OTHER_KEY", "secret-of-the-server")
    page = upload(operator)
    path = page.request["PATH_INFO"]
    assert "variable_OTHER_KEY" in page.content.decode()
    page = operator.post(path, {"fill_in": "", "variable_OTHER_KEY": "sk-entered-0123456789"}, follow=True)
    text = page.content.decode()
    assert "credential other/OTHER_KEY" in text
    assert "Entered: OTHER_KEY." in text
    assert "sk-entered" not in text + StagedImport.objects.get().sealed
    operator.post(path, {"expected": page.context["preview"].report.digest})
    secrets = {row.label: row.open_secret() for row in Credential.objects.all()}
    assert secrets == {"api_key": LITERAL, "OTHER_KEY": "sk-entered-0123456789"}


def test_nothing_is_imported_when_the_catalogue_has_changed_since_it_was_shown(operator):
    page = upload(operator)
    path, digest = page.request["PATH_INFO"], page.context["preview"].report.digest
    make_provider("acme", kind="openai", secret=SECRET)
    refused = operator.post(path, {"expected": digest}, follow=True)
    assert "The catalogue has changed since this import was looked at" in messages_of(refused)[0]
    assert not Model.objects.exists()
    assert Provider.objects.get().kind == "openai"
    shown = refused.content.decode()
    assert "kind openai → openai-compatible" in shown
    assert "base_url none → https://llm.example/v1" in shown
    operator.post(path, {"expected": refused.context["preview"].report.digest})
    assert Provider.objects.get(name="acme").kind == "openai-compatible"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\xff\xfe", "not UTF-8"),
        (b"{a:", "This is not JSON5: line 1, column 4"),
        (b'[[providers]]\nname = "x"', "providers[0].kind: is required."),
        (b"#" * (MOST_UPLOADED + 1), "larger than 256 KB"),
        (b"", "empty"),
    ],
)
def test_what_cannot_be_imported_is_told_at_the_file_and_not_kept(operator, content, words):
    page = upload(operator, content)
    assert words in page.content.decode().replace("&#x27;", "'")
    assert not StagedImport.objects.exists()


def test_who_may_not_change_everything_may_not_import(client):
    signed_in(client, permissions=(*WRITES[:-1], "providers.view_provider"))
    assert upload(client).status_code == 403
    assert client.get(reverse(UPLOAD)).status_code == 403
    assert "/import" not in client.get(reverse("admin:providers_provider_changelist")).content.decode()
    assert not StagedImport.objects.exists()


def test_an_upload_is_its_uploaders_alone(operator):
    page = upload(operator)
    path, digest = page.request["PATH_INFO"], page.context["preview"].report.digest
    other = Client()
    signed_in(other, superuser=True)
    for response in (
        other.get(path, follow=True),
        other.post(path, {"expected": digest}, follow=True),
        other.post(path, {"fill_in": "", "variable_OTHER_KEY": "x"}, follow=True),
        other.post(path, {"discard": ""}, follow=True),
    ):
        assert LITERAL not in response.content.decode()
    assert not Provider.objects.exists()
    assert StagedImport.objects.exists()
    assert Client().get(path).status_code == 302


def test_an_upload_is_forgotten_after_an_hour_and_when_it_is_discarded(operator):
    path = upload(operator).request["PATH_INFO"]
    StagedImport.objects.update(created_at=timezone.now() - LIFETIME - timedelta(seconds=1))
    gone = operator.get(path, follow=True)
    assert "no longer there" in messages_of(gone)[0]
    assert operator.post(path, {"expected": ""}, follow=True).redirect_chain
    assert forget_expired() == 1
    path = upload(operator).request["PATH_INFO"]
    operator.post(path, {"discard": ""})
    assert not StagedImport.objects.exists()
    assert not Provider.objects.exists()


def test_a_confirmation_needs_the_digest_and_a_token_against_forgery(operator):
    path = upload(operator).request["PATH_INFO"]
    operator.post(path)
    assert not Provider.objects.exists()
    assert operator.put(path).status_code == 405
    strict = Client(enforce_csrf_checks=True)
    signed_in(strict, superuser=True)
    assert upload(strict).status_code == 403


def test_the_catalogue_is_exported_to_those_who_may_see_all_of_it(client):
    make_provider("acme")
    signed_in(client, permissions=tuple(f"providers.view_{name}" for name in READS))
    response = client.get(reverse("admin:providers_provider_export_file"))
    assert response.content.decode() == export_config()
    assert response["content-disposition"] == 'attachment; filename="ccm.toml"'
    assert SECRET not in response.content.decode()
    signed_in(client, permissions=("providers.view_provider",))
    assert client.get(reverse("admin:providers_provider_export_file")).status_code == 403
