"""The official SDK as the client of CCM: what it makes of an answer, by its own types."""

from typing import Any

import httpx2
from anthropic import Anthropic
from anthropic.lib.streaming._beta_messages import accumulate_event
from anthropic.types.beta import BetaMessage, BetaRawMessageStreamEvent
from pydantic import TypeAdapter

EVENT: TypeAdapter[Any] = TypeAdapter(BetaRawMessageStreamEvent)
MESSAGE = TypeAdapter(BetaMessage)


class Client:
    def __init__(self, url: str, key: str) -> None:
        self._sdk = Anthropic(base_url=url, auth_token=key, max_retries=0, timeout=60)
        self.cost = ""
        """What the latest whole answer cost (USD)."""

    def streamed(self, *, known: bool = True, **body: Any) -> dict[str, Any]:
        """The Message that the SDK puts together from the events; each is one of its union when `known`."""
        snapshot: Any = None
        buffers: dict[int, bytes] = {}
        kinds: list[str] = []
        for event in self._sdk.beta.messages.create(stream=True, **body):
            if known:
                EVENT.validate_python(event.to_dict())
            kinds.append(event.type)
            snapshot = accumulate_event(
                event=event, current_snapshot=snapshot, json_bufs=buffers, request_headers=httpx2.Headers()
            )
        problem = problem_of(kinds)
        assert problem is None, problem
        return dict(snapshot.to_dict())

    def whole(self, *, known: bool = True, **body: Any) -> dict[str, Any]:
        """The Message; one by the SDK's types when `known`."""
        response = self._sdk.beta.messages.with_raw_response.create(stream=False, **body)
        self.cost = response.headers["x-ccm-cost"]
        message = dict(response.parse().to_dict())
        if known:
            MESSAGE.validate_python(message)
        return message


def problem_of(kinds: list[str]) -> str | None:
    """What breaks the rules of Anthropic's streams in the sequence of these events."""
    told = [kind for kind in kinds if kind != "ping"]
    if told[0] != "message_start" or told.count("message_start") != 1:
        return "not one message_start at the beginning"
    if told[-1] != "message_stop" or told[-2] != "message_delta" or told.count("message_stop") != 1:
        return f"no regular end: {told[-2:]}"
    is_open = False
    for kind in told[1:-2]:
        if kind == "content_block_start" and is_open:
            return "a block starts in another one"
        if kind in {"content_block_delta", "content_block_stop"} and not is_open:
            return f"a {kind} outside a block"
        is_open = kind != "content_block_stop" if kind.startswith("content_block") else is_open
    return "a block is left open" if is_open else None
