"""The operators' pages for providers, models, prices and routes. Every change takes effect
within a second, without a restart: saving a row raises the catalogue's version."""

from decimal import Decimal
from typing import Any

from django.contrib import admin, messages
from django.db.models import Count, OuterRef, Q, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html, format_html_join
from unfold.admin import ModelAdmin, StackedInline, TabularInline
from unfold.decorators import action, display

from providers import services
from providers.calibration import ENOUGH_SAMPLES
from providers.connection import check
from providers.forms import CostForm, CredentialForm, MappingForm, PriceForm
from providers.import_admin import ImportsFiles
from providers.kinds import KINDS
from providers.models import (
    Credential,
    HealthProbe,
    Mapping,
    MappingCost,
    Model,
    ModelPrice,
    PriceProposal,
    Provider,
    TokenFactor,
)
from providers.prices import plain
from providers.profiles import profiles_naming
from providers.proposals_admin import PriceProposalAdmin
from providers.selectors import model_warnings, probes_of, providers_without_credential

PRICE_CLASSES = (
    ("input", "input"),
    ("output", "output"),
    ("cache_read", "cache read"),
    ("cache_write", "cache write"),
    ("cache_write_1h", "1-hour cache write"),
    ("web_search", "1000 web searches"),
)
PRICES_SHOWN = 5
FALLS_THROUGH = "Routes that name it fall through, with a warning to the client:"


class CredentialInline(TabularInline):
    model = Credential
    form = CredentialForm
    fields = ("label", "masked", "secret", "organization", "weight", "requests_per_minute", "concurrency", "enabled")
    readonly_fields = ("masked",)
    autocomplete_fields = ("organization",)
    extra = 0


@admin.register(Provider)
class ProviderAdmin(ImportsFiles):
    list_display = ("name", "kind_label", "address", "credential_count", "mapping_count", "probed", "state")
    list_filter = ("enabled", "kind")
    search_fields = ("name", "kind", "base_url")
    inlines = (CredentialInline,)
    actions = ("enable", "disable", "test_selected")
    actions_submit_line = ("save_and_test",)
    readonly_fields: tuple[str, ...] = ("newest_probes",)
    fieldsets = (
        (None, {"fields": ("name", "kind", "base_url", "enabled")}),
        ("Health probe", {"fields": ("probe_every", "newest_probes")}),
        (
            "Wire format and time-outs",
            {
                "classes": ("collapse",),
                "fields": (
                    "wire",
                    "count_tokens",
                    ("connect_timeout", "first_byte_timeout"),
                    ("idle_timeout", "total_timeout"),
                ),
            },
        ),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Provider]:
        queryset: QuerySet[Provider] = super().get_queryset(request)
        newest = HealthProbe.objects.filter(provider=OuterRef("pk")).order_by("-at", "-pk")
        return queryset.annotate(
            enabled_credentials=Count("credentials", filter=Q(credentials__enabled=True), distinct=True),
            enabled_mappings=Count("mappings", filter=Q(mappings__enabled=True), distinct=True),
            probe_ok=Subquery(newest.values("ok")[:1]),
            probe_error=Subquery(newest.values("error")[:1]),
            probe_status=Subquery(newest.values("status")[:1]),
            probe_ms=Subquery(newest.values("milliseconds")[:1]),
        )

    @display(description="kind", ordering="kind")
    def kind_label(self, provider: Provider) -> str:
        kind = KINDS.get(provider.kind)
        return kind.label if kind else f"{provider.kind} (unknown)"

    @display(description="address")
    def address(self, provider: Provider) -> str:
        kind = KINDS.get(provider.kind)
        return provider.base_url or (kind.base_url if kind else "")

    @display(description="credentials", ordering="enabled_credentials")
    def credential_count(self, provider: Any) -> int:
        return int(provider.enabled_credentials)

    @display(description="mappings", ordering="enabled_mappings")
    def mapping_count(self, provider: Any) -> int:
        return int(provider.enabled_mappings)

    @display(description="last probe", label={"answered": "success", "failed": "danger", "none": "info"})
    def probed(self, provider: Any) -> Any:
        if not provider.probe_every:
            return None
        if provider.probe_ok is None:
            return "none", "not yet"
        return ("answered" if provider.probe_ok else "failed"), _probe_words(
            provider.probe_ok, provider.probe_error, provider.probe_status, provider.probe_ms
        )

    @display(description="newest probes (UTC)")
    def newest_probes(self, provider: Provider) -> str:
        probes = probes_of(provider.pk) if provider.pk else []
        lines = (
            (
                date_format(probe.at, "DATETIME_FORMAT"),
                _probe_words(probe.ok, probe.error, probe.status, probe.milliseconds),
            )
            for probe in probes
        )
        return format_html_join("", "<div>{}: {}</div>", lines) or "none"

    @display(description="state", ordering="enabled", label={"enabled": "success", "disabled": "danger"})
    def state(self, provider: Provider) -> str:
        return "enabled" if provider.enabled else "disabled"

    @admin.action(description="Enable selected providers", permissions=["change"])
    def enable(self, request: HttpRequest, queryset: QuerySet[Provider]) -> None:
        self._set_enabled(request, queryset, enabled=True)

    @admin.action(description="Disable selected providers", permissions=["change"])
    def disable(self, request: HttpRequest, queryset: QuerySet[Provider]) -> None:
        self._set_enabled(request, queryset, enabled=False)

    def _set_enabled(self, request: HttpRequest, queryset: QuerySet[Provider], *, enabled: bool) -> None:
        changed = services.set_providers_enabled(provider_ids=_ids(queryset), enabled=enabled)
        messages.success(request, f"{'Enabled' if enabled else 'Disabled'}: {changed}.")

    @admin.action(description="Test connection", permissions=["change"])
    def test_selected(self, request: HttpRequest, queryset: QuerySet[Provider]) -> None:
        for provider in queryset:
            _test(request, provider)

    @action(description="Save and test connection", permissions=["change"])
    def save_and_test(self, request: HttpRequest, obj: Provider) -> None:
        """Called within the transaction that saves; `changeform_view` calls the provider after it."""

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        response = super().changeform_view(request, object_id, form_url, extra_context)
        if object_id and self._wants_test(request) and isinstance(response, HttpResponseRedirect):
            provider = self.get_object(request, object_id)
            if isinstance(provider, Provider):
                _test(request, provider)
        return response

    def response_change(self, request: HttpRequest, obj: Provider) -> HttpResponse:
        response: HttpResponse = super().response_change(request, obj)
        if self._wants_test(request):
            return HttpResponseRedirect(reverse("admin:providers_provider_change", args=(obj.pk,)))
        return response

    def _wants_test(self, request: HttpRequest) -> bool:
        return request.method == "POST" and "providers_provider_save_and_test" in request.POST

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        if form.instance.name in providers_without_credential():
            messages.warning(
                request, f"{form.instance} has no enabled credential: it gets no requests until it has one."
            )


