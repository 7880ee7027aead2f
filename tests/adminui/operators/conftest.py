from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client

from accounts import operator_tokens
from accounts.models import User
from tests.adminui.conftest import PASSWORD

Call = Callable[..., Any]


@pytest.fixture
def token(operator: User) -> str:
    return operator_tokens.create(user=operator, name="script").secret


@pytest.fixture
def call(token: str) -> Call:
    """`call("post", "providers/", {...})` with the token of somebody who may do everything."""
    return caller(token)


def caller(token: str) -> Call:
    client = Client(headers={"authorization": f"Bearer {token}"})

    def call(method: str, path: str, body: Any = None, **query: Any) -> Any:
        options: dict[str, Any] = {"data": body, "content_type": "application/json"} if body is not None else {}
        if query:
            options["query_params"] = query
        return getattr(client, method)(f"/admin/api/{path}", **options)

    return call


def operator_with(*permissions: str, email: str = "op@example.com") -> User:
    user = User.objects.create_user(email, PASSWORD, is_staff=True)
    names = [permission.partition(".")[2] for permission in permissions]
    user.user_permissions.set(Permission.objects.filter(codename__in=names))
    return user
