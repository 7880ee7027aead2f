"""The bedrock wire: Amazon Bedrock's runtime. Claude models are called in Anthropic's own format
(InvokeModel, `native`), all others in Amazon's (Converse, the `converse_*` modules), streamed in both
cases as frames (`frames`). What differs between model families stands in one table, `families`.
"""

from providers.wire.bedrock.wire import BedrockWire

__all__ = ["BedrockWire"]
