"""Claude Code's sessions: what each used in all, and each of its agents."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import Max, Min, Q

from credits.models import UsageRecord
from credits.usage.models import SessionSlice, UsageSession
from credits.usage.reading import SUMS_OF_RECORDS, SUMS_OF_ROWS, not_rolled_up, snapshot
from credits.usage.types import SUM_COLUMNS, Sums

MOST = 200


@dataclass(frozen=True, slots=True)
class SessionLine:
    """One session, as a list shows it. `last_seen` and `session_id` of a page's last are the next page's cursor."""

    session_id: str
    first_seen: datetime
    last_seen: datetime
    subagents: int
    sums: Sums

    @property
    def lasted(self) -> timedelta:
        return self.last_seen - self.first_seen


@dataclass(frozen=True, slots=True)
class Agent:
    """One agent of a session; `agent_id` is empty for the main thread. `with_subagents` adds those that it
    started, and what they started."""

    agent_id: str
    parent_agent_id: str
    first_seen: datetime
    last_seen: datetime
    sums: Sums
    subagents: tuple["Agent", ...] = ()
    with_subagents: Sums = field(default_factory=Sums)


@dataclass(frozen=True, slots=True)
class SessionDetail:
    """`agents` are the roots of the tree: the main thread, and agents whose parent is not known."""

    session_id: str
    first_seen: datetime
    last_seen: datetime
    sums: Sums
    agents: tuple[Agent, ...]


def sessions_page(
    organization_id: int, after: tuple[datetime, str] | None = None, limit: int = 50
) -> list[SessionLine]:
    """The sessions that were used last, at most MOST; `after` is (last_seen, session_id) of the page before's last."""
    limit = min(limit, MOST)
    with snapshot() as rolled:
        running = _running(organization_id, rolled)
        stored = UsageSession.objects.filter(organization_id=organization_id)
        known = {row.session_id: row for row in stored.filter(session_id__in=running)}
        agents_of = _agents_of(organization_id, running)
        older = stored.exclude(session_id__in=running)
        if after:
            older = older.filter(Q(last_seen__lte=after[0]) & (Q(last_seen__lt=after[0]) | Q(session_id__lt=after[1])))
        lines = [_line(row) for row in older.order_by("-last_seen", "-session_id")[:limit]]
    for session_id, agents in running.items():
        line = _continued(known.get(session_id), session_id, agents, agents_of.get(session_id, set()))
        if after is None or (line.last_seen, session_id) < after:
            lines.append(line)
    return sorted(lines, key=lambda line: (line.last_seen, line.session_id), reverse=True)[:limit]


def session_detail(organization_id: int, session_id: str) -> SessionDetail | None:
    """None for a session that is not there, or another tenant's."""
    with snapshot() as rolled:
        slices = SessionSlice.objects.filter(organization_id=organization_id, session_id=session_id)
        agents = [_agent(row) for row in _by_agent(slices, "first_seen", "last_seen", SUMS_OF_ROWS)]
        records = UsageRecord.objects.filter(organization_id=organization_id, session_id=session_id)
        newest = not_rolled_up(records, rolled)
        agents += [_agent(row) for row in _by_agent(newest, "created_at", "created_at", SUMS_OF_RECORDS)]
    if not session_id or not agents:
        return None
    merged = _merged(agents)
    return SessionDetail(
        session_id,
        min(agent.first_seen for agent in merged),
        max(agent.last_seen for agent in merged),
        sum((agent.sums for agent in merged), Sums()),
        _tree(merged),
    )


def _running(organization_id: int, rolled: datetime | None) -> dict[str, list[Agent]]:
    """What the sessions have used since the rollups were made."""
    records = UsageRecord.objects.filter(organization_id=organization_id).exclude(session_id="")
    found: dict[str, list[Agent]] = {}
    newest = not_rolled_up(records, rolled)
    for row in _by_agent(newest, "created_at", "created_at", SUMS_OF_RECORDS):
        found.setdefault(row["session_id"], []).append(_agent(row))
    return found


