"""OpenAI's clients at the door: Chat Completions and Responses, through the same pipeline.

A request is translated into a MessagesRequest when its body has been read (`chat_request`,
`responses_request`), and what the pipeline sends, Anthropic's events, is rendered on its way out
(`chat_answer`, `responses_answer`). `exchange` is where both are hooked in: the pipeline itself
knows nothing of it, and requests to /v1/messages never come here.
"""
