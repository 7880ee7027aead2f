"""The operators' API: what an operator's program can do, and what it cannot."""

import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.utils import timezone

from accounts import operator_tokens
from accounts.models import ApiKey, OperatorToken, Organization, User
from credits import services as credits
from credits.models import Wallet
from providers.models import Credential, Mapping, ModelPrice, Provider, RouterProfile
from tests.adminui.operators.conftest import Call, caller, operator_with
from tests.plugin.environment import SECRETS

pytestmark = pytest.mark.django_db

PROVIDER = {"name": "acme", "kind": "openai-compatible", "base_url": "https://api.acme.example/v1/"}


# --- who may come in ----------------------------------------------------------------------------


def test_without_a_token_or_session_nothing_is_told(client: Client, customer: User, signed_in: Callable[..., Client]):
    for answer in (
        client.get("/admin/api/providers/"),
        Client(headers={"authorization": "Bearer ccm-op-wrong"}).get("/admin/api/providers/"),
        Client(headers={"authorization": "Bearer \xff"}).get("/admin/api/providers/"),
    ):
        assert answer.status_code == 401
        assert answer["WWW-Authenticate"] == "Bearer"
        assert answer.json()["error"]["message"]
    assert signed_in(customer).get("/admin/api/providers/").status_code == 403
    assert client.get("/admin/api/docs/").status_code == 302


@pytest.mark.parametrize("end", ["revoked", "expired", "left", "demoted"])
def test_a_token_ends(operator: User, token: str, end: str):
    assert caller(token)("get", "wallets/").status_code == 200
    row = OperatorToken.objects.get()
    if end == "revoked":
        assert operator_tokens.revoke(row)
    elif end == "expired":
        OperatorToken.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    else:
        User.objects.filter(pk=operator.pk).update(
            **{"left": {"is_active": False}, "demoted": {"is_staff": False}}[end]
        )
    assert caller(token)("get", "wallets/").status_code == (403 if end == "demoted" else 401)


def test_a_session_works_with_djangos_token_against_forged_requests(operator: User):
    client = Client(enforce_csrf_checks=True)
    client.force_login(operator)
    assert client.get("/admin/api/providers/").status_code == 200
    forged = client.post("/admin/api/providers/", PROVIDER, content_type="application/json")
    assert forged.status_code == 403
    assert not Provider.objects.exists()
    page = client.get("/admin/api/docs/")
    told = page.context["csrf_token"]
    headers = {"x-csrftoken": str(told)}
    made = client.post("/admin/api/providers/", PROVIDER, content_type="application/json", headers=headers)
    assert made.status_code == 201


def test_permissions_are_those_of_the_admin(demo_model: str):
    reader = operator_with("providers.view_provider")
    call = caller(operator_tokens.create(user=reader, name="reader").secret)
    assert call("get", "providers/").status_code == 200
    assert call("post", "providers/", PROVIDER).status_code == 403
    assert call("get", "models/").status_code == 403
    assert call("get", "schema/").status_code == 200


def test_a_token_is_stored_as_a_digest_only(token: str):
    row = OperatorToken.objects.values().get()
    assert token not in str(row)
    assert operator_tokens.find(token) is not None
    assert operator_tokens.find(token[:-1] + ("a" if token[-1] != "a" else "b")) is None


def test_the_admin_shows_a_new_token_once(operator: User, signed_in: Callable[..., Client]):
    client = signed_in(operator)
    answer = client.post("/admin/accounts/operatortoken/add/", {"user": operator.pk, "name": "deploy"})
    assert answer.status_code == 200
    shown = answer.content.decode()
    [row] = OperatorToken.objects.all()
    assert shown.count(operator_tokens.PREFIX) == 1
    assert operator_tokens.PREFIX not in client.get(
        f"/admin/accounts/operatortoken/{row.pk}/change/"
    ).content.decode().replace(f"ccm-op-…{row.last_four}", "")
    client.post(
        "/admin/accounts/operatortoken/", {"action": "revoke_selected", "_selected_action": [row.pk]}, follow=True
    )
    row.refresh_from_db()
    assert row.revoked_at is not None


