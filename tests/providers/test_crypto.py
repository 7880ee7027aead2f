"""Credentials at rest: sealed with rotating keys, never readable where they should not be."""

from io import StringIO
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.db import connection

from providers import crypto
from providers.catalogue import build
from providers.models import Credential
from tests.providers.catalogue_support import SECRET, make_credential, make_mapping, make_model, make_provider

OLD, NEW = Fernet.generate_key().decode(), Fernet.generate_key().decode()


@pytest.fixture
def keys(settings: Any) -> Any:
    settings.ENCRYPTION_KEYS = [OLD]
    yield settings


def test_a_secret_comes_back_and_its_sealed_form_does_not_hold_it(keys):
    sealed = crypto.encrypt(SECRET)
    assert SECRET not in sealed
    assert crypto.decrypt(sealed) == SECRET


def test_the_first_key_encrypts_and_all_decrypt(keys):
    sealed = crypto.encrypt(SECRET)
    keys.ENCRYPTION_KEYS = [NEW, OLD]
    assert crypto.decrypt(sealed) == SECRET
    moved = crypto.rotate(sealed)
    keys.ENCRYPTION_KEYS = [NEW]
    assert crypto.decrypt(moved) == SECRET
    with pytest.raises(crypto.CannotDecrypt):
        crypto.decrypt(sealed)


@pytest.mark.parametrize("wrong", [["not a key"], [OLD, "short"], []])
def test_a_key_that_is_none_is_named_without_being_shown(keys, wrong):
    keys.ENCRYPTION_KEYS = wrong
    with pytest.raises(ImproperlyConfigured, match="CCM_ENCRYPTION_KEYS") as caught:
        crypto.encrypt(SECRET)
    assert "not a key" not in str(caught.value)
    assert "short" not in str(caught.value)


def test_the_mask_shows_the_end_of_a_long_secret_only():
    assert crypto.mask(SECRET) == "…wxyz"
    assert crypto.mask("hunter2") == "…"


@pytest.mark.django_db
def test_the_database_holds_no_plain_secret():
    make_provider()
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM providers_credential")
        assert SECRET not in str(cursor.fetchall())


@pytest.mark.django_db
def test_no_representation_shows_a_secret():
    provider = make_provider()
    make_mapping(make_model(), provider)
    credential = Credential.objects.get()
    for shown in (repr(credential), str(credential), str(vars(credential)), repr(build())):
        assert SECRET not in shown
    assert build().models["gpt-5.1"].targets[0].credentials[0].secret == SECRET


@pytest.mark.django_db
def test_rotating_moves_every_credential_to_the_first_key(keys):
    make_provider()
    keys.ENCRYPTION_KEYS = [NEW, OLD]
    out = StringIO()
    call_command("rotate_credentials", stdout=out)
    assert "1 credentials" in out.getvalue()
    keys.ENCRYPTION_KEYS = [NEW]
    assert Credential.objects.get().open_secret() == SECRET


@pytest.mark.django_db
def test_rotating_names_what_no_key_decrypts_and_moves_the_rest(keys):
    provider = make_provider()
    keys.ENCRYPTION_KEYS = [NEW]
    readable = make_credential(provider, label="SECOND")
    with pytest.raises(CommandError, match="openai: OPENAI_API_KEY"):
        call_command("rotate_credentials", stdout=StringIO())
    readable.refresh_from_db()
    assert readable.open_secret() == SECRET


@pytest.mark.django_db
def test_a_credential_that_no_key_decrypts_is_left_out_with_a_line_in_the_log(keys, caplog):
    provider = make_provider()
    make_mapping(make_model(), provider)
    keys.ENCRYPTION_KEYS = [NEW]
    model = build().models["gpt-5.1"]
    assert model.targets == ()
    readable = make_credential(provider, label="SECOND", secret="another-secret-of-some-length")
    assert [credential.id for credential in build().models["gpt-5.1"].targets[0].credentials] == [readable.pk]
    assert SECRET not in caplog.text
