"""The customers of the fault run: many requests at once, and what became of each as the client saw it."""

import asyncio
import contextlib
import json
import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

import aiohttp

from tests.faults.traffic import WORD, Plan, make_plan

CALLERS = 20
REQUEST_SECONDS = 40.0
PAUSE_SECONDS = 0.15
"""Between two requests of a caller, at most; and after one that found nobody listening."""

STOP = b"event: message_stop\n"
WRONG_KEY = "sk-ccm-" + "0" * 40


@dataclass
class Sent:
    """A request and what the client received of its answer."""

    plan: Plan
    customer: int
    """Its place in the list of keys; -1: it came with a wrong key."""
    body_bytes: int
    status: int | None = None
    request_id: str = ""
    words: int = 0
    stops: int = 0
    """How often the end of the stream was told."""
    complete: bool = False
    cost: str = ""
    left: bool = False
    """The client itself went away."""
    failure: str = ""

    @property
    def outcome(self) -> str:
        if self.status is None:
            return "no answer"
        if self.status != 200:
            return f"refused with {self.status}"
        if self.complete:
            return "whole answer"
        return "client left" if self.left else "answer cut"


class Load:
    """`start` it with the customers' keys; `stop` ends it when the requests under way have ended."""

    def __init__(
        self, url: str, keys: Sequence[str], *, poor: Sequence[int], seed: int, callers: int = CALLERS
    ) -> None:
        self.sent: list[Sent] = []
        self.answered = 0
        self._url, self._keys, self._poor = url, list(keys), set(poor)
        self._chance = random.Random(seed)
        self._callers = callers
        self._numbers = count(1)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="load", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Raises RuntimeError when requests do not end."""
        self._stopping.set()
        self._thread.join(REQUEST_SECONDS + 20)
        if self._thread.is_alive():
            raise RuntimeError("the load does not end")

    async def _run(self) -> None:
        timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:
            await asyncio.gather(*(self._caller(session) for _ in range(self._callers)))

    async def _caller(self, session: aiohttp.ClientSession) -> None:
        while not self._stopping.is_set():
            plan = make_plan(f"tag-{next(self._numbers):07d}", self._chance)
            sent = Sent(plan, self._customer(), len(plan.body))
            self.sent.append(sent)
            try:
                await self._request(session, sent)
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                sent.failure = type(error).__name__
            if sent.complete:
                self.answered += 1
            await asyncio.sleep(self._chance.uniform(0, PAUSE_SECONDS) if sent.status else PAUSE_SECONDS)

    def _customer(self) -> int:
        if self._chance.random() < 0.01:
            return -1
        if self._poor and self._chance.random() < 0.15:
            return self._chance.choice(sorted(self._poor))
        return self._chance.randrange(len(self._keys))

    async def _request(self, session: aiohttp.ClientSession, sent: Sent) -> None:
        key = self._keys[sent.customer] if sent.customer >= 0 else WRONG_KEY
        headers = {
            "x-api-key": key,
            "anthropic-version": "2023-06-01",
            "content-type": "application/json",
            "x-claude-code-session-id": sent.plan.tag,
        }
        async with session.post(f"{self._url}/v1/messages", data=sent.plan.body, headers=headers) as response:
            sent.status = response.status
            sent.request_id = response.headers.get("request-id", "")
            sent.cost = response.headers.get("x-ccm-cost", "")
            if response.status == 200 and sent.plan.streamed:
                await _read_stream(response, sent)
            else:
                _read_whole(await response.read(), sent)


async def _read_stream(response: aiohttp.ClientResponse, sent: Sent) -> None:
    """Only events that have come whole count as received."""
    text = b""
    try:
        async for piece in response.content.iter_any():
            text += piece
            _look(text, sent)
            if sent.plan.leave_after and sent.words >= sent.plan.leave_after and not sent.stops:
                sent.left = True
                response.close()
                return
    finally:
        _look(text, sent)
    sent.complete = sent.stops > 0


def _look(text: bytes, sent: Sent) -> None:
    events = text[: text.rfind(b"\n\n") + 2]
    sent.words = len(WORD.findall(events))
    sent.stops = events.count(STOP)


def _read_whole(body: bytes, sent: Sent) -> None:
    with contextlib.suppress(ValueError):
        answer = json.loads(body)
        if sent.status == 200 and answer.get("type") == "message":
            sent.words = len(WORD.findall(body))
            sent.complete = True
