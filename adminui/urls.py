from django.templatetags.static import static
from django.urls import path
from django.views.generic import RedirectView

from adminui.views import credits, home, keys, session, usage


class Favicon(RedirectView):
    """Browsers ask for /favicon.ico on pages that name no icon, such as raw JSON."""

    def get_redirect_url(self, *_args: object, **_kwargs: object) -> str:
        return static("adminui/favicon.svg")


urlpatterns = [
    path("", home.home, name="home"),
    path("sign-in/", session.SignIn.as_view(), name="sign-in"),
    path("sign-out/", session.SignOut.as_view(), name="sign-out"),
    path("password/", session.PasswordChange.as_view(), name="password-change"),
    path("password/changed/", session.PasswordChanged.as_view(), name="password-changed"),
    path("keys/", keys.listed, name="keys"),
    path("keys/new/", keys.create, name="key-create"),
    path("keys/<int:key_id>/revoke/", keys.revoke, name="key-revoke"),
    path("connect/", keys.connect, name="connect"),
    path("usage/", usage.overview, name="usage"),
    path("usage/requests/", usage.requests, name="usage-requests"),
    path("usage/requests/<str:request_id>/", usage.one_request, name="usage-request"),
    path("usage/export.<str:form>", usage.export, name="usage-export"),
    path("usage/sessions/", usage.sessions, name="usage-sessions"),
    path("usage/sessions/<path:session_id>/", usage.one_session, name="usage-session"),
    path("redeem/", credits.redeem, name="redeem"),
    path("favicon.ico", Favicon.as_view(), name="favicon"),
]
