from datetime import timedelta
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from accounts.models import Organization
from credits.money import format_usd
from gateway.profiles import InvalidProfile, checked
from gateway.what_if import MOST_DAYS, WhatIf, what_if
from providers.catalogue import build
from providers.config_file import parse_router
from providers.errors import ConfigError
from providers.profiles import profile_with


class Command(BaseCommand):
    help = "What an organisation's recorded usage would have cost under another router profile."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--org", required=True, help="the organisation's id, or its name where only one has it")
        parser.add_argument("--profile", required=True, metavar="FILE", help="TOML with a [router] table")
        parser.add_argument("--days", type=int, default=30, help=f"how far back (30; at most {MOST_DAYS})")

    def handle(self, *_args: Any, **options: Any) -> None:
        if not 1 <= options["days"] <= MOST_DAYS:
            raise CommandError(f"--days: give a number from 1 to {MOST_DAYS}.")
        organization = organization_named(options["org"])
        catalogue = build()
        try:
            values = parse_router(Path(options["profile"]).read_text())
            profile = checked(profile_with({k: v for k, v in values.items() if v is not None}), catalogue)
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"--profile: cannot be read: {error}") from None
        except (ConfigError, InvalidProfile) as error:
            raise CommandError(f"--profile: {error}") from None
        now = timezone.now()
        found = what_if(organization.pk, profile, catalogue, now - timedelta(days=options["days"]), now)
        self.stdout.write("\n".join(lines_of(found, str(organization), options["days"])))


def organization_named(name: str) -> Organization:
    found = list(Organization.objects.filter(pk=int(name)) if name.isdecimal() else
                 Organization.objects.filter(name=name)[:2])  # fmt: skip
    if len(found) != 1:
        raise CommandError(f"--org: {'no organisation is' if not found else 'several organisations are'} {name!r}.")
    return found[0]


def lines_of(found: WhatIf, organization: str, days: int) -> list[str]:
    saved = found.charged - found.would
    lines = [
        f"{organization}, the last {days} days: {found.requests:,} requests, charged {format_usd(found.charged)}.",
        f"Under this profile: {format_usd(found.would)}, "
        + (f"{format_usd(saved)} less." if saved >= 0 else f"{format_usd(-saved)} more."),
    ]
    if found.changes:
        rows = [("requests", "route", "model", "would take", "would be served by", "charged", "would be")]
        rows += [
            (f"{each.requests:,}", each.route, each.model, each.would_route, each.would_model,
             format_usd(each.charged), format_usd(each.would))
            for each in found.changes
        ]  # fmt: skip
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines += ["", *("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
                        for row in rows)]  # fmt: skip
    lines += [f"unknown   {each.requests:,} requests: {each.what}" for each in found.unknown]
    return lines
