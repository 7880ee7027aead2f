"""Whether every request is accounted for and charged what it must be. Pure.

What a charge may be:

* Nothing, unless a provider generated content for the request.
* An answer that the client has whole: exactly its usage, in nanos. Where the provider told none, the input
  is the gateway's estimate and the output is counted, four characters a token, rounded up once.
* An answer that was cut, wherever: at least what the client has received and at most what the provider has
  generated, both counted so; or exactly its usage, where the provider had told it before the cut. A counted
  output is never above what was reserved.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.answers import Reply, Text, Tokens
from tests.fakes.server import Received
from tests.faults import traffic
from tests.faults.load import Sent

UNFINISHED = {"open", "dispatched", "needs_settlement"}


@dataclass(frozen=True)
class Served:
    """What a provider did for a request: so many words generated, the usage that it told in the end."""

    provider: str
    tag: str
    words: int
    complete: bool
    tokens: Tokens | None

    @classmethod
    def of(cls, provider: str, received: Received) -> "Served":
        plan = traffic.plan_of(received.raw.decode().replace('\\"', '"'))
        reply = received.answer
        if not isinstance(reply, Reply):
            return cls(provider, plan.tag, 0, False, None)
        words = sum(block.pieces for block in reply.blocks if isinstance(block, Text))
        if not received.complete:
            words = min(words, max(0, received.sent - traffic.LEADING_EVENTS[provider]))
        return cls(provider, plan.tag, words, received.complete, reply.tokens)


@dataclass
class Report:
    """`violations` is empty when all is well; `outcomes` counts what became of the requests."""

    violations: list[str] = field(default_factory=list)
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    totals: dict[str, int] = field(default_factory=dict)


def verify(
    sent: Sequence[Sent],
    served: Iterable[Served],
    books: Mapping[str, Sequence[Mapping[str, Any]]],
    granted: Mapping[str, int],
) -> Report:
    """`granted`: nanos by e-mail address of the customer."""
    report = Report()
    by_tag: dict[str, list[Served]] = defaultdict(list)
    for each in served:
        by_tag[each.tag].append(each)
    holds: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for hold in books["holds"]:
        holds[hold["tag"]].append(hold)
    usage = {record["request_id"]: record for record in books["usage"]}
    for request in sent:
        tag = request.plan.tag
        own = holds.pop(tag, [])
        records = [usage.pop(hold["id"]) for hold in own if hold["id"] in usage]
        for wrong in request_violations(request, by_tag.pop(tag, []), own, records):
            report.violations.append(f"{tag} ({request.plan.kind}, {request.outcome}): {wrong}")
        report.outcomes[request.outcome, _accounted(own, records)] += 1
    report.violations += [f"hold {hold['id']}: nobody sent {tag!r}" for tag, own in holds.items() for hold in own]
    report.violations += [f"usage record {id_} belongs to no hold" for id_ in usage]
    report.violations += [f"a provider served {tag!r}, which nobody sent" for tag in by_tag]
    report.violations += wallet_violations(books, granted)
    report.totals = {
        "requests sent": len(sent),
        "holds": len(books["holds"]),
        "usage records": len(books["usage"]),
        "nanos charged": sum(record["charge"] for record in books["usage"]),
    }
    return report


def _accounted(holds: Sequence[Mapping[str, Any]], records: Sequence[Mapping[str, Any]]) -> str:
    if not holds:
        return "no hold was made"
    if records and records[0]["charge"]:
        return f"charged ({records[0]['usage_source']})"
    return str(holds[0]["state"])


def request_violations(
    sent: Sent, served: Sequence[Served], holds: Sequence[Mapping[str, Any]], records: Sequence[Mapping[str, Any]]
) -> list[str]:
    if len(holds) > 1:
        return [f"{len(holds)} holds for one request"]
    if sent.stops > 1:
        return ["the client was told the end twice"]
    if not holds:
        if sent.status == 200:
            return ["answered without a hold"]
        return ["a provider was asked without a hold"] if served else []
    (hold,) = holds
    if hold["state"] in UNFINISHED:
        return [f"its hold was left {hold['state']}"]
    if sent.request_id and sent.request_id != hold["id"]:
        return [f"the client was told {sent.request_id}, its hold is {hold['id']}"]
    if not records:
        return [] if hold["state"] == "expired" else [f"{hold['state']} without a usage record"]
    charge = records[0]["charge"]
    if charge != hold["captured"]:
        return [f"{charge} on its usage record, {hold['captured']} captured"]
    if sent.cost and sent.complete and nanos(sent.cost) != charge:
        return [f"the client was told {sent.cost}, charged were {charge} nanos"]
    return charge_violations(sent, served, hold["max_tokens"], charge)


def nanos(dollars: str) -> int:
    whole, _, fraction = dollars.partition(".")
    return int(whole) * 10**9 + int(fraction.ljust(9, "0"))


def charge_violations(sent: Sent, served: Sequence[Served], max_tokens: int, charge: int) -> list[str]:
    generated = max((each.words for each in served), default=0)
    if charge and not generated:
        return [f"charged {charge} for an answer that no provider gave"]
    exact = [exact_charge(each, sent.body_bytes) for each in served if each.complete]
    if sent.complete:
        return [] if charge in exact else [f"charged {charge} instead of {exact} for the whole answer"]
    if charge in exact:
        return []
    inputs = [told for each in served for told in inputs_told(each, sent.body_bytes)] or [(0, 0)]
    least_output, most_output = min(traffic.counted(sent.words), max_tokens), traffic.counted(generated)
    least = 0
    if sent.words:
        least = min(traffic.charge(new=new, cache_read=read, output=least_output) for new, read in inputs)
    most = max(traffic.charge(new=new, cache_read=read, output=most_output) for new, read in inputs)
    if not generated:
        most = 0
    if least <= charge <= most:
        return []
    return [f"charged {charge}, not within {least} (received) and {most} (generated), nor {exact}"]


def exact_charge(served: Served, body_bytes: int) -> int:
    if served.tokens is None:
        return traffic.charge(new=traffic.estimated_input(body_bytes), output=traffic.counted(served.words))
    told = served.tokens
    return traffic.charge(new=told.input, output=told.output, cache_read=told.cache_read)


def inputs_told(served: Served, body_bytes: int) -> list[tuple[int, int]]:
    """What the gateway may take for the (new, cached) input of a cut answer: Anthropic tells it at the
    start of a stream, OpenAI at the end."""
    told = [] if served.tokens is None else [(served.tokens.input, served.tokens.cache_read)]
    return told if served.provider == "anthropic" and told else [*told, (traffic.estimated_input(body_bytes), 0)]


def wallet_violations(books: Mapping[str, Sequence[Mapping[str, Any]]], granted: Mapping[str, int]) -> list[str]:
    """Each wallet is what was granted less what was charged, and nothing is held any more."""
    charged: Counter[int] = Counter()
    for record in books["usage"]:
        charged[record["organization_id"]] += record["charge"]
    wrong = []
    for wallet in books["wallets"]:
        given = granted.get(wallet["email"], 0)
        left = given - charged[wallet["organization_id"]]
        if wallet["granted"] != given:
            wrong.append(f"{wallet['email']}: {wallet['granted']} granted instead of {given}")
        if wallet["posted"] - wallet["debt"] != left:
            wrong.append(f"{wallet['email']}: {wallet['posted'] - wallet['debt']} left instead of {left}")
        if wallet["held"]:
            wrong.append(f"{wallet['email']}: {wallet['held']} still held")
    return wrong
