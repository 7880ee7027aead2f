"""The newest client's auto mode on another vendor's model: CCM's own safety check answers for it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import clients
from tests.fakes.answers import Answer, Reply, Text, ToolUse
from tests.fakes.brain import Conversation
from tests.world import World

MARK = "SAFETY-RUN"


class Worker:
    """Plays a model that runs one command, then says what came back."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __call__(self, conversation: Conversation) -> Answer:
        if MARK not in conversation.text:
            return Reply(blocks=[Text("Nothing to do here.")])
        ran = conversation.called("Bash")
        if not ran:
            call = ToolUse("Bash", {"command": self.command, "description": "Work"})
            return Reply(blocks=[Text("Working."), call])
        return Reply(blocks=[Text(f"RESULT[{ran[-1].result}]")])


def judge(conversation: Conversation) -> Answer:
    call = conversation.text[conversation.text.index("<tool_call>") :]
    if "forbidden" in call:
        return Reply(blocks=[Text("<verdict>flagged</verdict><reason>Forbidden files stay.</reason>")])
    return Reply(blocks=[Text("<verdict>not_flagged</verdict>")])


@pytest.fixture
def checked(world: World) -> Iterator[World]:
    world.make_default("openai")
    world.ccm.import_config('[router]\ndefault = "openai-model"\nsafety = "anthropic-agent"\n')
    world.anthropic.clear()
    world.openai.clear()
    world.anthropic.brain = judge
    yield world
    world.ccm.import_config('[router]\ndefault = "openai-model"\nsafety = ""\n')


def run(world: World, client: Path, folder: Path, email: str, command: str) -> clients.Outcome:
    world.openai.brain = Worker(command)
    key = world.ccm.create_key(email)
    variables = world.variables(key)
    del variables["CLAUDE_CODE_AUTO_MODE_SERVER"]
    permissions = ("--permission-mode", "auto")
    return clients.run(client, MARK, folder=folder, variables=variables, permissions=permissions)


def test_an_unflagged_call_runs_and_a_flagged_one_is_refused_with_its_reason(
    checked: World, client: Path, folder: Path, email: str
) -> None:
    if "newest" not in client.parts:
        pytest.skip("the older client has no safeguards: it asks the classifier itself")
    ran = run(checked, client, folder, email, "touch made-by-the-agent.txt && echo made")
    assert "RESULT[made" in ran.text, ran
    assert (folder / "made-by-the-agent.txt").exists()
    assert any(b"<tool_call>" in request.raw for request in checked.anthropic.requests)
    assert not any(b"safeguards" in request.raw for request in checked.openai.requests)

    refused = run(checked, client, folder, f"flagged-{email}", "touch forbidden.txt")
    assert "Forbidden files stay." in refused.text, refused
    assert not (folder / "forbidden.txt").exists()
    assert checked.openai.violations == checked.anthropic.violations == []
    routes = [record["route"] for record in checked.ccm.usage_records(email)]
    assert "safety" in routes
