"""Router profiles and keys' models in the admin: checked, versioned, gone back to."""

from collections.abc import Callable

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import ApiKey, Organization, User
from accounts.selectors import principal_by_digest
from accounts.types import Limits
from providers import profiles
from providers.models import Model, ProfileVersion, RouterProfile
from providers.profiles import PLATFORM, Owner

SignedIn = Callable[[User], Client]
SWITCHES = {"think_in_plan_mode": "unknown", "pin_explicit_model": "unknown"}
ADD = "admin:providers_routerprofile_add"
VERSIONS = "admin:providers_profileversion_changelist"


@pytest.fixture
def staff(operator: User, signed_in: SignedIn, demo_model: str) -> Client:
    return signed_in(operator)


def change(staff: Client, **fields: object) -> str:
    row = RouterProfile.objects.get()
    url = reverse("admin:providers_routerprofile_change", args=(row.pk,))
    answer = staff.post(url, {**SWITCHES, **fields})
    assert answer.status_code == 302, answer.content.decode()
    return staff.get(url).content.decode()


def test_changes_are_versions_with_the_operator_and_can_be_gone_back_to(staff: Client, operator: User):
    Model.objects.create(name="other")
    staff.post(reverse(ADD), {"scope": "platform", "default": "demo-sonnet", **SWITCHES})
    page = change(staff, default="other", think="-")
    assert "default: demo-sonnet → other, think: not set → off" in page
    newest = ProfileVersion.objects.first()
    assert newest is not None
    assert (newest.number, newest.created_by, newest.means) == (2, operator, "admin")
    first = ProfileVersion.objects.get(number=1)
    data = {"action": "revert", "_selected_action": [first.pk]}
    page = staff.post(reverse(VERSIONS), data, follow=True).content.decode()
    assert "Platform is as in version 1; this is version 3." in page
    assert profiles.stored(PLATFORM).default == "demo-sonnet"
    assert profiles.version(PLATFORM, 3).reverts == 1


def test_a_version_that_names_a_model_that_is_gone_is_not_gone_back_to(staff: Client):
    Model.objects.create(name="other")
    staff.post(reverse(ADD), {"scope": "platform", "default": "other", **SWITCHES})
    change(staff, default="demo-sonnet")
    Model.objects.filter(name="other").delete()
    first = ProfileVersion.objects.get(number=1)
    page = staff.post(reverse(VERSIONS), {"action": "revert", "_selected_action": [first.pk]}, follow=True)
    assert "Version 1 does not work any more." in page.content.decode()
    assert profiles.stored(PLATFORM).default == "demo-sonnet"


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("auto_map_regex", "(a+)+$", "Could take too long"),
        ("auto_map_regex", "(", "not a valid regular expression"),
        ("long_context_threshold", "0", "Must be a number of tokens from 1"),
        ("think_efforts", "very hard!", "Must be a list of at most 10 effort names"),
    ],
)
def test_what_cannot_work_is_refused_at_its_field(staff: Client, field: str, value: str, text: str):
    page = staff.post(reverse(ADD), {"scope": "platform", "default": "demo-sonnet", **SWITCHES, field: value})
    assert text in page.content.decode()
    assert not RouterProfile.objects.exists()


def test_an_organisations_and_a_keys_profile(staff: Client, organization: Organization, key: ApiKey):
    form = {"default": "demo-sonnet", **SWITCHES}
    staff.post(reverse(ADD), {"scope": "organization", "organization": organization.pk, **form})
    staff.post(reverse(ADD), {"scope": "key", "api_key": key.pk, **form})
    assert profiles.stored(Owner.organization(organization.pk)).default == "demo-sonnet"
    assert profiles.stored(Owner.key(key.pk)).default == "demo-sonnet"
    assert [profiles.latest(owner) for owner in (Owner.organization(organization.pk), Owner.key(key.pk))] == [1, 1]


def test_deleting_a_profile_is_a_version_that_sets_nothing(staff: Client):
    staff.post(reverse(ADD), {"scope": "platform", "default": "demo-sonnet", **SWITCHES})
    row = RouterProfile.objects.get()
    staff.post(reverse("admin:providers_routerprofile_delete", args=(row.pk,)), {"post": "yes"})
    assert not RouterProfile.objects.exists()
    assert profiles.version(PLATFORM, 2).changes == {"default": ("demo-sonnet", None)}


def test_deleting_or_disabling_a_model_says_which_routes_fall_through(staff: Client):
    model = Model.objects.create(name="other")  # without prices, which are kept
    staff.post(reverse(ADD), {"scope": "platform", "default": "other", "image": "other", **SWITCHES})
    listing = reverse("admin:providers_model_changelist")
    said = "Routes that name it fall through, with a warning to the client: Platform: default, image"
    page = staff.post(listing, {"action": "disable", "_selected_action": [model.pk]}, follow=True)
    assert said in page.content.decode()
    delete = reverse("admin:providers_model_delete", args=(model.pk,))
    assert said in staff.get(delete).content.decode()
    assert said in staff.post(delete, {"post": "yes"}, follow=True).content.decode()
    assert not Model.objects.filter(name="other").exists()


def test_versions_are_shown_and_never_changed(staff: Client, operator: User):
    staff.post(reverse(ADD), {"scope": "platform", "default": "demo-sonnet", **SWITCHES})
    version = ProfileVersion.objects.get()
    url = reverse("admin:providers_profileversion_change", args=(version.pk,))
    page = staff.get(url).content.decode()
    assert "default: not set → demo-sonnet" in page
    assert staff.post(url, {"number": 7}).status_code == 403
    assert staff.post(reverse("admin:providers_profileversion_delete", args=(version.pk,))).status_code == 403


def test_a_keys_models_and_limits(staff: Client, key: ApiKey):
    url = reverse("admin:accounts_apikey_change", args=(key.pk,))
    answer = staff.post(
        url, {"name": "laptop", "allowed_models": ["demo-sonnet"], "limit_requests": "60", "limit_concurrency": "0"}
    )
    assert answer.status_code == 302
    principal = principal_by_digest(key.digest)
    assert principal is not None
    assert principal.allowed_models == {"demo-sonnet"}
    assert principal.limits == Limits(requests=60, concurrency=0)
    assert (
        "not one of the available choices"
        in staff.post(url, {"name": "laptop", "allowed_models": ["nothing"]}).content.decode()
    )
    staff.post(url, {"name": "laptop"})
    principal = principal_by_digest(key.digest)
    assert principal is not None
    assert principal.allowed_models == frozenset()


def test_an_organisations_limits(staff: Client, organization: Organization, key: ApiKey):
    membership = organization.memberships.get()
    data = {
        "name": organization.name,
        "limit_tokens": "1000",
        "memberships-TOTAL_FORMS": "1",
        "memberships-INITIAL_FORMS": "1",
        "memberships-0-id": str(membership.pk),
        "memberships-0-organization": str(organization.pk),
        "memberships-0-user": str(membership.user_id),
        "memberships-0-role": "owner",
    }
    answer = staff.post(reverse("admin:accounts_organization_change", args=(organization.pk,)), data)
    assert answer.status_code == 302
    principal = principal_by_digest(key.digest)
    assert principal is not None
    assert principal.organization_limits == Limits(tokens=1000)
