"""The openai_responses wire: OpenAI's Responses API, and the servers that speak it too.

`request` turns a MessagesRequest into their request (`items` the conversation, `search` the web
search), `stream` and `response` turn their answer into Anthropic's, both through `answer` and
`assembler`. Nothing is stored at the provider: what it has thought travels through the client,
encrypted, in our signatures (`reasoning`). Helpers that Chat Completions have too are theirs.
"""

from providers.wire.openai_responses.wire import OpenAIResponsesWire

__all__ = ["OpenAIResponsesWire"]
