"""Router profiles: each change is checked, and is a version that can be gone back to."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from accounts.models import ApiKey, Organization
from adminui.catalogue import current_catalogue
from adminui.operators.base import IDS
from gateway.profiles import InvalidProfile
from gateway.routing.checks import PATTERNS, ROUTES, problems
from providers import profiles
from providers.models import RouterProfile, Scope
from providers.profiles import FIELDS, Author, Owner, profile_with
from providers.types import Profile

MEANS = "operators' API"


class ProfileSerializer(serializers.ModelSerializer):
    """A field that is null is not set: the wider profile decides. "" switches a route off."""

    scope = serializers.ChoiceField(choices=Scope.choices)
    organization = serializers.PrimaryKeyRelatedField(
        queryset=Organization.objects.all(), allow_null=True, required=False
    )
    api_key = serializers.PrimaryKeyRelatedField(queryset=ApiKey.objects.all(), allow_null=True, required=False)
    think_efforts = serializers.ListField(
        child=serializers.CharField(max_length=20), allow_null=True, required=False, max_length=10
    )
    long_context_threshold = serializers.IntegerField(
        allow_null=True, required=False, min_value=1, max_value=10_000_000
    )
    version = serializers.IntegerField(
        write_only=True, required=False, min_value=0, max_value=2**31 - 1,
        help_text="The version that the change is based on: another one in force is a conflict (409).",
    )  # fmt: skip
    newest_version = serializers.SerializerMethodField()

    class Meta:
        model = RouterProfile
        fields = ("id", "scope", "organization", "api_key", *FIELDS, "version", "newest_version")
        validators: tuple[Any, ...] = ()
        extra_kwargs = {name: {"allow_null": True, "required": False} for name in (*ROUTES, *PATTERNS)}  # noqa: RUF012

    def get_newest_version(self, row: RouterProfile) -> int:
        return profiles.latest(owner_of(row))

    def to_representation(self, instance: RouterProfile) -> Any:
        told = super().to_representation(instance)
        return {**told, **{name: told[name] or None for name in PATTERNS}}


class VersionSerializer(serializers.Serializer):
    number = serializers.IntegerField()
    created_at = serializers.DateTimeField()
    author = serializers.CharField()
    means = serializers.CharField()
    values = serializers.DictField()
    changes = serializers.DictField()
    reverts = serializers.IntegerField(allow_null=True)


class RevertSerializer(serializers.Serializer):
    version = serializers.IntegerField(min_value=1, max_value=2**31 - 1)


class Profiles(mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet):
    """Which model each route uses, of the platform, of organisations and of keys."""

    queryset = RouterProfile.objects.order_by("pk")
    serializer_class = ProfileSerializer
    lookup_value_regex = IDS
    needs = ""

    @extend_schema(
        summary="Set a profile: that of the platform, of an organisation or of a key", responses=ProfileSerializer
    )
    def create(self, request: Request) -> Response:
        """Replaces the owner's profile; fields that are left out are not set."""
        asked = ProfileSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        known = asked.validated_data
        owner = _owner(known)
        _set(owner, known, request, None)
        return Response(ProfileSerializer(RouterProfile.objects.filter(**owner.columns).first()).data)

    @extend_schema(responses=VersionSerializer(many=True), summary="Who changed what, and when", filters=False)
    @action(detail=True, pagination_class=None, needs="providers.view_profileversion")
    def versions(self, _request: Request, **_kwargs: Any) -> Response:
        found = profiles.versions(owner_of(self.get_object()))
        return Response(VersionSerializer(found, many=True).data)

    @extend_schema(request=RevertSerializer, responses=ProfileSerializer, summary="Go back to a version")
    @action(detail=True, methods=["post"], needs="providers.change_routerprofile")
    def revert(self, request: Request, **_kwargs: Any) -> Response:
        row = self.get_object()
        asked = RevertSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        number = asked.validated_data["version"]
        owner = owner_of(row)
        _set(owner, profiles.version(owner, number).values, request, number)
        row.refresh_from_db()
        return Response(ProfileSerializer(row).data)


def owner_of(row: RouterProfile) -> Owner:
    return Owner(Scope(row.scope), row.organization_id, row.api_key_id)


def _owner(known: dict[str, Any]) -> Owner:
    scope, organization, key = Scope(known["scope"]), known.get("organization"), known.get("api_key")
    wanted = {Scope.PLATFORM: (False, False), Scope.ORGANIZATION: (True, False), Scope.KEY: (False, True)}
    if (organization is not None, key is not None) != wanted[scope]:
        raise serializers.ValidationError(
            {"scope": "Name what the scope says, and only that: an organization or an api_key, none for the platform."}
        )
    return Owner(scope, organization.pk if organization else None, key.pk if key else None)


def _set(owner: Owner, known: Any, request: Request, reverts: int | None) -> None:
    values = {name: known[name] for name in FIELDS if known.get(name) is not None}
    values = {name: value for name, value in values.items() if name not in PATTERNS or value}
    profile = profile_with(values)
    profiles.set_profile(
        owner=owner,
        profile=_checked(profile),
        by=Author(request.user.pk, MEANS),
        expected=known.get("version"),
        reverts=reverts,
    )


def _checked(profile: Profile) -> Profile:
    """An operator may name any model that there is. Raises InvalidProfile."""
    found = problems(profile, current_catalogue(), only_offered=False)
    if found:
        raise InvalidProfile(found)
    return profile
