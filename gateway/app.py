"""The gateway as a plain ASGI app: `/v1/*`, beside Django in the same process (decision 2)."""

import asyncio
import re
from collections.abc import MutableMapping
from typing import Any

import structlog

from gateway import metrics
from gateway.errors import GatewayError, as_gateway_error, not_found
from gateway.exchange import Exchange, Receive, Send
from gateway.models_list import serve_model, serve_models
from gateway.openai.exchange import exchange_for
from gateway.pipeline import serve_count_tokens, serve_messages
from gateway.runtime import Runtime

log = structlog.get_logger("ccm.gateway")

# A base URL that wrongly ends in /v1 makes the client ask for /v1/v1/messages: served as well.
DOUBLED = re.compile(r"^/v1(?=/v1(?:/|$))")


class Gateway:
    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        path = DOUBLED.sub("", scope["path"]).rstrip("/")
        exchange = exchange_for(path, scope, receive, send)
        try:
            await self._dispatch(exchange, path)
        except asyncio.CancelledError:
            if not exchange.disconnected:
                raise
        except Exception as error:
            await self._answer_error(exchange, error)
        finally:
            if exchange.recording is not None:
                self.runtime.texts.keep(exchange.recording)

    async def _dispatch(self, exchange: Exchange, path: str) -> None:
        match exchange.method, path:
            case "POST", ("/v1/messages" | "/v1/chat/completions" | "/v1/responses"):
                await serve_messages(exchange, self.runtime)
            case "POST", "/v1/messages/count_tokens":
                await serve_count_tokens(exchange, self.runtime)
            case (("GET" | "HEAD"), "/v1/models"):
                await serve_models(exchange, self.runtime)
            case (("GET" | "HEAD"), _) if path.startswith("/v1/models/"):
                await serve_model(exchange, self.runtime, path.removeprefix("/v1/models/"))
            case "HEAD", _:
                await exchange.answer(200, b"")
            case _, ("/v1/messages" | "/v1/messages/count_tokens" | "/v1/chat/completions" | "/v1/responses"):
                raise GatewayError(405, "invalid_request_error", f"{exchange.path} takes POST.", should_retry=False)
            case _:
                raise not_found(
                    f"{exchange.method} {exchange.path[:100]} does not exist here. "
                    "CCM serves POST /v1/messages, POST /v1/messages/count_tokens, POST /v1/chat/completions, "
                    "POST /v1/responses and GET /v1/models."
                )

    async def _answer_error(self, exchange: Exchange, error: Exception) -> None:
        answer = as_gateway_error(error)
        if answer.status >= 500 and not isinstance(error, GatewayError):
            log.error("request_failed", request_id=exchange.request_id, code=answer.code, exc_info=error)
        metrics.refusal(answer.status, answer.code)
        if exchange.started:
            return  # the connection is closed without a false end, and the client sees the cut
        await exchange.answer_error(answer)
