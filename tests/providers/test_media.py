"""Fetching what customers give by its address: safely, once, and into the right place."""

import base64
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio

from providers import media
from providers.errors import InvalidRequest
from providers.media import MediaFetcher
from providers.transport import Transport
from providers.types import Target
from providers.wire.registry import WIRES
from providers.wire.request import MessagesRequest
from tests.fakes.pages import PDF, Pages, png
from tests.providers.anthropic_support import MODEL, request, target

BEDROCK = target(kind="bedrock", wire="bedrock", actual_model="amazon.nova-pro-v1:0")


def image(url: str) -> dict[str, Any]:
    return {"type": "image", "source": {"type": "url", "url": url}}


def document(url: str) -> dict[str, Any]:
    return {"type": "document", "title": "A file", "source": {"type": "url", "url": url}}


def asking(*blocks: dict[str, Any]) -> MessagesRequest:
    return request(messages=[{"role": "user", "content": "hi"}, {"role": "user", "content": list(blocks)}])


@pytest.fixture
def pages() -> Iterator[Pages]:
    files: dict[str, bytes | str] = {"/a.png": png(), "/a.pdf": PDF, "/page.html": b"<html>", "/empty": b""}
    with Pages(files) as made:
        yield made


@pytest_asyncio.fixture
async def transport() -> AsyncIterator[Transport]:
    made = Transport(allow_private=True, allow_private_media=True)
    yield made
    await made.close()


async def inlined(fetcher: MediaFetcher, asked: MessagesRequest, of: Target = BEDROCK) -> MessagesRequest:
    return await fetcher.inlined(asked, wire=WIRES[of.wire], target=of, model=MODEL)


async def reason(fetcher: MediaFetcher, asked: MessagesRequest) -> str:
    with pytest.raises(InvalidRequest) as caught:
        await inlined(fetcher, asked)
    return str(caught.value)


@pytest.mark.asyncio
async def test_an_address_becomes_its_bytes_wherever_it_stands(transport: Transport, pages: Pages) -> None:
    result = {"type": "tool_result", "tool_use_id": "t", "content": [image(pages.url("/a.png"))]}
    asked = asking(image(pages.url("/a.png")), document(pages.url("/a.pdf")), result)
    blocks = (await inlined(MediaFetcher(transport), asked)).value("messages")[1]["content"]
    shown = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(png()).decode()}
    read = {"type": "base64", "media_type": "application/pdf", "data": base64.b64encode(PDF).decode()}
    assert [block["source"] for block in blocks[:2]] == [shown, read]
    assert blocks[2]["content"][0]["source"] == shown
    assert sorted(pages.asked) == ["/a.pdf", "/a.png"]


@pytest.mark.asyncio
async def test_later_turns_are_sent_the_same_bytes(transport: Transport, pages: Pages) -> None:
    fetcher = MediaFetcher(transport)
    asked = asking(image(pages.url("/a.png")))
    first = await inlined(fetcher, asked)
    pages.files["/a.png"] = png(9, 9)
    assert (await inlined(fetcher, asked)).fields["messages"] == first.fields["messages"]
    assert pages.asked == ["/a.png"]


