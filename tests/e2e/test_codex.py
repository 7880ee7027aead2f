"""OpenAI's Codex works through CCM's Responses API, on any wire behind it."""

import shlex
from pathlib import Path

import pytest

from tests.e2e import clients
from tests.fakes.answers import Answer, Reply, Text, Tokens, ToolUse
from tests.fakes.brain import Conversation, shown
from tests.world import PRICES, World

MARK = "CODEX-TASK"


class Coder:
    """Plays a model that reads a file, writes another one, and says what it has read."""

    def __call__(self, conversation: Conversation) -> Answer:
        if MARK not in conversation.text:
            return Reply(blocks=[Text("Nothing to do here.")])
        done = [call for call in conversation.calls if call.result is not None]
        commands = ["cat notes.txt", "echo marzipan > answer.txt && echo written"]
        tokens = Tokens(input=100 + len(done), output=10, cache_read=40)
        if len(done) < len(commands):
            call = shell_call(conversation.tools, commands[len(done)])
            return Reply(blocks=[Text("Working."), call], tokens=tokens)
        return Reply(blocks=[Text(f"CODEX-DONE[{' | '.join(map(shown, done))}]")], tokens=tokens)


def shell_call(tools: tuple[str, ...], command: str) -> ToolUse:
    """A call of the shell tool that this version of Codex has."""
    if "exec_command" in tools:
        return ToolUse("exec_command", {"cmd": command})
    if "shell_command" in tools:
        return ToolUse("shell_command", {"command": command})
    if "shell" in tools:
        return ToolUse("shell", {"command": ["bash", "-lc", command]})
    raise AssertionError(f"no shell among {shlex.join(tools)}")


@pytest.mark.parametrize("provider", ["anthropic", "openai"])
def test_codex_reads_writes_and_reports(world: World, codex: Path, provider: str, folder: Path, email: str) -> None:
    fake = world.fake(provider)
    fake.clear()
    fake.brain = Coder()
    key = world.ccm.create_key(email)
    outcome = clients.run_codex(codex, MARK, folder=folder, url=world.ccm.url, key=key, model=f"{provider}-model")
    assert fake.violations == [], outcome
    assert outcome.status == 0, outcome
    assert outcome.text.startswith("CODEX-DONE["), outcome
    assert "the secret word is marzipan" in outcome.text
    assert (folder / "answer.txt").read_text() == "marzipan\n"
    records = world.ccm.usage_records(email)
    assert len(records) >= 3
    assert all(record["status"] == 200 and record["model"] == f"{provider}-model" for record in records)
    for record in records:
        assert record["charge"] == sum(record[f"{kind}_tokens"] * price for kind, price in PRICES.items())
