"""Wallets, holds and usage to read; adjustments, which two people make."""

from typing import Any
from uuid import uuid4

from django.contrib.admin.models import ADDITION, CHANGE
from django.db import transaction
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import mixins, serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet, ReadOnlyModelViewSet

from accounts.models import Organization
from adminui.operators.base import IDS, LARGEST_ID, AmountAboveZero, NewestFirst, Recorded, Usd
from credits import corrections
from credits.correction_models import Adjustment, AdjustmentKind
from credits.models import Hold, HoldState, UsageRecord, Wallet
from credits.usage.requests import Cursor, requests_page


class WalletSerializer(serializers.ModelSerializer):
    posted, held, debt, available = (Usd(read_only=True) for _ in range(4))

    class Meta:
        model = Wallet
        fields = ("organization", "posted", "held", "debt", "available", "frozen", "next_expiry", "created_at")


class Wallets(ReadOnlyModelViewSet):
    """What organisations have. Amounts are US dollars."""

    queryset = Wallet.objects.order_by("organization_id")
    serializer_class = WalletSerializer
    lookup_value_regex = IDS


class HoldSerializer(serializers.ModelSerializer):
    organization = serializers.IntegerField(source="wallet_id", read_only=True)
    amount, captured = Usd(read_only=True), Usd(read_only=True)

    class Meta:
        model = Hold
        fields = (
            "id", "organization", "api_key", "amount", "captured", "state", "model", "input_tokens", "max_tokens",
            "lease_until", "created_at", "updated_at",
        )  # fmt: skip


class HoldFilters(serializers.Serializer):
    organization = serializers.IntegerField(required=False, min_value=1, max_value=LARGEST_ID)
    state = serializers.ChoiceField(required=False, choices=HoldState.choices)


class Holds(ReadOnlyModelViewSet):
    """What requests have reserved, the newest first."""

    queryset = Hold.objects.order_by("-pk")
    serializer_class = HoldSerializer
    pagination_class = NewestFirst
    lookup_value_regex = r"[0-9A-Za-z_-]{1,64}"

    @extend_schema(parameters=[HoldFilters])
    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().list(request, *args, **kwargs)

    def filter_queryset(self, queryset: Any) -> Any:
        if self.action != "list":
            return queryset
        asked = HoldFilters(data=self.request.query_params)
        asked.is_valid(raise_exception=True)
        columns = {"organization": "wallet_id", "state": "state"}
        return queryset.filter(**{columns[name]: value for name, value in asked.validated_data.items()})


class UsageFilters(serializers.Serializer):
    organization = serializers.PrimaryKeyRelatedField(queryset=Organization.objects.all())
    after = serializers.CharField(required=False, max_length=100, help_text="`next` of the page before.")
    limit = serializers.IntegerField(required=False, default=50, min_value=1, max_value=500)

    def validate_after(self, text: str) -> Cursor:
        cursor = Cursor.parse(text)
        if cursor is None:
            raise serializers.ValidationError("This is no cursor: take `next` of the page before.")
        return cursor


class UsageSerializer(serializers.Serializer):
    request_id = serializers.CharField()
    created_at = serializers.DateTimeField()
    model = serializers.CharField()
    requested_model = serializers.CharField()
    route = serializers.CharField()
    provider = serializers.CharField()
    input_tokens = serializers.IntegerField()
    cached_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()
    charge = Usd()
    refunded = Usd()
    status = serializers.IntegerField()
    error_code = serializers.CharField()
    api_key = serializers.IntegerField(source="api_key_id")
    session_id = serializers.CharField()
    agent_id = serializers.CharField()
    total_ms = serializers.IntegerField()


class UsagePage(serializers.Serializer):
    next = serializers.CharField(allow_null=True)
    results = UsageSerializer(many=True)


class Usage(GenericViewSet):
    """What requests used."""

    queryset = UsageRecord.objects.none()
    serializer_class = UsageSerializer
    pagination_class = None

    @extend_schema(
        summary="An organisation's requests, the newest first",
        responses=UsagePage,
        parameters=[
            UsageFilters,
            OpenApiParameter("organization", int, required=True, description="Whose requests."),
        ],
    )
    def list(self, request: Request) -> Response:
        asked = UsageFilters(data=request.query_params)
        asked.is_valid(raise_exception=True)
        known = asked.validated_data
        page = requests_page(known["organization"].pk, after=known.get("after"), limit=known["limit"])
        following = str(page.next) if page.next else None
        return Response({"next": following, "results": UsageSerializer(page.rows, many=True).data})


class AdjustmentSerializer(serializers.ModelSerializer):
    organization = serializers.PrimaryKeyRelatedField(queryset=Organization.objects.all())
    kind = serializers.ChoiceField(choices=AdjustmentKind.choices)
    amount = AmountAboveZero(help_text="US dollars.")
    key = serializers.CharField(
        write_only=True, required=False, max_length=64, help_text="The same key again proposes nothing more."
    )

    class Meta:
        model = Adjustment
        fields = (
            "id", "organization", "kind", "amount", "reason", "ticket", "key", "state", "proposed_by", "proposed_at",
            "decided_by", "decided_at", "decision",
        )  # fmt: skip
        read_only_fields = ("state", "proposed_by", "proposed_at", "decided_by", "decided_at", "decision")

    def create(self, validated_data: dict[str, Any]) -> Adjustment:
        return corrections.propose(
            validated_data["organization"].pk,
            AdjustmentKind(validated_data["kind"]),
            validated_data["amount"],
            reason=validated_data["reason"],
            ticket=validated_data.get("ticket", ""),
            key=validated_data.get("key") or uuid4().hex,
            by=self.context["request"].user,
        )


class DecisionSerializer(serializers.Serializer):
    decision = serializers.CharField(required=False, allow_blank=True, default="", max_length=200)


class Adjustments(Recorded, mixins.CreateModelMixin, mixins.RetrieveModelMixin, mixins.ListModelMixin, GenericViewSet):
    """Changes of credits or debt: one operator proposes, another decides."""

    queryset = Adjustment.objects.order_by("-pk")
    serializer_class = AdjustmentSerializer
    lookup_value_regex = IDS
    needs = ""

    def perform_create(self, serializer: Any) -> None:
        self.record(serializer.save(), ADDITION)

    @extend_schema(
        request=DecisionSerializer, responses=AdjustmentSerializer, summary="Post what somebody else proposed"
    )
    @action(detail=True, methods=["post"], needs="credits.decide_adjustment")
    def approve(self, request: Request, **_kwargs: Any) -> Response:
        return self._decided(request, corrections.approve, "Approved.")

    @extend_schema(
        request=DecisionSerializer, responses=AdjustmentSerializer, summary="Refuse what somebody else proposed"
    )
    @action(detail=True, methods=["post"], needs="credits.decide_adjustment")
    def reject(self, request: Request, **_kwargs: Any) -> Response:
        return self._decided(request, corrections.reject, "Rejected.")

    def _decided(self, request: Request, decide: Any, what: str) -> Response:
        adjustment = self.get_object()
        told = DecisionSerializer(data=request.data)
        told.is_valid(raise_exception=True)
        with transaction.atomic():
            decided = decide(adjustment.pk, by=request.user, decision=told.validated_data["decision"])
            self.record(decided, CHANGE, what)
        return Response(self.get_serializer(decided).data)
