"""A fake Bedrock runtime: Converse and InvokeModel, streamed and not, in Amazon's framing.

Requests are checked by botocore's own model of the service, and by what models refuse on top of it;
signatures are made again with the same key. Claude models (InvokeModel) have the rules of the fake
Anthropic server.
"""

import base64
import functools
import json
import re
from binascii import crc32
from itertools import pairwise
from struct import pack
from typing import Any
from urllib.parse import unquote

from aiohttp import web

from tests.fakes.answers import Failure, Reply, Text, Thinking, Tokens, ToolUse, split, unique
from tests.fakes.anthropic import AnthropicFront
from tests.fakes.brain import Brain, Call, Conversation
from tests.fakes.rules import Refused, require
from tests.fakes.server import FakeProvider, Received

ACCESS_KEY = {"access_key_id": "AKIDFAKE0000", "secret_access_key": "fake/secret+key"}
API_KEY = "bedrock-api-key-fake"
REGION = "us-east-1"
PATH = re.compile(r"/model/([^/]+)/(converse|converse-stream|invoke|invoke-with-response-stream)")
STREAM_TYPE = "application/vnd.amazon.eventstream"
EXCEPTIONS = {
    "overloaded_error": "ServiceUnavailableException",
    "rate_limit_error": "ThrottlingException",
    "invalid_request_error": "ValidationException",
    "not_found_error": "ResourceNotFoundException",
}
INVOKE_KEYS = {
    "anthropic_version", "anthropic_beta", "max_tokens", "messages", "system", "stop_sequences", "temperature", "top_p",
    "top_k", "tools", "tool_choice", "thinking", "output_config", "context_management",
}  # fmt: skip
NO_CACHE_IN_TOOLS = re.compile(r"amazon\.nova")
ALONE = re.compile(r"amazon\.nova|meta\.llama|mistral\.")
NO_STREAMED_TOOLS = re.compile(r"meta\.llama")


class _Paths(tuple[str, ...]):
    """Every path of an operation, whatever the model."""

    __slots__ = ()

    def __contains__(self, path: object) -> bool:
        return isinstance(path, str) and PATH.fullmatch(path) is not None


