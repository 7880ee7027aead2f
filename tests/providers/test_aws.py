"""Requests to Amazon: what they are signed with, and that Bedrock's fake takes them over a socket."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator
from subprocess import run
from typing import Any

import pytest
import pytest_asyncio

from providers import aws
from providers.errors import UpstreamError
from providers.transport import Transport
from providers.types import CredentialSecret
from tests.fakes.answers import End, Failure, Reply, Text, Thinking, Tokens, ToolUse
from tests.fakes.bedrock import ACCESS_KEY, API_KEY, FakeBedrock, fake_bedrock
from tests.fakes.brain import always
from tests.providers.bedrock_support import CLAUDE, GPT_OSS, WIRE, target
from tests.providers.openai_chat_support import BASH, model, request, words

KEY = json.dumps(ACCESS_KEY)


@pytest.fixture
def bedrock() -> Iterator[FakeBedrock]:
    with fake_bedrock() as server:
        yield server


@pytest_asyncio.fixture
async def transport() -> AsyncIterator[Transport]:
    transport = Transport(allow_private=True)
    yield transport
    await transport.close()


async def call(transport: Transport, server: FakeBedrock, name: str, secret: str, **fields: Any) -> tuple[int, bytes]:
    """The status and the body that the provider answers."""
    asked = request(**fields)
    where = target(name, base_url=server.base_url)
    outbound = WIRE.encode(asked, target=where, model=model(), max_tokens=1000, client_headers={})
    credential = CredentialSecret(id=1, weight=1, secret=secret)
    response = await transport.open(outbound, target=where, credential=credential, messages=asked)
    try:
        return response.status, await response.read()
    finally:
        response.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("secret", [KEY, API_KEY], ids=["access key", "API key"])
@pytest.mark.parametrize("name", [GPT_OSS, CLAUDE])
@pytest.mark.parametrize("streamed", [False, True])
async def test_a_request_is_authorised(
    transport: Transport, bedrock: FakeBedrock, name: str, secret: str, streamed: bool
) -> None:
    bedrock.brain = always(
        Reply([Thinking("Hm."), Text("Hello."), ToolUse("Bash", {"a": 1})], tokens=Tokens(60, 7, cache_read=40))
    )
    status, body = await call(transport, bedrock, name, secret, stream=streamed, tools=[BASH])
    assert status == 200, body
    assert bedrock.violations == []
    if streamed:
        decoder = WIRE.stream_decoder(request=request(stream=True), target=target(name), model=model())
        out = decoder.feed(body) + decoder.close()
        assert decoder.failure is None
        assert b"Hello" in out
        usage = decoder.usage
    else:
        decoded = WIRE.decode_response(body, request=request(), target=target(name), model=model())
        assert words("Hello.") in json.loads(decoded.body)["content"]
        usage = decoded.usage
    assert (usage.input_tokens, usage.cache_read_tokens, usage.output_tokens) == (60, 40, 7)


@pytest.mark.asyncio
@pytest.mark.parametrize("secret", [json.dumps({**ACCESS_KEY, "secret_access_key": "wrong"}), "wrong"])
async def test_a_wrong_key_is_the_operator_s_to_mend(transport: Transport, bedrock: FakeBedrock, secret: str) -> None:
    status, body = await call(transport, bedrock, GPT_OSS, secret)
    failure = WIRE.decode_error(status, {"x-amzn-errortype": "InvalidSignatureException"}, body, target=target())
    assert (failure.status, failure.should_retry) == (500, False)


@pytest.mark.asyncio
@pytest.mark.parametrize("secret", ["{", "{}", '{"access_key_id":"AKIA"}', '{"access_key_id":1,"secret_access_key":2}'])
async def test_a_malformed_key_is_said_without_showing_it(
    transport: Transport, bedrock: FakeBedrock, secret: str
) -> None:
    with pytest.raises(UpstreamError) as caught:
        await call(transport, bedrock, GPT_OSS, secret)
    assert "credential is malformed" in caught.value.failure.message
    assert "AKIA" not in caught.value.failure.message
    assert caught.value.failure.should_retry is False
    assert bedrock.requests == []


@pytest.mark.asyncio
async def test_errors_and_cuts_come_as_the_fake_is_told(transport: Transport, bedrock: FakeBedrock) -> None:
    bedrock.brain = always(Failure(400, "Input is too long for requested model.", type="invalid_request_error"))
    status, body = await call(transport, bedrock, GPT_OSS, KEY)
    assert WIRE.decode_error(status, {}, body, target=target()).message.startswith("prompt is too long")
    bedrock.brain = always(Reply([Text("a b c")], events=3, end=End.ERROR))
    status, body = await call(transport, bedrock, GPT_OSS, KEY, stream=True)
    decoder = WIRE.stream_decoder(request=request(stream=True), target=target(), model=model())
    decoder.feed(body)
    assert decoder.failure is not None
    assert decoder.failure.type == "overloaded_error"


URLS = [
    ("https://bedrock-runtime.eu-west-1.amazonaws.com/model/x/converse", "eu-west-1"),
    ("https://bedrock-runtime-fips.us-gov-west-1.amazonaws.com/", "us-gov-west-1"),
    ("https://bedrock-runtime.cn-north-1.amazonaws.com.cn/", "cn-north-1"),
    ("https://vpce-0a1.bedrock-runtime.ap-south-1.vpce.amazonaws.com/", "ap-south-1"),
    ("https://proxy.example/bedrock", "us-east-1"),
]


@pytest.mark.parametrize(("url", "region"), URLS)
def test_the_region_is_in_the_address(url: str, region: str) -> None:
    assert aws.region_of(url) == region
    headers = asyncio.run(aws.authorization(url, {"content-type": "application/json"}, b"{}", KEY))
    assert f"/{region}/bedrock/aws4_request" in headers["authorization"]
    assert set(headers) == {"authorization", "x-amz-date"}


def test_temporary_keys_and_amazon_s_spelling() -> None:
    key = {
        "AccessKeyId": "ASIA1",
        "SecretAccessKey": "s",
        "SessionToken": "t",
        "Expiration": "2026",
        "region": "eu-north-1",
    }
    headers = asyncio.run(aws.authorization("https://proxy.example/x", {}, b"", json.dumps(key)))
    assert headers["x-amz-security-token"] == "t"
    assert "Credential=ASIA1/" in headers["authorization"]
    assert "/eu-north-1/" in headers["authorization"]
    assert "x-amz-security-token" in headers["authorization"].partition("Signature=")[0]


def test_nothing_of_amazon_s_is_loaded_before_it_is_used() -> None:
    code = (
        "import sys, providers.transport, providers.wire.registry; print([m for m in sys.modules if 'botocore' in m])"
    )
    assert run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
