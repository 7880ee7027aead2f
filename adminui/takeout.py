"""All that CCM keeps of an organisation, as a ZIP file that is written while it is sent: at flat memory, however
much there is. No secret is in it, nor anything of other tenants or of what the operator pays."""

import csv
import gzip
import io
import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.db.models import Q, QuerySet
from django.utils import timezone

from accounts.models import ApiKey, AuditEntry, Invitation, Membership, Organization, User
from credits.models import CreditLot, LedgerAccount, Transfer, UsageArchive
from credits.money import nanos_to_usd
from credits.usage import archive
from credits.usage.export import COLUMNS, cell, export_csv
from credits.usage.types import Span
from gateway.texts import texts_of
from providers.profiles import Owner, stored, values_of

BATCH = 1000
README = """What CCM keeps of the organisation {name}, on {now:%Y-%m-%d %H:%M} UTC.

organization.json  its settings          members.csv      who belongs to it, and in which role
routes.json        its router profile    invitations.csv  who was invited
keys.csv           API keys; their secrets are not kept
usage.csv          a line for each request    usage-archive/  requests of months that were archived
ledger.csv         each movement of credits: to the wallet (+) or from it (-), in US dollars
lots.csv           credits as they came in, and what is left    log.csv  who changed what

texts.jsonl        prompts and answers, where prompt logging is on; else nothing: they are not kept
"""


def takeout(organization: Organization) -> Iterator[bytes]:
    """The file, part by part."""
    pipe = _Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, parts in _files(organization):
            with packed.open(zipfile.ZipInfo(name, timezone.now().timetuple()[:6]), "w") as file:
                for part in parts:
                    file.write(part if isinstance(part, bytes) else part.encode())
                    if pipe.waiting >= 2**16:
                        yield pipe.take()
            yield pipe.take()
    yield pipe.take()