class BedrockFront:
    """`modelId` and `action` stand in the body here: the server takes them from the path."""

    name = "bedrock"
    base_path = ""
    stream_type = STREAM_TYPE
    paths: tuple[str, ...] = _Paths()

    def __init__(self) -> None:
        self._claude = AnthropicFront()

    def violation(self, body: Any, headers: dict[str, str]) -> str | None:
        leaked = [name for name in headers if name.startswith(("x-ccm-", "anthropic-", "x-claude-", "x-api-key"))]
        if leaked:
            return f"headers of another wire have leaked: {leaked}"
        if not isinstance(body, dict):
            return "Malformed input request, please reformat your input and try again."
        told = {name: value for name, value in body.items() if name not in {"modelId", "action", "stream"}}
        try:
            if "invoke" in body["action"]:
                return self._invoke_violation(told)
            _check_converse(body["modelId"], body["action"], told)
        except Refused as refused:
            return str(refused)
        return None

    def _invoke_violation(self, body: dict[str, Any]) -> str | None:
        for key in sorted(set(body) - INVOKE_KEYS):
            return f"{key}: Extra inputs are not permitted"
        require(body.get("anthropic_version") == "bedrock-2023-05-31", "anthropic_version: Field required")
        told = {name: value for name, value in body.items() if not name.startswith("anthropic_")}
        headers = {"x-api-key": "k", "anthropic-version": "2023-06-01", "content-type": "application/json"}
        return self._claude.violation({"model": "m", **told}, headers)

    def conversation(self, body: dict[str, Any], size: int) -> Conversation:
        if "invoke" in body["action"]:
            return self._claude.conversation({"model": body["modelId"], **body}, size)
        blocks = [(m["role"], block) for m in body["messages"] for block in m["content"]]
        results = {
            block["toolResult"]["toolUseId"]: _texts(block["toolResult"]["content"])
            for _, block in blocks
            if "toolResult" in block
        }
        calls = [block["toolUse"] for _, block in blocks if "toolUse" in block]
        tools = (body.get("toolConfig") or {}).get("tools") or []
        return Conversation(
            model=body["modelId"],
            system=_texts(body.get("system") or []),
            user=tuple(block["text"] for role, block in blocks if role == "user" and "text" in block),
            assistant=tuple(block["text"] for role, block in blocks if role == "assistant" and "text" in block),
            calls=tuple(Call(c["toolUseId"], c["name"], c["input"], results.get(c["toolUseId"])) for c in calls),
            tools=tuple(tool["toolSpec"]["name"] for tool in tools if "toolSpec" in tool),
            streamed=bool(body["stream"]),
            max_tokens=(body.get("inferenceConfig") or {}).get("maxTokens"),
            size=size,
        )

    def events(self, reply: Reply, body: dict[str, Any]) -> list[bytes]:
        if "invoke" in body["action"]:
            events = self._claude.events(reply, {"model": body["modelId"], **body})
            return [chunk(event.partition(b"data: ")[2].strip()) for event in events if b"event: ping" not in event]
        events = [event("messageStart", role="assistant")]
        for index, block in enumerate(reply.blocks):
            events += _block_events(index, block)
            events.append(event("contentBlockStop", contentBlockIndex=index))
        events.append(event("messageStop", stopReason=reply.stop_reason))
        told = {"usage": _usage(reply.tokens)} if reply.tokens is not None else {}
        events.append(event("metadata", metrics={"latencyMs": 1}, **told))
        return events

    def whole(self, reply: Reply, body: dict[str, Any]) -> dict[str, Any]:
        if "invoke" in body["action"]:
            return self._claude.whole(reply, {"model": body["modelId"], **body})
        message = {"role": "assistant", "content": [_whole_block(block) for block in reply.blocks]}
        answer = {"output": {"message": message}, "stopReason": reply.stop_reason, "metrics": {"latencyMs": 1}}
        return answer | ({"usage": _usage(reply.tokens)} if reply.tokens is not None else {})

    def error(self, failure: Failure) -> dict[str, Any]:
        return {"message": failure.message}

    def error_event(self, failure: Failure) -> bytes:
        name = EXCEPTIONS.get(failure.type, "InternalServerException")
        return exception(name[0].lower() + name[1:], failure.message)

    def other(self, method: str, path: str, body: Any) -> dict[str, Any] | None:
        return None


class FakeBedrock(FakeProvider):
    """Knows the access key and the API key above."""

    async def _answer(self, request: web.Request, entry: Received) -> web.StreamResponse:
        # The path as it was sent: signatures cover its escapes.
        path = request.raw_path.partition("?")[0]
        found = PATH.fullmatch(path)
        if found is not None and isinstance(entry.body, dict):
            entry.path = path
            action = found[2]
            entry.body |= {"modelId": unquote(found[1]), "action": action, "stream": action.endswith("stream")}
        if not _is_authorized(entry, f"{self.origin}{path}"):
            return self._fail(
                Failure(403, "The request signature we calculated does not match", type="InvalidSignatureException")
            )
        return await super()._answer(request, entry)

    def _fail(self, failure: Failure) -> web.Response:
        response = super()._fail(failure)
        name = EXCEPTIONS.get(failure.type, failure.type or "InternalServerException")
        response.headers["x-amzn-errortype"] = f"{name}:http://internal.amazon.com/coral/"
        return response


def fake_bedrock(brain: Brain | None = None) -> FakeBedrock:
    return FakeBedrock(BedrockFront(), brain)


# -- frames


def _header(name: str, value: str) -> bytes:
    told, text = name.encode(), value.encode()
    return bytes([len(told)]) + told + b"\x07" + pack("!H", len(text)) + text


