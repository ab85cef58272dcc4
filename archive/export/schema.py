"""The two tables: their columns, and what is written into each file about them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson
import pyarrow as pa

from archive.export.columns import Column
from archive.export.rows import OTHER

# Raised when a column that is not an attribute changes its name, type or meaning.
VERSION: Final = 1
SERIES: Final = "series"
INSTANCES: Final = "instances"

_TEXT: Final = pa.string()
_MOMENT: Final = pa.timestamp("us", tz="UTC")

# What the archive itself knows. The names of attributes begin with capitals, these do not.
_OWN: Final[Mapping[str, tuple[tuple[str, Any, str], ...]]] = {
    SERIES: (
        ("site", _TEXT, "Site that the instances are counted for"),
        ("partition", _TEXT, "public or sequestered"),
        ("number_of_instances", pa.int64(), "Instances of the series"),
        ("size_bytes", pa.int64(), "Bytes of their Part 10 objects"),
        ("transfer_syntax_uids", pa.list_(_TEXT), "Transfer syntaxes they are stored in"),
        ("received_at", _MOMENT, "When the last of them came"),
        ("change", pa.int64(), "Number of the last change of one of them"),
        ("retrieve_url", _TEXT, "WADO-RS URL of the series; null without [archive] public_url"),
        ("varying_attributes", pa.list_(_TEXT), "Attributes that its instances do not share"),
    ),
    INSTANCES: (
        ("site", _TEXT, "Site that the instance is counted for"),
        ("partition", _TEXT, "public or sequestered"),
        ("transfer_syntax_uid", _TEXT, "Transfer syntax it is stored in"),
        ("version", pa.int64(), "1 for the first content under its UIDs, 2 for the next"),
        ("size_bytes", pa.int64(), "Bytes of its Part 10 object"),
        ("sha256", _TEXT, "SHA-256 of its data set, which begins behind the File Meta"),
        ("object_key", _TEXT, "Where the object lies in the object store"),
        ("received_at", _MOMENT, "When it came"),
        ("change", pa.int64(), "Number of its last change"),
        ("retrieve_url", _TEXT, "WADO-RS URL; null without [archive] public_url"),
    ),
}
_ABOUT_OTHER: Final = (
    "DICOM JSON (PS3.18 Annex F) of what no column holds: private attributes, binary values, "
    "values that are none of their column's type"
)


@dataclass(frozen=True, slots=True)
class About:
    """What every file says of the export it belongs to."""

    change: int
    written_by: str


def table_schema(dataset: str, columns: Iterable[Column], about: About) -> Any:  # noqa: ANN401
    """Return the Arrow schema of a dataset, with what the columns mean.

    Parameters
    ----------
    dataset
        `SERIES` or `INSTANCES`.
    columns
        Of the attributes, in their order.
    """
    fields = [
        pa.field(name, kind, metadata={"description": what})
        for name, kind, what in _OWN[dataset]
    ]
    for column in columns:
        if dataset == SERIES and column.name == "SOPInstanceUID":
            continue
        told = {"tag": column.tag, "vr": column.vr, "vm": column.vm}
        fields.append(pa.field(column.name, column.arrow, metadata=told))
    fields.append(pa.field(OTHER, _TEXT, metadata={"description": _ABOUT_OTHER}))
    of_file = {
        "dataset": dataset,
        "version": VERSION,
        "change": about.change,
        "written_by": about.written_by,
        "columns": described(fields),
    }
    return pa.schema(fields, metadata={"fileroom": orjson.dumps(of_file)})


def described(fields: Iterable[Any]) -> list[dict[str, str]]:
    """Return name, type and meaning of each column, for readers that know no Arrow."""
    return [
        {"name": field.name, "type": str(field.type)}
        | {key.decode(): value.decode() for key, value in field.metadata.items()}
        for field in fields
    ]
