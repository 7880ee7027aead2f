"""The cohere wire: Cohere's Chat API, version 2.

`request` turns a MessagesRequest into their request (`messages` and `sources` hold its parts),
`stream` and `response` turn their answer into Anthropic's, both through `answer`.
"""

from providers.wire.cohere.wire import CohereWire

__all__ = ["CohereWire"]
