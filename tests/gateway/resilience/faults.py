"""A CCM whose models each have a first target with one fault, and perhaps a second one: what the
fault matrix asks. Usage, ledger and breakers are read where they are stored."""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import redis

from gateway.resilience.shared import STORE
from tests.fakes.answers import Answer, End, Failure, Reply, Reset, Silence, Text, Tokens, ToolUse, html
from tests.fakes.anthropic import fake_anthropic
from tests.fakes.brain import Conversation
from tests.fakes.server import FakeProvider, gone
from tests.processes import Ccm

INPUT_PRICE, OUTPUT_PRICE = 3000, 15000
"""Nano-USD a token, of every model here; a third of it is the cost."""
HEALTHY_TEXT = "All is well."
SECONDS = ("healthy", "unhealthy", "absent")
QUICK = "first_byte_timeout = 0.4\nidle_timeout = 0.4\ntotal_timeout = 20\nconnect_timeout = 0.5"
PATIENT = "first_byte_timeout = 20\nidle_timeout = 20\ntotal_timeout = 60\nconnect_timeout = 5"

OVERLOADED_TEXT = Failure(529, "Overloaded", type="overloaded_error")
TOOL = ToolUse("Bash", {"command": "ls -la /tmp/somewhere/far/away", "description": "List"})


@dataclass(frozen=True)
class Fault:
    """What the first target does, and what becomes of a request that meets it.

    `status` and `type` are the client's when there is no second target; `calls` so many attempts at the
    first target are made then. `ends` is True where no other target is asked. `answered` content was
    sent before it happened, so there is a charge, and the error is an event of the stream."""

    name: str
    answer: Answer | None = None
    status: int = 500
    type: str = "api_error"
    calls: int = 2
    ends: bool = False
    answered: bool = False
    timeouts: str = PATIENT
    address: str = ""
    streamed: Sequence[bool] = (True, False)
    calls_before_failover: int = 1
    retry_after: int | None = None
    says: str = ""
    served: bool = False
    """It is no fault after all: the first target serves it."""

    @property
    def cools(self) -> bool:
        return self.name.startswith(("401", "402", "403", "429", "limit"))


def _of(status: int, kind: str, **headers: str) -> Failure:
    return Failure(status, "The fake provider was told to fail.", type=kind, headers=headers)


CUT = (Text("Half of a sentence that"),)
FAULTS = [
    Fault("refused", address="refused", says="connection refused"),
    Fault("dns", address="http://nowhere.invalid", calls=1, says="host name was not found"),
    Fault("tls", address="tls", calls=1, says="TLS"),
    Fault("reset", Reset(), calls_before_failover=2, calls=3, says="closed the connection"),
    Fault("reset-after-headers", Reset(after_headers=True), streamed=[True], says="cut its answer off"),
    Fault("reset-after-headers-whole", Reply(end=End.RESET), streamed=[False], calls_before_failover=2, calls=3),
    Fault("400", _of(400, "invalid_request_error"), status=400, type="invalid_request_error", calls=1, ends=True),
    Fault("401", _of(401, "authentication_error"), calls=1, says="refused CCM's credentials"),
    Fault("402", _of(402, "billing_error"), calls=1, says="lack of funds"),
    Fault("403", _of(403, "permission_error"), calls=1, says="refused CCM's credentials"),
    Fault("404", _of(404, "not_found_error"), calls=1, says="knows no model"),
    Fault("408", _of(408, "timeout_error"), status=504, type="timeout_error", calls=1),
    Fault("413", _of(413, "request_too_large"), status=413, type="request_too_large", calls=1, ends=True),
    Fault("422", _of(422, "invalid_request_error"), status=400, type="invalid_request_error", calls=1, ends=True),
    Fault("429", _of(429, "rate_limit_error"), status=429, type="rate_limit_error", retry_after=2),
    Fault("429-short", _of(429, "rate_limit_error", **{"retry-after": "1"}), status=429, type="rate_limit_error",
          retry_after=1),
    Fault("429-long", _of(429, "rate_limit_error", **{"retry-after": "45"}), status=429, type="rate_limit_error",
          calls=1, retry_after=45),
    Fault("429-longer", _of(429, "rate_limit_error", **{"retry-after": "300"}), status=429, type="rate_limit_error",
          calls=1, retry_after=60),
    Fault("500", _of(500, "api_error")),
    Fault("502-html", html(502)),
    Fault("503", _of(503, "api_error"), status=500),
    Fault("503-wait", _of(503, "api_error", **{"retry-after": "20"}), status=500, calls=1, retry_after=20),
    Fault("529", OVERLOADED_TEXT, status=529, type="overloaded_error"),
    Fault("page", html(200), calls=1, streamed=[True], says="web page instead of a stream"),
    Fault("page-whole", html(200), streamed=[False]),
    Fault("error-in-stream", Reply(blocks=CUT, events=2, end=End.ERROR, error=OVERLOADED_TEXT), status=529,
          type="overloaded_error", streamed=[True]),
    Fault("limit-in-stream", Reply(blocks=CUT, events=2, end=End.ERROR, error=_of(429, "rate_limit_error")), status=429,
          type="rate_limit_error", streamed=[True], retry_after=2),
    Fault("silence", Silence(), status=504, type="timeout_error", calls=1, timeouts=QUICK, streamed=[True],
          says="did not answer within"),
    Fault("silence-whole", Silence(), status=504, type="timeout_error", calls=1, timeouts=QUICK, streamed=[False],
          ends=True, says="did not answer within"),
    Fault("stall-before-content", Reply(blocks=CUT, events=2, end=End.STALL), status=504, type="timeout_error", calls=1,
          timeouts=QUICK, streamed=[True], says="was silent for"),
    Fault("stall-after-content", Reply(blocks=CUT, events=5, end=End.STALL), type="timeout_error", calls=1, ends=True,
          answered=True, timeouts=QUICK, streamed=[True], says="was silent for"),
    Fault("cut-after-content", Reply(blocks=CUT, events=5, end=End.RESET), calls=1, ends=True, answered=True,
          streamed=[True], says="cut its answer off"),
    Fault("error-after-content", Reply(blocks=CUT, events=5, end=End.ERROR, error=OVERLOADED_TEXT),
          type="overloaded_error", calls=1, ends=True, answered=True, streamed=[True]),
    Fault("cut-in-tool-call", Reply(blocks=[TOOL], events=5, end=End.RESET), calls=1, ends=True, answered=True,
          streamed=[True], says="cut its answer off"),
    Fault("end-without-end", Reply(blocks=CUT, events=5, end=End.EOF), calls=1, ends=True, answered=True,
          streamed=[True]),
    Fault("slow-drip", Reply(blocks=CUT, between=0.05), calls=1, ends=True, served=True, timeouts=QUICK),
]  # fmt: skip