def test_an_operator_makes_tokens_for_themselves_only(operator: User, signed_in: Callable[..., Client]):
    small = operator_with("accounts.add_operatortoken", "accounts.view_operatortoken")
    signed_in(small).post("/admin/accounts/operatortoken/add/", {"user": operator.pk, "name": "x"})
    assert not OperatorToken.objects.exists()
    signed_in(small).post("/admin/accounts/operatortoken/add/", {"user": small.pk, "name": "x"})
    assert OperatorToken.objects.get().user == small


# --- the catalogue ------------------------------------------------------------------------------


def test_a_provider_is_made_with_its_model_and_prices(call: Call):
    provider = call("post", "providers/", PROVIDER).json()
    assert provider["base_url"] == "https://api.acme.example/v1"
    secret = call("post", "credentials/", {"provider": provider["id"], "label": "main", "secret": "sk-secret-1234"})
    assert secret.status_code == 201
    assert "sk-secret" not in secret.content.decode()
    assert Credential.objects.get().open_secret() == "sk-secret-1234"
    model = call("post", "models/", {"name": "acme-1", "context_window": 100000}).json()
    mapping = call("post", "mappings/", {"model": model["id"], "provider": provider["id"], "actual_model": "a1"}).json()
    tiers = [{"above": 200000, "input": "6", "output": "22.5"}]
    price = call("post", "prices/", {"model": model["id"], "input": "3", "output": "15", "tiers": tiers})
    assert price.status_code == 201, price.content
    assert price.json()["tiers"] == tiers
    assert call("post", "costs/", {"mapping": mapping["id"], "input": "1", "output": "5"}).status_code == 201
    assert ModelPrice.objects.get().input == Decimal(3)
    assert Mapping.objects.get().costs.get().output == Decimal(5)
    assert LogEntry.objects.filter(change_message__startswith="By the API").count() == 6


