"""A fake Google: generateContent as the Gemini Developer API and Vertex AI serve it, with their rules for
requests; Claude as Vertex AI serves it; and a token server for service accounts."""

import base64
import functools
import json
import re
import time
from collections.abc import Container
from typing import Any
from urllib.parse import parse_qs, unquote

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.fakes.answers import (
    SIGNATURE_PREFIX,
    Failure,
    Reply,
    Text,
    Thinking,
    Tokens,
    ToolUse,
    WebSearch,
    split,
    unique,
)
from tests.fakes.anthropic import AnthropicFront
from tests.fakes.brain import Brain, Call, Conversation
from tests.fakes.google_rules import check_body
from tests.fakes.rules import Refused, require
from tests.fakes.server import FakeProvider

GENERATE = re.compile(r".*/models/(?P<model>[^/:]+):(?P<method>generateContent|streamGenerateContent)")
CLAUDE = re.compile(r".*/publishers/anthropic/models/(?P<model>[^/:]+):(?P<method>rawPredict|streamRawPredict)")
COUNT = re.compile(r".*/models/[^/:]+:countTokens")
CLAUDE_COUNT = re.compile(r".*/publishers/anthropic/models/count-tokens:rawPredict")
TOKEN_PATH = "/token"
STATUS_NAMES = {
    400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED",
}  # fmt: skip
FINISH = {"max_tokens": "MAX_TOKENS", "refusal": "SAFETY"}


