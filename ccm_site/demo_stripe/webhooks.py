"""Tells events to a webhook, signed as Stripe signs, again and again until it is taken."""

import hashlib
import hmac
import http.client
import json
import queue
import threading
import time
import urllib.error
import urllib.request

from ccm_site.demo_stripe.api import shown
from ccm_site.demo_stripe.store import Json

TIMEOUT_SECONDS = 20
FIRST_PAUSE, LONGEST_PAUSE, MOST_TRIES = 1.0, 60.0, 30


def body_of(event: Json) -> bytes:
    return json.dumps(shown(event)).encode()


def sign(body: bytes, secret: str, at: int) -> str:
    digest = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


class Teller:
    """One thread; each event is signed anew each time it is told."""

    def __init__(self, url: str, secret: str) -> None:
        self._url, self._secret = url, secret
        self._waiting: queue.PriorityQueue[tuple[float, int, int, bytes]] = queue.PriorityQueue()
        self._count = 0
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        threading.Thread(target=self._run, name="webhooks", daemon=True).start()

    def tell(self, event: Json) -> None:
        self._put(time.monotonic(), 1, body_of(event))

    def _put(self, due: float, tries: int, body: bytes) -> None:
        self._count += 1
        self._waiting.put((due, self._count, tries, body))

    def _run(self) -> None:
        while True:
            due, _, tries, body = self._waiting.get()
            time.sleep(max(0.0, due - time.monotonic()))
            if not self._taken(body) and tries < MOST_TRIES:
                pause = min(FIRST_PAUSE * 2 ** (tries - 1), LONGEST_PAUSE)
                self._put(time.monotonic() + pause, tries + 1, body)

    def _taken(self, body: bytes) -> bool:
        headers = {
            "Content-Type": "application/json", "User-Agent": "demo-stripe",
            "Stripe-Signature": sign(body, self._secret, int(time.time())),
        }  # fmt: skip
        request = urllib.request.Request(self._url, data=body, headers=headers, method="POST")  # noqa: S310 - our own
        try:
            with self._opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
                return 200 <= int(answer.status) < 300
        except (urllib.error.URLError, OSError, http.client.HTTPException):
            return False
