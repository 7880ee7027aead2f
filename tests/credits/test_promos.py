"""Promo codes: who may redeem which, when, and how often."""

import csv
import io
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from django.contrib.admin.models import LogEntry
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import User
from credits import promos
from credits.batch import BatchRunner, HoldOp, SettleOp
from credits.correction_models import PromoCode, PromoRedemption
from credits.errors import InvalidAmount, PromoCodeRefused, WalletFrozen
from credits.models import CreditLot, LotKind, Transfer
from tests.credits.support import TOKEN, USD, Tenant, assert_reconciled, new_tenant, operator, raw, settlement

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)
Terms = promos.Terms


def code(text: str = "WELCOME", *, amount: int = 5 * USD, **terms: object) -> PromoCode:
    about = {"expires_in_days": 30, "max_redemptions": None, **terms}
    return promos.create_code(text, Terms(amount, **about))  # type: ignore[arg-type]


def member(tenant: Tenant) -> User:
    return User.objects.get(organizations=tenant.organization_id)


def redeem(tenant: Tenant, text: str = "WELCOME", now: datetime | None = None) -> promos.Redemption:
    return promos.redeem(tenant.organization_id, text, by=member(tenant), now=now)


def refusal(tenant: Tenant, text: str = "WELCOME", now: datetime | None = None) -> str:
    with pytest.raises(PromoCodeRefused) as refused:
        redeem(tenant, text, now)
    assert promos.normalised(text) not in promos.normalised(str(refused.value)) or not promos.normalised(text)
    assert_reconciled()
    return refused.value.code


@pytest.mark.parametrize("typed", ["WELCOME5", "welcome5", " Wel-come 5 ", "wel–come_5", "ｗｅｌｃｏｍｅ５"])
def test_a_code_is_known_however_it_is_typed(customer: Tenant, typed: str):
    code("Welcome-5")
    assert redeem(customer, typed).amount == 5 * USD


@pytest.mark.parametrize("typed", ["", "abc", "a" * 41, "weiß5", "💥💥💥💥", "a.b.c.d", "%%%%"])
def test_what_can_be_no_code_is_none(customer: Tenant, typed: str):
    assert promos.normalised(typed) == ("WEISS5" if typed == "weiß5" else "")
    assert refusal(customer, typed) == "unknown_promo_code"


def test_a_redemption_is_a_promotional_lot_with_its_transfer(customer: Tenant):
    promo = code(priority=20)
    now = timezone.now()
    given = redeem(customer, now=now)
    assert given == promos.Redemption(5 * USD, 0, now + 30 * DAY)  # type: ignore[arg-type]
    transfer = Transfer.objects.get(idempotency_key=f"promo:{promo.pk}:{customer.organization_id}")
    assert (transfer.debit.kind, transfer.credit.kind, transfer.code) == ("promo_expense", "wallet", "promo")
    lot = CreditLot.objects.get(source=transfer)
    assert (lot.kind, lot.priority, lot.expires_at, lot.refundable) == (LotKind.PROMO, 20, now + 30 * DAY, False)
    redemption = PromoRedemption.objects.get(promo_code=promo)
    assert (redemption.redeemed_by, redemption.transfer) == (member(customer), transfer)
    assert customer.wallet.next_expiry == now + 30 * DAY
    assert_reconciled()


def test_credits_of_a_code_without_days_never_expire(customer: Tenant):
    code(expires_in_days=None)
    assert redeem(customer).expires_at is None
    assert customer.wallet.next_expiry is None


def test_an_organisation_redeems_a_code_once_and_another_one_too(customer: Tenant):
    code()
    code("OTHER", amount=USD)
    redeem(customer)
    assert refusal(customer) == "promo_code_redeemed"
    redeem(customer, "OTHER")
    redeem(new_tenant())
    assert customer.wallet.posted == 16 * USD
    assert PromoCode.objects.get(code="WELCOME").redeemed == 2


def test_the_first_n_organisations_get_it(customer: Tenant):
    code(max_redemptions=2)
    redeem(customer)
    redeem(new_tenant())
    late = new_tenant()
    assert refusal(late) == "promo_code_used_up"
    assert late.wallet.posted == 0
    assert PromoCode.objects.get().redeemed == 2
    assert refusal(customer) == "promo_code_redeemed"


