"""The wires by name. A provider's kind, or the operator's override, names one of them."""

from providers.wire.anthropic import AnthropicWire
from providers.wire.base import Wire
from providers.wire.bedrock import BedrockWire
from providers.wire.cohere import CohereWire
from providers.wire.gemini import GeminiWire
from providers.wire.openai_chat import OpenAIChatWire
from providers.wire.openai_responses import OpenAIResponsesWire
from providers.wire.vertex import VertexWire

_ALL: tuple[Wire, ...] = (
    AnthropicWire(), OpenAIChatWire(), OpenAIResponsesWire(), GeminiWire(), VertexWire(), CohereWire(), BedrockWire(),
)  # fmt: skip
WIRES: dict[str, Wire] = {wire.name: wire for wire in _ALL}
