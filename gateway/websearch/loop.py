"""The loop: a step of the model, the searches it asks for, the next step, until it answers.

Each step is a request of its own with a hold, a settlement and a usage record of the route
`websearch`. A step's searches are made before it is settled, and charged with it.
"""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog
from msgspec.structs import replace

from gateway import metrics
from gateway.errors import GatewayError, as_gateway_error
from gateway.exchange import Exchange, Headers, new_request_id
from gateway.routing import Decision, Rule
from gateway.run import Run, cost_header
from gateway.safety.calls import ToolCall
from gateway.safety.check import Judge, Unavailable
from gateway.safety.prompt import Verdict
from gateway.websearch import tool as tools
from gateway.websearch.blocks import Block, failed_block, found_block, found_text, search_block
from gateway.websearch.weaver import TOOL_CALL, Weaver
from providers.search import Backend, Query, Result, SearchFailed
from providers.wire.searches import new_search_id
from providers.wire.sse import render

log = structlog.get_logger("ccm.websearch")

MOST_STEPS = 12
"""The last of them may not search any more."""
PING = render("ping", b'{"type": "ping"}')
SILENCE_SECONDS = 15.0
CUT_SHORT = frozenset({"max_tokens", "model_context_window_exceeded", "refusal", "stop_sequence", "pause_turn"})
"""Stop reasons of a step whose calls are not to be run: the model did not come to the end of what it wanted."""

Begin = Callable[[Exchange, Decision, int], Awaitable[Run]]
"""Holds for one step and so many searches and makes its run. Raises what holding raises."""
Serve = Callable[[Run], Awaitable[None]]


class StepExchange(Exchange):
    """A step's side of the client's exchange: what the relay sends goes through the weaver first."""

    __slots__ = ("_client", "_last_passed", "_weaver", "answered")

    def __init__(self, client: Exchange, weaver: Weaver, request_id: str) -> None:
        super().__init__({"method": client.method, "path": client.path, "headers": []}, client._receive, self._nowhere)
        self.headers = client.headers
        self.request_id = request_id
        self.started = client.started
        self._client = client
        self._weaver = weaver
        self._last_passed = _now()
        self.answered: Headers | None = None
        """The headers of a whole answer, once there is one; errors go to the client at once."""

    async def _nowhere(self, message: Any) -> None:
        raise AssertionError(f"a step sends nothing by itself: {message.get('type')}")

    async def watch_disconnect(self, task: "asyncio.Task[Any]") -> None:
        try:
            await self._client.watch_disconnect(task)
        finally:
            self.disconnected = self._client.disconnected

    async def start(self, status: int, headers: Headers) -> None:
        self.started = True
        await self._client.start(status, headers)

    async def write(self, data: bytes) -> None:
        """Pass on what the client gets of `data`; where that is nothing for long, a ping."""
        passed = self._weaver.feed(data)
        if not passed and _now() - self._last_passed >= SILENCE_SECONDS:
            passed = PING
        await self.pass_on(passed)

    async def pass_on(self, data: bytes) -> None:
        if data:
            self._last_passed = _now()
            await self._client.write(data)

    async def finish(self, data: bytes = b"") -> None:
        """The last bytes of the whole answer, or the error that ends it; a step's end says nothing."""
        self.finished = True
        if data:
            await self._client.finish(data)

    async def answer(self, status: int, body: bytes, headers: Headers | None = None) -> None:
        self.finished = True
        if status == 200:
            self.answered = headers or []
        else:
            await self._client.answer(status, body, headers)

    async def answer_error(self, error: GatewayError, headers: Headers | None = None) -> None:
        self.finished = True
        await self._client.answer_error(error, headers)


def _now() -> float:
    return asyncio.get_running_loop().time()


@dataclass(slots=True)
class _Outcome:
    """What one call of the search came to."""

    result: Block
    text: str
    failed: bool = False