def _by_agent(rows: Any, first: str, last: str, sums: dict[str, Any]) -> Iterable[dict[str, Any]]:
    edges = {"parent": Max("parent_agent_id"), "first": Min(first), "last": Max(last)}
    found: Iterable[dict[str, Any]] = rows.order_by().values("session_id", "agent_id").annotate(**edges, **sums)
    return found


def _agent(row: dict[str, Any]) -> Agent:
    return Agent(row["agent_id"], row["parent"], _utc(row["first"]), _utc(row["last"]), Sums.of(row))


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC)


def _merged(agents: Sequence[Agent]) -> list[Agent]:
    """One for each agent, in the order of their first requests."""
    found: dict[str, Agent] = {}
    for agent in agents:
        known = found.get(agent.agent_id)
        found[agent.agent_id] = (
            agent
            if known is None
            else replace(
                known,
                parent_agent_id=known.parent_agent_id or agent.parent_agent_id,
                first_seen=min(known.first_seen, agent.first_seen),
                last_seen=max(known.last_seen, agent.last_seen),
                sums=known.sums + agent.sums,
            )
        )
    return sorted(found.values(), key=lambda agent: (agent.first_seen, agent.agent_id))


def _tree(agents: Sequence[Agent]) -> tuple[Agent, ...]:
    """A subagent that names no parent belongs to the main thread. Ids are the client's: what names itself as
    its ancestor, or a parent that never asked for anything, is a root."""
    known = {agent.agent_id: agent for agent in agents}
    parents = {agent.agent_id: _parent(agent, known) for agent in agents}
    _open_circles(parents)
    children: dict[str | None, list[str]] = {}
    for agent_id, parent in parents.items():
        children.setdefault(parent, []).append(agent_id)
    # Depth is the client's to choose: no recursion.
    order, waiting = [], list(children.get(None, ()))
    for agent_id in waiting:
        order.append(agent_id)
        waiting += children.get(agent_id, ())
    built: dict[str, Agent] = {}
    for agent_id in reversed(order):
        below = tuple(built[child] for child in children.get(agent_id, ()))
        sums = sum((agent.with_subagents for agent in below), known[agent_id].sums)
        built[agent_id] = replace(known[agent_id], subagents=below, with_subagents=sums)
    return tuple(built[agent_id] for agent_id in children.get(None, ()))


def _parent(agent: Agent, known: dict[str, Agent]) -> str | None:
    if not agent.agent_id or agent.parent_agent_id not in known or agent.parent_agent_id == agent.agent_id:
        return None
    return agent.parent_agent_id


def _open_circles(parents: dict[str, str | None]) -> None:
    """Make one agent of each circle a root, each agent looked at once."""
    settled: set[str] = set()
    for start in parents:
        path: set[str] = set()
        at: str | None = start
        while at is not None and at not in settled:
            path.add(at)
            above = parents[at]
            if above in path:
                parents[at] = above = None
            at = above
        settled |= path


def _line(row: UsageSession) -> SessionLine:
    sums = Sums(**{name: getattr(row, name) for name in SUM_COLUMNS})
    return SessionLine(row.session_id, row.first_seen, row.last_seen, row.subagents, sums)


def _agents_of(organization_id: int, session_ids: Iterable[str]) -> dict[str, set[str]]:
    slices = SessionSlice.objects.filter(organization_id=organization_id, session_id__in=session_ids)
    found: dict[str, set[str]] = {}
    for session_id, agent_id in slices.values_list("session_id", "agent_id").distinct():
        found.setdefault(session_id, set()).add(agent_id)
    return found


def _continued(
    stored: UsageSession | None, session_id: str, agents: Sequence[Agent], agents_before: set[str]
) -> SessionLine:
    """A session with what it has used since the rollups were made."""
    seen = agents_before | {agent.agent_id for agent in agents}
    first, last = min(agent.first_seen for agent in agents), max(agent.last_seen for agent in agents)
    sums = sum((agent.sums for agent in agents), Sums())
    if stored is not None:
        first, sums = min(first, stored.first_seen), sums + _line(stored).sums
    return SessionLine(session_id, first, last, len(seen - {""}), sums)
