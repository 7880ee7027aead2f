"""Router profiles: every change is a version with its author, and can be gone back to."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection

from accounts.models import ApiKey, Organization, User
from accounts.services import create_key, get_or_create_user
from providers import profiles
from providers.catalogue import build
from providers.config import import_config
from providers.errors import ProfileConflict, UnknownVersion
from providers.models import CatalogueVersion, RouterProfile
from providers.profiles import PLATFORM, Author, Owner
from providers.types import Profile

NOBODY = Author(None, "test")


@pytest.fixture
def user(db: None) -> User:
    return get_or_create_user(email="ada@example.com")[0]


@pytest.fixture
def organization(user: User) -> Organization:
    return user.personal_organization


@pytest.fixture
def key(organization: Organization) -> ApiKey:
    return ApiKey.objects.get(pk=create_key(organization=organization, name="laptop", created_by=None).id)


def put(owner: Owner, by: Author = NOBODY, **values: object) -> int:
    return profiles.set_profile(owner=owner, profile=Profile(**values), by=by)  # type: ignore[arg-type]


def test_a_change_is_a_version_with_old_and_new_values_and_its_author(user: User, organization: Organization):
    owner, ada = Owner.organization(organization.pk), Author(user.pk, "API key sk-ccm-…abcd")
    assert put(owner, default="a", think="t", think_efforts=frozenset({"max", "high"})) == 1
    assert put(owner, ada, default="b", think_efforts=frozenset({"max"}), image="") == 2
    second, first = profiles.versions(owner)
    assert (first.number, first.author, first.means) == (1, "", "test")
    assert first.changes == {"default": (None, "a"), "think": (None, "t"), "think_efforts": (None, ["high", "max"])}
    assert (second.number, second.author, second.means) == (2, user.email, "API key sk-ccm-…abcd")
    assert second.values == {"default": "b", "think_efforts": ["max"], "image": ""}
    assert second.changes == {
        "default": ("a", "b"),
        "image": (None, ""),
        "think": ("t", None),
        "think_efforts": (["high", "max"], ["max"]),
    }
    assert build().organization_profiles[organization.pk] == profiles.stored(owner)
    assert profiles.stored(owner) == Profile(default="b", think_efforts=frozenset({"max"}), image="")


def test_every_kind_of_owner_counts_its_own_versions(organization: Organization, key: ApiKey):
    owners = (PLATFORM, Owner.organization(organization.pk), Owner.key(key.pk))
    assert [put(owner, default="a") for owner in owners] == [1, 1, 1]
    assert [put(owner, default="b") for owner in owners] == [2, 2, 2]
    assert RouterProfile.objects.count() == 3


def test_what_changes_nothing_makes_no_version(db: None):
    put(PLATFORM, default="a")
    version = CatalogueVersion.current()
    assert put(PLATFORM, default="a") == 1
    assert CatalogueVersion.current() == version


def test_going_back_is_a_version_too(db: None):
    put(PLATFORM, default="a", long_context_threshold=5)
    put(PLATFORM, default="b")
    old = profiles.version(PLATFORM, 1)
    made = profiles.set_profile(
        owner=PLATFORM, profile=profiles.profile_with(old.values), by=NOBODY, reverts=old.number
    )
    assert (made, profiles.version(PLATFORM, made).reverts) == (3, 1)
    assert profiles.stored(PLATFORM) == Profile(default="a", long_context_threshold=5)
    with pytest.raises(UnknownVersion, match="no version 9"):
        profiles.version(PLATFORM, 9)


def test_a_profile_of_before_versions_can_be_gone_back_to(db: None):
    RouterProfile.objects.create(scope="platform", default="old", auto_map_regex="^x")
    assert put(PLATFORM, default="new") == 2
    assert profiles.version(PLATFORM, 1).values == {"default": "old", "auto_map_regex": "^x"}


def test_whoever_read_an_older_version_changes_nothing(db: None):
    put(PLATFORM, default="a")
    with pytest.raises(ProfileConflict, match="version 1"):
        profiles.set_profile(owner=PLATFORM, profile=Profile(default="c"), by=NOBODY, expected=0)
    assert profiles.stored(PLATFORM).default == "a"
    assert profiles.set_profile(owner=PLATFORM, profile=Profile(default="c"), by=NOBODY, expected=1) == 2


def test_an_import_is_a_version(db: None):
    import_config('[router]\ndefault = "m"\n', environ={})
    import_config('[router]\ndefault = "m"\n', environ={})
    import_config('[router]\nthink = "t"\n', environ={})
    assert [(each.number, each.means) for each in profiles.versions(PLATFORM)] == [
        (2, "import_config"),
        (1, "import_config"),
    ]
    assert profiles.stored(PLATFORM) == Profile(default="m", think="t")


def test_pages_of_versions(db: None):
    for name in "abcde":
        put(PLATFORM, default=name)
    assert [each.number for each in profiles.versions(PLATFORM, limit=2)] == [5, 4]
    assert [each.number for each in profiles.versions(PLATFORM, before=4, limit=2)] == [3, 2]


def test_where_a_model_is_named(db: None):
    put(PLATFORM, default="glm", think="acme/glm", image="other", websearch="acme,glm", background="glm-air")
    assert profiles.profiles_naming({"glm"}) == ["Platform: default, think, websearch"]
    assert profiles.profiles_naming({"unnamed"}) == []


@pytest.mark.django_db(transaction=True)
def test_of_two_who_change_what_they_have_read_one_is_told():
    put(PLATFORM, default="start")

    def change(name: str) -> int | None:
        try:
            return profiles.set_profile(owner=PLATFORM, profile=Profile(default=name), by=NOBODY, expected=1)
        except ProfileConflict:
            return None
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as threads:
        made = list(threads.map(change, ("a", "b", "c", "d")))
    assert sorted(made, key=str) == [2, None, None, None]
    assert profiles.latest(PLATFORM) == 2
