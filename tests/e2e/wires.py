"""One CCM with a fake provider behind it on every wire, and the model that works with Claude Code through it."""

import base64
import json
import struct
import zlib
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.fakes.answers import Answer, Failure, Reply, Text, ToolUse, WebSearch
from tests.fakes.anthropic import fake_anthropic
from tests.fakes.bedrock import ACCESS_KEY, fake_bedrock
from tests.fakes.brain import SESSION_MARK, CodingSession, Conversation, shown, subagent_report
from tests.fakes.cohere import fake_cohere
from tests.fakes.google import fake_gemini
from tests.fakes.openai import fake_openai
from tests.fakes.responses import fake_responses
from tests.fakes.search import KEY, FakeEngine
from tests.fakes.server import FakeProvider
from tests.world import PROVIDER, World

QUERY = "marzipan museum"
FOUND = ("The marzipan museum", "https://museum.example/marzipan")
PLAN_MARK = "PLAN-TASK"
AGAIN_MARK = "GO-ON-TASK"
AUTO_MARK = "AUTO-TASK"
COMPACT_WORDS = "Respond with TEXT ONLY"
SUMMARY = "The plan was to bake marzipan bread."
SUMMARIZED = f"<analysis>-</analysis><summary>{SUMMARY}</summary>"
IMAGE, DOCUMENT = "picture.png", "paper.pdf"


def overflow(message: str, kind: str = "invalid_request_error") -> Failure:
    return Failure(400, message, type=kind)


ANTHROPIC_OVERFLOW = overflow("prompt is too long: 210000 tokens > 200000 maximum")


@dataclass(frozen=True)
class Way:
    """How one of the wires is served. `overflow` is what its provider says when the context window is full;
    `reads_pdf`, whether it gets a PDF as it is; `searches`, whether it searches the web itself."""

    name: str
    kind: str
    fake: Callable[[], FakeProvider]
    overflow: Failure
    wire: str = ""
    secret: str = "secret-of-the-wire"
    model: str = ""
    agent: str = ""
    reads_pdf: bool = True
    searches: bool = False

    def config(self, url: str) -> str:
        told = PROVIDER.format(name=self.name, kind=self.kind, url=url)
        told = told.replace(f'"secret-of-{self.name}"', f"'{self.secret}'")
        if self.wire:
            told = told.replace("\n[[models]]", f'\nwire = "{self.wire}"\n[[models]]', 1)
        told = told.replace(f'"{self.name}-actual"', f'"{self.model or f"{self.name}-actual"}"')
        return told.replace(f'"{self.name}-agent-actual"', f'"{self.agent or f"{self.name}-agent-actual"}"')


WAYS = {
    way.name: way
    for way in (
        Way("anthropic", "anthropic", fake_anthropic, ANTHROPIC_OVERFLOW, searches=True),
        Way(
            "chat",
            "openai-compatible",
            fake_openai,
            overflow(
                "This model's maximum context length is 200000 tokens. However, your messages resulted in 210000 "
                "tokens. Please reduce the length of the messages."
            ),
            reads_pdf=False,
        ),
        Way(
            "responses",
            "openai",
            fake_responses,
            overflow("Your input exceeds the context window of this model. Please adjust your input and try again."),
            wire="openai_responses",
            searches=True,
        ),
        Way(
            "gemini",
            "gemini",
            fake_gemini,
            overflow("The input token count (210000) exceeds the maximum number of tokens allowed (200000)."),
            model="gemini-3-pro",
            agent="gemini-3-flash",
            searches=True,
        ),
        Way(
            "cohere",
            "cohere",
            fake_cohere,
            overflow("too many tokens: total number of tokens in the prompt cannot exceed 200000 - received 210000."),
            model="command-a-vision-07-2025",
            agent="command-a-03-2025",
            reads_pdf=False,
        ),
        Way(
            "converse",
            "bedrock",
            fake_bedrock,
            overflow("Input is too long for requested model."),
            secret=json.dumps(ACCESS_KEY),
            model="us.amazon.nova-pro-v1:0",
            agent="openai.gpt-oss-120b-1:0",
        ),
        Way(
            "invoke",
            "bedrock",
            fake_bedrock,
            ANTHROPIC_OVERFLOW,
            secret=json.dumps(ACCESS_KEY),
            model="us.anthropic.claude-sonnet-4-6-v1:0",
            agent="us.anthropic.claude-haiku-4-5-v1:0",
        ),
    )
}


