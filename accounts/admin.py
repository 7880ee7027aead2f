"""The operators' pages for people, organisations and API keys.

They are registered in `adminui`, where a new user or organisation also gets its wallet, and a key its models.
"""

from importlib import import_module
from typing import Any, ClassVar, cast

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount, SocialApp, SocialToken
from allauth.usersessions.models import UserSession
from django import forms
from django.contrib import admin, messages
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from unfold.admin import ModelAdmin, TabularInline
from unfold.decorators import action, display
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from accounts import operator_tokens, services
from accounts.models import LIMIT_COLUMNS, ApiKey, Membership, OperatorToken, Organization, User
from accounts.types import NewKey

admin.site.unregister(Group)

LIMIT_ROWS = (("limit_requests", "limit_concurrency"), ("limit_tokens", "limit_input_tokens", "limit_output_tokens"))


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin, ModelAdmin):
    compressed_fields = False  # the two lists of permissions need the width


class AddUserForm(UserCreationForm):
    class Meta:
        model = User
        fields = ("email",)
        field_classes: ClassVar[dict[str, type[forms.Field]]] = {}

    def clean_email(self) -> str:
        email = str(self.cleaned_data["email"]).strip().lower()
        if User.objects.filter(email__iexact=email).exists():
            raise forms.ValidationError("There is a user with this e-mail address already.")
        return email


class ChangeUserForm(UserChangeForm):
    class Meta:
        model = User
        fields = "__all__"
        field_classes: ClassVar[dict[str, type[forms.Field]]] = {}

    def clean_email(self) -> str:
        return str(self.cleaned_data["email"]).strip().lower()


class MembershipForm(forms.ModelForm):
    class Meta:
        model = Membership
        fields = ("organization", "role")
        labels: ClassVar[dict[str, str]] = {"organization": "Organisation"}


class MembershipOfUserInline(TabularInline):
    model = Membership
    form = MembershipForm
    fields = ("organization", "role", "created_at")
    readonly_fields = ("created_at",)
    autocomplete_fields = ("organization",)
    extra = 0
    tab = True


class UserAdmin(DjangoUserAdmin, ModelAdmin):
    """People log in by e-mail address. They are deactivated, not deleted: records refer to them.
    What an operator may do comes from groups."""

    form = ChangeUserForm
    add_form = AddUserForm
    change_password_form = AdminPasswordChangeForm
    ordering = ("email",)
    list_display = ("email", "name", "is_active", "is_staff", "last_login", "date_joined")
    list_filter = ("is_active", "is_staff", "is_superuser")
    search_fields = ("email", "first_name", "last_name")
    readonly_fields = ("last_login", "date_joined")
    filter_horizontal = ()
    autocomplete_fields = ("groups",)
    inlines = (MembershipOfUserInline,)
    fieldsets = (
        (None, {"fields": ("email", "password", ("first_name", "last_name"))}),
        ("Rights", {"fields": ("is_active", "is_staff", "is_superuser", "groups")}),
        ("Dates", {"fields": (("last_login", "date_joined"),)}),
    )
    add_fieldsets = ((None, {"fields": ("email", "usable_password", "password1", "password2")}),)

    @display(description="name")
    def name(self, user: User) -> str:
        return user.get_full_name() or "–"

    def get_inlines(self, request: HttpRequest, obj: User | None) -> Any:
        return self.inlines if obj else ()

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return False


class MembershipInline(TabularInline):
    model = Membership
    verbose_name = "member"
    verbose_name_plural = "members"
    fields = ("user", "role", "created_at")
    readonly_fields = ("created_at",)
    autocomplete_fields = ("user",)
    extra = 0


def _with_an_active_key() -> Q:
    unexpired = Q(api_keys__expires_at=None) | Q(api_keys__expires_at__gt=timezone.now())
    return Q(api_keys__revoked_at=None, api_keys__disabled_at=None) & unexpired


class OrganizationAdmin(ModelAdmin):
    """Organisations are never deleted: their money's history refers to them."""

    list_display = ("name", "id", "personal_owner", "member_count", "active_key_count", "created_at")
    search_fields = ("name", "memberships__user__email")
    list_filter = (("personal_owner", admin.EmptyFieldListFilter),)
    readonly_fields = ("personal_owner", "created_at")
    inlines = (MembershipInline,)
    fieldsets = (
        (None, {"fields": ("name", "personal_owner", "created_at")}),
        ("Limits of all its keys together", {"classes": ("collapse",), "fields": LIMIT_ROWS}),
    )

    def save_model(self, request: HttpRequest, obj: Organization, form: forms.ModelForm, change: bool) -> None:
        super().save_model(request, obj, form, change)
        services.announce(obj)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Organization]:
        organizations = super().get_queryset(request).select_related("personal_owner")
        active = Count("api_keys", filter=_with_an_active_key(), distinct=True)
        return organizations.annotate(member_total=Count("memberships", distinct=True), key_total=active)

    @display(description="members", ordering="member_total")
    def member_count(self, organization: Organization) -> int:
        return int(getattr(organization, "member_total", 0))

    @display(description="active keys", ordering="key_total")
    def active_key_count(self, organization: Organization) -> int:
        return int(getattr(organization, "key_total", 0))

    def has_delete_permission(self, request: HttpRequest, obj: Organization | None = None) -> bool:
        return False