@dataclass(frozen=True)
class Case:
    fault: Fault
    streamed: bool
    second: str

    @property
    def name(self) -> str:
        return f"{self.fault.name}.{'stream' if self.streamed else 'whole'}.{self.second}"

    @property
    def model(self) -> str:
        """One of its own where the fault leaves the credential cooling down."""
        return self.name if self.fault.cools else f"{self.fault.name}.{self.second}"

    @property
    def provider(self) -> str:
        return f"p-{self.name if self.fault.cools else self.fault.name}"


CASES = [Case(fault, streamed, second) for fault in FAULTS for streamed in fault.streamed for second in SECONDS]


@dataclass
class Seen:
    """What the client got, and what is stored of it."""

    status: int
    headers: httpx.Headers
    body: bytes
    record: dict[str, Any]
    first_calls: int
    second_calls: int

    @property
    def error(self) -> dict[str, Any]:
        envelope: dict[str, Any] = json.loads(self.body)
        assert set(envelope) == {"type", "error", "request_id"}, envelope
        return dict(envelope["error"])

    @property
    def events(self) -> list[tuple[str, Any]]:
        pieces = [piece.split("\n") for piece in self.body.decode().split("\n\n") if piece]
        assert all(len(piece) == 2 for piece in pieces), self.body
        return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in pieces]

    @property
    def text(self) -> str:
        return "".join(data["delta"].get("text", "") for name, data in self.events if name == "content_block_delta")