def _probe_words(ok: bool, error: str, status: int | None, milliseconds: int) -> str:
    if ok:
        return f"answered in {milliseconds:,} ms"
    return error.replace("_", " ") + (f" (HTTP {status})" if status else "")


def _test(request: HttpRequest, provider: Provider) -> None:
    result = check(provider)
    took = f" ({result.milliseconds} ms)" if result.milliseconds else ""
    unsaid = result.status and not result.ok and f"HTTP {result.status}" not in result.words
    status = f" [HTTP {result.status}]" if unsaid else ""
    level = messages.SUCCESS if result.ok else messages.ERROR
    messages.add_message(request, level, f"{provider.name}: {result.words}{status}{took}")


def _ids(queryset: QuerySet[Any]) -> list[int]:
    return list(queryset.values_list("pk", flat=True))


class MappingInline(StackedInline):
    model = Mapping
    extra = 0
    compressed_fields = False
    form = MappingForm
    autocomplete_fields = ("provider",)
    fields = (
        ("provider", "actual_model"),
        ("priority", "weight", "enabled"),
        "extra_body",
        ("cost_input", "cost_output", "cost_cache_read"),
        ("cost_cache_write", "cost_cache_write_1h", "cost_web_search"),
        "cost_tiers",
    )


class PriceInline(TabularInline):
    """New prices alone: one that is there is never edited, so that a request stays explicable by it."""

    model = ModelPrice
    form = PriceForm
    extra = 0
    verbose_name = "price"
    verbose_name_plural = "new prices (USD per million tokens; web search per 1000)"
    fields = ("effective_from", "input", "output", "cache_read", "cache_write", "cache_write_1h", "web_search",
              "tiers")  # fmt: skip
    can_delete = False

    def get_queryset(self, request: HttpRequest) -> QuerySet[ModelPrice]:
        return ModelPrice.objects.none()

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def _dollars(amount: Decimal | None) -> str:
    """With two decimals, or as many as there are."""
    if amount is None:
        return "–"
    whole, _, decimals = plain(amount).partition(".")
    return f"${whole}.{decimals:0<2}"


