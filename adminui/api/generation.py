"""GET /api/v1/generation: one request that was served, in OpenRouter's shape and with our own explanation."""

import re
from typing import Any

from asgiref.sync import sync_to_async
from django.http import Http404, HttpRequest, HttpResponse
from ninja import Router, Schema

from adminui.api.auth import principal_of
from adminui.api.errors import answers
from adminui.api.render import answer, usd
from credits.rating import MILLION, PriceLine
from credits.usage.requests import RequestDetail, request_detail

router = Router(tags=["Usage"])

CLIENT_CLOSED = 499
# OpenAI's clients know an answer by an id that holds the request's.
_OTHER_IDS = re.compile(r"(?:chatcmpl-|resp_|msg_)([0-9a-f]{27})")
_FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


class GenerationOut(Schema):
    data: dict[str, Any]


@router.get("/generation", summary="One request: its route, attempts and price", response=answers(GenerationOut, 404))
async def generation(request: HttpRequest, id: str) -> HttpResponse:  # noqa: A002 - OpenRouter's name
    """`id` is the `request-id` of the answer. A request is here as soon as it was settled."""
    principal = principal_of(request)
    found = await sync_to_async(request_detail)(principal.organization_id, _request_id(id))
    if found is None:
        raise Http404("There is no such generation, or it is not over yet.")
    return answer({"data": generation_of(found)})


def _request_id(id_: str) -> str:
    other = _OTHER_IDS.fullmatch(id_)
    return f"req_{other[1]}" if other else id_[:64].replace("\0", "")


def generation_of(detail: RequestDetail) -> dict[str, Any]:
    prompt = detail.input_tokens + detail.cache_read_tokens + detail.cache_write_tokens + detail.cache_write_1h_tokens
    first, total = detail.first_token_ms, detail.total_ms
    return {
        "id": detail.request_id,
        "request_id": detail.request_id,
        "upstream_id": None,
        "session_id": detail.session_id or None,
        "model": detail.model,
        "provider_name": detail.provider or None,
        "provider_responses": [_response(attempt) for attempt in detail.attempts],
        "router": detail.route,
        "preset_id": None,
        "streamed": detail.streamed,
        "cancelled": detail.status == CLIENT_CLOSED,
        "finish_reason": _FINISH.get(detail.stop_reason),
        "native_finish_reason": detail.stop_reason or None,
        "created_at": detail.created_at,
        "latency": first if first is not None else total,
        "generation_time": total,
        "moderation_latency": None,
        "tokens_prompt": prompt,
        "tokens_completion": detail.output_tokens,
        "native_tokens_prompt": prompt,
        "native_tokens_completion": detail.output_tokens,
        "native_tokens_reasoning": detail.reasoning_tokens,
        "native_tokens_cached": detail.cache_read_tokens,
        "native_tokens_completion_images": None,
        "num_media_prompt": None,
        "num_media_completion": None,
        "num_input_audio_prompt": None,
        "num_fetches": None,
        "web_search_engine": None,
        "num_search_results": detail.web_searches,
        "total_cost": usd(detail.charge),
        "usage": usd(detail.charge),
        "cache_discount": None,
        "upstream_inference_cost": None,
        "is_byok": False,
        "service_tier": None,
        "data_region": None,
        "origin": "",
        "app_id": None,
        "user_agent": detail.client or None,
        "external_user": None,
        "http_referer": None,
        "workspace_id": None,
        "api_type": "completions",
        "response_cache_source_id": None,
        **_own(detail),
    }


def _own(detail: RequestDetail) -> dict[str, Any]:
    """What OpenRouter does not tell."""
    explanation = detail.explanation
    return {
        "status": detail.status,
        "error_code": detail.error_code or None,
        "requested_model": detail.requested_model,
        "actual_model": detail.actual_model or None,
        "route": detail.route,
        "request_class": detail.request_class or None,
        "agent_id": detail.agent_id or None,
        "api_key_id": detail.api_key_id,
        "usage_source": detail.usage_source,
        "explanation": {
            "rules": explanation["rules"],
            "targets": explanation.get("targets", []),
            "from": explanation.get("origin") or None,
        },
        "attempts": detail.attempts,
        "lines": [_line(line) for line in detail.lines],
        "refunds": [{"usd": usd(refund.amount), "at": refund.at, "reason": refund.reason} for refund in detail.refunds],
    }


def _response(attempt: dict[str, Any]) -> dict[str, Any]:
    failed = "error" in attempt
    return {
        "provider_name": attempt.get("provider"),
        "model_permaslug": attempt.get("model"),
        "status": attempt.get("status") if failed else 200,
        "latency": attempt.get("ms"),
        "error": attempt.get("error"),
    }


def _line(line: PriceLine) -> dict[str, Any]:
    """`usd` is exact; the charge is the lines' sum, rounded up once to a nano-dollar."""
    per = 1 if line.what == "web search" else MILLION
    exact = (usd(line.rate) * line.count / per).normalize()
    unit = "search" if line.what == "web search" else "million tokens"
    return {"what": line.what, "count": line.count, "usd_per": usd(line.rate), "per": unit, "usd": exact}