@pytest.mark.asyncio
async def test_what_is_kept_is_bounded_in_size_and_time(
    transport: Transport, pages: Pages, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    fetcher = MediaFetcher(transport, monotonic=lambda: now)
    await inlined(fetcher, asking(image(pages.url("/a.png"))))
    now += media.KEPT_SECONDS + 1
    await inlined(fetcher, asking(image(pages.url("/a.png"))))
    assert len(pages.asked) == 2
    monkeypatch.setattr(media, "KEPT_CHARS", 3 * len(base64.b64encode(png())))
    for number in range(6):
        pages.files[f"/{number}.png"] = png()
        await inlined(fetcher, asking(image(pages.url(f"/{number}.png"))))
    assert fetcher._kept_chars <= media.KEPT_CHARS
    assert len(fetcher._kept) == 3


@pytest.mark.asyncio
async def test_targets_that_read_addresses_get_them(transport: Transport) -> None:
    fetcher = MediaFetcher(transport)
    asked = asking(image("https://example.com/a.png"))
    readers = [
        target(),
        target(kind="openai", wire="openai_chat", actual_model="gpt-4o"),
        target(kind="gemini", wire="gemini", actual_model="gemini-3-pro"),
        target(kind="cohere", wire="cohere", actual_model="command-a-vision"),
    ]
    for reader in readers:
        assert await inlined(fetcher, asked, reader) is asked
    blind = await fetcher.inlined(asked, wire=WIRES["bedrock"], target=BEDROCK, model=_without_vision())
    assert blind is asked


def _without_vision() -> Any:
    from dataclasses import replace

    return replace(MODEL, vision=False)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("kind", "wire", "model"),
    [
        ("gemini", "gemini", "gemini-2.5-pro"),
        ("ollama", "openai_chat", "llava"),
        ("openai-compatible", "openai_chat", "x"),
        ("vllm", "openai_responses", "x"),
        ("vertex", "vertex", "claude-sonnet-4-5@20250929"),
        ("bedrock", "bedrock", "anthropic.claude-sonnet-4-6-v1:0"),
        ("kimi", "anthropic", "kimi-k2"),
    ],
)
async def test_targets_that_read_none_get_the_bytes(
    transport: Transport, pages: Pages, kind: str, wire: str, model: str
) -> None:
    of = target(kind=kind, wire=wire, actual_model=model)
    edited = await inlined(MediaFetcher(transport), asking(image(pages.url("/a.png"))), of)
    sent = WIRES[wire].encode(edited, target=of, model=MODEL, max_tokens=100, client_headers={})
    assert base64.b64encode(png()) in sent.body
    assert b"127.0.0.1" not in sent.body


PRIVATE = [
    "http://127.0.0.1/a.png", "http://localhost/a.png", "http://[::1]/a.png", "http://10.0.0.1/a.png",
    "http://192.168.1.1/a.png", "http://169.254.169.254/latest/meta-data/", "http://[fd00:ec2::254]/a.png",
    "http://[::ffff:127.0.0.1]/a.png", "http://[64:ff9b::7f00:1]/a.png", "http://0.0.0.0/a.png",
    "http://2130706433/a.png", "http://0x7f.1/a.png", "http://100.64.0.1/a.png",
]  # fmt: skip


@pytest.mark.asyncio
@pytest.mark.parametrize("url", PRIVATE)
async def test_private_addresses_are_refused_whatever_holds_for_upstreams(url: str) -> None:
    transport = Transport(allow_private=True)
    try:
        told = await reason(MediaFetcher(transport), asking(image(url)))
    finally:
        await transport.close()
    assert told.startswith("messages.1.content.0.image.source.url: could not be fetched (")
    assert "private network" in told or "not found" in told or "malformed" in told