def _tier_words(tier: dict[str, Any]) -> str:
    return " / ".join(_dollars(Decimal(tier[name])) for name in ("input", "output"))


def _price_line(price: ModelPrice) -> tuple[str, str]:
    words = [f"{name} {_dollars(getattr(price, field))}" for field, name in PRICE_CLASSES if getattr(price, field)]
    words += [f"above {tier['above']} tokens {_tier_words(tier)}" for tier in price.tiers]
    return date_format(timezone.localtime(price.effective_from), "DATETIME_FORMAT"), ", ".join(words)


@admin.register(Model)
class ModelAdminPage(ModelAdmin):
    list_display = ("name", "display_name", "context_window", "price", "providers_in_order", "state")
    list_filter = ("enabled", "discoverable", "vision", "tools", "thinking")
    search_fields = ("name", "display_name")
    inlines = (MappingInline, PriceInline)
    actions = ("enable", "disable")
    compressed_fields = False
    readonly_fields = ("newest_prices", "token_factors")
    fieldsets = (
        (None, {"fields": (("name", "display_name"), "description", ("enabled", "discoverable"))}),
        ("What it can do", {"fields": (("context_window", "max_output"), ("vision", "tools", "thinking"))}),
        ("Token counting", {"fields": ("token_factors",)}),
        ("Price", {"fields": ("newest_prices", "markup")}),
        ("Its providers", {"fields": ("policy",)}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Model]:
        queryset: QuerySet[Model] = super().get_queryset(request)
        return queryset.prefetch_related("prices", "mappings__provider", "mappings__costs")

    @display(description="price (input / output)")
    def price(self, model: Model) -> str:
        now = timezone.now()
        if model.markup is not None:
            mappings = [row for row in model.mappings.all() if row.enabled and row.provider.enabled]
            known = all(any(cost.effective_from <= now for cost in row.costs.all()) for row in mappings)
            if not mappings or not known:
                return "no price (unknown cost): refused"
            return f"cost + {plain(model.markup * 100)} %"
        effective = [price for price in model.prices.all() if price.effective_from <= now]
        if not effective:
            return "no price: refused"
        newest = max(effective, key=lambda price: price.effective_from)
        return f"{_dollars(newest.input)} / {_dollars(newest.output)}"

    @display(description="prices, newest first")
    def newest_prices(self, model: Model) -> str:
        prices = sorted(model.prices.all(), key=lambda price: price.effective_from, reverse=True) if model.pk else []
        lines = map(_price_line, prices[:PRICES_SHOWN])
        return format_html_join("", "<div>from {}: {}</div>", lines) or "none"

    @display(description="tokens for one counted here")
    def token_factors(self, model: Model) -> str:
        learnt = TokenFactor.objects.filter(model=model).first() if model.pk else None
        if learnt is None:
            return "nothing learnt yet: what the model's family is known for"
        when = date_format(timezone.localtime(learnt.updated_at), "DATETIME_FORMAT")
        told = (("with a vocabulary", learnt.counted, learnt.counted_samples),
                ("by size", learnt.estimated, learnt.estimated_samples))  # fmt: skip
        lines = [
            (how, f"{factor:.2f}", samples, "" if samples >= ENOUGH_SAMPLES else " (not used yet)")
            for how, factor, samples in told
        ]
        return format_html_join("", "<div>{}: {}, learnt from {} requests{}</div>", lines) + format_html(
            "<div>last at {}</div>", when
        )

    @display(description="providers")
    def providers_in_order(self, model: Model) -> str:
        mappings = sorted(model.mappings.all(), key=lambda mapping: (mapping.priority, mapping.pk))
        return ", ".join(mapping.provider.name for mapping in mappings if mapping.enabled) or "none"

    @display(description="state", ordering="enabled", label={"enabled": "success", "disabled": "danger"})
    def state(self, model: Model) -> str:
        return "enabled" if model.enabled else "disabled"

    @admin.action(description="Enable selected models", permissions=["change"])
    def enable(self, request: HttpRequest, queryset: QuerySet[Model]) -> None:
        changed = services.set_models_enabled(model_ids=_ids(queryset), enabled=True)
        messages.success(request, f"Enabled: {changed}.")

    @admin.action(description="Disable selected models", permissions=["change"])
    def disable(self, request: HttpRequest, queryset: QuerySet[Model]) -> None:
        named = set(queryset.values_list("name", flat=True))
        changed = services.set_models_enabled(model_ids=_ids(queryset), enabled=False)
        messages.success(request, f"Disabled: {changed}.")
        _warn_of_routes(request, named)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """With what the deletion does to profiles, which name models and do not refer to them."""
        deleted, counts, perms_needed, protected = super().get_deleted_objects(objs, request)
        named = profiles_naming({model.name for model in objs})
        deleted = [*deleted, *(f"{FALLS_THROUGH} {route}" for route in named)]
        return deleted, counts, perms_needed, protected

    def delete_model(self, request: HttpRequest, obj: Model) -> None:
        super().delete_model(request, obj)
        _warn_of_routes(request, {obj.name})

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Model]) -> None:
        named = set(queryset.values_list("name", flat=True))
        super().delete_queryset(request, queryset)
        _warn_of_routes(request, named)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        for warning in model_warnings({form.instance.name}):
            messages.warning(request, f"{warning[:1].upper()}{warning[1:]}")
        if not form.instance.enabled or "name" in form.changed_data:
            gone = {form.initial.get("name") or form.instance.name}
            _warn_of_routes(request, gone)


