"""The operators' pages for API keys and people."""

import re

import pytest
from django.test import Client
from django.urls import reverse

from accounts import keys
from accounts.models import ApiKey, Organization, User
from accounts.selectors import principal_by_digest
from accounts.services import create_key, revoke_key

pytestmark = pytest.mark.django_db
SECRET = re.compile(r"sk-ccm-[0-9A-Za-z]{43}")
LIST = "admin:accounts_apikey_changelist"
ADD = "admin:accounts_apikey_add"
CHANGE = "admin:accounts_apikey_change"


@pytest.fixture
def client() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root@example.com", "a long enough password"))
    return client


@pytest.fixture
def organization() -> Organization:
    return Organization.objects.create(name="Analytical Engines")


@pytest.fixture
def key(organization: Organization) -> ApiKey:
    return ApiKey.objects.get(pk=create_key(organization=organization, name="laptop", created_by=None).id)


def test_a_new_key_is_shown_once_and_works(client: Client, organization: Organization):
    answer = client.post(reverse(ADD), {"organization": organization.pk, "name": " laptop "})
    assert answer.status_code == 200
    assert "no-store" in answer["Cache-Control"]
    secret = SECRET.findall(answer.content.decode())[0]
    principal = principal_by_digest(keys.digest(secret))
    assert principal is not None
    assert (principal.organization_id, principal.api_key_name) == (organization.pk, "laptop")
    key = ApiKey.objects.get()
    assert key.created_by == User.objects.get(email="root@example.com")
    for page in (reverse(LIST), reverse(CHANGE, args=[key.pk])):
        text = client.get(page).content.decode()
        assert key.masked in text
        assert not SECRET.search(text)
        assert key.digest not in text
    assert secret not in str(client.cookies) + str(dict(client.session.items()))


def test_a_key_without_a_name_or_an_organisation_is_refused(client: Client, organization: Organization):
    for data in ({"organization": organization.pk, "name": "  "}, {"name": "laptop"}):
        answer = client.post(reverse(ADD), data)
        assert answer.status_code == 200
        assert "errornote" in answer.content.decode() or "error" in answer.content.decode()
    assert not ApiKey.objects.exists()


def test_the_form_of_a_key_changes_its_name_and_expiry_only(client: Client, key: ApiKey):
    before: dict[str, object] = {**ApiKey.objects.values().get()}
    data = {
        "name": "desktop",
        "expires_at_0": "2099-01-01",
        "expires_at_1": "00:00",
        "digest": "0" * 64,
        "last_four": "zzzz",
    }
    assert client.post(reverse(CHANGE, args=[key.pk]), data).status_code == 302
    after: dict[str, object] = {**ApiKey.objects.values().get()}
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"name", "expires_at"}


def test_a_key_is_revoked_from_its_form(client: Client, key: ApiKey):
    data = {"name": key.name, "expires_at_0": "", "expires_at_1": "", "accounts_apikey_revoke": "1"}
    page = client.post(reverse(CHANGE, args=[key.pk]), data, follow=True).content.decode()
    assert "is revoked" in page
    assert principal_by_digest(key.digest) is None


def test_keys_are_revoked_from_the_list(client: Client, key: ApiKey):
    data = {"action": "revoke_selected", "_selected_action": [key.pk]}
    page = client.post(reverse(LIST), data, follow=True).content.decode()
    assert "Revoked: 1." in page
    assert principal_by_digest(key.digest) is None
    again = client.post(reverse(LIST), data, follow=True).content.decode()
    assert "Revoked: 0. Already revoked: 1." in again


@pytest.mark.parametrize(("state", "found"), [("active", True), ("revoked", False), ("expired", False)])
def test_keys_are_filtered_by_state(client: Client, key: ApiKey, state: str, found: bool):
    assert (key.masked in client.get(reverse(LIST), {"state": state}).content.decode()) is found


@pytest.mark.parametrize("model", ["apikey", "user", "organization"])
def test_nothing_that_history_refers_to_can_be_deleted(client: Client, key: ApiKey, model: str):
    row = {"apikey": key, "user": User.objects.get(), "organization": key.organization}[model]
    assert client.post(reverse(f"admin:accounts_{model}_delete", args=[row.pk]), {"post": "yes"}).status_code == 403
    listing = client.get(reverse(f"admin:accounts_{model}_changelist")).content.decode()
    assert "delete_selected" not in listing


def test_a_second_user_with_the_same_address_in_another_case_is_refused(client: Client):
    password = "a long enough password"
    data = {"email": "ROOT@example.com", "usable_password": "true", "password1": password, "password2": password}
    page = client.post(reverse("admin:accounts_user_add"), data).content.decode()
    assert "There is a user with this e-mail address already." in page
    assert User.objects.count() == 1


def test_a_password_set_by_an_operator_is_hashed(client: Client):
    user = User.objects.create_user("ada@example.com", None)
    password = "another long password"
    data = {"usable_password": "true", "password1": password, "password2": password}
    assert client.post(reverse("admin:auth_user_password_change", args=[user.pk]), data).status_code == 302
    user.refresh_from_db()
    assert user.check_password(password)


def test_editing_a_key_does_not_undo_a_revocation_that_came_in_between(client: Client, key: ApiKey, monkeypatch):
    """The form read the row, then somebody revoked it, then the form saves."""
    save = ApiKey.save

    def save_after_a_revocation(self: ApiKey, **options: object) -> None:
        revoke_key(key=ApiKey.objects.get(pk=self.pk))
        save(self, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(ApiKey, "save", save_after_a_revocation)
    data = {"name": "desktop", "expires_at_0": "", "expires_at_1": ""}
    assert client.post(reverse(CHANGE, args=[key.pk]), data).status_code == 302
    assert ApiKey.objects.get().name == "desktop"
    assert principal_by_digest(key.digest) is None
