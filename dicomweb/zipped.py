"""Instances in a ZIP archive that is written while it is sent (PS3.18 §10.4, Supplement 211).

Nothing is compressed: each entry is deflated in blocks that are stored as they are, so that
the length is known beforehand, and readers that read from front to back find each end.
"""

import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from archive.dicom.dicomdir import FILE_NAME, Directory
from archive.dicom.instance import Attributes
from archive.dicom.part10 import Buffer
from archive.retrieve.values import StoredInstance
from dicomweb.conditional import answered_early
from dicomweb.negotiation import ZIP
from dicomweb.parts import Envelope, Part
from dicomweb.responses import StreamedResponse

_LOCAL: Final = struct.Struct("<IHHHHHIIIHH")
_CENTRAL: Final = struct.Struct("<IHHHHHHIIIHHHHHII")
_END: Final = struct.Struct("<IHHHHIIH")
_END_64: Final = struct.Struct("<IQHHIIQQQQ")
_LOCATOR: Final = struct.Struct("<IIQI")
_BLOCK: Final = struct.Struct("<BHH")
_MOST_IN_BLOCK: Final = 0xFFFF
_MOST_32: Final = 0xFFFFFFFF
# Sizes follow the content; names are UTF-8.
_FLAGS: Final = 0x0808
_DEFLATED: Final = 8
_LAST_BLOCK: Final = _BLOCK.pack(1, 0, 0xFFFF)

Entries = Callable[[], Iterator[tuple[StoredInstance, Part]]]
Describe = Callable[[StoredInstance], Attributes]


@dataclass(frozen=True, slots=True)
class _Entry:
    """What the directory at the end says of one entry."""

    name: bytes
    at: datetime
    crc: int
    size: int
    offset: int

    @property
    def deflated(self) -> int:
        return _deflated_bytes(self.size)

    @property
    def large(self) -> bool:
        return self.deflated >= _MOST_32


def zip_response(
    request: Request,
    entries: Entries,
    envelope: Envelope,
    *,
    sizes: Sequence[tuple[StoredInstance, int]] | None = None,
    describe: Describe | None = None,
) -> Response:
    """Return instances as a ZIP archive: ``STUDY/SERIES/INSTANCE.dcm``, in a stable order.

    With a directory the archive is a file-set: names are those that PS3.10 §8.2 allows, and a
    DICOMDIR comes last.

    Parameters
    ----------
    entries
        Yields the instances, each when its turn comes; their lengths are known by then.
    sizes
        All of them with their lengths, where these are known before anything is made.
    describe
        Gives the DICOM JSON of an instance, for the directory; None for no directory.
    """
    headers = envelope.all_headers()
    headers["Content-Disposition"] = f'attachment; filename="{_file_name(request)}.zip"'
    early = answered_early(request, envelope.validators, headers)
    if early is not None:
        return early
    return StreamedResponse(
        lambda: _archive(
            _named(entries()) if describe is None else _file_set(entries(), describe)
        ),
        media_type=ZIP,
        length=None if sizes is None or describe is not None else _length(sizes),
        status_code=envelope.status,
        headers=headers,
    )


def _file_name(request: Request) -> str:
    uids = request.path_params
    return str(uids.get("instance") or uids.get("series") or uids["study"])


def wants_directory(request: Request) -> bool:
    """Tell whether a file-set with its DICOMDIR is asked for: ``dicomdir=true``, ours."""
    return request.query_params.get("dicomdir", "").lower() in ("true", "1")


def _name(stored: StoredInstance) -> bytes:
    return (
        f"{stored.study_instance_uid}/{stored.series_instance_uid}/"
        f"{stored.sop_instance_uid}.dcm"
    ).encode()


def _file_set(
    entries: Iterable[tuple[StoredInstance, Part]], describe: Describe
) -> Iterator[tuple[bytes, datetime, Part]]:
    directory = Directory()
    series: dict[str, int] = {}
    at = datetime.now(UTC)
    for number, (stored, part) in enumerate(entries, 1):
        at = stored.received_at
        folder = series.setdefault(stored.series_instance_uid, len(series) + 1)
        file_id = ["DICOM", f"SE{folder:06}", f"IM{number:06}"]
        syntax = part.content_type.partition("transfer-syntax=")[2]
        directory.add(describe(stored), file_id, syntax)
        yield "/".join(file_id).encode(), at, part
    body = directory.encode()
    yield (
        FILE_NAME.encode(),
        at,
        Part("application/dicom", "", len(body), lambda: iter((body,))),
    )