class SearchLoop:
    """Serves one request. `exchange` is the client's; `decision` says who answers."""

    def __init__(self, exchange: Exchange, decision: Decision, *, backend: Backend, begin: Begin, serve: Serve) -> None:
        self._client = exchange
        self._backend = backend
        self._begin = begin
        self._serve = serve
        self._tool = tools.search_tool(decision.request)
        why = Rule("web_search", True, "The model's provider does not search the web: CCM does.")
        self._decision = replace(
            decision,
            route="websearch",
            request=tools.with_function(decision.request, self._tool),
            trail=(*decision.trail, why),
        )
        self._first = self._decision.request
        self._weaver = Weaver()
        self._turns: list[dict[str, Any]] = []
        self._asked = 0
        self._steps = 0
        self._charges: list[int | None] = []
        self._finished = False
        self._stop_reason = ""

    async def run(self) -> None:
        """Returns when the client has its answer, be it an error, or has left."""
        while True:
            self._steps += 1
            # The first step bears the id that the client knows, so that it finds its usage record.
            request_id = self._client.request_id if self._steps == 1 else new_request_id()
            exchange = StepExchange(self._client, self._weaver, request_id)
            self._weaver.begin_step()
            try:
                run = await self._begin(exchange, self._decision, self._searches_left())
            except Exception as error:
                await self._refuse(error)
                return
            if run.judge is not None:
                run.judge = self._sparing(run.judge)
            run.search = functools.partial(self._search, run, exchange)
            await self._serve(run)
            self._charges.append(run.settlement.charge if run.settlement else None)
            if self._finished and exchange.answered is not None:
                await self._answer_whole(exchange.answered)
            if self._finished or self._client.finished or self._client.disconnected:
                return

    async def _refuse(self, error: Exception) -> None:
        """A step that cannot begin: no credits for it, say. As a status while none was sent."""
        if not self._client.started:
            raise error
        known = as_gateway_error(error)
        log.warning("step_refused", request_id=self._client.request_id, code=known.code)
        await self._client.finish(render("error", known.event_data(self._client.request_id)))

    async def _answer_whole(self, headers: Headers) -> None:
        """`headers` are the last step's; what they say of its cost gives way to the cost of all."""
        told = [header for header in headers if header[0] != b"x-ccm-cost"]
        charges = [charge for charge in self._charges if charge is not None]
        if len(charges) == len(self._charges):
            told.append(cost_header(sum(charges)))
        await self._client.answer(200, self._weaver.whole(self._stop_reason), told)

    def _sparing(self, judge: Judge) -> Judge:
        """`judge` for the client's tools: a search touches nothing of the client's."""

        async def judged(call: ToolCall) -> Verdict | Unavailable:
            return Verdict("not_flagged") if call.name == self._tool.name else await judge(call)

        return judged

    # -- one step's end

    async def _search(self, run: Run, exchange: StepExchange, data: bytes) -> bytes:
        """Called when a step's answer is whole, with its last events (or its Message), before it is
        settled: make its searches, and give what to end the exchange with."""
        weaver = self._weaver
        if run.stream is not None:
            await run.stream.send(data)
        else:
            weaver.take(msgspec.json.decode(data))
        weaver.end_step()
        step = weaver.step
        runs_calls = step.stop_reason not in CUT_SHORT
        calls = [block for block in step.waiting if self._is_search(block)]
        others = [block for block in step.waiting if not self._is_search(block)]
        turn: list[dict[str, Any]] = []
        for call in calls if runs_calls else ():
            outcome = await self._one_search(run, exchange, call)
            turn.append(_tool_result(call, outcome))
        theirs = b"".join(weaver.emit(block) for block in others)
        await self._pass_on(run, exchange, theirs)
        stop_reason = self._ends_with(runs_calls and bool(calls), any(block.type == TOOL_CALL for block in others))
        if not stop_reason:
            self._go_on(turn)
            return b""
        self._stop_reason = stop_reason
        self._finished = True
        return b"" if run.stream is None else weaver.ending(stop_reason)

    def _is_search(self, block: Block) -> bool:
        return block.type == TOOL_CALL and block.value.get("name") == self._tool.name

    def _ends_with(self, searched: bool, calls_client: bool) -> str:
        """The answer's stop reason; "" when another step follows."""
        stop_reason = self._weaver.step.stop_reason
        if not searched:
            # Some servers give no reason; and a tool_use without a call would have the client wait.
            ended = stop_reason and (stop_reason != TOOL_CALL or calls_client)
            return stop_reason if ended else "end_turn"
        if calls_client:
            return TOOL_CALL
        if self._left() < 1:
            return "max_tokens"
        return "pause_turn" if self._steps >= MOST_STEPS else ""

    def _left(self) -> int:
        """The output tokens that the client's `max_tokens` leaves to the next steps."""
        written = self._weaver.usage.get("output_tokens")
        return self._first.max_tokens - (written if isinstance(written, int) else 0)

    def _searches_left(self) -> int:
        """How many searches the step to come may make."""
        may_call = tools.choice_of(self._decision.request).get("type") != "none"
        return max(0, self._tool.max_uses - self._asked) if may_call else 0

    def _go_on(self, results: list[dict[str, Any]]) -> None:
        said = [block.value for block in self._weaver.step.blocks if block.type != "text" or block.value.get("text")]
        self._turns += [{"role": "assistant", "content": said}, {"role": "user", "content": results}]
        used_up = self._asked >= self._tool.max_uses and self._tool.alone
        next_request = tools.continued(
            self._first,
            self._turns,
            max_tokens=self._left(),
            may_call=not used_up and self._steps + 1 < MOST_STEPS,
        )
        self._decision = replace(self._decision, request=next_request)

    # -- one search

    async def _one_search(self, run: Run, exchange: StepExchange, call: Block) -> _Outcome:
        search_id = new_search_id()
        asked = call.value.get("input")
        await self._pass_on(run, exchange, self._weaver.emit(search_block(search_id, asked)))
        self._asked += 1
        try:
            results = await self._results(asked)
        except SearchFailed as error:
            metrics.web_search(self._backend.engine.name, error.error)
            outcome = _Outcome(failed_block(search_id, error.error), f"{error} ({error.error})", failed=True)
        else:
            self._weaver.searches += 1
            run.searched()
            metrics.web_search(self._backend.engine.name, "found")
            outcome = _Outcome(found_block(search_id, results), found_text(results))
        await self._pass_on(run, exchange, self._weaver.emit(outcome.result))
        return outcome

    async def _results(self, asked: Any) -> list[Result]:
        """Raises SearchFailed."""
        query = asked.get("query") if isinstance(asked, dict) else None
        if self._asked > self._tool.max_uses:
            raise SearchFailed("max_uses_exceeded", "No more searches: answer with what you have.")
        if not isinstance(query, str) or not query.strip():
            raise SearchFailed("invalid_tool_input", 'The input must be {"query": "…"}.')
        return await self._backend.search(Query(query.strip(), self._tool.domains, self._tool.place))

    async def _pass_on(self, run: Run, exchange: StepExchange, events: bytes) -> None:
        if run.stream is not None:
            await exchange.pass_on(events)


def _tool_result(call: Block, outcome: _Outcome) -> dict[str, Any]:
    result = {"type": "tool_result", "tool_use_id": call.value.get("id"), "content": outcome.text}
    return result | ({"is_error": True} if outcome.failed else {})