class _Pipe(io.RawIOBase):
    """Where the archive is written to; what was written can be taken, and is forgotten then."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []
        self.waiting = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        part = bytes(data)
        self._parts.append(part)
        self.waiting += len(part)
        return len(part)

    def take(self) -> bytes:
        taken, self._parts, self.waiting = b"".join(self._parts), [], 0
        return taken


def _files(organization: Organization) -> Iterator[tuple[str, Iterable[str | bytes]]]:
    now = timezone.now()
    of_it = Q(organization=organization)
    yield "README.txt", [README.format(name=organization.name, now=now)]
    yield "organization.json", [_json(_settings(organization))]
    yield "routes.json", [_json(values_of(stored(Owner.organization(organization.pk))))]
    yield (
        "members.csv",
        _table(Membership.objects.filter(of_it), {"email": "user__email", "role": "role", "since": "created_at"}),
    )
    yield (
        "invitations.csv",
        _table(
            Invitation.objects.filter(of_it),
            {name: name for name in ("email", "role", "created_at", "expires_at", "ended_at")},
        ),
    )
    yield "keys.csv", _table(
        ApiKey.objects.filter(of_it),
        {"id": "pk", "name": "name", "last_four": "last_four", "made_by": "created_by__email",
         "created_at": "created_at", "expires_at": "expires_at", "revoked_at": "revoked_at",
         "allowed_models": "allowed_models"},
    )  # fmt: skip
    yield "usage.csv", export_csv(organization.pk, Span(organization.created_at, now))
    for month in UsageArchive.objects.filter(of_it, deleted_at__isnull=False).order_by("starts_at"):
        yield f"usage-archive/{month.starts_at:%Y-%m}.jsonl", _archived(archive.directory() / month.path)
    yield "texts.jsonl", (json.dumps(asdict(text), default=str) + "\n" for text in texts_of(organization.pk))
    yield "ledger.csv", _ledger(organization.pk)
    lots = {name: name for name in ("id", "kind", "created_at", "expires_at")}
    yield (
        "lots.csv",
        _table(
            CreditLot.objects.filter(wallet_id=organization.pk),
            {**lots, "amount_usd": "amount", "left_usd": "remaining"},
        ),
    )
    yield (
        "log.csv",
        _table(
            AuditEntry.objects.filter(of_it),
            {"at": "created_at", "who": "actor__email", "action": "action", "subject": "subject", "details": "details"},
        ),
    )


def _settings(organization: Organization) -> dict[str, Any]:
    return {
        "id": organization.pk,
        "name": organization.name,
        "created_at": organization.created_at,
        "own_provider_keys_only": organization.own_keys_only,
        "limits": {name: value for name, value in vars_of(organization.limits).items() if value is not None},
    }


def vars_of(limits: Any) -> dict[str, int | None]:
    return {name: getattr(limits, name) for name in limits.__struct_fields__}


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, default=str) + "\n"


def _archived(path: Path) -> Iterator[str]:
    """A month's requests with what `usage.csv` tells of them: the rest is the operator's."""
    if not path.is_file():
        return
    with gzip.open(path, "rt") as file:
        for line in file:
            row = json.loads(line)
            yield json.dumps({name: row.get(name) for name in COLUMNS}) + "\n"


def _table(rows: "QuerySet[Any]", columns: Mapping[str, str]) -> Iterator[str]:
    """A heading and a line for each row, by id; each batch is a query of its own. Amounts are told in dollars."""
    yield _lines([columns])
    last = 0
    while batch := list(rows.filter(pk__gt=last).order_by("pk").values("pk", *set(columns.values()) - {"pk"})[:BATCH]):
        yield _lines([_cell(name, row[column]) for name, column in columns.items()] for row in batch)
        last = batch[-1]["pk"]


def _ledger(organization_id: int) -> Iterator[str]:
    accounts = dict(LedgerAccount.objects.filter(organization_id=organization_id).values_list("pk", "kind"))
    yield _lines([("id", "at", "account", "amount_usd", "what", "request_id", "reason")])
    last = 0
    mine = Q(debit__in=accounts) | Q(credit__in=accounts)
    while batch := list(Transfer.objects.filter(mine, pk__gt=last).order_by("pk")[:BATCH]):
        yield _lines(line for transfer in batch for line in _movements(transfer, accounts))
        last = batch[-1].pk


def _movements(transfer: Transfer, accounts: Mapping[int, str]) -> Iterator[tuple[Any, ...]]:
    for account, amount in ((transfer.debit_id, -transfer.amount), (transfer.credit_id, transfer.amount)):
        if account in accounts:
            told = (transfer.code, transfer.hold_id or "", cell(transfer.reason))
            yield transfer.pk, transfer.created_at.isoformat(), accounts[account], nanos_to_usd(amount), *told


def _cell(name: str, value: Any) -> Any:
    if name.endswith("_usd"):
        return nanos_to_usd(value)
    return "" if value is None else cell(value)


def _lines(rows: Iterable[Iterable[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()


def about(user: User) -> dict[str, Any]:
    """What CCM keeps of a person, beside their organisations."""
    from allauth.account.models import EmailAddress
    from allauth.mfa.models import Authenticator
    from allauth.socialaccount.models import SocialAccount
    from allauth.usersessions.models import UserSession

    return {
        "email": user.email,
        "name": user.get_full_name(),
        "joined_at": user.date_joined,
        "last_sign_in": user.last_login,
        "addresses": list(EmailAddress.objects.filter(user=user).values("email", "verified", "primary")),
        "second_factors": list(Authenticator.objects.filter(user=user).values("type", "created_at", "last_used_at")),
        "connected": list(SocialAccount.objects.filter(user=user).values("provider", "uid", "date_joined")),
        "sessions": list(
            UserSession.objects.filter(user=user).values("ip", "user_agent", "created_at", "last_seen_at")
        ),
        "organizations": [
            {"name": each.organization.name, "role": each.role, "since": each.created_at}
            for each in Membership.objects.filter(user=user).select_related("organization")
        ],
        "api_keys": list(
            ApiKey.objects.filter(created_by=user).values("name", "last_four", "created_at", "revoked_at")
        ),
        "invitations": list(
            Invitation.objects.filter(email__iexact=user.email).values("organization__name", "created_at")
        ),
    }
