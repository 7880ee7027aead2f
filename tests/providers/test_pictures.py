"""What images and PDF files count, by the rule of the model's family."""

import base64
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.families import family_of
from providers.pictures import MOST_PAGES, image_tokens, pdf_tokens, size_of

UNKNOWN_SIZE = 1600


def encoded(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def png(width: int, height: int) -> str:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    return encoded(b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)))


def jpeg(width: int, height: int, comment: int = 0) -> str:
    app = b"\xff\xe0" + struct.pack(">H", 16) + b"JFIF\0" + bytes(9)
    told = b"\xff\xfe" + struct.pack(">H", comment + 2) + b"c" * comment if comment else b""
    frame = b"\xff\xc2" + struct.pack(">HBHHB", 17, 8, height, width, 3) + bytes(9)
    return encoded(b"\xff\xd8" + app + told + frame + b"\xff\xd9")


SIZES = {
    "png": png(640, 480),
    "gif": encoded(b"GIF89a" + struct.pack("<HH", 640, 480) + bytes(20)),
    "webp, extended": encoded(b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\x7f\x02\0" + b"\xdf\x01\0" + bytes(8)),
    "webp, lossless": encoded(b"RIFF\0\0\0\0WEBPVP8L\0\0\0\0\x2f" + struct.pack("<I", 639 | 479 << 14) + bytes(10)),
    "webp, lossy": encoded(b"RIFF\0\0\0\0WEBPVP8 \0\0\0\0\0\0\0\x9d\x01\x2a" + struct.pack("<HH", 640, 480) + bytes(4)),
    "jpeg": jpeg(640, 480),
    "jpeg with a comment": jpeg(640, 480, comment=20_000),
}


@pytest.mark.parametrize("form", SIZES)
def test_an_image_tells_its_size(form: str) -> None:
    assert size_of(SIZES[form]) == (640, 480)


@pytest.mark.parametrize(
    ("model", "size", "tokens"),
    [
        ("claude-sonnet-4-5", (750, 1000), 1000),
        ("claude-sonnet-4-5", (4000, 4000), 1600),
        ("claude-opus-4-8", (1500, 1500), 3000),
        ("claude-opus-4-8", (9000, 9000), 4784),
        ("gpt-4o", (512, 512), 85 + 170),
        ("gpt-4o", (2048, 4096), 85 + 6 * 170),
        ("gemini-2.5-pro", (300, 300), 258),
        ("gemini-2.5-pro", (960, 540), 6 * 258),
        ("gemini-3-pro", (10, 10), 1120),
    ],
)
def test_an_image_counts_by_the_family_s_rule(model: str, size: tuple[int, int], tokens: int) -> None:
    assert image_tokens(png(*size), family_of(model), UNKNOWN_SIZE) == tokens


def test_a_pdf_counts_by_its_pages() -> None:
    three = encoded(b"%PDF-1.4 /Type /Pages /Count 3 " + b"<< /Type /Page >>" * 3)
    packed = encoded(b"%PDF-1.5 /Type/Pages/Count 7 " + bytes(100))
    assert pdf_tokens(three, family_of("claude-opus-5")) == 3 * 2000
    assert pdf_tokens(packed, family_of("gemini-2.5-pro")) == 7 * 258
    assert pdf_tokens(encoded(bytes(64 * 1024)), family_of("claude-opus-5")) == 4 * 2000
    assert pdf_tokens(encoded(b"/Type /Pages /Count 99999"), family_of("claude-opus-5")) == MOST_PAGES * 2000


@given(data=st.text() | st.binary(max_size=400).map(encoded) | st.none(), model=st.sampled_from(["gpt-4o", "claude-3"]))
def test_nothing_that_a_client_sends_as_an_image_breaks_the_count(data: str | None, model: str) -> None:
    assert 0 < image_tokens(data, family_of(model), UNKNOWN_SIZE) <= 100_000
    assert pdf_tokens(data, family_of(model)) > 0
