"""The demo's seed: complete, idempotent, and respectful of what people changed."""

import json
import stat
from pathlib import Path

import pytest

from accounts.models import ApiKey, Organization, User
from ccm_site.demo import CREDITS_NANOS, CUSTOMER, OPERATOR, REAL_PROVIDERS, RealProvider, seed
from credits.selectors import balance
from providers.catalogue import build
from providers.config import import_config
from providers.models import Provider

pytestmark = pytest.mark.django_db
KEY = {"ANTHROPIC_API_KEY": "sk-ant-only-for-tests"}


def stored(data_dir: Path) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = json.loads((data_dir / "demo.json").read_text())
    return found


def customers_organization() -> Organization:
    return Organization.objects.get(personal_owner__email=CUSTOMER)


def test_everything_is_there(tmp_path: Path) -> None:
    seed(tmp_path, {})
    demo = stored(tmp_path)
    operator, customer = User.objects.get(email=OPERATOR), User.objects.get(email=CUSTOMER)
    assert operator.is_superuser
    assert operator.check_password(demo["operator"]["password"])
    assert not customer.is_staff
    assert customer.check_password(demo["customer"]["password"])
    assert ApiKey.objects.filter(organization=customers_organization(), revoked_at=None).count() == 1
    assert balance(customers_organization().pk).available == CREDITS_NANOS
    catalogue = build()
    for name in demo["models"].values():
        assert catalogue.models[name].price is not None
        assert [target.provider for target in catalogue.models[name].targets] == ["demo"]
    assert catalogue.platform_profile.default == "demo-sonnet"
    assert catalogue.platform_profile.think == "demo-opus"
    assert catalogue.platform_profile.background == "demo-haiku"


def test_log_ins_are_private_and_random(tmp_path: Path) -> None:
    seed(tmp_path, {})
    assert stat.S_IMODE((tmp_path / "demo.json").stat().st_mode) == 0o600
    passwords = {stored(tmp_path)[role]["password"] for role in ("operator", "customer")}
    assert len(passwords) == 2
    assert all(len(password) >= 16 for password in passwords)


def test_a_second_seed_changes_nothing(tmp_path: Path) -> None:
    seed(tmp_path, {})
    before, version = (tmp_path / "demo.json").read_text(), build().version
    assert seed(tmp_path, {}) == []
    assert (tmp_path / "demo.json").read_text() == before
    assert build().version == version
    assert ApiKey.objects.count() == 1
    assert balance(customers_organization().pk).available == CREDITS_NANOS


def test_a_changed_password_stays_and_is_not_told(tmp_path: Path) -> None:
    seed(tmp_path, {})
    operator = User.objects.get(email=OPERATOR)
    operator.set_password("chosen by the operator")
    operator.save()
    seed(tmp_path, {})
    assert stored(tmp_path)["operator"]["password"] is None
    seed(tmp_path, {})
    operator.refresh_from_db()
    assert operator.check_password("chosen by the operator")


def test_lost_log_ins_are_drawn_anew(tmp_path: Path) -> None:
    seed(tmp_path, {})
    (tmp_path / "demo.json").unlink()
    seed(tmp_path, {})
    assert User.objects.get(email=OPERATOR).check_password(stored(tmp_path)["operator"]["password"])


def test_a_real_provider_is_added_with_prices_and_serves_the_routes(tmp_path: Path) -> None:
    seed(tmp_path, {})
    assert seed(tmp_path, KEY) == ["Added the provider anthropic (its key was in the environment)."]
    catalogue = build()
    assert catalogue.platform_profile.default == "claude-sonnet-5-5"
    target = catalogue.models["claude-sonnet-5-5"].targets[0]
    assert target.credentials[0].secret == KEY["ANTHROPIC_API_KEY"]
    assert stored(tmp_path)["models"]["opus"] == "claude-opus-5-5"


def test_the_operators_own_changes_stay(tmp_path: Path) -> None:
    seed(tmp_path, KEY)
    import_config('[router]\ndefault = "claude-haiku-4-5"\n', environ={})
    Provider.objects.filter(name="anthropic").update(enabled=False)
    seed(tmp_path, KEY)
    assert build().platform_profile.default == "claude-haiku-4-5"
    assert not Provider.objects.get(name="anthropic").enabled


@pytest.mark.parametrize("real", REAL_PROVIDERS, ids=lambda real: real.name)
def test_each_real_catalogue_is_whole(tmp_path: Path, real: RealProvider) -> None:
    seed(tmp_path, {real.variable: "key-only-for-tests"})
    models = build().models
    for name in (real.routes.default, real.routes.think, real.routes.background):
        model = models[name]
        assert model.price is not None
        assert model.targets[0].cost == model.price
        assert model.targets[0].provider == real.name
    assert models[real.routes.default].context_window == real.routes.context_window
