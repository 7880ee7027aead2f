"""The audit log: every sensitive change of an organisation, in the transaction that makes it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from accounts.models import AuditEntry, User

MOST = 200


@dataclass(frozen=True, slots=True)
class Entry:
    """`who` is the actor's e-mail address, "" when the system did it or they are gone. `id` is the next page's
    cursor."""

    id: int
    at: datetime
    who: str
    action: str
    subject: str
    details: str


def record(organization_id: int, actor: User | None, action: str, subject: str = "", details: str = "") -> None:
    """`action` is a verb and its object, as the log shows it ("invited", "changed the role of"). No secret belongs
    in `subject` or `details`."""
    AuditEntry.objects.create(
        organization_id=organization_id, actor=actor, action=action, subject=subject[:200], details=details[:500]
    )


def entries(organization_id: int, before: int | None = None, limit: int = 50) -> Sequence[Entry]:
    """The newest first, at most MOST; `before` is the id of the last one of the page before."""
    rows = AuditEntry.objects.filter(organization_id=organization_id).select_related("actor")
    if before is not None:
        rows = rows.filter(pk__lt=before)
    return [
        Entry(row.pk, row.created_at, row.actor.email if row.actor else "", row.action, row.subject, row.details)
        for row in rows.order_by("-pk")[: min(limit, MOST)]
    ]
