"""What the organisation's requests used: sums and charts, single requests, sessions, exports."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET

from accounts.models import ApiKey, User
from accounts.permissions import Permission
from adminui.streams import one_by_one
from adminui.texts import readable
from adminui.usage_chart import chart
from adminui.usage_query import BY, GROUPS, SPANS, UsageQuery
from adminui.workspace import Workspace, workspace_view
from credits.usage.export import export_csv, export_json
from credits.usage.requests import Cursor, RequestFilters, request_detail, requests_page
from credits.usage.selectors import By, usage_by, usage_by_member, usage_series
from credits.usage.sessions import Agent, session_detail, sessions_page
from credits.usage.types import Sums
from gateway.texts import text_of

PAGE = 50
NOBODY = "somebody who is gone"
EXPORTS = {"csv": (export_csv, "text/csv; charset=utf-8"), "json": (export_json, "application/json")}


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a table of sums; `address` leads to what it adds up, where that can be shown."""

    name: str
    sums: Sums
    address: str = ""


@require_GET
@workspace_view(Permission.VIEW_USAGE)
def overview(request: HttpRequest, workspace: Workspace) -> HttpResponse:
    query = UsageQuery.parse(request.GET, timezone.now())
    organization_id = workspace.organization_id
    names = key_names(organization_id)
    series = usage_series(organization_id, query.time, BY[query.group], query.span, query.filters)
    rows = list(breakdown(workspace, query, names))
    context = {
        "query": query,
        "chart": chart(series, query.span, query.time, names if query.group in {"key", "member"} else {}),
        "rows": rows,
        "total": sum((row.sums for row in rows), Sums()),
        "times": [Row(_when(line.value, query.time), line.sums) for line in reversed(times_of(workspace, query))],
        "spans": choices(query, "span", SPANS),
        "groups": choices(query, "by", GROUPS),
        "group_name": GROUPS[query.group],
        "active": active_filters(query, names),
    }
    return render(request, "adminui/usage.html", context)


def times_of(workspace: Workspace, query: UsageQuery) -> list[Any]:
    return usage_by(workspace.organization_id, query.time, query.span, query.filters)


def breakdown(workspace: Workspace, query: UsageQuery, names: dict[Any, str]) -> Iterator[Row]:
    if query.group == "member":
        members = usage_by_member(workspace.organization_id, query.span, query.filters)
        emails = dict(User.objects.filter(pk__in=[line.user_id for line in members]).values_list("pk", "email"))
        for line in members:
            yield Row(emails.get(line.user_id or 0, NOBODY), line.sums)
        return
    for each in usage_by(workspace.organization_id, BY[query.group], query.span, query.filters):
        name = names.get(each.value, str(each.value)) if query.group == "key" else str(each.value) or "–"
        yield Row(name, each.sums, query.address(**{query.group: str(each.value)}) if each.value else "")


def choices(query: UsageQuery, name: str, labels: dict[str, str]) -> list[dict[str, Any]]:
    current = query.span_name if name == "span" else query.group
    return [
        {"label": label, "address": query.address(**{name: value}), "current": value == current}
        for value, label in labels.items()
    ]


def active_filters(query: UsageQuery, names: dict[Any, str]) -> list[dict[str, str]]:
    """The filters that are set, each with the address without it."""
    return [
        {"label": _filter_label(name, value, names), "address": query.address(**{name: None})}
        for name, value in query.values.items()
    ]


def _filter_label(name: str, value: str, names: dict[Any, str]) -> str:
    if name == "errors":
        return "only errors"
    return f"{name}: {names.get(int(value), value) if name == 'key' else value}"


def key_names(organization_id: int) -> dict[Any, str]:
    return dict(ApiKey.objects.filter(organization_id=organization_id).values_list("pk", "name"))


def _when(moment: Any, time: By) -> str:
    return f"{moment:%-d %b %H:00}" if time == By.HOUR else f"{moment:%-d %b %Y}"