def test_a_code_is_valid_from_and_until(customer: Tenant):
    now = timezone.now()
    code(valid_from=now + DAY, valid_until=now + 2 * DAY)
    assert refusal(customer, now=now + DAY - timedelta(seconds=1)) == "promo_code_not_yet"
    assert refusal(customer, now=now + 2 * DAY) == "promo_code_expired"
    assert redeem(customer, now=now + DAY).amount == 5 * USD


def test_a_disabled_code_is_as_good_as_unknown(customer: Tenant):
    PromoCode.objects.filter(pk=code().pk).update(enabled=False)
    assert refusal(customer) == "unknown_promo_code"


def test_a_frozen_wallet_gets_nothing(customer: Tenant):
    code()
    raw("UPDATE credits_wallet SET frozen = %s", True)
    with pytest.raises(WalletFrozen, match="frozen"):
        redeem(customer)
    assert PromoCode.objects.get().redeemed == 0
    raw("UPDATE credits_wallet SET frozen = %s", False)
    redeem(customer)


def test_debt_is_repaid_first(customer: Tenant):
    runner = BatchRunner(connection, owner="t", lease_seconds=60, clock=timezone.now)
    request = customer.hold(output=100)
    runner.run([HoldOp(request)])
    runner.run([SettleOp(settlement(request.request_id, 12 * USD // TOKEN))])
    assert customer.wallet.debt == 2 * USD
    code()
    assert redeem(customer).repaid == 2 * USD
    assert (customer.wallet.posted, customer.wallet.debt) == (3 * USD, 0)
    repaid = Transfer.objects.get(code="repay")
    assert repaid.idempotency_key.startswith("promo:")
    assert_reconciled()


def test_an_organisation_without_a_wallet_gets_one(db):
    from accounts.models import Organization

    code()
    team = Organization.objects.create(name="New")
    promos.redeem(team.pk, "WELCOME", by=operator())
    assert team.wallet.posted == 5 * USD


def test_codes_are_unique_whatever_their_case(db):
    code()
    with pytest.raises(PromoCodeRefused, match="already"):
        code("wel-come")
    with pytest.raises(PromoCodeRefused, match="4 to 40"):
        code("x")
    with pytest.raises(InvalidAmount):
        code("ZERO", amount=0)


def test_random_codes_are_for_one_organisation_each(customer: Tenant):
    made = promos.generate_codes(20, Terms(USD, 30, 1, note="fair"))
    assert len({promo.code for promo in made}) == 20
    assert all(len(promo.code) == 16 and set(promo.code) <= set(promos.ALPHABET) for promo in made)
    redeem(customer, promos.grouped(made[0].code).lower())
    assert refusal(new_tenant(), made[0].code) == "promo_code_used_up"
    assert made[0].code not in str(PromoCode.objects.get(code=made[0].code))
    assert not Transfer.objects.filter(reason__contains=made[0].code).exists()
    for count in (0, promos.MOST_AT_ONCE + 1):
        with pytest.raises(InvalidAmount):
            promos.generate_codes(count, Terms(USD, 30, 1))


# manage.py create_promo_code


def command(*arguments: str) -> list[str]:
    out = StringIO()
    call_command("create_promo_code", *arguments, stdout=out)
    return out.getvalue().splitlines()


def test_the_command_makes_codes_that_work(customer: Tenant):
    assert command("--amount", "2.50", "--code", "hello", "--max-redemptions", "0", "--valid-until", "2999-01-01") == [
        "HELLO"
    ]
    promo = PromoCode.objects.get()
    assert (promo.amount, promo.max_redemptions, promo.expires_in_days) == (2_500_000_000, None, 30)
    assert promo.valid_until == datetime(2999, 1, 1, tzinfo=UTC)
    redeem(customer, "hello")
    printed = command("--amount", "1", "--count", "3", "--expires-in-days", "0")
    assert [redeem(new_tenant(), line).expires_at for line in printed] == [None] * 3


@pytest.mark.parametrize(
    "arguments",
    [
        ("--amount", "0"),
        ("--amount", "much"),
        ("--amount", "1", "--code", "x"),
        ("--amount", "1", "--code", "HELLO", "--count", "2"),
        ("--amount", "1", "--count", "0"),
        ("--amount", "1", "--max-redemptions", "-1"),
        ("--amount", "1", "--valid-until", "tomorrow"),
        ("--amount", "1", "--code", "EARLY", "--valid-until", "2020-01-01"),
    ],
)
def test_the_command_refuses_what_makes_no_sense(db, arguments: tuple[str, ...]):
    with pytest.raises(CommandError):
        command(*arguments)
    assert not PromoCode.objects.exists()


# The operators' pages


@pytest.fixture
def admin(client: Client, db: None) -> Client:
    client.force_login(operator())
    return client


ADD = {
    "code": "sum-mer", "amount_usd": "7.50", "expires_in_days": "10", "max_redemptions": "", "priority": "100",
    "valid_from_0": "2026-01-01", "valid_from_1": "00:00:00", "valid_until_0": "", "valid_until_1": "", "note": "n",
}  # fmt: skip


def test_an_operator_makes_a_code_and_switches_it_off(admin: Client, customer: Tenant):
    assert admin.post(reverse("admin:credits_promocode_add"), ADD).status_code == 302
    promo = PromoCode.objects.get()
    assert (promo.code, promo.amount, promo.generated) == ("SUMMER", 7_500_000_000, False)
    assert promo.created_by is not None
    redeem(customer, "summer")
    page = reverse("admin:credits_promocode_change", args=[promo.pk])
    sent = {"note": "over", "valid_until_0": "", "valid_until_1": "", "amount": "1", "code": "OTHER"}
    assert admin.post(page, sent).status_code == 302
    promo.refresh_from_db()
    assert (promo.note, promo.enabled, promo.redeemed, promo.code) == ("over", False, 1, "SUMMER")
    assert promo.amount == 7_500_000_000
    assert LogEntry.objects.filter(object_id=str(promo.pk)).count() == 2
    delete = reverse("admin:credits_promocode_delete", args=[promo.pk])
    assert admin.post(delete, {"post": "yes"}).status_code == 403
    assert "SUMMER" in admin.get(reverse("admin:credits_promocode_changelist")).content.decode()
    found = admin.get(reverse("admin:credits_promocode_changelist"), {"q": "sum mer"}).context["cl"]
    assert found.result_count == 1
    assert "$7.50" in admin.get(reverse("admin:credits_promoredemption_changelist")).content.decode()


@pytest.mark.parametrize(
    "wrong",
    [{"code": "x"}, {"amount_usd": "0"}, {"amount_usd": "x"}, {"max_redemptions": "0"}, {"expires_in_days": "0"},
     {"valid_until_0": "2025-01-01", "valid_until_1": "00:00:00"}],
)  # fmt: skip
def test_a_code_that_makes_no_sense_is_not_made(admin: Client, wrong: dict[str, str]):
    assert admin.post(reverse("admin:credits_promocode_add"), {**ADD, **wrong}).status_code == 200
    assert not PromoCode.objects.exists()


def test_generated_codes_are_downloaded_once_and_masked_afterwards(admin: Client, customer: Tenant):
    page = "/admin/credits/promocode/generate/"
    assert admin.get(page).status_code == 200
    answer = admin.post(
        page,
        {"count": "3", "amount": "2", "expires_in_days": "", "valid_until": "2999-12-31", "note": "n", "priority": "1"},
    )
    assert answer["Content-Type"].startswith("text/csv")
    assert "no-store" in answer["Cache-Control"]
    rows = list(csv.DictReader(io.StringIO(answer.content.decode())))
    assert [row["amount_usd"] for row in rows] == ["2.00"] * 3
    assert redeem(customer, rows[0]["code"]).amount == 2 * USD
    listing = admin.get(reverse("admin:credits_promocode_changelist")).content.decode()
    for row in rows:
        assert row["code"].replace("-", "") not in listing
        assert row["code"] not in listing
    assert LogEntry.objects.filter(change_message__contains="with 2 more").exists()
    assert admin.post(page, {"count": "0", "amount": "2", "note": "n", "priority": "1"}).status_code == 200
    assert PromoCode.objects.count() == 3


def test_the_list_disables_codes(admin: Client):
    promo = code()
    data = {"action": "disable", "_selected_action": [promo.pk]}
    admin.post(reverse("admin:credits_promocode_changelist"), data)
    promo.refresh_from_db()
    assert not promo.enabled


@pytest.mark.parametrize("page", ["add/", "generate/"])
def test_staff_without_the_right_make_no_codes(client: Client, page: str):
    client.force_login(User.objects.create_user("staff@example.com", "x", is_staff=True))
    assert client.post(f"/admin/credits/promocode/{page}", ADD).status_code in {302, 403}
    assert not PromoCode.objects.exists()
