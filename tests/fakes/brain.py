"""What decides a fake provider's answers: brains, which see a request in no wire's terms."""

import re
import shlex
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.answers import Answer, Block, Failure, Reply, Text, Thinking, Tokens, ToolUse


@dataclass(frozen=True)
class Call:
    """A tool call in the conversation's history, with its result once there is one."""

    id: str
    name: str
    input: Mapping[str, Any]
    result: str | None = None


@dataclass(frozen=True)
class Conversation:
    """A request as both wires can tell it.

    `user` holds the texts of user turns and, on wires that merge them there, of mid-conversation
    system messages; tool results stand with their calls."""

    model: str
    system: str
    user: tuple[str, ...]
    assistant: tuple[str, ...]
    calls: tuple[Call, ...]
    tools: tuple[str, ...]
    """Names of the tools that can be called now, without deferred ones."""
    streamed: bool
    max_tokens: int | None
    size: int = 0
    """Bytes of the request's body."""

    @property
    def text(self) -> str:
        return "\n".join(self.user)

    def called(self, name: str) -> list[Call]:
        return [call for call in self.calls if call.name == name]


Brain = Callable[[Conversation], Answer]


def always(answer: Answer) -> Brain:
    return lambda conversation: answer


def saying(text: str, **options: Any) -> Brain:
    return always(Reply(blocks=[Text(text)], **options))


class InOrder:
    """One answer a request, in order; the last one for all that follow."""

    def __init__(self, *answers: Answer) -> None:
        self._answers = list(answers)
        self._lock = threading.Lock()

    def __call__(self, conversation: Conversation) -> Answer:
        with self._lock:
            return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


SESSION_MARK = "CODING-SESSION"
SUBAGENT_MARK = "SUBAGENT-TASK"
REPORT = re.compile(r"SUBAGENT-REPORT\[([^\]]*)\]")
DONE = "CODING-SESSION-DONE"


def session_prompt(file: str) -> str:
    """The prompt that makes Claude Code and `CodingSession` work together on `file`."""
    return f"{SESSION_MARK} file={shlex.quote(file)}"


@dataclass
class CodingSession:
    """Plays a model that codes: reads the file, runs two tools at once, loads a deferred tool where
    the client defers any, starts a subagent (which runs a tool of its own), waits for its report,
    and ends with a text that quotes everything it has learnt.

    It keeps no state: each request is answered from what it holds, as by a real model.
    `subagent_model` puts a model tag at the head of the subagent's prompt."""

    subagent_model: str = ""
    thinking: bool = True
    steps: list[str] = field(default_factory=list)
    """The steps taken, in order, for tests to look at."""

    def __call__(self, conversation: Conversation) -> Answer:
        if SUBAGENT_MARK in conversation.text and SESSION_MARK not in conversation.text:
            return self._subagent(conversation)
        if SESSION_MARK in conversation.text:
            return self._main(conversation)
        return self._reply("other", conversation, [Text("Nothing to do here.")])

    def _reply(self, step: str, conversation: Conversation, blocks: Sequence[Block]) -> Reply:
        self.steps.append(step)
        new = max(1, conversation.size // 40)
        known = max(0, len(conversation.calls) * 200)
        return Reply(blocks=blocks, tokens=Tokens(input=new, output=30 + len(self.steps), cache_read=known))

    def _main(self, conversation: Conversation) -> Reply:
        file = _file(conversation)
        read, bash = conversation.called("Read"), conversation.called("Bash")
        if not read:
            return self._step_read(conversation, file)
        if not bash:
            return self._step_tools(conversation, file)
        if "ToolSearch" in conversation.tools and not conversation.called("ToolSearch"):
            query = {"query": "select:CronList,NotebookEdit", "max_results": 5}
            return self._reply("search", conversation, [Text("I need another tool."), ToolUse("ToolSearch", query)])
        if "CronList" in conversation.tools and not conversation.called("CronList"):
            return self._reply("loaded", conversation, [ToolUse("CronList", {})])
        if not conversation.called("Agent"):
            return self._step_agent(conversation)
        report = subagent_report(conversation)
        if report is None:
            return self._reply("waiting", conversation, [Text("The agent is still at work.")])
        words = [DONE, shown(read[0]), *(shown(call) for call in bash), f"report={report}"]
        return self._reply("final", conversation, [Text(" | ".join(words))])

    def _step_read(self, conversation: Conversation, file: str) -> Reply:
        blocks: list[Block] = [Text("I will read the file."), ToolUse("Read", {"file_path": file})]
        if self.thinking:
            blocks.insert(0, Thinking("The file has to be read first. Then I can go on."))
        return self._reply("read", conversation, blocks)

    def _step_tools(self, conversation: Conversation, file: str) -> Reply:
        count = ToolUse("Bash", {"command": f"wc -c < {shlex.quote(file)}", "description": "Count bytes"})
        product = ToolUse("Bash", {"command": "echo product-$((6*7))", "description": "Multiply"})
        return self._reply("tools", conversation, [Text("Two commands at once."), count, product])

    def _step_agent(self, conversation: Conversation) -> Reply:
        tag = f"<CCM-SUBAGENT-MODEL>{self.subagent_model}</CCM-SUBAGENT-MODEL>" if self.subagent_model else ""
        prompt = f"{tag}{SUBAGENT_MARK}: run the command and report what it prints."
        task = {"description": "run one command", "prompt": prompt, "subagent_type": "general-purpose"}
        return self._reply("agent", conversation, [Text("An agent shall help."), ToolUse("Agent", task)])

    def _subagent(self, conversation: Conversation) -> Reply:
        done = conversation.called("Bash")
        if not done:
            call = ToolUse("Bash", {"command": "echo agent-$((7*9))", "description": "Multiply"})
            return self._reply("subagent tool", conversation, [call])
        return self._reply("subagent report", conversation, [Text(f"SUBAGENT-REPORT[{shown(done[0])}]")])


def _file(conversation: Conversation) -> str:
    found = re.search(rf"{SESSION_MARK} file=([^\n]+)", conversation.text)
    assert found is not None
    return shlex.split(found[1])[0]


def shown(call: Call) -> str:
    """A tool's result on one line."""
    return " ".join((call.result or "no result").split())


def subagent_report(conversation: Conversation) -> str | None:
    """What the agent said, in the Agent tool's result or in a later notification."""
    results = [call.result or "" for call in conversation.called("Agent")]
    found = REPORT.search("\n".join([*results, *conversation.user]))
    return found[1] if found else None


def by_model(brains: Mapping[str, Brain]) -> Brain:
    """Each model has its own brain; an unknown model is answered 404, as a provider does."""

    def answer(conversation: Conversation) -> Answer:
        brain = brains.get(conversation.model)
        return brain(conversation) if brain else Failure(404, f"model: {conversation.model}", type="not_found_error")

    return answer
