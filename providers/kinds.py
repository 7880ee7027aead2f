"""The kinds of provider: one row each, with what is the same for every customer of it.

A provider row in the database names its kind and may override the base URL and the wire.
Sources: seed-systems 1.4 and translation 2 of the design references. A new provider that
speaks a wire we have is one row here.
"""

from dataclasses import dataclass
from typing import Literal

Auth = Literal["x-api-key", "api-key", "bearer", "x-goog-api-key", "google-oauth", "aws", "none"]


@dataclass(frozen=True, slots=True)
class Kind:
    """`base_url` is the default, "" when every installation has its own. `auth` says how the
    credential is sent, on the kind's own wire; a provider without one is called without that header.
    aws: an access key that signs requests, or a Bedrock API key (`providers.aws`).
    `wire` is a name in `providers.wire.registry.WIRES`; `note` is shown to operators. `counts_tokens`:
    it tells free of charge how many tokens a request has, and is asked unless the provider's row says no."""

    name: str
    label: str
    base_url: str
    auth: Auth
    wire: str
    note: str = ""
    counts_tokens: bool = False


DEMO = "demo"

_ROWS = (
    Kind("anthropic", "Anthropic", "https://api.anthropic.com", "x-api-key", "anthropic", counts_tokens=True),
    Kind(
        "openai",
        "OpenAI",
        "https://api.openai.com/v1",
        "bearer",
        "openai_chat",
        "With the wire openai_responses: reasoning is kept between turns, tools with effort, web search.",
    ),
    Kind(
        "azure",
        "Azure OpenAI",
        "",
        "api-key",
        "openai_responses",
        "The v1 endpoint: https://RESOURCE.openai.azure.com/openai/v1. The model is the deployment's name.",
    ),
    Kind("openrouter", "OpenRouter", "https://openrouter.ai/api/v1", "bearer", "openai_chat"),
    Kind(
        "z.ai",
        "Z.ai (GLM)",
        "https://api.z.ai/api/anthropic",
        "x-api-key",
        "anthropic",
        "Anthropic format. The OpenAI format is at https://api.z.ai/api/paas/v4.",
    ),
    Kind(
        "kimi",
        "Kimi for Coding",
        "https://api.kimi.com/coding",
        "x-api-key",
        "anthropic",
        "The coding plan, in Anthropic format. For the Moonshot platform use the kind moonshot.",
    ),
    Kind("minimax", "MiniMax", "https://api.minimax.io/anthropic", "x-api-key", "anthropic", "Anthropic format."),
    Kind("zenmux", "ZenMux", "https://zenmux.ai/api/anthropic", "x-api-key", "anthropic", "Anthropic format."),
    Kind(
        "deepseek",
        "DeepSeek",
        "https://api.deepseek.com/v1",
        "bearer",
        "openai_chat",
        "The Anthropic format is at https://api.deepseek.com/anthropic (wire anthropic).",
    ),
    Kind(
        "moonshot",
        "Moonshot AI",
        "https://api.moonshot.ai/v1",
        "bearer",
        "openai_chat",
        "Accounts of the Chinese platform use https://api.moonshot.cn/v1.",
    ),
    Kind("groq", "Groq", "https://api.groq.com/openai/v1", "bearer", "openai_chat"),
    Kind("together", "Together AI", "https://api.together.xyz/v1", "bearer", "openai_chat"),
    Kind("fireworks", "Fireworks AI", "https://api.fireworks.ai/inference/v1", "bearer", "openai_chat"),
    Kind("mistral", "Mistral AI", "https://api.mistral.ai/v1", "bearer", "openai_chat"),
    Kind(
        "xai",
        "xAI",
        "https://api.x.ai/v1",
        "bearer",
        "openai_chat",
        "Web search works with the wire openai_responses only.",
    ),
    Kind("cerebras", "Cerebras", "https://api.cerebras.ai/v1", "bearer", "openai_chat"),
    Kind("deepinfra", "DeepInfra", "https://api.deepinfra.com/v1/openai", "bearer", "openai_chat"),
    Kind("novita", "Novita AI", "https://api.novita.ai/v3/openai", "bearer", "openai_chat"),
    Kind("nebius", "Nebius", "https://api.studio.nebius.ai/v1", "bearer", "openai_chat"),
    Kind("baseten", "Baseten", "https://inference.baseten.co/v1", "bearer", "openai_chat"),
    Kind(
        "gemini",
        "Google Gemini",
        "https://generativelanguage.googleapis.com/v1beta",
        "x-goog-api-key",
        "gemini",
        "The OpenAI format is at https://generativelanguage.googleapis.com/v1beta/openai (wire openai_chat).",
        counts_tokens=True,
    ),
    Kind(
        "vertex",
        "Google Vertex AI",
        "",
        "google-oauth",
        "vertex",
        "Base URL: https://LOCATION-aiplatform.googleapis.com/v1/projects/PROJECT/locations/LOCATION (for the location "
        "global: https://aiplatform.googleapis.com/…). Secret: a service account's JSON key. Gemini and Claude models.",
        counts_tokens=True,
    ),
    Kind(
        "bedrock",
        "Amazon Bedrock",
        "https://bedrock-runtime.us-east-1.amazonaws.com",
        "aws",
        "bedrock",
        "Put your region into the base URL. Secret: a Bedrock API key, or an access key as JSON with access_key_id and "
        "secret_access_key. Model names are Bedrock's, with a region's prefix (us.anthropic.…) where it asks for one.",
        counts_tokens=True,
    ),
    Kind("cohere", "Cohere", "https://api.cohere.com", "bearer", "cohere"),
    Kind(
        "ollama",
        "Ollama",
        "http://127.0.0.1:11434/v1",
        "bearer",
        "openai_chat",
        "A server of your own; needs no key. Set its context length on the server: it truncates silently.",
    ),
    Kind(
        "vllm",
        "vLLM",
        "http://127.0.0.1:8001/v1",
        "bearer",
        "openai_chat",
        "A server of your own; start it with --enable-auto-tool-choice for tools.",
    ),
    Kind(
        "litellm",
        "LiteLLM proxy",
        "http://127.0.0.1:4000",
        "bearer",
        "anthropic",
        "A proxy of your own, called in Anthropic format, which keeps thinking signatures.",
    ),
    Kind("anthropic-compatible", "Anthropic-compatible", "", "x-api-key", "anthropic", "Set the base URL."),
    Kind("openai-compatible", "OpenAI-compatible", "", "bearer", "openai_chat", "Set the base URL (it ends in /v1)."),
    Kind(DEMO, "Demo", "demo:", "none", "anthropic", "Answers in this process; needs no key and calls nobody."),
)

KINDS: dict[str, Kind] = {kind.name: kind for kind in _ROWS}
