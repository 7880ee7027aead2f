"""The operators' pages of router profiles: changed with a check, each change a version to go back to."""

from typing import Any, ClassVar, cast

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html_join
from unfold.admin import ModelAdmin
from unfold.decorators import display
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from accounts.models import User
from adminui.catalogue import current_catalogue
from gateway.routing.checks import problems
from providers import profiles
from providers.catalogue import profile_of
from providers.config_entries import PATTERNS, ROUTES
from providers.models import Model, ProfileVersion, RouterProfile, Scope
from providers.profiles import FIELDS, Author, Owner, profile_with
from providers.types import Profile

OFF = "-"
NOT_SET = "— not set here —"
SWITCHES = ("think_in_plan_mode", "pin_explicit_model")
# The values are those of Django's select for yes, no and neither.
SWITCH_CHOICES = [("unknown", NOT_SET), ("true", "Yes"), ("false", "No")]
ROUTE_HELP = {
    "default": "Serves what no other route takes, and every name that the auto-map pattern matches.",
    "think": "Extended thinking, Plan Mode, high efforts.",
    "websearch": "Requests with the web search tool.",
    "image": "The newest message holds an image.",
    "long_context": "The conversation is longer than the threshold, or than the model can hold.",
    "background": "Titles, summaries and other small helper requests.",
    "subagent": "What a subagent asks without naming a model of its own.",
    "safety": "The safety check of auto mode. Not a reasoning model: it gets 64 tokens.",
}
VERSIONS_SHOWN = 10


class RouterProfileForm(forms.ModelForm):
    """Routes are chosen among the models; efforts are written with commas. What is changed must work."""

    think_efforts = forms.CharField(
        required=False,
        widget=UnfoldAdminTextInputWidget(),
        help_text="Efforts that count as thinking, with commas: max, xhigh. Empty: not set here.",
    )

    class Meta:
        model = RouterProfile
        fields = (
            "scope",
            "organization",
            "api_key",
            *ROUTES,
            "long_context_threshold",
            "auto_map_regex",
            "background_regex",
            "think_efforts",
            "think_in_plan_mode",
            "pin_explicit_model",
        )
        labels: ClassVar[dict[str, str]] = {"think_in_plan_mode": "Plan Mode thinks"}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        names = list(Model.objects.order_by("name").values_list("name", flat=True))
        for route in ROUTES:
            if route in self.fields:
                self.fields[route] = _route_field(route, names, getattr(self.instance, route))
                if getattr(self.instance, route) == "":
                    self.initial[route] = OFF
        for switch in SWITCHES:
            if switch in self.fields:
                self.fields[switch].widget.choices = SWITCH_CHOICES
        self.initial["think_efforts"] = ", ".join(self.instance.think_efforts or ())

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        values = {name: cleaned.get(name) for name in FIELDS}
        values |= {name: values[name] or None for name in PATTERNS}
        changed = [name for name in self.changed_data if name not in self.errors]
        found = problems(profile_with(values), current_catalogue(), only_offered=False, among=changed)
        for problem in found:
            self.add_error(problem.field, problem.text[:1].upper() + problem.text[1:])
        return cleaned

    def clean_think_efforts(self) -> list[str] | None:
        efforts = [effort.strip() for effort in str(self.cleaned_data["think_efforts"] or "").split(",")]
        return [effort for effort in efforts if effort] or None


def _route_field(route: str, names: list[str], present: str | None) -> forms.Field:
    """The present value stays a choice, though it be no model's name (provider/model, or a model since deleted)."""
    others = [present] if present and present not in names else []
    choices = [("", NOT_SET), (OFF, "— off —"), *((name, name) for name in [*names, *others])]
    return forms.TypedChoiceField(
        choices=choices,
        required=False,
        coerce=lambda value: "" if value == OFF else value,
        empty_value=None,
        label="Web search" if route == "websearch" else route.replace("_", " ").capitalize(),
        help_text=ROUTE_HELP[route],
        widget=UnfoldAdminSelectWidget(),
    )


