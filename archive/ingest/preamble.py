"""What the first 128 bytes of an object pretend to be (PS3.10 §7.1, note 4 and §7.5)."""

from typing import Final

from archive.dicom.part10 import Buffer

_PREAMBLE_BYTES: Final = 128
_STARTS: Final = (
    (b"MZ", "a Windows program"),
    (b"\x7fELF", "a Linux program"),
    (b"\xfe\xed\xfa\xce", "a macOS program"),
    (b"\xfe\xed\xfa\xcf", "a macOS program"),
    (b"\xce\xfa\xed\xfe", "a macOS program"),
    (b"\xcf\xfa\xed\xfe", "a macOS program"),
    (b"\xca\xfe\xba\xbe", "a Java class or macOS program"),
    (b"#!", "a script"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\xd0\xcf\x11\xe0", "an OLE document"),
)
_ANYWHERE: Final = (
    (b"%pdf-", "a PDF document"),
    (b"<script", "a web page"),
    (b"<html", "a web page"),
    (b"<!doctype", "a web page"),
    (b"<?php", "a PHP script"),
)


def pretence(buffer: Buffer) -> str:
    """Return what else than DICOM the object would be taken for, or "".

    The standard leaves the preamble to applications; TIFF, which slide scanners write there, is
    as it should be. A program or a page there makes the object one: it is kept byte for byte
    all the same, and whoever sent it is told.
    """
    if bytes(buffer[_PREAMBLE_BYTES : _PREAMBLE_BYTES + 4]) != b"DICM":
        return ""
    preamble = bytes(buffer[:_PREAMBLE_BYTES])
    if not any(preamble):
        return ""
    for magic, name in _STARTS:
        if preamble.startswith(magic):
            return name
    lowered = preamble.lower()
    return next((name for magic, name in _ANYWHERE if magic in lowered), "")
