"""The gemini wire: Google's generateContent, at the Gemini Developer API and at Vertex AI.

`request` turns a MessagesRequest into theirs (`contents`, `media`, `tools`, `schema`, `thinking`,
`search` hold its parts); `stream` and `response` turn their answer into Anthropic's, both through
`answer`. What differs between models stands in `providers.families`.
"""

from providers.wire.gemini.wire import GeminiWire

__all__ = ["GeminiWire"]