@dataclass
class Range:
    """The CCM and its providers."""

    ccm: Ccm
    faulty: FakeProvider
    other: FakeProvider
    key: str
    valkey: "redis.Redis" = field(repr=False)

    def ask(self, case: Case, **more: Any) -> Seen:
        body = {
            "model": case.model,
            "max_tokens": 1000,
            "stream": case.streamed,
            "messages": [{"role": "user", "content": "Tell me something."}],
        }
        before = self.calls(self.faulty, case), self.calls(self.other, case)
        headers = {"authorization": f"Bearer {self.key}", "anthropic-version": "2023-06-01", **more}
        answer = httpx.post(f"{self.ccm.url}/v1/messages", json=body, headers=headers, timeout=60, trust_env=False)
        record = self.record(answer.headers["request-id"])
        return Seen(
            answer.status_code,
            answer.headers,
            answer.content,
            record,
            self.calls(self.faulty, case) - before[0],
            self.calls(self.other, case) - before[1],
        )

    def calls(self, provider: FakeProvider, case: Case) -> int:
        return sum(entry.body["model"] == case.model for entry in provider.requests)

    # -- what is stored

    def rows(self, sql: str, *values: object) -> list[dict[str, Any]]:
        database = sqlite3.connect(self.ccm.data_dir / "ccm.sqlite3")
        try:
            database.row_factory = sqlite3.Row
            return [dict(row) for row in database.execute(sql, values)]
        finally:
            database.close()

    def record(self, request_id: str) -> dict[str, Any]:
        """The usage record, with its hold's state and what the ledger took for it."""
        (record,) = self.rows("SELECT * FROM credits_usagerecord WHERE request_id = ?", request_id)
        (hold,) = self.rows("SELECT state, captured FROM credits_hold WHERE id = ?", request_id)
        taken = self.rows("SELECT SUM(amount) AS taken FROM credits_transfer WHERE hold_id = ?", request_id)[0]["taken"]
        attempts = json.loads(record["attempts"])
        return {**record, **hold, "taken": taken or 0, "attempts": attempts}

    def mapping(self, case: Case, provider: str) -> int:
        (row,) = self.rows(
            "SELECT m.id FROM providers_mapping m JOIN providers_provider p ON p.id = m.provider_id "
            "WHERE m.actual_model = ? AND p.name = ?", case.model, provider,
        )  # fmt: skip
        return int(row["id"])

    def breaker_is_open(self, case: Case) -> bool:
        """Whether the first target's breaker is known to be open, in all processes."""
        return bool(self.valkey.hexists(STORE, f"target:{self.mapping(case, case.provider)}"))

    def cooling(self) -> list[dict[str, Any]]:
        stored: dict[bytes, bytes] = self.valkey.hgetall(STORE)  # type: ignore[assignment]
        return [json.loads(value) for place, value in stored.items() if place.startswith(b"credential:")]


def brain(conversation: Conversation) -> Answer:
    """The faulty server: each model is one fault."""
    name = conversation.model.split(".")[0]
    fault = next(each for each in FAULTS if each.name == name)
    assert fault.answer is not None, "nobody should have reached it"
    return fault.answer


def second_brain(conversation: Conversation) -> Answer:
    if conversation.model.endswith(".unhealthy"):
        return Failure(503, "Unavailable", type="api_error", headers={"retry-after": "9"})
    return Reply(blocks=[Text(HEALTHY_TEXT)], tokens=Tokens(input=40, output=8))


def toml(cases: Sequence[Case], faulty: FakeProvider, other: FakeProvider, refused: str) -> str:
    parts = ['[router]\nauto_map_regex = "^never-matches"', provider("second", other.base_url, PATIENT)]
    addresses = {"": faulty.base_url, "refused": refused, "tls": faulty.base_url.replace("http://", "https://")}
    providers = {case.provider: case.fault for case in cases}
    models = {case.model: case for case in cases}
    parts += [
        provider(name, addresses.get(fault.address, fault.address), fault.timeouts) for name, fault in providers.items()
    ]
    return "\n".join([*parts, *map(model, models.values())])


def provider(name: str, url: str, timeouts: str) -> str:
    return (
        f'[[providers]]\nname = "{name}"\nkind = "anthropic-compatible"\nbase_url = "{url}"\n'
        f'api_key = "secret-of-{name}"\n{timeouts}'
    )


def model(case: Case) -> str:
    lines = [f'[[models]]\nname = "{case.model}"\nmax_output = 1000\ntools = true\ninput = "3"\noutput = "15"']
    targets = [case.provider] if case.second == "absent" else [case.provider, "second"]
    lines += [
        f'[[models.mappings]]\nprovider = "{name}"\nactual_model = "{case.model}"\npriority = {place}\n'
        'cost = { input = "1", output = "5" }'
        for place, name in enumerate(targets, 1)
    ]
    return "\n".join(lines)


@contextmanager
def fault_range(cases: Sequence[Case]) -> Iterator[Range]:
    with fake_anthropic(brain) as faulty, fake_anthropic(second_brain) as other:
        with gone(faulty) as refused:
            config = toml(cases, faulty, other, refused)
        with Ccm(settings={"LOG_LEVEL": "WARNING"}) as ccm:
            ccm.import_config(config)
            key = ccm.create_key(usd="1000")
            ccm.start()
            with redis.Redis.from_url(ccm.environment["REDIS_URL"]) as valkey:
                yield Range(ccm, faulty, other, key, valkey)