CUSTOMERS = 8
"""Of each way: as many as tests use, for each client."""
MAKE_CUSTOMERS = """
import json
from accounts.services import create_key
from credits.services import grant, open_account
from providers.models import RouterProfile
made = []
for way in %r:
    for number in range(%d):
        email = f"{way}-{number}@example.com"
        account = open_account(email=email, organization_name="")
        grant(account.organization.pk, 100 * 10**9, reason="tests", idempotency_key=email)
        model, agent = f"{way}-model", f"{way}-agent"
        routes = dict(safety="judge-model", default=model, websearch=model, think=agent)
        RouterProfile.objects.create(scope="organization", organization_id=account.organization.pk, **routes)
        key = create_key(organization=account.organization, name="e2e", created_by=account.user)
        made.append([way, email, key.secret])
print(json.dumps(made))
"""


class WiredWorld(World):
    """A World with a provider for each of WAYS, a search engine, and the model that judges tool calls."""

    def __init__(self, engine: FakeEngine) -> None:
        settings = {"CCM_SEARCH_BACKEND": engine.name, "CCM_SEARCH_URL": engine.url, "CCM_SEARCH_KEY": KEY}
        super().__init__(settings=settings)
        self._more = ExitStack()
        self.fakes: dict[str, FakeProvider] = {}
        self._customers: dict[str, list[tuple[str, str]]] = {}

    def __enter__(self) -> Self:
        super().__enter__()
        with ExitStack() as stack:
            stack.callback(super().__exit__, None, None, None)
            self.fakes = {name: stack.enter_context(way.fake()) for name, way in WAYS.items()}
            self.judge = stack.enter_context(fake_anthropic(judge))
            config = [WAYS[name].config(fake.base_url) for name, fake in self.fakes.items()]
            config.append(PROVIDER.format(name="judge", kind="anthropic-compatible", url=self.judge.base_url))
            self.ccm.import_config("".join(config))
            self._more = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._more.close()

    def customer(self, way: Way) -> tuple[str, str]:
        """The e-mail and the key of a new customer whose work goes over `way`, with its planning on the other
        model. All of them are made at once: a process for each would take longer than the sessions."""
        if not self._customers:
            told: list[list[str]] = json.loads(self.ccm.python(MAKE_CUSTOMERS % (list(WAYS), CUSTOMERS)))
            self._customers = {name: [(email, key) for n, email, key in told if n == name] for name in WAYS}
        email, key = self._customers[way.name].pop()
        self.await_model(key, "claude-opus-5-5", f"{way.name}-model")
        return email, key


def judge(conversation: Conversation) -> Answer:
    """Plays the model that judges tool calls."""
    call = conversation.text[conversation.text.index("<tool_call>") :]
    if "forbidden" in call:
        return Reply(blocks=[Text("<verdict>flagged</verdict><reason>Forbidden files stay.</reason>")])
    return Reply(blocks=[Text("<verdict>not_flagged</verdict>")])


