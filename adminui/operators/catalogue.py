"""Providers, their credentials, models, mappings, prices and costs."""

from typing import Any

from django.core.exceptions import ValidationError as DjangoValidationError
from django.utils import timezone
from rest_framework import mixins, serializers
from rest_framework.viewsets import GenericViewSet, ModelViewSet

from adminui.operators.base import IDS, CheckedSerializer, Recorded
from adminui.operators.errors import refused
from providers import fields, services
from providers.errors import ConfigError
from providers.models import Credential, Mapping, MappingCost, Model, ModelPrice, Provider
from providers.services import RATES
from providers.tiers import stored


class ProviderSerializer(CheckedSerializer):
    class Meta:
        model = Provider
        fields = (
            "id", "name", "kind", "base_url", "wire", "enabled", "count_tokens", "connect_timeout",
            "first_byte_timeout", "idle_timeout", "total_timeout", "probe_every",
        )  # fmt: skip


class Providers(Recorded, ModelViewSet):
    """Who answers requests."""

    queryset = Provider.objects.order_by("name")
    serializer_class = ProviderSerializer
    lookup_value_regex = IDS


class CredentialSerializer(CheckedSerializer):
    secret = serializers.CharField(write_only=True, required=False, max_length=20_000, trim_whitespace=True)

    class Meta:
        model = Credential
        fields = (
            "id", "provider", "organization", "label", "secret", "masked", "weight", "requests_per_minute",
            "concurrency", "enabled",
        )  # fmt: skip
        read_only_fields = ("masked",)

    def validate_secret(self, secret: str) -> str:
        try:
            return fields.credential_secret(secret)
        except DjangoValidationError as error:
            raise serializers.ValidationError(error.messages) from None

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if self.instance is None and not attrs.get("secret"):
            raise serializers.ValidationError({"secret": "Enter the provider's API key."})
        return attrs

    def store(self, row: Any, values: dict[str, Any]) -> Any:
        if secret := values.pop("secret", ""):
            row.set_secret(secret)
        return super().store(row, values)


class Credentials(Recorded, ModelViewSet):
    """The secrets of providers: they go in and never come out."""

    queryset = Credential.objects.order_by("provider", "pk")
    serializer_class = CredentialSerializer
    lookup_value_regex = IDS


class ModelSerializer(CheckedSerializer):
    class Meta:
        model = Model
        fields = (
            "id", "name", "display_name", "description", "context_window", "max_output", "vision", "tools", "thinking",
            "enabled", "discoverable", "policy", "markup", "created_at",
        )  # fmt: skip
        read_only_fields = ("created_at",)


class Models(Recorded, ModelViewSet):
    """What customers ask for and pay for."""

    queryset = Model.objects.order_by("name")
    serializer_class = ModelSerializer
    lookup_value_regex = IDS


class MappingSerializer(CheckedSerializer):
    class Meta:
        model = Mapping
        fields = ("id", "model", "provider", "actual_model", "priority", "weight", "enabled", "extra_body")


class Mappings(Recorded, ModelViewSet):
    """Which provider serves a model, and under which name."""

    queryset = Mapping.objects.order_by("model", "priority", "pk")
    serializer_class = MappingSerializer
    lookup_value_regex = IDS


class TierSerializer(serializers.Serializer):
    above = serializers.IntegerField(min_value=1, max_value=2**31 - 1)
    input = serializers.CharField(max_length=20)
    output = serializers.CharField(max_length=20)
    cache_read = serializers.CharField(max_length=20, required=False)
    cache_write = serializers.CharField(max_length=20, required=False)
    cache_write_1h = serializers.CharField(max_length=20, required=False)


RATE_FIELDS = ("id", "effective_from", *RATES, "tiers")


class RatesSerializer(serializers.ModelSerializer):
    """USD per million tokens, `web_search` USD per 1000; without `effective_from` from now on."""

    effective_from = serializers.DateTimeField(required=False)
    tiers = TierSerializer(many=True, required=False)

    def create(self, validated_data: dict[str, Any]) -> Any:
        begins = validated_data.pop("effective_from", None)
        owner = {name: validated_data.pop(name) for name in self.owner}
        try:
            tiers = stored([dict(tier) for tier in validated_data.get("tiers", ())])
        except ValueError as error:
            raise serializers.ValidationError({"tiers": str(error)}) from None
        try:
            self.put(**owner, rates={**validated_data, "tiers": tiers}, effective_from=begins)
        except DjangoValidationError as error:
            raise refused(error) from None
        except ConfigError as error:
            raise serializers.ValidationError({"effective_from": str(error)}) from None
        rows = self.Meta.model.objects.filter(**owner, effective_from__lte=begins or timezone.now())
        return rows.order_by("-effective_from").first()


class PriceSerializer(RatesSerializer):
    owner = ("model",)
    put = staticmethod(services.set_price)

    class Meta:
        model = ModelPrice
        fields = ("model", *RATE_FIELDS)
        validators: tuple[Any, ...] = ()


class CostSerializer(RatesSerializer):
    owner = ("mapping",)
    put = staticmethod(services.set_cost)

    class Meta:
        model = MappingCost
        fields = ("mapping", *RATE_FIELDS)
        validators: tuple[Any, ...] = ()


class _Rates(
    Recorded,
    mixins.CreateModelMixin,
    mixins.RetrieveModelMixin,
    mixins.ListModelMixin,
    mixins.DestroyModelMixin,
    GenericViewSet,
):
    lookup_value_regex = IDS

    def perform_destroy(self, instance: Any) -> None:
        if instance.effective_from <= timezone.now():
            raise ConfigError("A price that is in effect stays: requests were charged at it. Add a new one.")
        super().perform_destroy(instance)


class Prices(_Rates):
    """What customers pay. A change is a new row; one that is not in effect yet can be taken back."""

    queryset = ModelPrice.objects.order_by("model", "-effective_from")
    serializer_class = PriceSerializer


class Costs(_Rates):
    """What the operator pays. A change is a new row; one that is not in effect yet can be taken back."""

    queryset = MappingCost.objects.order_by("mapping", "-effective_from")
    serializer_class = CostSerializer
