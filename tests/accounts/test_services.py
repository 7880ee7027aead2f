"""Users, organisations and keys as the services make them."""

from datetime import timedelta

import pytest
from django.db import DatabaseError, IntegrityError, transaction
from django.utils import timezone

from accounts import keys, selectors, services
from accounts.errors import AccountsUnavailable, InvalidAccountData
from accounts.models import ApiKey, Membership, User
from accounts.roles import Role

pytestmark = pytest.mark.django_db


def test_every_new_user_owns_a_personal_organisation() -> None:
    user, created = services.get_or_create_user(email="Ada@Example.com")
    assert created
    assert user.email == "ada@example.com"
    membership = Membership.objects.get(user=user)
    assert membership.role == Role.OWNER
    assert membership.organization == user.personal_organization


def test_the_same_address_in_another_case_is_the_same_user() -> None:
    first, _ = services.get_or_create_user(email="ada@example.com")
    second, created = services.get_or_create_user(email=" ADA@example.COM ")
    assert (second, created) == (first, False)
    assert Membership.objects.filter(user=first).count() == 1


def test_the_database_refuses_a_second_user_with_the_address_in_another_case() -> None:
    services.get_or_create_user(email="ada@example.com")
    with pytest.raises(IntegrityError), transaction.atomic():
        User.objects.create(email="ADA@example.com")


@pytest.mark.parametrize("email", ["", "ada", "ada@", "a b@example.com"])
def test_an_address_that_is_none_is_refused_by_name(email: str) -> None:
    with pytest.raises(InvalidAccountData, match="is not an e-mail address"):
        services.get_or_create_user(email=email)
    assert not User.objects.exists()


def test_an_organisation_is_found_again_by_its_member_only() -> None:
    ada, _ = services.get_or_create_user(email="ada@example.com")
    bob, _ = services.get_or_create_user(email="bob@example.com")
    first = services.get_or_create_organization(name="Acme", owner=ada)
    assert services.get_or_create_organization(name="Acme", owner=ada) == first
    assert services.get_or_create_organization(name="Acme", owner=bob) != first


def test_a_key_is_shown_once_and_only_its_digest_is_stored() -> None:
    user, _ = services.get_or_create_user(email="ada@example.com")
    organization = services.ensure_personal_organization(user=user)
    new = services.create_key(organization=organization, name="laptop", created_by=user)
    stored = ApiKey.objects.get(pk=new.id)
    assert new.secret not in {str(value) for value in vars(stored).values()}
    assert stored.digest == keys.digest(new.secret)
    assert stored.masked == new.masked == f"sk-ccm-…{new.secret[-4:]}"
    principal = selectors.principal_by_digest(stored.digest)
    assert principal is not None
    assert (principal.api_key_id, principal.organization_id) == (new.id, organization.pk)


def test_a_revoked_key_and_an_expired_key_belong_to_nobody() -> None:
    user, _ = services.get_or_create_user(email="ada@example.com")
    organization = services.ensure_personal_organization(user=user)
    revoked = services.create_key(organization=organization, name="old", created_by=user)
    expired = services.create_key(
        organization=organization, name="short", created_by=user, expires_at=timezone.now() - timedelta(seconds=1)
    )
    key = ApiKey.objects.get(pk=revoked.id)
    assert services.revoke_key(key=key)
    assert not services.revoke_key(key=key), "a second revocation changes nothing"
    for new in (revoked, expired):
        assert selectors.principal_by_digest(keys.digest(new.secret)) is None
    assert not selectors.active_keys(organization).exists()


@pytest.mark.parametrize("name", ["", "  ", "x" * 81])
def test_a_key_needs_a_name(name: str) -> None:
    user, _ = services.get_or_create_user(email="ada@example.com")
    organization = services.ensure_personal_organization(user=user)
    with pytest.raises(InvalidAccountData, match="1 to 80 characters"):
        services.create_key(organization=organization, name=name, created_by=user)


def test_a_database_that_does_not_answer_is_not_an_unknown_key(monkeypatch: pytest.MonkeyPatch) -> None:
    def down(*_: object, **__: object) -> None:
        raise DatabaseError("down")

    monkeypatch.setattr(ApiKey.objects, "select_related", down)
    with pytest.raises(AccountsUnavailable):
        selectors.principal_by_digest("0" * 64)