class ApiKeyStateFilter(admin.SimpleListFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("active", "Active"), ("disabled", "Disabled"), ("revoked", "Revoked"), ("expired", "Expired")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> QuerySet[ApiKey]:
        expired = Q(expires_at__lte=timezone.now())
        if self.value() == "revoked":
            return queryset.exclude(revoked_at=None)
        if self.value() == "expired":
            return queryset.filter(expired, revoked_at=None)
        if self.value() in {"active", "disabled"}:
            unended = queryset.filter(revoked_at=None).exclude(expired)
            return unended.filter(disabled_at__isnull=self.value() == "active")
        return queryset


class AddKeyRequest(HttpRequest):
    """A request to the form that adds a key, after it was made."""

    new_key: NewKey


class ApiKeyForm(forms.ModelForm):
    class Meta:
        model = ApiKey
        fields = ("organization", "name", "expires_at", *LIMIT_COLUMNS)
        labels: ClassVar[dict[str, str]] = {"organization": "Organisation"}

    def clean_name(self) -> str:
        name = str(self.cleaned_data["name"]).strip()
        if not name:
            raise forms.ValidationError("Give the key a name.")
        return name


class ApiKeyAdmin(ModelAdmin):
    """Keys are made through the service, shown once in the answer to the form, and revoked, never deleted.
    What is not in `changeable` can only be set through services."""

    changeable: tuple[str, ...] = ("name", "expires_at", *LIMIT_COLUMNS)

    form = ApiKeyForm
    list_display = ("name", "masked_key", "organisation", "created_by", "state", "created_at", "expires_at")
    list_filter = (ApiKeyStateFilter,)
    list_select_related = ("organization", "created_by")
    search_fields = ("name", "last_four", "organization__name", "created_by__email")
    autocomplete_fields = ("organization",)
    actions = ("revoke_selected",)
    actions_submit_line = ("revoke",)

    def get_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> tuple[Any, ...]:
        if obj is None:
            return ("organization", "name", "expires_at")
        return (
            "name", "masked_key", "state", "organisation", "created_by", "created_at", "expires_at", "revoked_at",
            *LIMIT_ROWS,
        )  # fmt: skip

    def get_readonly_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> tuple[str, ...]:
        if obj is None:
            return ()
        return ("masked_key", "state", "organisation", "created_by", "created_at", "revoked_at")

    def get_actions_submit_line(self, request: HttpRequest, object_id: Any) -> Any:
        active = ApiKey.objects.filter(pk=object_id, revoked_at=None).exists()
        return super().get_actions_submit_line(request, object_id) if active else []

    @display(description="organisation", ordering="organization__name")
    def organisation(self, key: ApiKey) -> Organization:
        return key.organization

    @display(description="key", ordering="last_four")
    def masked_key(self, key: ApiKey) -> str:
        return key.masked

    @display(
        description="state",
        label={"active": "success", "revoked": "danger", "expired": "warning", "disabled": "warning"},
    )
    def state(self, key: ApiKey) -> str:
        return key.state

    def save_model(self, request: HttpRequest, obj: ApiKey, form: forms.ModelForm, change: bool) -> None:
        if change:
            # Only what the form may change: a whole row would undo a revocation that came in between.
            obj.save(update_fields=self.changeable)
            services.announce(obj)
            if f"{self.opts.app_label}_{self.opts.model_name}_revoke" in request.POST:
                self.revoke(request, obj)
            return
        creator = cast(User, request.user)
        new = services.create_key(
            organization=obj.organization, name=obj.name, created_by=creator, expires_at=obj.expires_at
        )
        obj.pk = new.id
        obj.refresh_from_db()
        cast("AddKeyRequest", request).new_key = new

    def response_add(self, request: HttpRequest, obj: ApiKey, post_url_continue: str | None = None) -> HttpResponse:
        """The page that shows the secret is the answer itself: a redirect would have to keep it somewhere."""
        new = cast("AddKeyRequest", request).new_key
        context = {**self.admin_site.each_context(request), "opts": self.opts, "key": obj, "secret": new.secret}
        response = TemplateResponse(
            request, "admin/accounts/apikey/created.html", {**context, "title": "API key created"}
        )
        response["Cache-Control"] = "no-store"
        return response

    @action(description="Revoke this key", permissions=["change"])
    def revoke(self, request: HttpRequest, obj: ApiKey) -> None:
        if services.revoke_key(key=obj):
            self.log_change(request, obj, "Revoked.")
            messages.success(request, f"{obj} is revoked. Requests with it are refused from now on.")

    @admin.action(description="Revoke selected keys", permissions=["change"])
    def revoke_selected(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        revoked = [key for key in queryset if services.revoke_key(key=key)]
        for key in revoked:
            self.log_change(request, key, "Revoked.")
        messages.success(request, f"Revoked: {len(revoked)}. Already revoked: {queryset.count() - len(revoked)}.")

    def has_delete_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:
        return False


class OperatorTokenForm(forms.ModelForm):
    class Meta:
        model = OperatorToken
        fields = ("user", "name", "expires_at")


@admin.register(OperatorToken)
class OperatorTokenAdmin(ModelAdmin):
    """Made for oneself, or by somebody who may do everything; shown once, revoked, never changed."""

    form = OperatorTokenForm
    list_display = ("__str__", "user", "created_at", "expires_at", "revoked_at")
    list_select_related = ("user",)
    search_fields = ("name", "user__email")
    readonly_fields = ("user", "name", "created_at", "expires_at", "revoked_at")
    actions = ("revoke_selected",)

    def get_fields(self, request: HttpRequest, obj: OperatorToken | None = None) -> tuple[str, ...]:
        return self.readonly_fields if obj else ("user", "name", "expires_at")

    def get_readonly_fields(self, request: HttpRequest, obj: OperatorToken | None = None) -> tuple[str, ...]:
        return self.readonly_fields if obj else ()

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """A token has its owner's permissions: nobody makes one that may more than they may."""
        operators = User.objects.filter(is_staff=True, is_active=True)
        user = cast(User, request.user)
        kwargs["queryset"] = operators if user.is_superuser else operators.filter(pk=user.pk)
        kwargs["initial"] = user.pk
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def save_model(self, request: HttpRequest, obj: OperatorToken, form: forms.ModelForm, change: bool) -> None:
        if change:
            return
        new = operator_tokens.create(user=obj.user, name=obj.name, expires_at=obj.expires_at)
        obj.pk = new.id
        obj.refresh_from_db()
        cast("AddKeyRequest", request).new_key = new

    def response_add(
        self, request: HttpRequest, obj: OperatorToken, post_url_continue: str | None = None
    ) -> HttpResponse:
        new = cast("AddKeyRequest", request).new_key
        context = {**self.admin_site.each_context(request), "opts": self.opts, "token": obj, "secret": new.secret}
        template = "admin/accounts/operatortoken/created.html"
        response = TemplateResponse(request, template, {**context, "title": "Operator token created"})
        response["Cache-Control"] = "no-store"
        return response

    @admin.action(description="Revoke selected tokens", permissions=["delete"])
    def revoke_selected(self, request: HttpRequest, queryset: QuerySet[OperatorToken]) -> None:
        revoked = [token for token in queryset if operator_tokens.revoke(token)]
        for token in revoked:
            self.log_change(request, token, "Revoked.")
        messages.success(request, f"Revoked: {len(revoked)}.")

    def get_actions(self, request: HttpRequest) -> Any:
        actions = super().get_actions(request)
        actions.pop("delete_selected", None)
        return actions

    def has_delete_permission(self, request: HttpRequest, obj: OperatorToken | None = None) -> bool:
        return obj is None and super().has_delete_permission(request, obj)


# allauth's own pages: what they hold of people is theirs, and its secrets are nobody's to read.
for app in ("account", "mfa", "socialaccount", "usersessions"):
    import_module(f"allauth.{app}.admin")
for model in (SocialAccount, SocialApp, SocialToken, UserSession, EmailAddress, Authenticator):
    admin.site.unregister(model)


@admin.register(EmailAddress)
class EmailAddressAdmin(ModelAdmin):
    """Whose address is known to be theirs; an operator may vouch for one."""

    list_display = ("email", "user", "verified", "primary")
    list_filter = ("verified",)
    search_fields = ("email", "user__email")
    readonly_fields = ("user", "email", "primary")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False


@admin.register(Authenticator)
class AuthenticatorAdmin(ModelAdmin):
    """Second factors. Somebody who has lost theirs, and has proved who they are, gets it deleted here."""

    list_display = ("user", "type", "created_at", "last_used_at")
    list_filter = ("type",)
    search_fields = ("user__email",)
    fields = readonly_fields = ("user", "type", "created_at", "last_used_at")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Authenticator | None = None) -> bool:
        return False
