"""The table of kinds is complete and consistent."""

from typing import get_args
from urllib.parse import urlsplit

import pytest

from providers.kinds import DEMO, KINDS, Auth, Kind
from providers.wire.registry import WIRES

ASKED_FOR = (
    "anthropic openai openrouter z.ai kimi minimax deepseek groq together fireworks mistral xai cerebras deepinfra "
    "novita nebius baseten zenmux moonshot gemini vertex azure bedrock cohere ollama vllm litellm "
    "anthropic-compatible openai-compatible demo"
)


def test_every_kind_a_customer_knows_is_there() -> None:
    assert set(ASKED_FOR.split()) == set(KINDS)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_kind_is_usable(kind: Kind) -> None:
    assert KINDS[kind.name] is kind
    assert kind.label
    assert kind.wire in WIRES
    if kind.name == DEMO:
        assert kind.auth == "none"
        return
    assert kind.auth in get_args(Auth)
    if kind.base_url:
        url = urlsplit(kind.base_url)
        assert url.scheme == "https" or url.hostname == "127.0.0.1"
        assert not kind.base_url.endswith("/")


def test_every_wire_exists() -> None:
    from providers.wire.registry import WIRES

    assert {kind.wire for kind in KINDS.values()} <= set(WIRES)
    assert all(name == wire.name for name, wire in WIRES.items())