@functools.cache
def _account_key() -> rsa.RSAPrivateKey:
    """Made once: it takes a second."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


class _Matching(Container[str]):
    def __init__(self, pattern: re.Pattern[str]) -> None:
        self._pattern = pattern

    def __contains__(self, path: object) -> bool:
        return isinstance(path, str) and self._pattern.fullmatch(path) is not None


class GeminiFront:
    """The Gemini Developer API."""

    name = "gemini"
    base_path = "/v1beta"
    paths: Container[str] = _Matching(GENERATE)

    def told(self, path: str, raw: bytes) -> Any:
        return _told(GENERATE, path, raw)

    def violation(self, body: Any, headers: dict[str, str]) -> str | None:
        try:
            self.check_headers(headers)
            told = {name: value for name, value in body.items() if name not in {"model", "stream"}}
            check_body(told, body["model"], vertex=self.name == "vertex")
        except Refused as refused:
            return str(refused)
        return None

    def check_headers(self, headers: dict[str, str]) -> None:
        require(headers.get("x-goog-api-key"), "API key not valid. Please pass a valid API key.")
        _check_leaks(headers)

    def conversation(self, body: dict[str, Any], size: int) -> Conversation:
        parts = [(content["role"], part) for content in body["contents"] for part in content["parts"]]
        answers = [part["functionResponse"] for _, part in parts if "functionResponse" in part]
        results = {answer["id"]: "".join(map(str, answer["response"].values())) for answer in answers}
        calls = [part["functionCall"] for _, part in parts if "functionCall" in part]
        texts = [(role, part["text"]) for role, part in parts if part.get("text")]
        declared = [f["name"] for tool in body.get("tools") or [] for f in tool.get("functionDeclarations") or []]
        return Conversation(
            model=body["model"],
            system=_joined((body.get("systemInstruction") or {}).get("parts") or []),
            user=tuple(text for role, text in texts if role == "user"),
            assistant=tuple(text for role, text in texts if role == "model"),
            calls=tuple(Call(call["id"], call["name"], call["args"], results.get(call["id"])) for call in calls),
            tools=tuple(declared),
            streamed=bool(body.get("stream")),
            max_tokens=body.get("generationConfig", {}).get("maxOutputTokens"),
            size=size,
        )

    def events(self, reply: Reply, body: dict[str, Any]) -> list[bytes]:
        parts = _pieces(reply, body)
        chunks = [_response(body, [part], reply.tokens) for part in parts[:-1]]
        return [_data(chunk) for chunk in (*chunks, self._last(reply, body, parts[-1:]))]

    def whole(self, reply: Reply, body: dict[str, Any]) -> dict[str, Any]:
        return self._last(reply, body, _parts(reply, body))

    def _last(self, reply: Reply, body: dict[str, Any], parts: list[dict[str, Any]]) -> dict[str, Any]:
        response = _response(body, parts, reply.tokens)
        candidate = response["candidates"][0]
        candidate["finishReason"] = FINISH.get(reply.stop, "STOP")
        grounding = _grounding(reply)
        if grounding:
            candidate["groundingMetadata"] = grounding
        return response

    def error(self, failure: Failure) -> dict[str, Any]:
        status = failure.type if failure.type.isupper() else STATUS_NAMES.get(failure.status, "INTERNAL")
        return {"error": {"code": failure.status, "message": failure.message, "status": status}}

    def error_event(self, failure: Failure) -> bytes:
        return _data(self.error(failure))

    def other(self, method: str, path: str, body: Any) -> dict[str, Any] | Failure | None:
        if method == "POST" and COUNT.fullmatch(path):
            prompt = body["generateContentRequest"] if self.name == "gemini" else body
            try:
                check_body({k: v for k, v in prompt.items() if k != "model"}, "", vertex=False)
            except Refused as refused:
                return Failure(400, str(refused))
            return {"totalTokens": max(1, len(json.dumps(prompt)) // 4)}
        return None


class VertexFront(GeminiFront):
    """Vertex AI, for service accounts of this fake's own token server."""

    name = "vertex"
    base_path = "/v1/projects/p/locations/global"

    def __init__(self) -> None:
        self.key = _account_key()
        self.claims: list[dict[str, Any]] = []
        """The claims that tokens were given for."""
        self.refusal = ""
        """OAuth's error code for the next claims; empty: they are accepted."""

    def service_account(self, origin: str) -> str:
        """The JSON key file of an account that this server knows."""
        pem = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        account = {
            "type": "service_account",
            "project_id": "p",
            "private_key_id": "key-1",
            "private_key": pem,
            "client_email": "ccm@p.iam.example.com",
            "token_uri": origin + TOKEN_PATH,
        }
        return json.dumps(account)

    def told(self, path: str, raw: bytes) -> Any:
        if path == TOKEN_PATH:
            return {name: values[0] for name, values in parse_qs(raw.decode()).items()}
        return super().told(path, raw)

    def check_headers(self, headers: dict[str, str]) -> None:
        require(
            headers.get("authorization", "").startswith("Bearer ya29.fake-token-"), "Request had invalid credentials."
        )
        _check_leaks(headers)

    def other(self, method: str, path: str, body: Any) -> dict[str, Any] | Failure | None:
        if (method, path) != ("POST", TOKEN_PATH):
            return super().other(method, path, body)
        try:
            require(not self.refusal, self.refusal)
            self.claims.append(self._verified(body))
        except Refused as refused:
            return Failure(400, body=json.dumps({"error": str(refused), "error_description": "Told to refuse."}))
        return {"access_token": f"ya29.fake-token-{len(self.claims)}", "expires_in": 3599, "token_type": "Bearer"}

    def _verified(self, form: dict[str, str]) -> dict[str, Any]:
        require(form["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer", "unsupported_grant_type")
        head, claims, signature = form["assertion"].split(".")
        try:
            self.key.public_key().verify(
                _unbase64(signature), f"{head}.{claims}".encode(), padding.PKCS1v15(), hashes.SHA256()
            )
        except InvalidSignature:
            raise Refused("invalid_grant") from None
        require(json.loads(_unbase64(head)) == {"alg": "RS256", "typ": "JWT", "kid": "key-1"}, "invalid_grant")
        told: dict[str, Any] = json.loads(_unbase64(claims))
        require(told["iat"] <= time.time() + 60 and told["exp"] - told["iat"] <= 3600, "invalid_grant")
        require(told["scope"] and told["aud"].endswith(TOKEN_PATH) and told["iss"], "invalid_grant")
        return told


class VertexClaudeFront(AnthropicFront):
    """Claude at Vertex AI: Anthropic's format, the model in the address, Google's credentials."""

    base_path = "/v1/projects/p/locations/us-east5"
    paths: Any = _Matching(CLAUDE)

    def __init__(self) -> None:
        self._google = VertexFront()

    def service_account(self, origin: str) -> str:
        return self._google.service_account(origin)

    def told(self, path: str, raw: bytes) -> Any:
        if path == TOKEN_PATH:
            return self._google.told(path, raw)
        told = _told(CLAUDE, path, raw)
        if isinstance(told, dict) and "anthropic_version" in told and CLAUDE.fullmatch(path.partition("?")[0]):
            sent = json.loads(raw)
            told["unexpected_model"] = "model" in sent
        return told

    def violation(self, body: Any, headers: dict[str, str]) -> str | None:
        try:
            self._google.check_headers({n: v for n, v in headers.items() if n != "anthropic-beta"})
            require(body.get("anthropic_version") == "vertex-2023-10-16", "anthropic_version: Field required")
            require(not body["unexpected_model"], "model: Extra inputs are not permitted")
            kinds = [tool.get("type") or "" for tool in body.get("tools") or []]
            require(all(k == "web_search_20250305" for k in kinds if k.startswith("web_")), "tools: unknown type")
        except Refused as refused:
            return str(refused)
        kept = {name: value for name, value in body.items() if name not in {"anthropic_version", "unexpected_model"}}
        return super().violation(kept, {**headers, "x-api-key": "k", "anthropic-version": "2023-06-01"})

    def other(self, method: str, path: str, body: Any) -> dict[str, Any] | Failure | None:
        if method == "POST" and CLAUDE_COUNT.fullmatch(path):
            if not (body.get("model") and body.get("anthropic_version")):
                return Failure(400, "model: Field required")
            return {"input_tokens": max(1, len(json.dumps(body)) // 4)}
        return self._google.other(method, path, body)


def fake_gemini(brain: Brain | None = None) -> FakeProvider:
    return FakeProvider(GeminiFront(), brain)


# -- answers


def _told(pattern: re.Pattern[str], path: str, raw: bytes) -> Any:
    body = json.loads(raw) if raw else None
    found = pattern.fullmatch(unquote(path.partition("?")[0]))
    if not isinstance(body, dict) or found is None:
        return body
    streamed = found["method"].startswith("stream")
    if streamed and found["method"] == "streamGenerateContent":
        streamed = "alt=sse" in path
    return {**body, "model": found["model"], "stream": streamed}


def _signature() -> str:
    return base64.b64encode(unique(SIGNATURE_PREFIX).encode()).decode()


def _parts(reply: Reply, body: dict[str, Any]) -> list[dict[str, Any]]:
    """A whole answer's parts. From Gemini 3 on the first call of an answer is signed, and a text's end."""
    newer = not re.search(r"gemini-[12]", body["model"])
    parts: list[dict[str, Any]] = []
    signed = False
    for block in reply.blocks:
        match block:
            case Text(text):
                parts.append({"text": text})
            case Thinking(text):
                parts.append({"text": text, "thought": True})
            case ToolUse(name, arguments):
                call = {"name": name, "args": dict(arguments)}
                parts.append(
                    {"functionCall": call} | ({} if signed or not newer else {"thoughtSignature": _signature()})
                )
                signed = True
    if newer and not signed:
        parts.append({"text": "", "thoughtSignature": _signature()})
    return parts or [{"text": ""}]


def _pieces(reply: Reply, body: dict[str, Any]) -> list[dict[str, Any]]:
    """The parts, with texts in several pieces."""
    blocks = [block for block in reply.blocks if isinstance(block, Text)]
    pieces: list[dict[str, Any]] = []
    for part in _parts(reply, body):
        if part.get("text") and not part.get("thought"):
            pieces += [{"text": piece} for piece in split(part["text"], blocks.pop(0).pieces)]
        elif part.get("text"):
            pieces += [{**part, "text": piece} for piece in split(part["text"], 0)]
        else:
            pieces.append(part)
    return [*pieces, {"text": ""}]


def _response(body: dict[str, Any], parts: list[dict[str, Any]], tokens: Tokens | None) -> dict[str, Any]:
    response: dict[str, Any] = {
        "candidates": [{"content": {"parts": parts, "role": "model"}, "index": 0}],
        "modelVersion": body["model"],
        "responseId": "fake-response",
    }
    if tokens is not None:
        response["usageMetadata"] = _usage(tokens)
    return response


def _usage(tokens: Tokens) -> dict[str, Any]:
    prompt = tokens.input + tokens.cache_read
    usage = {
        "promptTokenCount": prompt,
        "candidatesTokenCount": tokens.output - tokens.reasoning,
        "totalTokenCount": prompt + tokens.output,
    }
    if tokens.cache_read:
        usage["cachedContentTokenCount"] = tokens.cache_read
    if tokens.reasoning:
        usage["thoughtsTokenCount"] = tokens.reasoning
    return usage


def _grounding(reply: Reply) -> dict[str, Any]:
    """What the searches among the blocks found; the whole text rests on all of it."""
    searches = [block for block in reply.blocks if isinstance(block, WebSearch)]
    if not searches:
        return {}
    found = [result for search in searches for result in search.results]
    text = "".join(block.text for block in reply.blocks if isinstance(block, Text))
    segment = {"endIndex": len(text.encode()), "text": text}
    return {
        "webSearchQueries": [search.query for search in searches],
        "groundingChunks": [{"web": {"uri": url, "title": title}} for title, url in found],
        "groundingSupports": [{"segment": segment, "groundingChunkIndices": list(range(len(found)))}],
        "searchEntryPoint": {"renderedContent": "<div></div>"},
    }


def _data(data: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(data)}\r\n\r\n".encode()


def _joined(parts: list[dict[str, Any]]) -> str:
    return "\n".join(part.get("text", "") for part in parts)


def _check_leaks(headers: dict[str, str]) -> None:
    leaked = [name for name in headers if name.startswith(("x-ccm-", "anthropic-", "x-claude-", "x-api-key"))]
    require(not leaked, f"headers of another wire have leaked: {leaked}")


def _unbase64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
