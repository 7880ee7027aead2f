"""What a request of the fault run asks for, what a provider makes of it, and what it must cost. Pure.

Every request carries its plan in its prompt, so that the fake providers need no other channel, and a
tag of its own as its session, so that it is found again in the provider's records and in the books.
"""

import json
import random
import re
from dataclasses import asdict, dataclass
from typing import Any

from tests.fakes.answers import Answer, End, Failure, Reply, Reset, Text, Tokens
from tests.fakes.brain import Brain, Conversation

PROMPT = "FAULT-RUN "
WORD = re.compile(rb"w\d{4} ")
WORD_CHARS = 6
CHARS_PER_TOKEN = 4
"""As gateway.metering counts an answer that has no usage, or was cut: upwards, once an answer."""

PRICE = {"input": 3_075_500_000, "output": 15_033_500_000, "cache_read": 307_500_000}
"""Nano-USD a million tokens, with fractions of a nano a token."""

MODELS = """
[router]
default = "anthropic-model"
[[providers]]
name = "anthropic"
kind = "anthropic-compatible"
base_url = "{anthropic}"
api_key = "a"
[[providers]]
name = "openai"
kind = "openai-compatible"
base_url = "{openai}"
api_key = "o"
"""
MODEL = """
[[models]]
name = "{name}-model"
context_window = 1000000
max_output = 32000
input = "3.0755"
output = "15.0335"
cache_read = "0.3075"
cache_write = "3.75"
"""
MAPPING = """
[[models.mappings]]
provider = "{provider}"
actual_model = "actual"
priority = {priority}
cost = {{ input = "1", output = "5", cache_read = "0.1", cache_write = "1.25" }}
"""
LEADING_EVENTS = {"anthropic": 3, "openai": 1}
"""Events of a stream before its first text."""

STREAMED = {
    "regular": 40, "slow": 25, "zero_usage": 4, "no_usage": 6, "reset": 5, "eof": 4, "error": 5, "error_first": 3,
    "twice": 6, "refused": 3, "reset_first": 3, "fallback": 6,
}  # fmt: skip
"""The kinds of streamed answers, with their weights."""

WHOLE = {"regular": 50, "slow": 15, "zero_usage": 5, "no_usage": 8, "refused": 5, "reset_first": 5, "fallback": 8}
FAULTY = set(STREAMED) - {"regular", "slow"}


def config(anthropic: str, openai: str) -> str:
    """CCM TOML for a model of each provider, and `both-model`, which falls back from the one to the other."""
    parts = [MODELS.format(anthropic=anthropic, openai=openai)]
    for name in ("anthropic", "openai"):
        parts += [MODEL.format(name=name), MAPPING.format(provider=name, priority=1)]
    parts += [
        MODEL.format(name="both"),
        *(MAPPING.format(provider=p, priority=n) for n, p in ((1, "openai"), (2, "anthropic"))),
    ]
    return "".join(parts)


@dataclass(frozen=True)
class Plan:
    """`kind` says how the provider answers; `words` is the length of the answer, `between` the seconds
    between two of them. `leave_after` so many words the client goes away; 0: it stays."""

    tag: str
    kind: str
    model: str
    streamed: bool
    words: int
    between: float
    first_byte_after: float
    leave_after: int
    input: int
    output: int
    cache_read: int
    max_tokens: int

    @property
    def body(self) -> bytes:
        """The request as a client sends it."""
        return json.dumps(
            {
                "model": self.model,
                "max_tokens": self.max_tokens,
                "stream": self.streamed,
                "messages": [{"role": "user", "content": PROMPT + json.dumps(asdict(self))}],
            }
        ).encode()


def make_plan(tag: str, chance: random.Random) -> Plan:
    streamed = chance.random() < 0.7
    kinds = STREAMED if streamed else WHOLE
    (kind,) = chance.choices(list(kinds), list(kinds.values()))
    model = chance.choice(("anthropic-model", "openai-model"))
    if kind == "no_usage":
        model = "openai-model"
    if kind == "fallback":
        model = "both-model"
    slow = kind == "slow"
    words = chance.randint(20, 60) if slow else chance.randint(1, 80)
    return Plan(
        tag=tag,
        kind=kind,
        model=model,
        streamed=streamed,
        words=words,
        between=chance.uniform(0.01, 0.06) if slow else chance.choice((0.0, 0.002)),
        first_byte_after=chance.uniform(0.1, 0.8) if slow else 0.0,
        leave_after=chance.randint(1, words) if streamed and chance.random() < 0.08 else 0,
        input=chance.randint(1, 600),
        output=chance.randint(1, 2 * words),
        cache_read=chance.choice((0, 0, chance.randint(1, 5000))),
        max_tokens=chance.choice((150, 1000, 4000)),
    )


def plan_of(text: str) -> Plan:
    """Raises ValueError when the request is none of ours."""
    start = text.find(PROMPT)
    if start < 0:
        raise ValueError(text[:100])
    fields: dict[str, Any] = json.JSONDecoder().raw_decode(text, start + len(PROMPT))[0]
    return Plan(**fields)


def brain(provider: str) -> Brain:
    return lambda conversation: answer(provider, plan_of(conversation.text), conversation)


def answer(provider: str, plan: Plan, conversation: Conversation) -> Answer:
    """What `provider` says to the request: never more than `max_tokens` allows."""
    most = conversation.max_tokens or plan.max_tokens
    words = max(1, min(plan.words, most * CHARS_PER_TOKEN // WORD_CHARS))
    tokens: Tokens | None = Tokens(input=plan.input, output=min(plan.output, most), cache_read=plan.cache_read)
    half = LEADING_EVENTS[provider] + words // 2
    end, events = End.REGULAR, None
    match plan.kind:
        case "refused":
            return Failure(529, "Overloaded", type="overloaded_error")
        case "reset_first":
            return Reset(after_headers=plan.streamed)
        case "fallback" if provider == "openai":
            return Failure(503, "Down for a moment")
        case "zero_usage":
            tokens = Tokens(input=0, output=0)
        case "no_usage":
            tokens = None
        case "reset":
            end, events = End.RESET, half
        case "eof":
            end, events = End.EOF, half
        case "error":
            end, events = End.ERROR, half
        case "error_first":
            end, events = End.ERROR, LEADING_EVENTS[provider] - 1
        case "twice":
            end = End.TWICE
    return Reply(
        blocks=[Text("".join(f"w{number:04d} " for number in range(words)), pieces=words)],
        tokens=tokens,
        first_byte_after=plan.first_byte_after,
        between=plan.between,
        events=events,
        end=end,
    )


def charge(*, new: int, output: int, cache_read: int = 0) -> int:
    """Nanos for so many new and cached input and output tokens, rounded up once a request."""
    millionths = new * PRICE["input"] + output * PRICE["output"] + cache_read * PRICE["cache_read"]
    return -(-millionths // 10**6)


def counted(words: int) -> int:
    """Output tokens of an answer of so many words that nobody counted."""
    return -(-words * WORD_CHARS // CHARS_PER_TOKEN)


def estimated_input(body_bytes: int) -> int:
    """Input tokens of a request whose provider did not tell (providers.tokens.estimate)."""
    return body_bytes // 3 + 8
