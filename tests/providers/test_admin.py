"""The operators' pages for providers, models, prices and routes."""

import json
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.urls import reverse

from accounts.models import User
from providers import prices
from providers.catalogue import LiveCatalogue
from providers.connection import ConnectionResult
from providers.models import (
    Credential,
    Decision,
    Mapping,
    MappingCost,
    Model,
    ModelPrice,
    PriceProposal,
    Provider,
    RouterProfile,
    TokenFactor,
)
from providers.price_source import SourcePrice
from providers.proposals import propose
from tests.providers.catalogue_support import SECRET, make_cost, make_mapping, make_model, make_provider

pytestmark = pytest.mark.django_db


@pytest.fixture
def operator(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("operator@example.com", "a long password"))
    return client


@pytest.fixture
def tested(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which providers were called; the call itself has tests of its own."""
    names: list[str] = []

    def check(provider: Provider) -> ConnectionResult:
        assert not connection.savepoint_ids, "called inside the transaction that saves"
        names.append(provider.name)
        return ConnectionResult(ok=False, words="acme could not be reached.", status=None, milliseconds=3)

    monkeypatch.setattr("providers.admin.check", check)
    return names


def management(prefix: str, total: int, initial: int = 0) -> dict[str, Any]:
    return {f"{prefix}-TOTAL_FORMS": total, f"{prefix}-INITIAL_FORMS": initial}


def provider_form(**changed: Any) -> dict[str, Any]:
    form = {"name": "acme", "kind": "openai", "base_url": "", "wire": "", "enabled": "on"}
    timeouts = {"connect_timeout": 10, "first_byte_timeout": 300, "idle_timeout": 300, "total_timeout": 3600}
    return {**form, **timeouts, **management("credentials", 0), **changed}


def credential_row(place: int, **values: Any) -> dict[str, Any]:
    row = {"label": "KEY", "weight": 1, "enabled": "on", "secret": "", **values}
    return {f"credentials-{place}-{name}": value for name, value in row.items()}


def messages_of(response: Any) -> list[tuple[str, str]]:
    return [(message.level_tag, str(message)) for message in response.context["messages"]]


def test_a_provider_is_made_and_its_secret_never_comes_back(operator, caplog):
    form = provider_form() | management("credentials", 1) | credential_row(0, secret=SECRET)
    response = operator.post(reverse("admin:providers_provider_add"), form, follow=True)
    credential = Credential.objects.get()
    assert credential.open_secret() == SECRET
    page = operator.get(reverse("admin:providers_provider_change", args=(credential.provider_id,)))
    history = operator.get(reverse("admin:providers_provider_history", args=(credential.provider_id,)))
    assert "…wxyz" in page.content.decode()
    for answer in (response, page, history):
        assert SECRET not in answer.content.decode()
        assert credential.sealed not in answer.content.decode()
    assert SECRET not in caplog.text


def test_an_empty_secret_keeps_the_stored_one_and_a_new_one_replaces_it(operator):
    provider = make_provider("acme")
    credential = Credential.objects.get()
    url = reverse("admin:providers_provider_change", args=(provider.pk,))
    ids = {"credentials-0-id": credential.pk, "credentials-0-provider": provider.pk}
    form = provider_form() | management("credentials", 1, 1) | ids
    operator.post(url, form | credential_row(0, label="renamed"))
    credential.refresh_from_db()
    assert (credential.label, credential.open_secret()) == ("renamed", SECRET)
    operator.post(url, form | credential_row(0, secret="sk-replaced-0123456789"))
    credential.refresh_from_db()
    assert credential.open_secret() == "sk-replaced-0123456789"


def test_a_service_account_s_key_file_is_a_secret_too(operator):
    key = {"type": "service_account", "client_email": "a@b.example", "private_key": "-----BEGIN\nabc\n-----END\n"}
    form = provider_form(kind="vertex", base_url="https://aiplatform.googleapis.com/v1/projects/p/locations/global")
    form |= management("credentials", 1)
    cut = operator.post(reverse("admin:providers_provider_add"), form | credential_row(0, secret=json.dumps(key)[:-9]))
    assert "looks like JSON, but is cut or damaged" in cut.content.decode()
    assert "abc" not in cut.content.decode()
    operator.post(reverse("admin:providers_provider_add"), form | credential_row(0, secret=json.dumps(key, indent=2)))
    assert json.loads(Credential.objects.get().open_secret()) == key


def test_a_refused_form_does_not_echo_the_secret(operator):
    form = provider_form(name="") | management("credentials", 1) | credential_row(0, secret=SECRET)
    response = operator.post(reverse("admin:providers_provider_add"), form)
    assert response.status_code == 200
    assert not Provider.objects.exists()
    assert SECRET not in response.content.decode()


def test_a_new_credential_needs_a_secret_without_spaces(operator):
    for wrong in ("", "two words"):
        form = provider_form() | management("credentials", 1) | credential_row(0, secret=wrong)
        operator.post(reverse("admin:providers_provider_add"), form)
        assert not Credential.objects.exists()


def test_a_provider_without_credential_is_warned_of(operator):
    response = operator.post(reverse("admin:providers_provider_add"), provider_form(), follow=True)
    assert any(level == "warning" and "no enabled credential" in text for level, text in messages_of(response))


def test_save_and_test_saves_first_and_shows_the_providers_words(operator, tested):
    provider = make_provider("acme")
    url = reverse("admin:providers_provider_change", args=(provider.pk,))
    form = provider_form(first_byte_timeout=60, providers_provider_save_and_test="1")
    response = operator.post(url, form, follow=True)
    assert tested == ["acme"]
    provider.refresh_from_db()
    assert provider.first_byte_timeout == 60
    assert response.redirect_chain[-1][0] == url
    assert ("error", "acme: acme could not be reached. (3 ms)") in messages_of(response)
    operator.post(url, form | {"kind": "nonsense"})
    operator.get(url)
    assert tested == ["acme"]


def test_the_list_tests_and_switches_providers(operator, tested):
    provider = make_provider("acme")
    live = LiveCatalogue()
    live.refresh_if_changed()
    url = reverse("admin:providers_provider_changelist")
    chosen = {"_selected_action": [provider.pk]}
    operator.post(url, {"action": "test_selected", **chosen})
    assert tested == ["acme"]
    operator.post(url, {"action": "disable", **chosen})
    live.refresh_if_changed()
    assert live.current.providers == frozenset()
    operator.post(url, {"action": "enable", **chosen})
    live.refresh_if_changed()
    assert live.current.providers == {"acme"}


def model_form(**changed: Any) -> dict[str, Any]:
    form = {"name": "m", "enabled": "on", "discoverable": "on", "tools": "on", "vision": "on"}
    return {**form, **management("mappings", 0), **management("prices", 0), **changed}


def price_row(place: int, **values: Any) -> dict[str, Any]:
    return {f"prices-{place}-{name}": value for name, value in {"web_search": "0", **values}.items()}


def test_a_model_with_mapping_and_price_is_served_at_once(operator):
    provider = make_provider("acme")
    mapping = {"provider": provider.pk, "actual_model": "upstream-m", "priority": 1, "weight": 1, "enabled": "on"}
    form = (
        model_form()
        | management("mappings", 1)
        | {f"mappings-0-{name}": value for name, value in {**mapping, "cost_web_search": "0"}.items()}
        | management("prices", 1)
        | price_row(0, input="1.5", output="6")
    )
    response = operator.post(reverse("admin:providers_model_add"), form, follow=True)
    assert [level for level, _ in messages_of(response)] == ["success"]
    live = LiveCatalogue()
    live.refresh_if_changed()
    model = live.current.models["m"]
    assert model.price is not None
    assert model.price.input == 1_500_000_000
    assert model.targets[0].actual_model == "upstream-m"


def test_a_model_without_price_or_provider_is_warned_of(operator):
    response = operator.post(reverse("admin:providers_model_add"), model_form(), follow=True)
    texts = [text for level, text in messages_of(response) if level == "warning"]
    assert [text.split(":")[0] for text in texts] == ["Model m has no usable provider", "Model m has no price"]


def test_prices_are_added_and_never_edited(operator):
    model = make_model("m")
    price = ModelPrice.objects.get()
    url = reverse("admin:providers_model_change", args=(model.pk,))
    rows = management("prices", 2, 1) | price_row(1, input="2", output="8")
    edited = {"prices-0-id": price.pk, "prices-0-model": model.pk, **price_row(0, input="0", output="0")}
    operator.post(url, model_form() | rows | edited)
    price.refresh_from_db()
    assert price.input == 1.25
    assert ModelPrice.objects.count() == 2
    past = price_row(1, input="2", output="8", effective_from_0="2021-01-01", effective_from_1="00:00:00")
    response = operator.post(url, model_form() | rows | past)
    assert "never" in response.content.decode() or "now or later" in response.content.decode()
    assert ModelPrice.objects.count() == 2
    change = operator.get(reverse("admin:providers_modelprice_change", args=(price.pk,)))
    assert 'name="input"' not in change.content.decode()
    assert (
        operator.post(reverse("admin:providers_modelprice_delete", args=(price.pk,)), {"post": "yes"}).status_code
        == 403
    )


def test_prices_and_costs_are_written_without_trailing_zeros(operator):
    mapping = make_mapping(make_model("m"), make_provider("acme"), cost_input="0.5", cost_output="10")
    page = operator.get(reverse("admin:providers_model_change", args=(mapping.model_id,))).content.decode()
    assert 'name="mappings-0-cost_input" value="0.5"' in page
    assert 'name="mappings-0-cost_output" value="10"' in page
    assert "input $1.25, output $10.00" in page
    prices = operator.get(reverse("admin:providers_modelprice_changelist")).content.decode()
    assert "$1.25" in prices
    assert "1.250" not in page + prices


def test_a_router_profile_tells_unset_from_off(operator):
    make_model("m")
    form = {"scope": "platform", "default": "m", "think": "-", "think_efforts": "max, xhigh"}
    booleans = {"think_in_plan_mode": "unknown", "pin_explicit_model": "true"}
    operator.post(reverse("admin:providers_routerprofile_add"), form | booleans)
    profile = RouterProfile.objects.get()
    assert (profile.default, profile.think, profile.websearch) == ("m", "", None)
    assert (profile.think_efforts, profile.pin_explicit_model, profile.think_in_plan_mode) == (
        ["max", "xhigh"],
        True,
        None,
    )
    page = operator.get(reverse("admin:providers_routerprofile_change", args=(profile.pk,))).content.decode()
    assert '<option value="-" selected>' in page
    second = operator.post(reverse("admin:providers_routerprofile_add"), form | booleans)
    assert "There is a platform profile already." in second.content.decode()


def test_a_route_that_is_no_model_stays_when_the_profile_is_saved(operator):
    profile = RouterProfile.objects.create(scope="platform", default="acme/m")
    url = reverse("admin:providers_routerprofile_change", args=(profile.pk,))
    operator.post(url, {"scope": "platform", "default": "acme/m", "long_context_threshold": 5})
    profile.refresh_from_db()
    assert (profile.default, profile.long_context_threshold) == ("acme/m", 5)


@pytest.mark.parametrize("name", ["provider", "model", "modelprice", "routerprofile"])
def test_every_list_and_form_opens(operator, name):
    provider = make_provider("acme")
    model = make_model("m")
    make_mapping(model, provider)
    make_model("marked-up", price=None, markup="0.25")
    RouterProfile.objects.create(scope="platform", default="m")
    rows = {"provider": provider, "model": model, "modelprice": ModelPrice.objects.get(), "routerprofile": None}
    row = rows[name] or RouterProfile.objects.get()
    for url in (
        reverse(f"admin:providers_{name}_changelist"),
        reverse(f"admin:providers_{name}_add"),
        reverse(f"admin:providers_{name}_change", args=(row.pk,)),
    ):
        response = operator.get(url)
        assert response.status_code == 200
        assert SECRET not in response.content.decode()


def test_the_lists_do_not_ask_row_by_row(operator, django_assert_max_num_queries):
    for number in range(8):
        make_mapping(make_model(f"m{number}"), make_provider(f"p{number}"))
    for name in ("provider", "model"):
        with django_assert_max_num_queries(12):
            operator.get(reverse(f"admin:providers_{name}_changelist"))


def test_deleting_a_provider_takes_its_mappings_out_of_the_catalogue(operator):
    provider = make_provider("acme")
    make_mapping(make_model("m"), provider)
    operator.post(reverse("admin:providers_provider_delete", args=(provider.pk,)), {"post": "yes"})
    assert not Mapping.objects.exists()
    assert Model.objects.get().name == "m"


def mapping_row(mapping: Mapping, **values: Any) -> dict[str, Any]:
    row = {"id": mapping.pk, "model": mapping.model_id, "provider": mapping.provider_id, "priority": 1, "weight": 1}
    values = {**row, "actual_model": mapping.actual_model, "enabled": "on", **values}
    return {f"mappings-0-{name}": value for name, value in values.items()}


def test_a_changed_cost_is_a_new_row_and_the_same_cost_is_none(operator):
    mapping = make_mapping(make_model("m"), make_provider("acme"), cost_input="0.5", cost_output="10")
    url = reverse("admin:providers_model_change", args=(mapping.model_id,))

    def save(**costs: str) -> str:
        form = model_form() | management("mappings", 1, 1) | mapping_row(mapping, **costs)
        return str(operator.post(url, form, follow=True).content.decode())

    same = {"cost_input": "0.5", "cost_output": "10", "cost_web_search": "0"}
    save(**same)
    assert MappingCost.objects.count() == 1
    save(**same | {"cost_output": "12", "cost_tiers": "200,000: input 1, output $18, cache_read 1"})
    old, new = MappingCost.objects.order_by("effective_from")
    assert (old.output, new.output) == (10, 12)
    assert new.tiers == [{"above": 200000, "input": "1", "output": "18", "cache_read": "1"}]
    page = operator.get(url).content.decode()
    assert "200000: input 1, output 18, cache_read 1</textarea>" in page
    for wrong, words in (
        ({"cost_input": ""}, "Enter both the input and the output cost, or neither."),
        ({"cost_input": "", "cost_output": "", "cost_web_search": ""}, "cannot become unknown"),
        ({"cost_tiers": "a lot: input 3"}, "is not a tier"),
        ({"cost_tiers": "5: input 3"}, "needs a price for output"),
        ({"cost_tiers": "5: input 0.1, output 99"}, "a longer request must not be cheaper"),
    ):
        assert words in save(**same | wrong), wrong
    assert MappingCost.objects.count() == 2


def test_a_price_with_tiers_is_entered_line_by_line_and_shown(operator):
    model = make_model("m", price=None)
    url = reverse("admin:providers_model_change", args=(model.pk,))
    price = price_row(0, input="3", output="15", tiers="above 200_000: input 6, output 22.5\n")
    operator.post(url, model_form() | management("prices", 1) | price)
    assert ModelPrice.objects.get().tiers == [{"above": 200000, "input": "6", "output": "22.5"}]
    assert "above 200000 tokens $6.00 / $22.50" in operator.get(url).content.decode()


def test_the_list_says_which_model_has_no_price(operator):
    make_model("priceless", price=None)
    marked = make_model("marked-up", price=None, markup="0.25")
    mapping = make_mapping(marked, make_provider("acme"))
    url = reverse("admin:providers_model_changelist")
    page = operator.get(url).content.decode()
    assert "no price: refused" in page
    assert "no price (unknown cost): refused" in page
    make_cost(mapping, "1", "2")
    assert "cost + 25 %" in operator.get(url).content.decode()


def test_a_coming_cost_is_entered_taken_back_and_a_past_one_stays(operator):
    mapping = make_mapping(make_model("m"), make_provider("acme"), cost_input="1", cost_output="2")
    form = {"mapping": mapping.pk, "input": "3", "output": "4", "web_search": "0", "tiers": "9: input 5, output 6"}
    moment = {"effective_from_0": "2999-01-01", "effective_from_1": "00:00:00"}
    operator.post(reverse("admin:providers_mappingcost_add"), form | moment)
    past, coming = MappingCost.objects.order_by("effective_from")
    assert (coming.effective_from.year, coming.tiers) == (2999, [{"above": 9, "input": "5", "output": "6"}])
    page = operator.get(reverse("admin:providers_mappingcost_changelist")).content.decode()
    assert "&gt; 9: $5.00 / $6.00" in page
    for row, status in ((coming, 302), (past, 403)):
        url = reverse("admin:providers_mappingcost_delete", args=(row.pk,))
        assert operator.post(url, {"post": "yes"}).status_code == status
    assert list(MappingCost.objects.all()) == [past]


# -- price proposals


@pytest.fixture
def proposed(db: None) -> tuple[PriceProposal, PriceProposal]:
    """Of a cost that rises from $1 to $1.50, and of the price."""
    mapping = make_mapping(make_model("m", price=("2", "10")), make_provider("acme"), cost_input="1", cost_output="5")

    class Source:
        version = "list 1"

        def find(self, *_args: Any) -> SourcePrice:
            return SourcePrice("acme/m", prices.price(input=Decimal("1.5"), output=Decimal(5)), searches=False)

    propose(Source())
    cost, price = PriceProposal.objects.order_by("id")
    assert cost.mapping == mapping
    return cost, price


def decide(operator: Client, action: str, *proposals: PriceProposal) -> Any:
    chosen = [proposal.pk for proposal in proposals]
    url = reverse("admin:providers_priceproposal_changelist")
    return operator.post(url, {"action": action, "_selected_action": chosen}, follow=True)


def test_the_diff_page_shows_old_new_and_percent_in_one_table(operator, proposed):
    page = operator.get(reverse("admin:providers_priceproposal_changelist")).content.decode()
    for words in ("cost of m → acme m", "price of m", "$1 → ", "$1.5", "+50.0 %", "$2 → ", "acme/m", "$3"):
        assert words in page, words
    change = operator.get(reverse("admin:providers_priceproposal_change", args=(proposed[0].pk,))).content.decode()
    assert "input 1 → 1.5 (+50.0 %)" in change
    assert "_save" not in change


def test_approving_on_the_page_sets_cost_and_price_and_leaves_an_audit(operator, proposed):
    response = decide(operator, "approve_selected", *proposed)
    assert messages_of(response) == [("success", "Approved: 2.")]
    live = LiveCatalogue()
    live.refresh_if_changed()
    model = live.current.models["m"]
    assert model.price is not None
    assert model.price.input == 3 * 10**9
    entries = list(LogEntry.objects.order_by("id"))
    assert [entry.get_change_message().split(":")[0] for entry in entries] == ["Approved", "Approved"]
    assert "input 1 → 1.5 (+50.0 %)" in entries[0].get_change_message()
    assert {entry.user.email for entry in entries} == {"operator@example.com"}
    assert set(PriceProposal.objects.values_list("decided_by__email", flat=True)) == {"operator@example.com"}
    url = reverse("admin:providers_priceproposal_changelist") + "?state=approved"
    [(level, text)] = messages_of(
        operator.post(url, {"action": "reject_selected", "_selected_action": [proposed[0].pk]}, follow=True)
    )
    assert (level, text) == ("error", "The cost of m → acme m was not rejected: it is approved already.")


def test_rejecting_leaves_everything_as_it_is(operator, proposed):
    decide(operator, "reject_selected", *proposed)
    assert MappingCost.objects.count() == ModelPrice.objects.count() == 1
    assert set(PriceProposal.objects.values_list("state", flat=True)) == {Decision.REJECTED}


def test_a_price_alone_is_refused_in_words(operator, proposed):
    [(level, text)] = messages_of(decide(operator, "approve_selected", proposed[1]))
    assert (level, text.split(": ")[1]) == ("error", "decide on the cost of m first")


def test_who_may_only_look_cannot_decide(client, proposed):
    looker = User.objects.create_user("looker@example.com", "a long password", is_staff=True)
    looker.user_permissions.add(Permission.objects.get(codename="view_priceproposal"))
    client.force_login(looker)
    url = reverse("admin:providers_priceproposal_changelist")
    assert "$1.5" in client.get(url).content.decode()
    client.post(url, {"action": "approve_selected", "_selected_action": [proposed[0].pk]}, follow=True)
    assert MappingCost.objects.count() == 1
    client.force_login(User.objects.create_user("nobody@example.com", "a long password", is_staff=True))
    assert client.get(url).status_code == 403
    decider = User.objects.create_user("decider@example.com", "a long password", is_staff=True)
    decider.user_permissions.add(Permission.objects.get(codename="change_priceproposal"))
    client.force_login(decider)
    decide(client, "approve_selected", proposed[0])
    assert MappingCost.objects.count() == 2


def test_a_model_s_page_shows_what_was_learnt_about_its_tokenizer(operator):
    model = make_model()
    page = f"/admin/providers/model/{model.pk}/change/"
    assert "nothing learnt yet" in operator.get(page).content.decode()
    TokenFactor.objects.create(model=model, counted=1.234, counted_samples=57, estimated=0.8, estimated_samples=3)
    shown = operator.get(page).content.decode()
    assert "with a vocabulary: 1.23, learnt from 57 requests" in shown
    assert "by size: 0.80, learnt from 3 requests (not used yet)" in shown
