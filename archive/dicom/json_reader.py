"""DICOM JSON as it is sent in (PS3.18 §F.2): the data sets, not yet judged."""

import codecs
from typing import Any

import orjson

from archive.dicom.instance import Attributes
from archive.errors import InvalidRequestError


def read_json(document: bytes | bytearray) -> list[Attributes]:
    """Return the data sets of a document: an array of them, or one alone.

    Raises
    ------
    InvalidRequestError
        If it is no JSON, or something else than data sets; the text says where.
    """
    document = document.removeprefix(codecs.BOM_UTF8)
    try:
        value: Any = orjson.loads(document)
    except orjson.JSONDecodeError as error:
        raise InvalidRequestError(f"the metadata is not JSON: {error}") from error
    if isinstance(value, dict):
        return [value]
    if not isinstance(value, list) or not value:
        raise InvalidRequestError(
            "the metadata is JSON, but no array of data sets (PS3.18 §F.2.1)"
        )
    for number, dataset in enumerate(value, 1):
        if not isinstance(dataset, dict):
            raise InvalidRequestError(
                f"data set {number} of the metadata is no object (PS3.18 §F.2.1)"
            )
    return value
