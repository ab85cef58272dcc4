"""A reader of multipart answers that forgives nothing (RFC 2046 §5.1.1, RFC 2387)."""

import re
from dataclasses import dataclass

import httpx

_CONTENT_TYPE = re.compile(
    r'multipart/related; type="(?P<type>[^"]+)"; boundary=(?P<boundary>[0-9a-f]{32})'
)


@dataclass(frozen=True)
class Part:
    """One part: its headers in order and as spelled, and its content."""

    headers: dict[str, str]
    content: bytes

    @property
    def media_type(self) -> str:
        return self.headers["Content-Type"].partition(";")[0]

    @property
    def transfer_syntax(self) -> str:
        return self.headers["Content-Type"].partition("transfer-syntax=")[2]


def parts_of(response: httpx.Response) -> list[Part]:
    """Return the parts of a 200 or 206; every promise on the form is checked."""
    assert response.status_code in (200, 206), response.text
    match = _CONTENT_TYPE.fullmatch(response.headers["content-type"])
    assert match, response.headers["content-type"]
    delimiter = b"--" + match["boundary"].encode()
    body = response.content
    if "content-length" in response.headers:
        assert int(response.headers["content-length"]) == len(body)
    first, *between, epilogue = (b"\r\n" + body).split(b"\r\n" + delimiter)
    assert first == b""
    assert epilogue == b"--\r\n"
    parts = [_part(text) for text in between]
    assert parts[0].media_type.lower() == match["type"].lower()
    return parts


def _part(text: bytes) -> Part:
    assert text.startswith(b"\r\n")
    head, blank, content = text[2:].partition(b"\r\n\r\n")
    assert blank
    headers = dict(line.split(": ", 1) for line in head.decode("ascii").split("\r\n"))
    # Viewers read the first line, and to the letter.
    assert next(iter(headers)) == "Content-Type"
    assert headers["Content-Location"].startswith("http")
    if "Content-Length" in headers:
        assert int(headers["Content-Length"]) == len(content)
    return Part(headers, content)