def _warn_of_routes(request: HttpRequest, names: set[str]) -> None:
    for routes in profiles_naming(names):
        messages.warning(request, f"{FALLS_THROUGH} {routes}.")


@admin.register(ModelPrice)
class ModelPriceAdmin(ModelAdmin):
    """Every price, past, present and coming. One that is not effective yet can be taken back."""

    form: type[PriceForm] = PriceForm
    compressed_fields = False
    list_display: tuple[str, ...] = (
        "model", "effective_from", "input_usd", "output_usd", "cache_read_usd", "cache_write_usd", "web_search_usd",
        "long_context", "state",
    )  # fmt: skip
    list_filter: tuple[str, ...] = ("model",)
    list_select_related: tuple[str, ...] = ("model",)
    search_fields: tuple[str, ...] = ("model__name",)
    autocomplete_fields: tuple[str, ...] = ("model",)
    date_hierarchy = "effective_from"
    fields: tuple[str | tuple[str, ...], ...] = (
        "model",
        "effective_from",
        ("input", "output"),
        ("cache_read", "cache_write", "cache_write_1h"),
        "web_search",
        "tiers",
    )

    @display(description="input", ordering="input")
    def input_usd(self, price: ModelPrice) -> str:
        return _dollars(price.input)

    @display(description="output", ordering="output")
    def output_usd(self, price: ModelPrice) -> str:
        return _dollars(price.output)

    @display(description="cache read", ordering="cache_read")
    def cache_read_usd(self, price: ModelPrice) -> str:
        return _dollars(price.cache_read)

    @display(description="cache write", ordering="cache_write")
    def cache_write_usd(self, price: ModelPrice) -> str:
        return _dollars(price.cache_write)

    @display(description="1000 web searches", ordering="web_search")
    def web_search_usd(self, price: ModelPrice) -> str:
        return _dollars(price.web_search)

    @display(description="long context")
    def long_context(self, price: ModelPrice) -> str:
        return ", ".join(f"> {tier['above']:,}: {_tier_words(tier)}" for tier in price.tiers) or "–"

    @display(description="state", label={"effective": "success", "coming": "info"})
    def state(self, price: ModelPrice) -> str:
        return "effective" if price.effective_from <= timezone.now() else "coming"

    def get_actions(self, request: HttpRequest) -> Any:
        actions = super().get_actions(request)
        actions.pop("delete_selected", None)
        return actions

    def has_change_permission(self, request: HttpRequest, obj: ModelPrice | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: ModelPrice | None = None) -> bool:
        is_coming = obj is None or obj.effective_from > timezone.now()
        return bool(is_coming and super().has_delete_permission(request, obj))


@admin.register(MappingCost)
class MappingCostAdmin(ModelPriceAdmin):
    """What providers have cost, cost and will cost."""

    form = CostForm
    list_display = ("mapping", *ModelPriceAdmin.list_display[1:])
    list_filter = ("mapping__provider", "mapping__model")
    list_select_related = ("mapping__model", "mapping__provider")
    search_fields = ("mapping__model__name", "mapping__actual_model", "mapping__provider__name")
    autocomplete_fields = ()
    fields = ("mapping", *ModelPriceAdmin.fields[1:])


admin.site.register(PriceProposal, PriceProposalAdmin)
