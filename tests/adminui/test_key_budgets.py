from collections.abc import Callable

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import ApiKey, User
from credits.models import KeyBudget

ADD = "admin:credits_keybudget_add"
LIMITS = {"limit_total": "", "limit_day": "", "limit_week": "", "limit_month": ""}


@pytest.fixture
def staff(operator: User, signed_in: Callable[[User], Client]) -> Client:
    return signed_in(operator)


def test_an_operator_sets_and_changes_a_keys_limits_in_dollars(staff: Client, key: ApiKey):
    staff.post(reverse(ADD), {"api_key": key.pk, **LIMITS, "limit_day": "2.50"})
    budget = KeyBudget.objects.get(api_key=key)
    assert (budget.limit_day, budget.limit_month) == (2_500_000_000, None)
    page = reverse("admin:credits_keybudget_change", args=[key.pk])
    shown = staff.get(page).content.decode()
    assert 'value="2.50"' in shown
    assert "$0.00 of $2.50" in shown
    staff.post(page, {**LIMITS, "limit_month": "7"})
    budget.refresh_from_db()
    assert (budget.limit_day, budget.limit_month) == (None, 7 * 10**9)
    assert staff.get(reverse("admin:credits_keybudget_changelist")).status_code == 200


@pytest.mark.parametrize(("text", "why"), [("-1", "Enter an amount of 0 or more"), ("abc", "is not an amount")])
def test_a_limit_that_cannot_be_is_refused_at_its_field(staff: Client, key: ApiKey, text: str, why: str):
    page = staff.post(reverse(ADD), {"api_key": key.pk, **LIMITS, "limit_week": text})
    assert why in page.content.decode()
    assert not KeyBudget.objects.exists()


def test_a_budget_is_never_deleted(staff: Client, key: ApiKey):
    staff.post(reverse(ADD), {"api_key": key.pk, **LIMITS, "limit_day": "1"})
    assert staff.post(reverse("admin:credits_keybudget_delete", args=[key.pk]), {"post": "yes"}).status_code == 403
