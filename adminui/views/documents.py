"""The customers' documentation, the same for visitors and who is signed in."""

from typing import Any

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from accounts.keys import LENGTH, PREFIX
from adminui import documents
from adminui.catalogue import current_catalogue, offers
from adminui.connect import KEY_PLACEHOLDER, choose_models, connect_snippet
from credits.batch import LEAST_OUTPUT
from gateway.errors import LONGEST_WAIT, RETRY_SOON
from gateway.exchange import MAX_BODY_BYTES
from gateway.routing.profiles import DEFAULTS
from gateway.texts import MOST_BYTES
from gateway.websearch.tool import DEFAULT_USES


@require_safe
def page(request: HttpRequest, slug: str = documents.DOCUMENTS[0].slug) -> HttpResponse:
    document = documents.find(slug)
    if document is None:
        raise Http404("There is no such page.")
    place = documents.DOCUMENTS.index(document)
    context = {
        "document": document,
        "documents": documents.DOCUMENTS,
        "first": documents.DOCUMENTS[0],
        "rendered": documents.render(document, facts()),
        "next": documents.DOCUMENTS[place + 1] if place + 1 < len(documents.DOCUMENTS) else None,
    }
    return render(request, "adminui/document.html", context)


def facts() -> dict[str, Any]:
    """What the pages tell that is decided elsewhere."""
    catalogue = current_catalogue()
    on_offer = offers(catalogue)
    tiers = choose_models(catalogue.models, catalogue.platform_profile)
    return {
        "site": settings.PUBLIC_URL,
        "placeholder": KEY_PLACEHOLDER,
        "key_prefix": PREFIX,
        "key_length": len(PREFIX) + LENGTH,
        "snippet": connect_snippet(settings.PUBLIC_URL, None, tiers),
        "offers": on_offer,
        "model": tiers.sonnet or (on_offer[0].name if on_offer else "MODEL"),
        "small_model": tiers.haiku or (on_offer[0].name if on_offer else "MODEL"),
        "profile": catalogue.platform_profile,
        "routing_defaults": DEFAULTS,
        "efforts": sorted(DEFAULTS.think_efforts or ()),
        "limits": [
            (label, _limit(getattr(settings.KEY_LIMITS, name)), _limit(getattr(settings.ORGANIZATION_LIMITS, name)))
            for name, label in LIMIT_LABELS.items()
        ],
        "body_megabytes": MAX_BODY_BYTES // 2**20,
        "least_output": LEAST_OUTPUT,
        "searches": DEFAULT_USES,
        "own_key_fee": f"{settings.BYOK_FEE_BASIS_POINTS / 100:g}",
        "usage_days": settings.USAGE_RETENTION_DAYS,
        "text_days": settings.TEXT_RETENTION_DAYS,
        "text_kilobytes": MOST_BYTES // 1024,
        "closed_days": settings.CLOSED_RETENTION_DAYS,
        "welcome_nanos": settings.WELCOME_NANOS,
        "promo_days": settings.PROMO_EXPIRY_DAYS,
        "retry_soon": RETRY_SOON,
        "longest_wait": LONGEST_WAIT,
    }


LIMIT_LABELS = {
    "requests": "Requests per minute",
    "tokens": "Tokens per minute, input and output together",
    "input_tokens": "Input tokens per minute",
    "output_tokens": "Output tokens per minute",
    "concurrency": "Requests at once",
}


def _limit(number: int | None) -> str:
    return f"{number:,}" if number else "no limit"
