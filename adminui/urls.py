from django.templatetags.static import static
from django.urls import path, re_path
from django.views.generic import RedirectView

from adminui.api.app import api
from adminui.api.errors import unknown
from adminui.views import (
    billing,
    connect,
    credits,
    departures,
    documents,
    home,
    keys,
    models,
    organization,
    own_keys,
    routing,
    usage,
)


class Favicon(RedirectView):
    """Browsers ask for /favicon.ico on pages that name no icon, such as raw JSON."""

    def get_redirect_url(self, *_args: object, **_kwargs: object) -> str:
        return static("adminui/favicon.svg")


urlpatterns = [
    path("", home.home, name="home"),
    path("sign-in/", RedirectView.as_view(pattern_name="account_login", query_string=True), name="sign-in"),
    path("password/", RedirectView.as_view(pattern_name="account_change_password")),
    path("keys/", keys.listed, name="keys"),
    path("keys/new/", keys.create, name="key-create"),
    path("keys/<int:key_id>/", keys.one, name="key-one"),
    path("keys/<int:key_id>/rotate/", keys.rotate, name="key-rotate"),
    path("keys/<int:key_id>/disable/", keys.disable, name="key-disable"),
    path("keys/<int:key_id>/enable/", keys.enable, name="key-enable"),
    path("keys/<int:key_id>/revoke/", keys.revoke, name="key-revoke"),
    path("models/", models.listed, name="models"),
    path("routing/", routing.page, name="routing"),
    path("routing/revert/", routing.revert, name="routing-revert"),
    path("routing/try/", routing.attempt, name="routing-try"),
    path("routing/savings/", routing.savings, name="routing-savings"),
    path("provider-keys/", own_keys.page, name="own-keys"),
    path("provider-keys/only/", own_keys.only, name="own-keys-only"),
    path("provider-keys/<int:credential_id>/secret/", own_keys.replace, name="own-key-replace"),
    path("provider-keys/<int:credential_id>/switch/", own_keys.switch, name="own-key-switch"),
    path("provider-keys/<int:credential_id>/test/", own_keys.test, name="own-key-test"),
    path("provider-keys/<int:credential_id>/delete/", own_keys.delete, name="own-key-delete"),
    path("connect/", connect.page, name="connect"),
    path("connect/check/", connect.check, name="connect-check"),
    path("usage/", usage.overview, name="usage"),
    path("usage/requests/", usage.requests, name="usage-requests"),
    path("usage/requests/<str:request_id>/", usage.one_request, name="usage-request"),
    path("usage/export.<str:form>", usage.export, name="usage-export"),
    path("usage/sessions/", usage.sessions, name="usage-sessions"),
    path("usage/sessions/<path:session_id>/", usage.one_session, name="usage-session"),
    path("organization/", organization.page, name="organization"),
    path("organization/name/", organization.rename, name="organization-rename"),
    path("organization/prompt-logging/", organization.prompt_logging, name="organization-prompt-logging"),
    path("organization/invite/", organization.invite, name="organization-invite"),
    path("organization/invitations/<int:invitation_id>/withdraw/", organization.withdraw, name="organization-withdraw"),
    path("organization/members/<int:user_id>/role/", organization.change_role, name="organization-role"),
    path("organization/members/<int:user_id>/remove/", organization.remove, name="organization-remove"),
    path("organization/log/", organization.log, name="organization-log"),
    path("organization/export/", departures.export, name="organization-export"),
    path("organization/close/", departures.close, name="organization-close"),
    path("your-data/", departures.own_data, name="own-data"),
    path("delete-account/", departures.delete_account, name="account-delete"),
    path("organizations/new/", organization.create, name="organizations-new"),
    path("invitations/<str:token>/", organization.accept, name="invitation"),
    path("billing/", billing.page, name="billing"),
    path("billing/buy/", billing.buy, name="billing-buy"),
    path("billing/top-ups/<int:top_up_id>/", billing.top_up, name="billing-top-up"),
    path("billing/top-ups/<int:top_up_id>/status/", billing.top_up_status, name="billing-top-up-status"),
    path("billing/portal/", billing.portal, name="billing-portal"),
    path("billing/portal/<str:name>/", billing.portal_wait, name="billing-portal-wait"),
    path("billing/auto/", billing.change_auto, name="billing-auto"),
    path("billing/low-balance/", billing.change_low_balance, name="billing-low-balance"),
    path("docs/", documents.page, name="documents"),
    path("docs/<slug:slug>/", documents.page, name="document"),
    path("redeem/", credits.redeem, name="redeem"),
    path("api/v1/", api.urls),
    re_path(r"^api/v1/", unknown, name="api-unknown"),
    path("favicon.ico", Favicon.as_view(), name="favicon"),
]
