"""The operators' import: upload a file, see what it would do, confirm. And the export."""

from typing import Any, cast
from uuid import UUID

from django import forms
from django.contrib import messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from unfold.admin import ModelAdmin
from unfold.decorators import action
from unfold.widgets import (
    UnfoldAdminDecimalFieldWidget,
    UnfoldAdminFileFieldWidget,
    UnfoldAdminPasswordWidget,
    UnfoldAdminSelectWidget,
)

from accounts.models import User
from providers import staged_imports
from providers.config import Outcome, ReportDiffers
from providers.config_export import export_config
from providers.config_formats import Format
from providers.errors import ConfigError
from providers.models import Provider
from providers.staged_imports import MOST_UPLOADED, Preview

READS = ("provider", "credential", "model", "mapping", "modelprice", "mappingcost", "routerprofile")
WRITES = tuple(
    f"providers.{verb}_{name}"
    for name in READS
    for verb in (("add",) if name in {"modelprice", "mappingcost"} else ("add", "change"))
)
"""What an import may do; whoever lacks one of these rights may not import."""
VARIABLE = "variable_"


class UploadForm(forms.Form):
    file = forms.FileField(
        label="File",
        widget=UnfoldAdminFileFieldWidget,
        help_text=f"CCM or claude-code-mux (config.toml), or claude-code-router (config.json); "
        f"{MOST_UPLOADED // 1024} KB at most. Nothing is changed before you have seen what it would do.",
    )
    format = forms.ChoiceField(
        required=False,
        choices=[("", "Told by the content"), *((each.value, each.label) for each in Format)],
        widget=UnfoldAdminSelectWidget,
    )
    markup = forms.DecimalField(
        required=False,
        min_value=0,
        max_digits=9,
        decimal_places=6,
        widget=UnfoldAdminDecimalFieldWidget,
        help_text="For models that the file gives no price: their cost and this share more (0.20 is 20%). Empty: "
        "they are refused until they have a price.",
    )

    def clean_file(self) -> Any:
        file = self.cleaned_data["file"]
        if file.size > MOST_UPLOADED:
            raise forms.ValidationError(f"The file is larger than {MOST_UPLOADED // 1024} KB.")
        return file


class VariablesForm(forms.Form):
    """A secret for each variable that the file names; they go in and never come out."""

    def __init__(self, preview: Preview, data: Any = None) -> None:
        super().__init__(data)
        for name in preview.report.variables:
            self.fields[VARIABLE + name] = forms.CharField(
                label=name,
                required=False,
                widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"}),
            )

    @property
    def variables(self) -> dict[str, str]:
        return {name.removeprefix(VARIABLE): value.strip() for name, value in self.cleaned_data.items()}


class ImportsFiles(ModelAdmin):
    actions_list = ("import_file", "export_file")

    def get_urls(self) -> Any:
        view = self.admin_site.admin_view(self.import_preview)
        return [path("import/<uuid:import_id>/", view, name="providers_import_preview"), *super().get_urls()]

    def has_import_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return request.user.has_perms(WRITES)

    def has_export_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return request.user.has_perms([f"providers.view_{name}" for name in READS])

    @action(description="Export", url_path="export", permissions=["export"])
    def export_file(self, request: HttpRequest) -> HttpResponse:
        name = "ccm.toml"
        headers = {"content-disposition": f'attachment; filename="{name}"', "cache-control": "no-store"}
        return HttpResponse(export_config(), content_type="application/toml", headers=headers)

    @action(description="Import", url_path="import", permissions=["import"])
    def import_file(self, request: HttpRequest) -> HttpResponse:
        form = UploadForm(request.POST or None, request.FILES or None)
        if request.method == "POST" and form.is_valid():
            data = form.cleaned_data
            try:
                import_id = staged_imports.stage(
                    content=data["file"].read(),
                    file_name=data["file"].name,
                    by=cast(User, request.user),
                    format=Format(data["format"]) if data["format"] else None,
                    markup=data["markup"],
                )
            except ConfigError as error:
                for line in str(error).splitlines():
                    form.add_error("file", line)
            else:
                return _to_preview(import_id)
        context = {"title": "Import providers, models and routes", "form": form}
        return self._page(request, "providers/import_upload.html", context)

    def import_preview(self, request: HttpRequest, import_id: UUID) -> HttpResponse:
        if not self.has_import_permission(request):
            raise PermissionDenied
        user = cast(User, request.user)
        try:
            if request.method == "POST":
                return self._decide(request, user, import_id)
            preview = staged_imports.preview(import_id, user)
        except ReportDiffers as error:
            messages.error(request, str(error))
            return _to_preview(import_id)
        except ConfigError as error:
            messages.error(request, f"Nothing was imported. {error}")
            return HttpResponseRedirect(reverse("admin:providers_provider_import_file"))
        if request.method != "GET":
            return HttpResponseNotAllowed(["GET", "POST"])
        report = preview.report
        context = {
            "title": f"Import {preview.file_name}",
            "preview": preview,
            "form": VariablesForm(preview),
            "sections": [
                (outcome.capitalize(), label, report.of(outcome))
                for outcome, label in (
                    (Outcome.CREATED, "success"),
                    (Outcome.CHANGED, "info"),
                    (Outcome.SKIPPED, "warning"),
                )
            ],
            "unchanged": report.count(Outcome.UNCHANGED),
        }
        return self._page(request, "providers/import_preview.html", context)

    def _decide(self, request: HttpRequest, user: User, import_id: UUID) -> HttpResponse:
        if "discard" in request.POST:
            staged_imports.discard(import_id, user)
            messages.info(request, "The upload was discarded. Nothing was imported.")
        elif "fill_in" in request.POST:
            form = VariablesForm(staged_imports.preview(import_id, user), request.POST)
            if form.is_valid():
                staged_imports.fill_in(import_id, user, form.variables)
            return _to_preview(import_id)
        else:
            file_name = staged_imports.preview(import_id, user).file_name
            report = staged_imports.confirm(import_id, user, request.POST.get("expected", ""))
            done = f"{report.count(Outcome.CREATED)} created, {report.count(Outcome.CHANGED)} changed."
            LogEntry.objects.create(
                user_id=user.pk,
                content_type=ContentType.objects.get_for_model(Provider),
                object_repr=file_name,
                action_flag=CHANGE,
                change_message=f"Imported {file_name}: {done}",
            )
            messages.success(request, f"Imported {file_name}: {done}")
        return HttpResponseRedirect(reverse("admin:providers_provider_changelist"))

    def _page(self, request: HttpRequest, template: str, context: dict[str, Any]) -> TemplateResponse:
        back = reverse("admin:providers_provider_changelist")
        return TemplateResponse(
            request, template, {**self.admin_site.each_context(request), "opts": self.opts, "back": back, **context}
        )


def _to_preview(import_id: UUID) -> HttpResponseRedirect:
    return HttpResponseRedirect(reverse("admin:providers_import_preview", args=(import_id,)))
