"""One answer's safety check: from its first tool call to the results in its last events."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from gateway.safety.calls import CallCollector, ToolCall, calls_of_message, message_with_results
from gateway.safety.prompt import Verdict, context_of
from providers.types import Target
from providers.wire.anthropic import ANTHROPIC
from providers.wire.request import MessagesRequest

TIMEOUT_SECONDS = 15.0
"""How long an answer's last events wait for the verdicts."""
MOST_CALLS = 32

Unavailable = str
"""Why there is no verdict: timeout, error, refused, input_too_long or truncated, as the client knows them."""
Judge = Callable[[ToolCall], Awaitable[Verdict | Unavailable]]


def asks_for_check(request: MessagesRequest) -> bool:
    return request.has("safeguards") and context_of(request) is not None


def check_for(request: MessagesRequest, target: Target, judge: Judge | None) -> "SafetyCheck | None":
    """The check of an answer by `target`; None when nobody asked for one, or the target makes it
    itself. Without a `judge` the client is told that the check is switched off."""
    if not asks_for_check(request) or target.kind == ANTHROPIC:
        return None
    return SafetyCheck(judge)


class SafetyCheck:
    """Feed it each piece of the answer before it is sent; then `finish` once, or `cancel`."""

    def __init__(self, judge: Judge | None, *, timeout: float = TIMEOUT_SECONDS) -> None:
        self._judge = judge
        self._timeout = timeout
        self._collector = CallCollector()
        self._judgements: dict[str, asyncio.Task[Verdict | Unavailable]] = {}
        self._unjudged: list[str] = []

    def feed(self, data: bytes) -> bytes:
        """What of `data` may be sent now. A call is judged from the moment it is complete."""
        passed, calls = self._collector.feed(data)
        for call in calls:
            self._begin(call)
        return passed

    async def finish(self) -> bytes:
        """The events that were held back, with the results in them."""
        return self._collector.release(await self._results())

    async def whole(self, body: bytes) -> bytes:
        """An answer that was not streamed, with its results."""
        for call in calls_of_message(msgspec.json.decode(body)):
            self._begin(call)
        return message_with_results(body, await self._results())

    def cancel(self) -> None:
        for task in self._judgements.values():
            task.cancel()

    def _begin(self, call: ToolCall) -> None:
        if self._judge is None:
            return
        if len(self._judgements) >= MOST_CALLS:
            self._unjudged.append(call.id)
        else:
            self._judgements[call.id] = asyncio.ensure_future(self._judge(call))

    async def _results(self) -> list[dict[str, Any]]:
        if self._judge is None:
            status: dict[str, Any] = {"type": "unavailable", "reason": "disabled"}
            return [{"type": "dangerous_tool_use", "status": status}]
        try:
            if self._judgements:
                await asyncio.wait(self._judgements.values(), timeout=self._timeout)
            uses = {id_: _result(task) for id_, task in self._judgements.items()}
            uses |= {id_: _unavailable("error") for id_ in self._unjudged}
        finally:
            self.cancel()
        return [{"type": "dangerous_tool_use", "status": {"type": "available", "tool_uses": uses}}]


def _result(task: "asyncio.Task[Verdict | Unavailable]") -> dict[str, Any]:
    if not task.done():
        return _unavailable("timeout")
    if task.cancelled() or task.exception() is not None:
        return _unavailable("error")
    outcome = task.result()
    if isinstance(outcome, Verdict):
        explanation = {"explanation": outcome.explanation} if outcome.explanation else {}
        return {"type": "evaluated", "outcome": outcome.outcome, **explanation}
    return _unavailable(outcome)


def _unavailable(reason: Unavailable) -> dict[str, Any]:
    return {"type": "unavailable", "reason": reason}