def frame(headers: dict[str, str], payload: bytes) -> bytes:
    told = b"".join(_header(name, value) for name, value in headers.items())
    lengths = pack("!II", 16 + len(told) + len(payload), len(told))
    start = lengths + pack("!I", crc32(lengths)) + told + payload
    return start + pack("!I", crc32(start))


def event(name: str, **fields: Any) -> bytes:
    """An event; `p` is the padding by which Amazon hides how long its tokens are."""
    headers = {":event-type": name, ":content-type": "application/json", ":message-type": "event"}
    return frame(headers, json.dumps({**fields, "p": "abcdef"}).encode())


def chunk(data: bytes) -> bytes:
    """One of Anthropic's events, as InvokeModel sends it."""
    return event("chunk", bytes=base64.b64encode(data).decode())


def exception(name: str, message: str) -> bytes:
    headers = {":exception-type": name, ":content-type": "application/json", ":message-type": "exception"}
    return frame(headers, json.dumps({"message": message}).encode())


# -- answers


def _block_events(index: int, block: Any) -> list[bytes]:
    def delta(part: dict[str, Any]) -> bytes:
        return event("contentBlockDelta", contentBlockIndex=index, delta=part)

    match block:
        case Text(text, pieces):
            return [delta({"text": piece}) for piece in split(text, pieces)]
        case Thinking(text, signature):
            said = [delta({"reasoningContent": {"text": piece}}) for piece in split(text, 0)]
            return [*said, delta({"reasoningContent": {"signature": signature}})]
        case ToolUse(name, given, call_id):
            start = {"toolUse": {"toolUseId": call_id or unique("tooluse_fake"), "name": name}}
            inputs = split(json.dumps(dict(given)), 3)
            return [
                event("contentBlockStart", contentBlockIndex=index, start=start),
                *(delta({"toolUse": {"input": piece}}) for piece in inputs),
            ]
    raise TypeError(f"Bedrock has no {block}")


def _whole_block(block: Any) -> dict[str, Any]:
    match block:
        case Text(text):
            return {"text": text}
        case Thinking(text, signature):
            return {"reasoningContent": {"reasoningText": {"text": text, "signature": signature}}}
        case ToolUse(name, told, call_id):
            return {"toolUse": {"toolUseId": call_id or unique("tooluse_fake"), "name": name, "input": dict(told)}}
    raise TypeError(f"Bedrock has no {block}")


def _usage(tokens: Tokens) -> dict[str, Any]:
    return {
        "inputTokens": tokens.input,
        "outputTokens": tokens.output,
        "totalTokens": tokens.prompt + tokens.output,
        "cacheReadInputTokens": tokens.cache_read,
        "cacheWriteInputTokens": tokens.cache_write + tokens.cache_write_1h,
        "cacheDetails": [{"ttl": "1h", "inputTokens": tokens.cache_write_1h}],
    }


# -- the rules for requests


@functools.cache
def _service() -> tuple[Any, Any]:
    """botocore's model of the service and its validator."""
    import botocore.session
    from botocore.validate import ParamValidator

    return botocore.session.get_session().get_service_model("bedrock-runtime"), ParamValidator()


def shape_problem(operation: str, body: dict[str, Any]) -> str:
    """What botocore's model of the service finds wrong with a body. JSON holds blobs in base64."""
    model, validator = _service()
    report = validator.validate(body, model.operation_model(operation).input_shape)
    return str(report.generate_report())


