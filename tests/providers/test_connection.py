"""Test connection: a real call over a real socket, told in plain words."""

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from accounts.models import Organization
from providers.connection import check, check_own
from providers.models import Credential, Mapping, Provider
from tests.providers.catalogue_support import SECRET, make_mapping, make_model, make_provider

pytestmark = pytest.mark.django_db

HELLO = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "cheap",
    "content": [{"type": "text", "text": "Hi\nthere!"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 9, "output_tokens": 3},
}


class Upstream:
    """A provider on loopback that gives one answer to everything, and remembers what it was asked.
    GETs get an answer of their own."""

    def __init__(self) -> None:
        self.status = 200
        self.body = json.dumps(HELLO).encode()
        self.content_type = "application/json"
        self.list_status = 200
        self.list_body = b'{"data": []}'
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.requests: list[tuple[dict[str, str], dict[str, Any]]] = []
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                upstream.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
                self.answer(upstream.list_status, upstream.list_body)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                upstream.requests.append(({name.lower(): value for name, value in self.headers.items()}, body))
                self.answer(upstream.status, upstream.body)

            def answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("content-type", upstream.content_type)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(5)


@pytest.fixture
def upstream(settings: Any) -> Iterator[Upstream]:
    settings.ALLOW_PRIVATE_UPSTREAMS = True
    server = Upstream()
    yield server
    server.stop()


@pytest.fixture
def provider(upstream: Upstream) -> Provider:
    provider = make_provider("acme", kind="anthropic", base_url=upstream.url)
    model = make_model()
    make_mapping(model, provider, actual_model="dear", cost_input=3, cost_output=15)
    make_mapping(model, provider, actual_model="cheap", cost_input=1, cost_output=5)
    make_mapping(model, provider, actual_model="cheapest-but-off", cost_input=0, cost_output=0, enabled=False)
    make_mapping(model, provider, actual_model="unknown-cost")
    return provider


def test_the_answer_of_the_cheapest_mapping_is_shown(provider, upstream):
    result = check(provider)
    assert (result.ok, result.words, result.status) == (True, "cheap answered: Hi there!", 200)
    [(headers, body)] = upstream.requests
    assert headers["x-api-key"] == SECRET
    assert (body["model"], body["max_tokens"]) == ("cheap", 16)


def test_a_disabled_provider_can_be_tested(provider):
    Provider.objects.update(enabled=False)
    provider.refresh_from_db()
    assert check(provider).ok


@pytest.mark.parametrize(
    ("status", "body", "content_type"),
    [
        (
            401,
            json.dumps({"type": "error", "error": {"type": "authentication_error", "message": "no"}}),
            "application/json",
        ),
        (404, json.dumps({"type": "error", "error": {"type": "not_found_error", "message": "no"}}), "application/json"),
        (502, "<html><body>Bad gateway</body></html>", "text/html"),
        (200, "<html>Welcome!</html>", "text/html"),
    ],
)
def test_an_error_is_told_in_words_that_name_the_provider(provider, upstream, status, body, content_type):
    upstream.status, upstream.body, upstream.content_type = status, body.encode(), content_type
    result = check(provider)
    assert not result.ok
    assert "acme" in result.words
    assert "<html" not in result.words
    assert SECRET not in result.words


def test_a_server_that_is_not_there(provider):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        Provider.objects.update(base_url=f"http://127.0.0.1:{free.getsockname()[1]}")
        provider.refresh_from_db()
        result = check(provider)
    assert not result.ok
    assert result.status is None
    assert "acme" in result.words


def test_private_addresses_are_refused_where_they_are_not_allowed(provider, upstream, settings):
    settings.ALLOW_PRIVATE_UPSTREAMS = False
    assert not check(provider).ok
    assert upstream.requests == []


def test_what_is_missing_is_told_without_a_call(provider, upstream, settings):
    Mapping.objects.all().delete()
    assert "No model is mapped" in check(provider).words
    keyless = make_provider("keyless", secret=None)
    make_mapping(make_model("m"), keyless)
    assert "no enabled credential" in check(keyless).words
    unknown = make_provider("unknown", kind="unheard-of")
    assert "does not know the kind" in check(unknown).words
    make_mapping(make_model("n"), provider)
    settings.ENCRYPTION_KEYS = ["bmV3IGtleSBmb3IgdGhpcyB0ZXN0IG9ubHkhISEhISE="]
    assert "decrypted" in check(provider).words
    assert upstream.requests == []


def test_the_demo_provider_answers_in_process():
    demo = make_provider("demo", kind="demo", secret=None)
    make_mapping(make_model("demo-sonnet"), demo)
    result = check(demo)
    assert result.ok, result.words


def test_an_organisations_own_key_is_called_with_itself(provider, upstream):
    own = Credential(provider=provider, organization=Organization.objects.create(name="acme"), label="own")
    own.set_secret("sk-own-secret")
    own.save()
    assert check_own(provider, own).words == "cheap answered: Hi there!"
    assert check(provider).ok
    assert [headers["x-api-key"] for headers, _ in upstream.requests] == ["sk-own-secret", SECRET]
    own.sealed = "broken"
    assert check_own(provider, own).words == "This key cannot be read any more: enter the secret again."
