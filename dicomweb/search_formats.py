"""Matches of a search in the media types they can be had in (PS3.18 §10.6.4, and ours)."""

import csv
import io
from collections.abc import Sequence
from typing import Any, Final

import orjson

from archive.dicom.attributes import keyword_of
from archive.dicom.normalise import joined_name
from archive.dicom.xml_writer import encode_xml
from dicomweb.parts import Part, part_stream
from dicomweb.responses import DICOM_JSON

Match = dict[str, dict[str, Any]]

JSON: Final = "application/json"
XML: Final = "application/dicom+xml"
NDJSON: Final = "application/x-ndjson"
CSV: Final = "text/csv"
# What a spreadsheet would take for a formula.
_FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r")


def encode_matches(matches: Sequence[Match], media_type: str) -> tuple[bytes, str]:
    """Return a body and its Content-Type.

    Parameters
    ----------
    media_type
        One of DICOM JSON, JSON, XML (as parts of a multipart), NDJSON and CSV.
    """
    if media_type == XML:
        return _multipart(matches)
    if media_type == NDJSON:
        return b"".join(orjson.dumps(match) + b"\n" for match in matches), NDJSON
    if media_type == CSV:
        return _table(matches), f"{CSV}; charset=utf-8; header=present"
    return orjson.dumps(list(matches)), JSON if media_type == JSON else DICOM_JSON


def _multipart(matches: Sequence[Match]) -> tuple[bytes, str]:
    """Return each match as a part of its own; without one there is only the last boundary."""
    content_type, chunks = part_stream((_part(match) for match in matches), XML)
    return b"".join(chunks), content_type


def _part(match: Match) -> Part:
    body = encode_xml(match)
    location = match.get("00081190", {}).get("Value", [""])[0]
    return Part(XML, location, len(body), lambda: iter((body,)))


def _table(matches: Sequence[Match]) -> bytes:
    """Return a row for each match, a column for each attribute that any of them has."""
    tags = sorted({tag for match in matches for tag in match})
    output = io.StringIO()
    writer = csv.writer(output)
    writer.writerow([keyword_of(tag) or tag for tag in tags])
    for match in matches:
        writer.writerow([_cell(match.get(tag)) for tag in tags])
    return output.getvalue().encode("utf-8")


def _cell(element: dict[str, Any] | None) -> str:
    if element is None:
        return ""
    found = element.get("Value") or []
    if element["vr"] == "SQ":
        return orjson.dumps(found).decode() if found else ""
    text = "\\".join(_plain(value) for value in found)
    is_number = element["vr"] in ("DS", "IS", "FL", "FD", "SL", "SS", "UL", "US")
    return "'" + text if text.startswith(_FORMULA_STARTS) and not is_number else text


def _plain(value: Any) -> str:  # noqa: ANN401 - a JSON value
    if isinstance(value, dict):
        return joined_name(value)
    return "" if value is None else str(value)