@dataclass
class Tour(CodingSession):
    """A coding session that also looks at a picture and a PDF, and searches the web; plans, is compacted, and
    works in auto mode, in sessions of their own. `folder` holds the files."""

    way: Way = field(default_factory=lambda: WAYS["anthropic"])
    folder: Path = Path()

    def __call__(self, conversation: Conversation) -> Answer:
        if COMPACT_WORDS in conversation.text:
            return self._reply(
                "compaction", conversation, [Text(f"<analysis>-</analysis><summary>{SUMMARY}</summary>")]
            )
        if AGAIN_MARK in conversation.text:
            return self._again(conversation)
        if PLAN_MARK in conversation.text:
            return self._reply("plan", conversation, [Text("PLAN: bake marzipan bread.")])
        if AUTO_MARK in conversation.text:
            return self._auto(conversation)
        if SESSION_MARK not in conversation.text and (QUERY in conversation.text or conversation.called("web_search")):
            return self._search(conversation)
        return super().__call__(conversation)

    def _main(self, conversation: Conversation) -> Reply:
        reads = conversation.called("Read")
        if reads and conversation.called("Bash") and len(reads) < 3:
            files = [ToolUse("Read", {"file_path": str(self.folder / name)}) for name in (IMAGE, DOCUMENT)]
            return self._reply("media", conversation, [Text("A picture and a paper."), *files])
        if len(reads) < 3:
            return super()._main(conversation)
        searches = conversation.called("ToolSearch")
        if "ToolSearch" in conversation.tools and not searches:
            query = {"query": "select:CronList,WebSearch", "max_results": 5}
            return self._reply("search", conversation, [Text("I need other tools."), ToolUse("ToolSearch", query)])
        if not conversation.called("WebSearch"):
            return self._reply("web", conversation, [ToolUse("WebSearch", {"query": QUERY})])
        if not conversation.called("Agent") or subagent_report(conversation) is None:
            return super()._main(conversation)
        told = [shown(call) for call in conversation.calls if call.name in {"Bash", "WebSearch", "Read"}]
        return self._reply(
            "final", conversation, [Text(" | ".join([*told, f"report={subagent_report(conversation)}"]))]
        )

    def _search(self, conversation: Conversation) -> Answer:
        """Plays the model behind the client's WebSearch tool."""
        done = conversation.called("web_search")
        if self.way.searches:
            return self._reply("searched", conversation, [WebSearch(QUERY, [FOUND]), Text("It opened in 1923.")])
        if done and done[-1].result is not None:
            year = "1923" if "1923" in done[-1].result else "unknown"
            return self._reply("searched", conversation, [Text(f"It opened in {year}.")])
        return self._reply("searching", conversation, [ToolUse("web_search", {"query": QUERY})])

    def _again(self, conversation: Conversation) -> Answer:
        if SUMMARY in conversation.text:
            return self._reply("after compaction", conversation, [Text(f"COMPACTED[{SUMMARY}]")])
        self.steps.append("overflow")
        return self.way.overflow

    def _auto(self, conversation: Conversation) -> Answer:
        commands = ["touch made.txt && echo made", "touch forbidden.txt"]
        ran = conversation.called("Bash")
        if len(ran) < len(commands):
            call = ToolUse("Bash", {"command": commands[len(ran)], "description": "Work"})
            return self._reply("auto", conversation, [Text("Working."), call])
        return self._reply("auto end", conversation, [Text(f"AUTO[{' | '.join(map(shown, ran))}]")])


# -- files


def png() -> bytes:
    """A red square."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack("!I", len(data)) + kind + data + struct.pack("!I", zlib.crc32(kind + data))

    size = 32
    rows = b"".join(b"\0" + b"\xff\0\0" * size for _ in range(size))
    head = struct.pack("!IIBBBBB", size, size, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def pdf() -> bytes:
    """An empty page."""
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 99 99]>>",
    ]
    body, places = b"%PDF-1.4\n", []
    for number, text in enumerate(objects, 1):
        places.append(len(body))
        body += b"%d 0 obj%bendobj\n" % (number, text)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    head = b"xref\n0 4\n0000000000 65535 f \n"
    return body + head + table + b"trailer<</Size 4/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % len(body)


def sent(data: bytes) -> bytes:
    """As it stands in a request."""
    return base64.b64encode(data)