def _named(
    entries: Iterable[tuple[StoredInstance, Part]],
) -> Iterator[tuple[bytes, datetime, Part]]:
    return ((_name(stored), stored.received_at, part) for stored, part in entries)


def _archive(entries: Iterable[tuple[bytes, datetime, Part]]) -> Iterator[bytes]:
    offset = 0
    written: list[_Entry] = []
    for name, at, part in entries:
        entry = _Entry(name, at, 0, part.length or 0, offset)
        yield _local_header(entry)
        crc = 0
        size = 0
        for block in _blocks(part.chunks()):
            crc = zlib.crc32(block, crc)
            size += len(block)
            yield _BLOCK.pack(0, len(block), len(block) ^ 0xFFFF) + block
        if size != entry.size:
            raise RuntimeError(f"an instance of {entry.size} bytes came out as {size}")
        entry = _Entry(entry.name, entry.at, crc, size, offset)
        yield _LAST_BLOCK + _descriptor(entry)
        offset += _entry_bytes(entry)
        written.append(entry)
    directory = b"".join(_central_header(entry) for entry in written)
    yield directory + _end(len(written), len(directory), offset)


def _blocks(chunks: Iterable[Buffer]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        joined = rest + chunk
        whole = len(joined) - len(joined) % _MOST_IN_BLOCK
        for start in range(0, whole, _MOST_IN_BLOCK):
            yield joined[start : start + _MOST_IN_BLOCK]
        rest = joined[whole:]
    if rest:
        yield rest


def _deflated_bytes(size: int) -> int:
    return size + _BLOCK.size * (-(-size // _MOST_IN_BLOCK) + 1)


def _dos_time(at: datetime) -> tuple[int, int]:
    date = (max(at.year, 1980) - 1980) << 9 | at.month << 5 | at.day
    return at.hour << 11 | at.minute << 5 | at.second // 2, date


def _local_header(entry: _Entry) -> bytes:
    extra = struct.pack("<HHQQ", 1, 16, 0, 0) if entry.large else b""
    size = _MOST_32 if entry.large else 0
    return (
        _LOCAL.pack(
            0x04034B50,
            45 if entry.large else 20,
            _FLAGS,
            _DEFLATED,
            *_dos_time(entry.at),
            0,
            size,
            size,
            len(entry.name),
            len(extra),
        )
        + entry.name
        + extra
    )


def _descriptor(entry: _Entry) -> bytes:
    form = "<IIQQ" if entry.large else "<IIII"
    return struct.pack(form, 0x08074B50, entry.crc, entry.deflated, entry.size)


def _central_header(entry: _Entry) -> bytes:
    wide = [entry.size, entry.deflated] if entry.large else []
    if entry.offset >= _MOST_32:
        wide.append(entry.offset)
    extra = struct.pack(f"<HH{len(wide)}Q", 1, 8 * len(wide), *wide) if wide else b""
    return (
        _CENTRAL.pack(
            0x02014B50,
            45,
            45 if wide else 20,
            _FLAGS,
            _DEFLATED,
            *_dos_time(entry.at),
            entry.crc,
            _MOST_32 if entry.large else entry.deflated,
            _MOST_32 if entry.large else entry.size,
            len(entry.name),
            len(extra),
            0,
            0,
            0,
            0,
            min(entry.offset, _MOST_32),
        )
        + entry.name
        + extra
    )


def _end(count: int, size: int, offset: int) -> bytes:
    wide = b""
    if count >= 0xFFFF or offset >= _MOST_32 or size >= _MOST_32:
        wide = _END_64.pack(
            0x06064B50, _END_64.size - 12, 45, 45, 0, 0, count, count, size, offset
        ) + _LOCATOR.pack(0x07064B50, 0, offset + size, 1)
    few = min(count, 0xFFFF)
    return wide + _END.pack(
        0x06054B50, 0, 0, few, few, min(size, _MOST_32), min(offset, _MOST_32), 0
    )


def _entry_bytes(entry: _Entry) -> int:
    return len(_local_header(entry)) + entry.deflated + len(_descriptor(entry))


def _length(sizes: Iterable[tuple[StoredInstance, int]]) -> int:
    offset = count = directory = 0
    for stored, size in sizes:
        entry = _Entry(_name(stored), stored.received_at, 0, size, offset)
        offset += _entry_bytes(entry)
        directory += len(_central_header(entry))
        count += 1
    return offset + directory + len(_end(count, directory, offset))
