"""Organisations and their API keys."""

from typing import Any

from django.contrib.admin.models import CHANGE
from django.db import transaction
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from accounts import members
from accounts.models import LIMIT_COLUMNS, ApiKey, Organization, User
from accounts.services import announce, revoke_key
from adminui.operators.base import IDS, CheckedSerializer, Recorded, limit_fields
from credits.services import ensure_wallet
from providers.models import Model

LIMITS = dict.fromkeys(LIMIT_COLUMNS, limit_fields())


class OrganizationSerializer(CheckedSerializer):
    owner = serializers.EmailField(write_only=True, required=False, help_text="Whose it is; needed for a new one.")

    class Meta:
        model = Organization
        fields = ("id", "name", "owner", "personal_owner", "own_keys_only", *LIMIT_COLUMNS, "created_at")
        read_only_fields = ("personal_owner", "created_at")
        extra_kwargs = LIMITS

    def validate_owner(self, email: str) -> User:
        user = User.objects.filter(email__iexact=email).first()
        if user is None:
            raise serializers.ValidationError("There is no user with this e-mail address.")
        return user

    def create(self, validated_data: dict[str, Any]) -> Organization:
        owner = validated_data.pop("owner", None)
        if owner is None:
            raise serializers.ValidationError(
                {"owner": "An organisation needs an owner: the e-mail address of a user."}
            )
        organization = members.create_organization(name=validated_data.pop("name"), owner=owner)
        ensure_wallet(organization.pk)
        return self.update(organization, validated_data)

    def update(self, instance: Organization, validated_data: dict[str, Any]) -> Organization:
        validated_data.pop("owner", None)
        stored: Organization = super().update(instance, validated_data)
        announce(stored)
        return stored


class Organizations(
    Recorded,
    mixins.CreateModelMixin,
    mixins.RetrieveModelMixin,
    mixins.UpdateModelMixin,
    mixins.ListModelMixin,
    GenericViewSet,
):
    """The tenants. They are never deleted here: their money's history refers to them."""

    queryset = Organization.objects.order_by("pk")
    serializer_class = OrganizationSerializer
    lookup_value_regex = IDS


class KeySerializer(serializers.ModelSerializer):
    masked = serializers.CharField(read_only=True)
    allowed_models = serializers.ListField(child=serializers.CharField(max_length=200), required=False, max_length=500)

    class Meta:
        model = ApiKey
        fields = (
            "id", "organization", "name", "masked", "created_by", "created_at", "expires_at", "revoked_at",
            "allowed_models", *LIMIT_COLUMNS,
        )  # fmt: skip
        read_only_fields = ("organization", "created_by", "created_at", "revoked_at")
        extra_kwargs = LIMITS

    def validate_allowed_models(self, names: list[str]) -> list[str]:
        unknown = set(names) - set(Model.objects.values_list("name", flat=True))
        if unknown:
            raise serializers.ValidationError(f"There is no such model: {', '.join(sorted(unknown))}.")
        return sorted(set(names))

    def update(self, instance: ApiKey, validated_data: dict[str, Any]) -> ApiKey:
        for name, value in validated_data.items():
            setattr(instance, name, value)
        # Only what was sent: a whole row would undo a revocation that came in between.
        instance.save(update_fields=tuple(validated_data) or None)
        announce(instance)
        return instance


class Keys(Recorded, mixins.RetrieveModelMixin, mixins.UpdateModelMixin, mixins.ListModelMixin, GenericViewSet):
    """Customers' API keys: their limits and models are changed here, their secrets never seen."""

    queryset = ApiKey.objects.order_by("pk")
    serializer_class = KeySerializer
    lookup_value_regex = IDS
    needs = ""

    @extend_schema(request=None, responses=KeySerializer, summary="Revoke a key at once")
    @action(detail=True, methods=["post"], needs="accounts.change_apikey")
    def revoke(self, request: Request, **_kwargs: Any) -> Response:
        key = self.get_object()
        with transaction.atomic():
            if revoke_key(key=key, by=request.user):
                self.record(key, CHANGE, "Revoked.")
        return Response(self.get_serializer(key).data)