@require_GET
@workspace_view(Permission.VIEW_USAGE)
def requests(request: HttpRequest, workspace: Workspace) -> HttpResponse:
    query = UsageQuery.parse(request.GET, timezone.now())
    text = request.GET.get("after", "")
    after = Cursor.parse(text) if text else None
    if text and after is None:
        raise Http404("There is no such page.")
    page = requests_page(workspace.organization_id, query.span, query.request_filters, after, PAGE)
    names = key_names(workspace.organization_id)
    context = {
        "query": query,
        "requests": page.rows,
        "older": query.address(after=str(page.next)) if page.next else "",
        "newest": query.address() if after else "",
        "spans": choices(query, "span", SPANS),
        "active": active_filters(query, names),
        "only_errors": "" if "errors" in query.values else query.address(errors="1"),
    }
    return render(request, "adminui/usage_requests.html", context)


@require_GET
@workspace_view(Permission.VIEW_USAGE)
def one_request(request: HttpRequest, workspace: Workspace, request_id: str) -> HttpResponse:
    detail = request_detail(workspace.organization_id, request_id)
    if detail is None:
        raise Http404("No such request.")
    key = key_names(workspace.organization_id).get(detail.api_key_id, "")
    may_read = workspace.may(Permission.MANAGE_SETTINGS)
    text = text_of(workspace.organization_id, detail.request_id) if may_read else None
    context = {
        "detail": detail,
        "key": key,
        "refunded": sum(refund.amount for refund in detail.refunds),
        "text": readable(text) if text else None,
    }
    return render(request, "adminui/usage_request.html", context)


@require_GET
@workspace_view(Permission.VIEW_USAGE)
def export(request: HttpRequest, workspace: Workspace, form: str) -> StreamingHttpResponse:
    """Every request of the time, a line each, however many there are: nothing is kept in memory."""
    query = UsageQuery.parse(request.GET, timezone.now())
    if form not in EXPORTS:
        raise Http404("Usage is exported as csv or json.")
    write, content_type = EXPORTS[form]
    lines = write(workspace.organization_id, query.span, query.filters)
    response = StreamingHttpResponse(one_by_one(lines), content_type=content_type)
    name = f"ccm-usage-{query.span.since:%Y-%m-%d}-{query.span.until:%Y-%m-%d}.{form}"
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


@require_GET
@workspace_view(Permission.VIEW_USAGE)
def sessions(request: HttpRequest, workspace: Workspace) -> HttpResponse:
    after = _session_cursor(request.GET.get("after", ""))
    lines = sessions_page(workspace.organization_id, after, PAGE + 1)
    shown = lines[:PAGE]
    older = ""
    if len(lines) > PAGE:
        cursor = Cursor(shown[-1].last_seen, shown[-1].session_id)
        older = f"{reverse('usage-sessions')}?after={cursor}"
    return render(request, "adminui/usage_sessions.html", {"sessions": shown, "older": older, "after": after})


def _session_cursor(text: str) -> "tuple[Any, str] | None":
    if not text:
        return None
    cursor = Cursor.parse(text)
    if cursor is None:
        raise Http404("There is no such page.")
    return cursor.created_at, cursor.request_id


@dataclass(frozen=True, slots=True)
class Branch:
    """An agent in the table of its session; `depth` says how far it is indented."""

    agent: Agent
    depth: int


@require_GET
@workspace_view(Permission.VIEW_USAGE)
def one_session(request: HttpRequest, workspace: Workspace, session_id: str) -> HttpResponse:
    detail = session_detail(workspace.organization_id, session_id)
    if detail is None:
        raise Http404("No such session.")
    page = requests_page(workspace.organization_id, None, RequestFilters(session_id=session_id), None, PAGE)
    context = {"detail": detail, "branches": list(_branches(detail.agents)), "requests": page.rows, "more": page.next}
    return render(request, "adminui/usage_session.html", context)


def _branches(agents: tuple[Agent, ...]) -> Iterator[Branch]:
    """The tree, line by line; ids are the client's, and so is the depth: no recursion."""
    waiting = [Branch(agent, 0) for agent in reversed(agents)]
    while waiting:
        branch = waiting.pop()
        yield branch
        waiting += [Branch(each, min(branch.depth + 1, 6)) for each in reversed(branch.agent.subagents)]