def test_a_secret_is_replaced_and_never_shown(call: Call):
    provider = Provider.objects.create(name="p", kind="demo")
    made = call("post", "credentials/", {"provider": provider.pk, "label": "a", "secret": "one-two-three"}).json()
    path = f"credentials/{made['id']}/"
    assert call("patch", path, {"weight": 3}).json()["weight"] == 3
    assert Credential.objects.get().open_secret() == "one-two-three"
    assert "secret" not in call("patch", path, {"secret": "four-five-six"}).json()
    assert Credential.objects.get().open_secret() == "four-five-six"
    for secret in ("two words", '{"cut'):
        refused = call("patch", path, {"secret": secret})
        assert refused.status_code == 400
        assert "secret" in refused.json()["error"]["fields"]
    assert call("post", "credentials/", {"provider": provider.pk, "label": "b"}).json()["error"]["fields"]["secret"]


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("providers/", {"name": "x", "kind": "openai-compatible"}, "base_url"),
        ("providers/", {"name": "x/y", "kind": "demo"}, "name"),
        ("providers/", {"name": "x", "kind": "nothing"}, "kind"),
        ("models/", {"name": ""}, "name"),
        ("prices/", {"input": "1", "output": "2"}, "model"),
        ("adjustments/", {"kind": "credit", "amount": "1", "reason": "r", "organization": 999}, "organization"),
        ("profiles/", {"scope": "platform", "think": "no-such-model"}, "think"),
        ("profiles/", {"scope": "key"}, "scope"),
        ("organizations/", {"name": "x", "owner": "nobody@example.com"}, "owner"),
    ],
)
def test_bad_input_is_named_by_its_field(call: Call, demo_model: str, path: str, body: dict[str, Any], field: str):
    answer = call("post", path, body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert field in error["fields"]
    assert field in error["message"]


def test_prices_begin_now_or_later_and_stay(call: Call, demo_model: str):
    model = ModelPrice.objects.get().model_id
    past = (timezone.now() - timedelta(days=1)).isoformat()
    coming = (timezone.now() + timedelta(days=1)).isoformat()
    refused = call("post", "prices/", {"model": model, "input": "1", "output": "2", "effective_from": past})
    assert refused.json()["error"]["fields"]["effective_from"]
    later = call("post", "prices/", {"model": model, "input": "1", "output": "2", "effective_from": coming}).json()
    current = ModelPrice.objects.earliest("effective_from").pk
    assert call("delete", f"prices/{current}/").status_code == 400
    assert call("patch", f"prices/{current}/", {"input": "9"}).status_code == 405
    assert call("delete", f"prices/{later['id']}/").status_code == 204


def test_profiles_are_versions(call: Call, demo_model: str, organization: Organization):
    owner = {"scope": "organization", "organization": organization.pk}
    first = call("post", "profiles/", {**owner, "think": demo_model}).json()
    assert (first["think"], first["newest_version"]) == (demo_model, 1)
    conflict = call("post", "profiles/", {**owner, "think": "", "version": 0})
    assert conflict.status_code == 409
    call("post", "profiles/", {**owner, "think": "", "version": 1})
    path = f"profiles/{first['id']}/"
    assert [each["number"] for each in call("get", f"{path}versions/").json()] == [2, 1]
    assert call("post", f"{path}revert/", {"version": 1}).json()["think"] == demo_model
    assert call("post", f"{path}revert/", {"version": 99}).status_code == 404
    assert RouterProfile.objects.count() == 1


# --- customers ----------------------------------------------------------------------------------


def test_an_organisation_is_made_with_its_wallet_and_changed(call: Call, customer: User):
    made = call("post", "organizations/", {"name": "Team", "owner": customer.email, "limit_requests": 5})
    assert made.status_code == 201, made.content
    organization = Organization.objects.get(pk=made.json()["id"])
    assert organization.limit_requests == 5
    assert organization.memberships.get().user == customer
    assert Wallet.objects.filter(pk=organization.pk).exists()
    assert call("patch", f"organizations/{organization.pk}/", {"limit_requests": None}).json()["limit_requests"] is None
    assert call("delete", f"organizations/{organization.pk}/").status_code == 405


def test_a_key_is_limited_and_revoked_and_holds_no_secret(call: Call, key: ApiKey, demo_model: str):
    told = call("get", f"keys/{key.pk}/")
    assert key.digest not in told.content.decode()
    changed = call("patch", f"keys/{key.pk}/", {"limit_tokens": 7, "allowed_models": [demo_model]}).json()
    assert (changed["limit_tokens"], changed["allowed_models"]) == (7, [demo_model])
    assert call("patch", f"keys/{key.pk}/", {"allowed_models": ["nothing"]}).status_code == 400
    assert call("post", "keys/", {"organization": key.organization_id, "name": "x"}).status_code == 405
    assert call("post", f"keys/{key.pk}/revoke/").json()["revoked_at"]
    assert call("post", f"keys/{key.pk}/revoke/").status_code == 200


def test_wallets_holds_and_usage_are_read(call: Call, organization: Organization, usage: Callable[..., None]):
    credits.grant(organization.pk, 12_340_000_000, reason="test", idempotency_key="test:1")
    for number in range(3):
        usage(organization, model=f"model-{number}", charge=1_000)
    assert call("get", f"wallets/{organization.pk}/").json()["posted"] == "12.34"
    holds = call("get", "holds/", state="captured", page_size=2).json()
    assert len(holds["results"]) == 2
    assert holds["next"]
    assert call("get", "holds/", state="nothing").status_code == 400
    assert call("get", f"holds/{holds['results'][0]['id']}/").json()["captured"] == "0.000001"
    first = call("get", "usage/", organization=organization.pk, limit=2).json()
    rest = call("get", "usage/", organization=organization.pk, limit=2, after=first["next"]).json()
    assert [each["model"] for each in first["results"] + rest["results"]] == ["model-2", "model-1", "model-0"]
    assert rest["next"] is None
    assert call("get", "usage/").json()["error"]["fields"]["organization"]
    assert call("get", "usage/", organization=organization.pk, after="x").status_code == 400
    assert call("post", "wallets/", {}).status_code == 405


def test_an_adjustment_takes_two_people(call: Call, organization: Organization):
    asked = {"organization": organization.pk, "kind": "credit", "amount": "2.50", "reason": "sorry", "key": "k1"}
    made = call("post", "adjustments/", asked).json()
    assert call("post", "adjustments/", asked).json()["id"] == made["id"]
    path = f"adjustments/{made['id']}/"
    assert call("post", f"{path}approve/", {}).status_code == 403
    assert Wallet.objects.get(pk=organization.pk).posted == 0
    other = operator_with("credits.view_adjustment", "credits.decide_adjustment")
    second = caller(operator_tokens.create(user=other, name="second").secret)
    assert second("post", "adjustments/", {**asked, "key": "k2"}).status_code == 403
    approved = second("post", f"{path}approve/", {"decision": "ok"}).json()
    assert (approved["state"], approved["decided_by"]) == ("approved", other.pk)
    assert Wallet.objects.get(pk=organization.pk).posted == 2_500_000_000
    assert second("post", f"{path}reject/", {}).status_code == 409


@pytest.mark.parametrize("amount", ["0", "-1", "0.0000000001", "1e30", "NaN", "x"])
def test_an_amount_that_cannot_be_posted_is_refused(call: Call, organization: Organization, amount: str):
    asked = {"organization": organization.pk, "kind": "credit", "amount": amount, "reason": "r"}
    answer = call("post", "adjustments/", asked)
    assert answer.status_code == 400
    assert answer.json()["error"]["fields"]["amount"]


# --- the frame ----------------------------------------------------------------------------------


def test_pages_and_throttling(call: Call, monkeypatch: pytest.MonkeyPatch):
    for number in range(3):
        Provider.objects.create(name=f"p{number}", kind="demo")
    page = call("get", "providers/", page_size=2).json()
    assert page["count"] == 3
    assert len(page["results"]) == 2
    assert call("get", "providers/", page=9).status_code == 404
    from rest_framework.throttling import UserRateThrottle

    monkeypatch.setattr(UserRateThrottle, "THROTTLE_RATES", {"user": "5/min"})
    answers = [call("get", "providers/") for _ in range(6)]
    assert answers[-1].status_code == 429
    assert int(answers[-1]["retry-after"]) > 0


def test_what_is_not_there_is_404_in_the_same_envelope(call: Call):
    assert call("get", "providers/999/").json()["error"]["code"] == "not_found"
    assert call("get", "nothing/").status_code == 404
    assert call("post", "providers/", ["x"]).status_code == 400
    assert Client().get("/admin/api/nothing/").status_code == 404


def test_the_page_shows_the_schema(operator: User, signed_in: Callable[..., Client]):
    page = signed_in(operator).get("/admin/api/docs/")
    assert page.status_code == 200
    assert "/admin/api/schema/" in page.content.decode()


def test_nothing_of_it_is_loaded_before_it_is_asked_for(tmp_path: Path, project: Path):
    """Not by `/v1`, and not by the other pages either."""
    source = (
        "import sys, django; django.setup(); import ccm_site.asgi; "
        "from django.test import Client; assert Client().get('/docs/nothing/').status_code == 404; "
        "assert 'adminui.operators.entry' in sys.modules; "
        "print([name for name in sys.modules if name.split('.')[0] in ('rest_framework', 'drf_spectacular')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", source],
        env={**SECRETS, "DJANGO_SETTINGS_MODULE": "ccm_site.settings", "CCM_DEMO": "1", "CCM_DATA_DIR": str(tmp_path),
             "PYTHONPATH": str(project), "DATABASE_URL": "sqlite:///:memory:", "ALLOWED_HOSTS": "testserver"},
        capture_output=True,
        text=True,
        timeout=120,
    )  # fmt: skip
    assert done.stdout.strip().splitlines()[-1] == "[]", done.stderr