@admin.register(RouterProfile)
class RouterProfileAdmin(ModelAdmin):
    """Which model each route uses. The key's profile wins over its organisation's, and that over the platform's."""

    readonly_fields = ("newest_versions",)

    form = RouterProfileForm
    list_display = ("__str__", "scope", "default", "think", "background", "websearch")
    list_filter = ("scope",)
    list_select_related = ("organization", "api_key")
    autocomplete_fields = ("organization", "api_key")
    fieldsets = (
        (None, {"fields": ("scope", "organization", "api_key")}),
        (
            "Routes",
            {
                "description": "A route that is not set here is decided by the wider profile; one that nobody sets "
                "falls through to the next: web search, subagent, image, long context, think, background, default.",
                "fields": ROUTES,
            },
        ),
        (
            "Signals",
            {
                "fields": (
                    "long_context_threshold",
                    "auto_map_regex",
                    "background_regex",
                    "think_efforts",
                    ("think_in_plan_mode", "pin_explicit_model"),
                )
            },
        ),
        ("Versions", {"fields": ("newest_versions",)}),
    )

    def get_readonly_fields(self, request: HttpRequest, obj: RouterProfile | None = None) -> tuple[str, ...]:
        """A profile stays its owner's."""
        return ("scope", "organization", "api_key", *self.readonly_fields) if obj else self.readonly_fields

    @display(description="newest changes")
    def newest_versions(self, profile: RouterProfile) -> str:
        made = profiles.versions(_owner(profile), limit=VERSIONS_SHOWN) if profile.pk else ()
        lines = ((each.number, _when(each), changes_in_words(each.changes)) for each in made)
        return format_html_join("", "<div><b>{}</b> {}: {}</div>", lines) or "none"

    def save_model(self, request: HttpRequest, obj: RouterProfile, form: forms.ModelForm, change: bool) -> None:
        owner = _owner(obj)
        profiles.set_profile(owner=owner, profile=profile_of(obj), by=_author(request))
        row = RouterProfile.objects.filter(**owner.columns).first()
        if row is None:  # it sets nothing
            obj.save()
        else:
            obj.pk = row.pk

    def delete_model(self, request: HttpRequest, obj: RouterProfile) -> None:
        profiles.set_profile(owner=_owner(obj), profile=Profile(), by=_author(request))
        super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[RouterProfile]) -> None:
        for profile in queryset:
            self.delete_model(request, profile)


@admin.register(ProfileVersion)
class ProfileVersionAdmin(ModelAdmin):
    """Every change of a router profile. Going back to one is a change too."""

    list_display = ("of", "number", "created_at", "created_by", "means", "changed", "reverts")
    list_filter = ("scope",)
    list_select_related = ("organization", "api_key", "created_by")
    search_fields = ("organization__name", "api_key__name", "api_key__last_four", "created_by__email")
    date_hierarchy = "created_at"
    fields = ("of", "number", ("created_at", "created_by"), "means", "changed", "reverts", "values")
    actions = ("revert",)

    @display(description="profile")
    def of(self, version: ProfileVersion) -> str:
        return str(version.organization or version.api_key or "Platform")

    @display(description="changed")
    def changed(self, version: ProfileVersion) -> str:
        return changes_in_words(version.changes)

    @admin.action(description="Go back to the selected version", permissions=["revert"])
    def revert(self, request: HttpRequest, queryset: QuerySet[ProfileVersion]) -> None:
        if queryset.count() != 1:
            messages.error(request, "Select the one version to go back to.")
            return
        version = queryset[0]
        profile = profile_with(version.values)
        found = problems(profile, current_catalogue(), only_offered=False)
        if found:
            messages.error(request, f"Version {version.number} does not work any more. {found[0]}")
            return
        owner = _owner(version)
        number = profiles.set_profile(owner=owner, profile=profile, by=_author(request), reverts=version.number)
        messages.success(request, f"{self.of(version)} is as in version {version.number}; this is version {number}.")

    def has_revert_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("providers.change_routerprofile")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: ProfileVersion | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: ProfileVersion | None = None) -> bool:
        return False


def _owner(row: RouterProfile | ProfileVersion) -> Owner:
    return Owner(Scope(row.scope), organization_id=row.organization_id, api_key_id=row.api_key_id)


def _author(request: HttpRequest) -> Author:
    return Author(cast(User, request.user).pk, "admin")


def _when(version: profiles.Version) -> str:
    return f"{version.created_at:%Y-%m-%d %H:%M} UTC, {version.author or version.means}"


def changes_in_words(changes: Any) -> str:
    """ "think: glm-4.6 → gpt-5.1, image: not set → off"."""
    return ", ".join(f"{name}: {_in_words(old)} → {_in_words(new)}" for name, (old, new) in changes.items()) or "–"


def _in_words(value: Any) -> str:
    match value:
        case None:
            return "not set"
        case "":
            return "off"
        case bool():
            return "yes" if value else "no"
        case list():
            return " ".join(value) or "none"
        case _:
            return str(value)
