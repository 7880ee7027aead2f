"""Seeds a demo installation: an operator, a customer with credits and a key, the demo provider,
and the real providers whose keys are in the environment.

Every start of `make run` calls `seed`. It adds what is missing and changes nothing else, so
that what the operator edits stays as it is. Passwords and the key are drawn at random; they
are kept in `demo.json` in the data directory, readable by its owner only, because the banner
shows them again."""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from django.db import transaction

from accounts import keys
from accounts.selectors import active_keys
from accounts.services import create_key
from ccm_site.supervisor.installation import write_secret
from credits.services import Account, grant, open_account
from providers.catalogue import build
from providers.config import import_config
from providers.models import Provider

CATALOGUES = Path(__file__).resolve().parent / "catalogues"
OPERATOR, CUSTOMER = "operator@example.org", "customer@example.org"
CREDITS_NANOS = 20 * 1_000_000_000
DEMO = "demo"


@dataclass(frozen=True)
class Routes:
    """Which models a provider serves the platform's routes with. `context_window` in tokens."""

    default: str
    think: str
    background: str
    context_window: int

    def toml(self) -> str:
        """The platform's router profile, as CCM TOML."""
        return f'[router]\ndefault = "{self.default}"\nthink = "{self.think}"\nbackground = "{self.background}"\n'


@dataclass(frozen=True)
class RealProvider:
    """A provider that is added when `variable` holds a key; its catalogue is `<name>.toml`."""

    name: str
    variable: str
    routes: Routes


# The first whose key is there serves the platform's routes.
REAL_PROVIDERS = (
    RealProvider(
        "anthropic",
        "ANTHROPIC_API_KEY",
        Routes("claude-sonnet-5-5", "claude-opus-5-5", "claude-haiku-4-5", 1_000_000),
    ),
    RealProvider("openai", "OPENAI_API_KEY", Routes("gpt-5.2", "gpt-5.2", "gpt-5-mini", 400_000)),
    RealProvider(
        "gemini",
        "GEMINI_API_KEY",
        Routes("gemini-3.5-flash", "gemini-3.5-flash", "gemini-3.5-flash-lite", 1_000_000),
    ),
    RealProvider("openrouter", "OPENROUTER_API_KEY", Routes("glm-5.2", "glm-5.2", "glm-5.3-flash", 1_000_000)),
)
DEMO_ROUTES = Routes("demo-sonnet", "demo-opus", "demo-haiku", 200_000)


def seed(data_dir: Path, environment: Mapping[str, str]) -> list[str]:
    """Add what is missing of the demo; the answer is what the person at the terminal should know.

    Needs a migrated database. Raises what the services raise."""
    file = data_dir / "demo.json"
    known = json.loads(file.read_text()) if file.exists() else {}
    added = add_providers(environment)
    routes = choose_routes(environment)
    with transaction.atomic():
        demo = {
            "operator": operator(known.get("operator", {})),
            "customer": customer(known.get("customer", {})),
            "models": {"opus": routes.think, "sonnet": routes.default, "haiku": routes.background},
            "context_window": routes.context_window,
        }
        if demo != known:
            write_secret(file, json.dumps(demo, indent=2) + "\n")
    return [f"Added the provider {name} (its key was in the environment)." for name in added if name != DEMO]


def add_providers(environment: Mapping[str, str]) -> list[str]:
    """Import the demo provider, and every real one with a key in `environment`, unless it is there."""
    wanted = [DEMO, *(real.name for real in REAL_PROVIDERS if environment.get(real.variable))]
    there = set(Provider.objects.filter(name__in=wanted).values_list("name", flat=True))
    missing = [name for name in wanted if name not in there]
    for name in missing:
        import_config((CATALOGUES / f"{name}.toml").read_text(), environ=environment)
    return missing


def choose_routes(environment: Mapping[str, str]) -> Routes:
    """The routes that serve Claude Code here. The platform's profile follows as long as it is
    unset or one that this module set; an operator's own choice stays."""
    ours = [DEMO_ROUTES, *(real.routes for real in REAL_PROVIDERS)]
    best = next((real.routes for real in REAL_PROVIDERS if environment.get(real.variable)), None)
    default = build().platform_profile.default
    current = next((routes for routes in ours if routes.default == default), None)
    wanted = best or current or DEMO_ROUTES
    if not default or (current is not None and current != wanted):
        import_config(wanted.toml(), environ=environment)
    return wanted


def operator(known: Mapping[str, str]) -> dict[str, str | None]:
    """The operator's log-in. The password is None once somebody has changed it."""
    account, password = person(OPERATOR, known)
    user = account.user
    if not user.is_superuser:
        user.is_staff = user.is_superuser = True
        user.save(update_fields=("is_staff", "is_superuser"))
    return {"email": user.email, "password": password}


def customer(known: Mapping[str, str]) -> dict[str, str | None]:
    """The customer's log-in and API key, with credits granted once."""
    account, password = person(CUSTOMER, known)
    organization = account.organization
    grant(organization.pk, CREDITS_NANOS, reason="Demo credits", idempotency_key=f"demo:{organization.pk}")
    secret = known.get("api_key")
    if secret is None or not active_keys(organization).filter(digest=keys.digest(secret)).exists():
        secret = create_key(organization=organization, name="Demo", created_by=account.user).secret
    return {"email": account.user.email, "password": password, "api_key": secret}


def person(email: str, known: Mapping[str, str]) -> tuple[Account, str | None]:
    """The account with this address, and its password as far as it is still the seeded one."""
    password = known.get("password") or secrets.token_urlsafe(12)
    account = open_account(email=email, password=password)
    if not account.created and "email" not in known:  # `demo.json` was lost, and the password with it
        account.user.set_password(password)
        account.user.save(update_fields=("password",))
    return account, password if account.user.check_password(password) else None
