"""Signing in and out, and changing one's password: Django's views with our pages."""

from django.contrib.auth import views
from django.urls import reverse_lazy

from adminui.forms import SignInForm


class SignIn(views.LoginView):
    template_name = "adminui/sign_in.html"
    form_class = SignInForm
    # Somebody who is signed in already has no use for this page.
    redirect_authenticated_user = True


class SignOut(views.LogoutView):
    """By POST only, so that no foreign page can sign anybody out."""


class PasswordChange(views.PasswordChangeView):
    template_name = "adminui/password_change.html"
    success_url = reverse_lazy("password-changed")


class PasswordChanged(views.PasswordChangeDoneView):
    template_name = "adminui/password_changed.html"