def _check_converse(model_id: str, action: str, body: dict[str, Any]) -> None:
    operation = "ConverseStream" if action.endswith("stream") else "Converse"
    problem = shape_problem(operation, {"modelId": model_id, **body})
    require(not problem, problem)
    roles = [message["role"] for message in body["messages"]]
    require(roles[0] == "user", "A conversation must start with a user message.")
    require(all(a != b for a, b in pairwise(roles)), "Conversation roles must alternate.")
    require(roles[-1] == "user", "This model does not support assistant message prefill.")
    _check_blocks(model_id, body)
    _check_calls(body["messages"])
    tools = (body.get("toolConfig") or {}).get("tools") or []
    if NO_STREAMED_TOOLS.search(model_id):
        require(not tools or operation == "Converse", "This model doesn't support tool use in streaming mode.")
    cached = any("cachePoint" in tool for tool in tools)
    require(not (cached and NO_CACHE_IN_TOOLS.search(model_id)), "extraneous key [cachePoint] is not permitted")
    for tool in tools:
        schema = tool.get("toolSpec", {}).get("inputSchema", {}).get("json", {"type": "object"})
        require(schema.get("type") == "object", "The value at toolConfig.tools.toolSpec.inputSchema.json.type")


def _check_blocks(model_id: str, body: dict[str, Any]) -> None:
    names: list[str] = []
    points = sum("cachePoint" in block for block in body.get("system") or [])
    for message in body["messages"]:
        blocks = message["content"]
        require(blocks, "The content field in the Message object is empty.")
        kinds = {kind for block in blocks for kind in block}
        points += sum("cachePoint" in block for block in blocks)
        if ALONE.search(model_id) and "toolResult" in kinds:
            require(kinds <= {"toolResult", "cachePoint"}, "tool results and other content in one message")
        results = [block["toolResult"].get("content", []) for block in blocks if "toolResult" in block]
        for parts in (blocks, *results):
            told = {kind for part in parts for kind in part}
            require("document" not in told or "text" in told, "A text block is required when using documents.")
        for block in [*blocks, *(part for parts in results for part in parts)]:
            require(len(block) == 1, f"a block holds several things: {sorted(block)}")
            require("text" not in block or block["text"].strip(), "The text field in the ContentBlock object is blank.")
            if "document" in block:
                names.append(block["document"]["name"])
            if "toolUse" in block or "toolResult" in block:
                require("toolConfig" in body, "The toolConfig field must be defined when using toolUse and toolResult")
    require(len(set(names)) == len(names), "The request contains duplicate document names.")
    require(points <= 4, "A maximum of 4 blocks with cachePoint may be provided.")


def _check_calls(messages: list[dict[str, Any]]) -> None:
    waiting: list[str] = []
    for message in messages:
        answered = [block["toolResult"]["toolUseId"] for block in message["content"] if "toolResult" in block]
        require(sorted(answered) == sorted(waiting), f"Expected toolResult blocks for {waiting}, got {answered}")
        waiting = [block["toolUse"]["toolUseId"] for block in message["content"] if "toolUse" in block]
    require(not waiting, f"Expected toolResult blocks for {waiting}")


def _texts(blocks: list[dict[str, Any]]) -> str:
    return "\n".join(block["text"] for block in blocks if "text" in block)


def _is_authorized(entry: Received, url: str) -> bool:
    told = entry.headers.get("authorization", "")
    if told.startswith("Bearer "):
        return told == f"Bearer {API_KEY}"
    return told == signature(entry, url)


def signature(entry: Received, url: str, region: str = REGION) -> str:
    """The authorization that the owner of ACCESS_KEY would have sent, by botocore, at the request's own time."""
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    credentials = Credentials(ACCESS_KEY["access_key_id"], ACCESS_KEY["secret_access_key"])
    signer = SigV4Auth(credentials, "bedrock", region)
    request: Any = AWSRequest("POST", url, data=entry.raw, headers={"content-type": entry.headers["content-type"]})
    date = entry.headers.get("x-amz-date", "")
    request.context["timestamp"] = date
    request.headers["X-Amz-Date"] = date
    canonical = signer.canonical_request(request)
    signed = signer.signature(signer.string_to_sign(request, canonical), request)
    scope = f"Credential={signer.scope(request)}"
    names = f"SignedHeaders={signer.signed_headers(signer.headers_to_sign(request))}"
    return f"AWS4-HMAC-SHA256 {scope}, {names}, Signature={signed}"
