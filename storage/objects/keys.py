"""Addresses of objects: readable, one folder a series, made of checked UIDs only.

::

    objects/<2 hex of the study>/<study>/<series>/<instance>~<token>~<source>.dcm
    sources/<source>.json
    ledger/<token>~<act>.json

The token is the moment of arrival and a random tail: it makes each key unique, so no object
ever overwrites another, and orders the versions of one instance when only objects are left.
"""

import hashlib
import re
import secrets
import time
from dataclasses import dataclass

OBJECTS = "objects"
SOURCES = "sources"
LEDGER = "ledger"

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_MOMENT_LENGTH = 11  # microseconds since 1970 in base 36: good until the year 6141
_TAIL_LENGTH = 4
_UID = re.compile(r"[0-9]+(?:\.[0-9]+)*")
_SOURCE = re.compile(r"[0-9a-f]{12}")
_NAME = re.compile(
    r"(?P<sop>[0-9.]{1,64})~(?P<moment>[0-9a-z]{11})(?P<tail>[0-9a-z]{4})~(?P<source>[0-9a-f]{12})\.dcm"
)


@dataclass(frozen=True, slots=True)
class InstanceKey:
    """What the key of an instance says of it."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    moment_us: int
    source_key: str


def _base36(value: int, length: int) -> str:
    digits = []
    for _ in range(length):
        value, digit = divmod(value, 36)
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))


def new_token(moment_us: int | None = None) -> str:
    """Return a token for a key: ``moment_us`` (default: now) and a random tail."""
    moment = time.time_ns() // 1000 if moment_us is None else moment_us
    return _base36(moment, _MOMENT_LENGTH) + _base36(secrets.randbelow(36**4), _TAIL_LENGTH)


def token_moment(token: str) -> int:
    """Return the microseconds since 1970 that a token was made at."""
    return int(token[:_MOMENT_LENGTH], 36)


def _checked(uid: str) -> str:
    # The archive refused malformed UIDs long before; a path is never built on trust.
    if len(uid) > 64 or _UID.fullmatch(uid) is None:
        raise ValueError(f"{uid!r} is not a UID and cannot become part of a key")
    return uid


def instance_key(study: str, series: str, sop: str, *, token: str, source_key: str) -> str:
    """Return the key of a new instance; ``token`` from `new_token`.

    Raises
    ------
    ValueError
        If a UID or the source's key is malformed.
    """
    if _SOURCE.fullmatch(source_key) is None:
        raise ValueError(f"{source_key!r} is not the key of a source")
    fan_out = hashlib.blake2s(study.encode(), digest_size=1).hexdigest()
    name = f"{_checked(sop)}~{token}~{source_key}.dcm"
    return f"{OBJECTS}/{fan_out}/{_checked(study)}/{_checked(series)}/{name}"


def parse_instance_key(key: str) -> InstanceKey | None:
    """Read an instance's key back; None when it is not one."""
    parts = key.split("/")
    if len(parts) != 5 or parts[0] != OBJECTS:
        return None
    match = _NAME.fullmatch(parts[4])
    if match is None:
        return None
    return InstanceKey(
        study_instance_uid=parts[2],
        series_instance_uid=parts[3],
        sop_instance_uid=match["sop"],
        moment_us=int(match["moment"], 36),
        source_key=match["source"],
    )
