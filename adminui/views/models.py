"""The catalogue of models: prices, context, abilities, and how well each answered of late."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from adminui.catalogue import current_catalogue, offers, uptimes
from adminui.workspace import current_workspace

ABILITIES = ("tools", "vision", "thinking")
SORTS = {
    "name": "Name",
    "input": "Input price",
    "output": "Output price",
    "context": "Context",
}


@require_GET
def listed(request: HttpRequest) -> HttpResponse:
    """For everybody; who is signed in also sees what their organisation's own provider keys open."""
    workspace = current_workspace(request) if request.user.is_authenticated else None
    found = offers(current_catalogue(), workspace.organization_id if workspace else None)
    words = request.GET.get("q", "").strip().lower()[:100]
    wanted = [ability for ability in ABILITIES if request.GET.get(ability)]
    sort = request.GET.get("sort", "name")
    shown = [
        offer
        for offer in found
        if words in f"{offer.name} {offer.display_name}".lower() and set(wanted) <= set(offer.capabilities)
    ]
    keys = {
        "input": lambda offer: offer.price.input,
        "output": lambda offer: offer.price.output,
        "context": lambda offer: -(offer.context_window or 0),
    }
    if sort in keys:
        shown.sort(key=keys[sort])
    known = uptimes()
    context = {
        "rows": [(offer, known[offer.name] * 100 if offer.name in known else None) for offer in shown],
        "total": len(found),
        "words": words,
        "abilities": [(ability, ability in wanted) for ability in ABILITIES],
        "sorts": [(value, label, value == sort) for value, label in SORTS.items()],
    }
    return render(request, "adminui/models.html", context)