@pytest.mark.asyncio
async def test_nobody_is_called_at_a_private_address(pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: with the switch of tests the same address is called."""
    monkeypatch.setitem(media.PORTS, "http", int(pages.url("").rpartition(":")[2]))
    for allowed in (False, True):
        transport = Transport(allow_private=True, allow_private_media=allowed)
        try:
            fetching = inlined(MediaFetcher(transport), asking(image(pages.url("/a.png"))))
            if allowed:
                await fetching
            else:
                with pytest.raises(InvalidRequest, match="private network"):
                    await fetching
        finally:
            await transport.close()
        assert bool(pages.asked) is allowed


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("ftp://example.com/a.png", "is not an http or https address"),
        ("file:///etc/passwd", "is not an http or https address"),
        ("gopher://example.com", "is not an http or https address"),
        ("a.png", "is not an http or https address"),
        ("http://", "is not an http or https address"),
        ("http://[::1", "is not an address"),
        ("http://example.com:99999/", "is not an address"),
        ("http://example.com:22/a.png", "names a port other than 80 or 443"),
        ("https://user:secret@example.com/a.png", "holds a log-in"),
        ("https://example.com/" + "a" * 9000, "has more than 8192 characters"),
    ],
)
async def test_an_address_that_is_none_is_refused_before_any_call(url: str, why: str) -> None:
    transport = Transport(allow_private=False)
    told = await reason(MediaFetcher(transport), asking(image(url)))
    await transport.close()
    assert told.startswith("messages.1.content.0.image.source.url: ")
    assert why in told
    assert "Send the image as base64 instead." in told
    assert "secret" not in told


@pytest.mark.asyncio
async def test_redirects_are_followed_three_times_and_checked_each_time(transport: Transport, pages: Pages) -> None:
    fetcher = MediaFetcher(transport)
    pages.files |= {"/1": "/2", "/2": pages.url("/3"), "/3": "/a.png", "/0": "/1", "/out": "file:///etc/passwd"}
    edited = await inlined(fetcher, asking(image(pages.url("/1"))))
    assert edited.value("messages")[1]["content"][0]["source"]["media_type"] == "image/png"
    assert "more than 3 redirects" in await reason(fetcher, asking(image(pages.url("/0"))))
    assert "is not an http or https address" in await reason(fetcher, asking(image(pages.url("/out"))))


@pytest.mark.asyncio
async def test_a_redirect_into_a_private_network_is_refused(pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    """`localhost` stands for a public server here, which sends on to a private one."""
    from providers import addresses, transport

    private = Transport(allow_private=True)
    monkeypatch.setattr(private, "allow_private_media", True)
    first_port = int(pages.url("").rpartition(":")[2])
    with Pages({"/a.png": png()}) as inside:
        pages.files["/go"] = inside.url("/a.png")

        def only_the_first(address: Any) -> Any:
            if address[4][1] != first_port:
                raise addresses.ForbiddenAddress("a private address")
            import socket

            return socket.socket(family=address[0], type=address[1], proto=address[2])

        monkeypatch.setattr(transport, "public_socket", only_the_first)
        monkeypatch.setattr(transport, "_connector", _with_checks(transport._connector))
        told = await reason(MediaFetcher(private), asking(image(pages.url("/go"))))
        await private.close()
        assert "private network" in told
        assert pages.asked == ["/go"]
        assert inside.asked == []


def _with_checks(connector: Any) -> Any:
    return lambda **options: connector(**options | {"allow_private": False})


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/page.html", "is not a PNG, JPEG, GIF or WebP image"),
        ("/empty", "is not a PNG, JPEG, GIF or WebP image"),
        ("/a.pdf", "is not a PNG, JPEG, GIF or WebP image"),
        ("/missing", "its server answered HTTP 404"),
    ],
)
async def test_what_is_no_image_is_refused(transport: Transport, pages: Pages, path: str, why: str) -> None:
    assert why in await reason(MediaFetcher(transport), asking(image(pages.url(path))))


@pytest.mark.asyncio
async def test_too_much_is_refused(transport: Transport, pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    pages.files["/big.png"] = png() + bytes(100_000)
    fetcher = MediaFetcher(transport)
    many = asking(*(image(pages.url(f"/{number}.png")) for number in range(media.MOST_ADDRESSES + 1)))
    assert f"at most {media.MOST_ADDRESSES} are fetched" in await reason(fetcher, many)
    assert pages.asked == []
    monkeypatch.setitem(media.MOST_BYTES, "image", 50_000)
    assert "an answer of more than 50000 bytes" in await reason(fetcher, asking(image(pages.url("/big.png"))))
    monkeypatch.setattr(media, "MOST_BYTES_TOGETHER", 100)
    assert "MB together" in await reason(fetcher, asking(image(pages.url("/a.png")), document(pages.url("/a.pdf"))))


@pytest.mark.asyncio
async def test_a_server_that_does_not_answer_is_given_up(
    transport: Transport, pages: Pages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media, "SECONDS", 0.2)
    pages.hold.clear()
    told = await reason(MediaFetcher(transport), asking(image(pages.url("/a.png"))))
    assert "no answer within 0.2 seconds" in told
