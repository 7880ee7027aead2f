"""The state of one held request on its way: attempts, times, and how it ends in the ledger."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog
from django.conf import settings
from msgspec.structs import replace

from credits import rating
from credits.errors import CreditsError, LedgerDrift, LedgerUnavailable
from credits.types import (
    UNKNOWN_COST,
    Explanation,
    HoldGrant,
    MeterReading,
    PriceSnapshot,
    RequestFacts,
    Settlement,
    SettleRequest,
    UsageSource,
)
from gateway import metering, metrics
from gateway.errors import GatewayError
from gateway.exchange import Exchange, Headers
from gateway.plan import PlannedTarget
from gateway.resilience import Resilience
from gateway.routing import Decision
from providers.types import Model, Target, UpstreamFailure
from providers.wire.base import DecodedResponse, StreamDecoder
from providers.wire.request import MessagesRequest

if TYPE_CHECKING:
    from credits.journal import Slot
    from credits.writer import LedgerWriter
    from gateway.limits import Lease
    from gateway.relay import StreamState
    from gateway.safety import Judge
    from providers.media import MediaFetcher
    from providers.transport import Transport

log = structlog.get_logger("ccm.run")

CLIENT_CLOSED = 499
DRIFT_SECONDS = 60.0
"""Between two tries to settle in books that contradict themselves: an operator has to look."""


@dataclass(slots=True, eq=False)
class Run:
    exchange: Exchange
    decision: Decision
    plan: tuple[PlannedTarget, ...]
    grant: HoldGrant
    estimated_input: int
    writer: "LedgerWriter"
    transport: "Transport"
    began: float
    explanation: Explanation | None = None
    lease: "Lease | None" = None
    """What the request holds of its tenant's limits, which its tokens count against."""
    now: Callable[[], float] = time.monotonic
    resilience: Resilience = field(default_factory=Resilience)
    media: "MediaFetcher | None" = None
    """Fetches images and documents for targets that do not."""
    judge: "Judge | None" = None
    """What judges the answer's tool calls, where the client asks for it and the target does not do it."""
    search: Callable[[bytes], Awaitable[bytes]] | None = None
    """Makes the web searches that a whole answer asks for, before it is settled: gets its last
    bytes, and gives those to end with."""
    stream: "StreamState | None" = None
    slot: "Slot | None" = None
    """Its place in the journal, until its hold has ended."""
    task: "asyncio.Task[Any] | None" = None
    """The one that serves the request: cancelled when the client goes away."""
    watcher: "asyncio.Task[None] | None" = None
    attempts: list[dict[str, Any]] = field(default_factory=list)
    target: Target | None = None
    spent: int = 0
    """Nanos that failed attempts may have cost the operator."""
    changed_on_the_way: bool = False
    """The request that was answered is not the one that was measured."""
    answering: bool = False
    """Content of the present attempt has been sent, or is about to be."""
    settled: bool = False
    settlement: Settlement | None = None
    """What the ledger made of it; None as well when the ledger did not answer."""
    unsettled: SettleRequest | None = None
    """A settlement that the ledger did not take: the runtime tries again."""
    first_content_at: float | None = None
    _not_before: float = 0.0
    """When to try again to settle what is unsettled."""
    _checkpointed_chars: int = -1
    _in_journal: bool = False
    _attempt_began: float = 0.0
    _reading: MeterReading | None = None
    _status: int = 200
    _error_code: str = ""
    _stop_reason: str = ""

    @property
    def request(self) -> MessagesRequest:
        return self.decision.request

    @property
    def model(self) -> Model:
        return self.decision.model

    @property
    def max_tokens(self) -> int:
        return self.grant.max_tokens

    def drop_reasoning(self) -> None:
        """Go on without the thinking of earlier turns, which the provider does not know as its own."""
        self.decision = replace(self.decision, request=self.request.without_thinking())
        self.changed_on_the_way = True

    def watch(self) -> None:
        """Notice from now on when the client goes away. The runtime starts this for requests that
        take longer than a moment: for the others it would cost more than it could save."""
        if self.watcher is None and self.task is not None and not self.exchange.finished:
            self.watcher = asyncio.create_task(self.exchange.watch_disconnect(self.task))

    def stop_watching(self) -> None:
        if self.watcher is not None:
            self.watcher.cancel()

    def let_go(self) -> None:
        """It is over: nothing that it holds refers back to it any more. So the request's body is freed at once, and
        not when the garbage collector next looks (some hundred requests later)."""
        self.stream = self.search = self.task = self.watcher = None

    def begin_attempt(self, target: Target) -> None:
        was_own = self.target is not None and self.target.is_own
        self.target = target
        if self.stream is not None:
            self.stream.decoder = None
        self._attempt_began = self.now()
        attempt: dict[str, Any] = {
            "provider": target.provider,
            "model": target.actual_model,
            "mapping": target.mapping_id,
        }
        if target.cost is None:
            attempt["cost"] = UNKNOWN_COST
        if target.is_own:
            attempt["own_key"] = True
        self.attempts.append(attempt)
        if target.is_own or was_own:  # should this process die, what is charged must be the right price
            self._write_checkpoint()

    def end_attempt(self, failure: UpstreamFailure) -> None:
        attempt = self.attempts[-1]
        self._note_cost(attempt, failure)
        attempt["ms"] = self._milliseconds(self._attempt_began)
        attempt["error"] = failure.type
        attempt["status"] = failure.upstream_status
        metrics.upstream_failure(attempt["provider"], failure.type)
        log.warning(
            "attempt_failed",
            request_id=self.exchange.request_id,
            provider=attempt["provider"],
            upstream_status=failure.upstream_status,
            error=failure.type,
        )

    def _note_cost(self, attempt: dict[str, Any], failure: UpstreamFailure) -> None:
        """What a failed attempt may cost the operator, where its provider told what it had read and
        written, in nanos. Content that was sent on is the answer's own cost."""
        decoder = self.stream.decoder if self.stream else None
        if failure.paid:
            attempt["cost"] = UNKNOWN_COST
        elif decoder is not None and decoder.usage.input_tokens is not None and not self.answering:
            price = self._cost_price()
            if price is not None and "cost" not in attempt:
                attempt["cost"] = cost = rating.charge(self._partial_reading(decoder), price)
                self.spent += cost

    def note_first_content(self) -> None:
        self.answering = True
        if self.first_content_at is None:
            self.first_content_at = self.now()
            metrics.first_token(self.decision.route, self.first_content_at - self.began)
        self._begin_journal()

    def note_progress(self, output_chars: int) -> None:
        """More of the answer is about to be sent: move its count on in the journal."""
        if self.slot is None:
            return
        if self._in_journal:
            self.slot.write_output(metering.counted_output(output_chars))
        else:
            self._begin_journal()

    def _begin_journal(self) -> None:
        reading = self.reading()
        if self.slot is not None and reading.source is not UsageSource.NONE:
            self._in_journal = True
            self.slot.write(reading)

    def decoded(self, response: DecodedResponse) -> None:
        self.note_first_content()
        self._stop_reason = response.stop_reason or ""
        self._reading = metering.final_reading(
            response.usage,
            output_chars=response.output_chars,
            estimated_input=self.estimated_input,
            max_tokens=self.max_tokens,
        )

    def stream_finished(self) -> None:
        decoder = self.stream.decoder if self.stream else None
        assert decoder is not None
        self._stop_reason = decoder.stop_reason or ""
        self._reading = metering.final_reading(
            decoder.usage,
            output_chars=decoder.output_chars,
            estimated_input=self.estimated_input,
            max_tokens=self.max_tokens,
        )

    def searched(self) -> None:
        """CCM has made a web search that the answer asked for: it is charged with it."""
        reading = self.reading()
        self._reading = replace(reading, web_searches=reading.web_searches + 1)
        if self.slot is not None and self.stream is not None:  # of a whole answer the client has nothing yet
            self.slot.write(self._reading)

    def failed(self, error: GatewayError) -> None:
        self._status = error.status
        self._error_code = error.code

    def cancelled(self, code: str) -> None:
        self._status = CLIENT_CLOSED
        self._error_code = code

    def reading(self) -> MeterReading:
        """What there is to charge now: the final reading, else what was relayed so far. Nothing was
        relayed, or only the frame of an answer without a word in it: nothing is charged (the
        zero-completion rule)."""
        if self._reading is not None:
            return self._reading
        decoder = self.stream.decoder if self.stream else None
        if decoder is None or not self.answering or not (decoder.output_chars or decoder.usage.web_searches):
            return MeterReading(source=UsageSource.NONE)
        return self._partial_reading(decoder)

    def _partial_reading(self, decoder: StreamDecoder) -> MeterReading:
        return metering.partial_reading(
            decoder.usage,
            output_chars=decoder.output_chars,
            estimated_input=self.estimated_input,
            max_tokens=self.max_tokens,
        )

    async def settle(self) -> Settlement | None:
        """End the hold, once. Survives the caller's cancellation. A ledger that does not answer, or whose books
        contradict themselves, does not take the answer from the customer: `unsettled` is then set, for the runtime
        to try again, and the slot stays."""
        if self.settled:
            return None
        self.settled = True
        reading = self.reading()
        if self.slot is not None:  # the last bytes go out as soon as this is over: the process may die right then
            self.slot.write(reading)
        request = SettleRequest(
            request_id=self.exchange.request_id,
            reading=reading,
            cost_price=self._cost_price(),
            facts=self.facts(),
            spent=self.spent,
            price=self._own_price(),
        )
        try:
            self.settlement = await self.writer.settle(request)
        except (LedgerUnavailable, LedgerDrift) as error:
            log.error("settle_failed", request_id=self.exchange.request_id, error=error.code)
            self.unsettled = request
            return None
        except CreditsError as error:  # it has been ended: there is nothing more to settle
            log.error("settle_failed", request_id=self.exchange.request_id, error=error.code)
            self.close_slot()
            return None
        except BaseException:  # the caller is gone; whether the ledger has taken it will be seen
            self.unsettled = request
            raise
        self.close_slot()
        return self.settlement

    async def settle_again(self) -> None:
        """Try once more to settle what the ledger did not take; `unsettled` is None when it is over."""
        if self.unsettled is None or self.now() < self._not_before:
            return
        try:
            await self.writer.settle(self.unsettled)
        except LedgerUnavailable:
            return
        except LedgerDrift:
            self._not_before = self.now() + DRIFT_SECONDS
            return
        except CreditsError as error:  # somebody else has ended it
            log.error("settle_failed", request_id=self.exchange.request_id, error=error.code)
        self.unsettled = None
        self.close_slot()

    def _cost_price(self) -> PriceSnapshot | None:
        """What the operator pays. A cost that nobody has entered is not zero, which would make the
        whole charge margin: it is put down as the customer's price, and the attempt says so."""
        if self.target is None:
            return None
        price = self.model.price if self.target.cost is None else self.target.cost
        return None if price is None else metering.price_snapshot(price)

    def _own_price(self) -> PriceSnapshot | None:
        """What is charged where the organisation's own key was used; None: the model's price."""
        if self.target is None or not self.target.is_own or self.model.price is None:
            return None
        return metering.fee_snapshot(
            self.model.price, settings.BYOK_FEE_BASIS_POINTS, searches_are_ours=self.search is not None
        )

    def close_slot(self) -> None:
        if self.slot is not None:
            self.slot.close()
            self.slot = None

    def checkpoint(self) -> None:
        """Write down how far the answer has come, so that a crash of this process does not make
        what was generated free of charge (architecture, section 5)."""
        decoder = self.stream.decoder if self.stream else None
        if self.settled or self._reading is not None:  # what it comes to in the end is its settlement's to tell
            return
        if decoder is None or not self.answering or decoder.output_chars == self._checkpointed_chars:
            return
        self._checkpointed_chars = decoder.output_chars
        self._write_checkpoint()

    def _write_checkpoint(self) -> None:
        self.writer.checkpoint(
            self.exchange.request_id, self.reading(), self.facts(), self._cost_price(), self._own_price()
        )

    def facts(self) -> RequestFacts:
        target = self.target
        first = self.first_content_at
        # Copies: the present attempt goes on, while the ledger's thread writes these down.
        attempts = [dict(attempt) for attempt in self.attempts]
        if attempts:
            attempts[-1].setdefault("ms", self._milliseconds(self._attempt_began))
        return RequestFacts(
            requested_model=self.decision.requested,
            route=self.decision.route,
            explanation=self.explanation,
            provider=target.provider if target else "",
            actual_model=target.actual_model if target else "",
            attempts=tuple(attempts),
            status=self._status,
            error_code=self._error_code,
            stop_reason=self._stop_reason,
            streamed=self.request.stream,
            first_token_ms=None if first is None else round((first - self.began) * 1000),
            total_ms=self._milliseconds(self.began),
            session_id=self.decision.session_id,
            agent_id=self.decision.agent_id,
            parent_agent_id=self.decision.parent_agent_id,
            request_class=self.decision.request_class,
            client=self.exchange.headers.get("user-agent", "")[:120],
        )

    @property
    def status(self) -> int:
        return self._status

    def headers(self) -> Headers:
        headers = [
            (b"x-ccm-route", self.decision.route.encode()),
            (b"x-ccm-model", header_text(self.model.name)),
            (b"x-ccm-provider", header_text(self.target.provider if self.target else "")),
            (b"x-ccm-attempts", str(len(self.attempts)).encode()),
        ]
        headers.extend((b"x-ccm-warning", header_text(warning)) for warning in self.decision.warnings)
        return headers

    def cost_header(self, settlement: Settlement | None) -> Headers:
        return [] if settlement is None else [cost_header(settlement.charge)]

    def _milliseconds(self, since: float) -> int:
        return int((self.now() - since) * 1000)


def cost_header(charge: int) -> tuple[bytes, bytes]:
    """`charge` in nano-USD; the header tells USD."""
    return (b"x-ccm-cost", f"{charge // 10**9}.{charge % 10**9:09d}".encode())


def header_text(text: str) -> bytes:
    """`text` as a header's value can carry it."""
    return text.replace("\r", " ").replace("\n", " ").encode("ascii", "replace")[:200]
