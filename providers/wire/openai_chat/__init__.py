"""The openai_chat wire: OpenAI's Chat Completions and the many servers that copy them.

`request` turns a MessagesRequest into their request (`messages`, `tools`, `reasoning` hold its
parts), `stream` and `response` turn their answer into Anthropic's, both through `assembler`.
What differs between providers stands in one table, `quirks`.
"""

from providers.wire.openai_chat.wire import OpenAIChatWire

__all__ = ["OpenAIChatWire"]
