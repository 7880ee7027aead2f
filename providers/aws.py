"""Credentials of Amazon's: requests signed with an access key (Signature Version 4, by botocore), or sent
with a Bedrock API key.

A credential's secret is either the API key itself, or an access key as a JSON object:
`{"access_key_id": "…", "secret_access_key": "…"}`, with `session_token` for temporary ones and `region`
for an address that does not name it. Amazon's own spelling (`AccessKeyId`) is taken too.
"""

import asyncio
import importlib
import re
from collections.abc import Mapping
from typing import Any

import msgspec

SERVICE = "bedrock"
REGION = re.compile(r"//bedrock-runtime(?:-fips)?\.([a-z0-9-]+)\.|\.bedrock-runtime(?:-fips)?\.([a-z0-9-]+)\.vpce\.")
DEFAULT_REGION = "us-east-1"
SIGNED_HEADERS = ("content-type",)
SIGNATURE = ("authorization", "x-amz-date", "x-amz-security-token")
MODULES = ("botocore.auth", "botocore.awsrequest", "botocore.credentials")


class MalformedSecret(ValueError):
    """The secret is no API key and no access key."""


class _AccessKey(msgspec.Struct, repr_omit_defaults=True):
    access_key_id: str
    secret_access_key: str
    session_token: str | None = None
    region: str = ""

    def __repr__(self) -> str:
        return f"_AccessKey({self.access_key_id[:4]}…)"


async def authorization(url: str, headers: Mapping[str, str], body: bytes, secret: str) -> dict[str, str]:
    """The headers that authorise a POST of `body` to `url` as the owner of `secret`.

    Raises MalformedSecret."""
    if not secret.startswith("{"):
        return {"authorization": f"Bearer {secret}"}
    key = _access_key(secret)
    await _load()
    return _signed(url, {name: headers[name] for name in SIGNED_HEADERS if name in headers}, body, key)


async def _load() -> None:
    """botocore takes a quarter of a second and 9 MiB to load: only where it is used, and off the loop."""
    if not _loaded:
        await asyncio.to_thread(lambda: [importlib.import_module(name) for name in MODULES])
        _loaded.append(True)


_loaded: list[bool] = []


def _signed(url: str, headers: dict[str, str], body: bytes, key: _AccessKey) -> dict[str, str]:
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    request: Any = AWSRequest("POST", url, data=body, headers=headers)
    credentials = Credentials(key.access_key_id, key.secret_access_key, key.session_token)
    SigV4Auth(credentials, SERVICE, key.region or region_of(url)).add_auth(request)
    told = {name.lower(): value for name, value in request.headers.items()}
    return {name: told[name] for name in SIGNATURE if name in told}


def region_of(url: str) -> str:
    """The region that Bedrock's address names."""
    found = REGION.search(url)
    return (found[1] or found[2]) if found else DEFAULT_REGION


def _access_key(secret: str) -> _AccessKey:
    try:
        told = msgspec.json.decode(secret, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        raise MalformedSecret("The access key is no JSON object.") from None
    fields = {_snake(name): value for name, value in told.items()}
    try:
        return msgspec.convert(fields, _AccessKey)
    except msgspec.ValidationError:
        raise MalformedSecret("The access key lacks access_key_id or secret_access_key.") from None


def _snake(name: str) -> str:
    """`AccessKeyId` and `aws_access_key_id` as `access_key_id`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower().removeprefix("aws_")
