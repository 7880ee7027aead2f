"""The stand-in on a socket: Stripe's API under /v1 with a key, the customers' pages beside it, a dial for faults."""

import hmac
import json
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from ccm_site.demo_stripe import api, pages
from ccm_site.demo_stripe.store import Json, Refused, Store

LARGEST_BODY = 256 * 1024
POLICY = "default-src 'none'; style-src 'self'; form-action 'self'{more}; base-uri 'none'; frame-ancestors 'none'"


@dataclass
class Fault:
    """What goes wrong with the next `times` API requests whose "METHOD /path" matches `where`.

    `how`: "before" answers 500 and does nothing; "after" does what was asked for and answers 500; "drop" does it and
    closes the connection without a word; "slow" does it and answers after the client has stopped waiting."""

    where: str
    how: str
    times: int = 1
    seconds: float = 0.0

    def meets(self, asked: str) -> bool:
        if self.times < 1 or not re.search(self.where, asked):
            return False
        self.times -= 1
        return True


@dataclass
class Stripe:
    """`secret_key` is what clients must show. `calls` records API requests as "METHOD /path"."""

    store: Store
    secret_key: str
    origin: str = ""
    faults: list[Fault] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)

    def answer(self, method: str, target: str, headers: Any, body: bytes) -> tuple[int, Json, str]:
        """Status, body and fault ("" for none) of an API request."""
        parts = urlsplit(target)
        try:
            self._authorize(headers)
            pairs = parse_qsl(parts.query, keep_blank_values=True) + parse_qsl(body.decode(), keep_blank_values=True)
            params = api.nested(pairs)
            asked = f"{method} {parts.path}"
            self.calls.append(asked)
            fault = next((fault for fault in self.faults if fault.meets(asked)), None)
            how = fault.how if fault else ""
            if fault and fault.how == "slow":
                how = f"slow {fault.seconds}"
            key = headers.get("Idempotency-Key", "") if method == "POST" else ""

            def act() -> tuple[int, Json]:
                if how == "before":
                    return 500, _error(500, "An error occurred.", type="api_error")
                done = self._act(method, parts.path, params)
                return (500, _error(500, "An error occurred.", type="api_error")) if how == "after" else done

            with self.store.change():
                status, answer, _ = api.once(self.store, key, api.fingerprint(method, parts.path, params), act)
            return status, answer, how
        except Refused as refused:
            return refused.status, {"error": api.shown(refused.body)}, ""
        except UnicodeDecodeError:
            return 400, _error(400, "The body is no text."), ""

    def _act(self, method: str, path: str, params: Json) -> tuple[int, Json]:
        try:
            return 200, api.call(self.store, method, path, dict(params), self.origin)
        except Refused as refused:  # an answer like any other to an idempotency key
            return refused.status, {"error": api.shown(refused.body)}
        except (KeyError, TypeError, ValueError) as error:
            return 400, _error(400, f"Missing or wrong parameter: {error}")

    def _authorize(self, headers: Any) -> None:
        given = headers.get("Authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode(), self.secret_key.encode()):
            raise Refused(401, "Invalid API Key provided")

    def show(self, path: str, form: dict[str, str] | None) -> tuple[int, str, str]:
        """Status, page and the address to go to ("" for none) of a customers' page; `form` is what was sent."""
        name, _, id_ = path.strip("/").partition("/")
        try:
            with self.store.change():
                if form is None and name in SHOWN:
                    return 200, SHOWN[name](self.store, id_), ""
                if form is not None and name in SENT:
                    return 200, SENT[name](self.store, id_, form, self.origin), ""
        except pages.Redirect as redirect:
            return 303, "", redirect.url
        except Refused:
            pass
        return 404, pages.page("Not here", '<div class="card"><h1>There is no such page</h1></div>'), ""


SHOWN: dict[str, Callable[[Store, str], str]] = {
    "pay": pages.checkout, "portal": pages.portal, "invoice": pages.invoice, "receipt": pages.receipt,
}  # fmt: skip
SENT: dict[str, Callable[[Store, str, dict[str, str], str], str]] = {
    "pay": pages.pay, "portal": pages.change, "invoice": pages.pay_bill,
}  # fmt: skip


def _error(status: int, message: str, **more: Any) -> Json:
    return {"error": Refused(status, message, **more).body}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    stripe: Stripe
    timeout = 60
    wbufsize = -1  # headers and body leave together: apart, the second waits for the first's acknowledgement
    disable_nagle_algorithm = True

    def log_message(self, *args: Any) -> None:
        """Addresses hold what nobody else should know."""

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        if length > LARGEST_BODY:
            self.close_connection = True
            self._send(413, b"", "text/plain")
            return
        body = self.rfile.read(length)
        path = urlsplit(self.path).path
        if path.startswith("/v1/"):
            self._answer_api(body)
        elif path == "/style.css":
            self._send(200, pages.STYLE.encode(), "text/css; charset=utf-8")
        else:
            form = dict(parse_qsl(body.decode(errors="replace"))) if self.command == "POST" else None
            status, text, url = self.stripe.show(path, form)
            more = {"Location": url} if url else {}
            policy = POLICY.format(more=pages.may_send_to(self.stripe.store, path))
            more |= {"Content-Security-Policy": policy, "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}
            self._send(status, text.encode(), "text/html; charset=utf-8", more)

    def _answer_api(self, body: bytes) -> None:
        status, answer, fault = self.stripe.answer(self.command, self.path, self.headers, body)
        if fault == "drop":
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        if fault.startswith("slow"):
            time.sleep(float(fault.split()[1]))
        self._send(status, json.dumps(answer).encode(), "application/json", {"Request-Id": "req_demo"})

    def _send(self, status: int, body: bytes, kind: str, more: dict[str, str] | None = None) -> None:
        self.send_response(status)
        headers = {"Content-Type": kind, "Content-Length": str(len(body)), "X-Content-Type-Options": "nosniff"}
        for name, value in {**headers, **(more or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()


class Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def make_server(stripe: Stripe, host: str, port: int) -> Server:
    handler = type("BoundHandler", (Handler,), {"stripe": stripe})
    server = Server((host, port), handler)
    stripe.origin = stripe.origin or f"http://{host}:{server.server_address[1]}"
    return server


@contextmanager
def running(stripe: Stripe, host: str = "127.0.0.1", port: int = 0) -> Iterator[Stripe]:
    """Serve in a thread as long as the block lasts."""
    server = make_server(stripe, host, port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield stripe
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
