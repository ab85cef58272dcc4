"""What each operation takes and gives, in one table: OpenAPI and WADL are written from it.

An operation that is routed and not described here fails a test, and so does a description
that nobody routes.
"""

from dataclasses import dataclass, field
from typing import Any, Final, Literal

from archive.changes import CHANGE_KINDS
from dicomweb.schemas import SEQUENCE, UID

Schema = dict[str, Any]
JSON: Final = "application/json"
DICOM: Final = "application/dicom"
DICOM_JSON: Final = "application/dicom+json"
DICOM_XML: Final = "application/dicom+xml"
OCTETS: Final = "application/octet-stream"
MULTIPART: Final = "multipart/related"
PARTS_OF_DICOM: Final = f'{MULTIPART}; type="{DICOM}"'
PARTS_OF_XML: Final = f'{MULTIPART}; type="{DICOM_XML}"'
PARTS_OF_BYTES: Final = f'{MULTIPART}; type="{OCTETS}"'
ZIP: Final = "application/zip"
HTML: Final = "text/html"
WADL: Final = "application/vnd.sun.wadl+xml"
PROBLEM: Final = "application/problem+json"
ANY: Final = "*/*"
_PIXELS: Final = (
    "image/jpeg",
    "image/dicom-rle",
    "image/jls",
    "image/jp2",
    "image/jphc",
    "image/jxl",
    "video/mpeg",
    "video/mp4",
)
_RENDERED: Final = (
    "image/jpeg",
    "image/png",
    "image/gif",
    "image/jp2",
    "video/mpeg",
    "video/mp4",
    "application/pdf",
    "text/html",
    "text/plain",
    "text/xml",
    "application/xml",
    "model/stl",
    "model/obj",
    "model/mtl",
    MULTIPART,
)

# What any operation may answer with before it looks closer.
_ALWAYS: Final = (400, 403, 414, 431, 503)


def _text(pattern: str) -> Schema:
    return {"type": "string", "pattern": pattern}


# In a URL nothing may hold a NUL.
ANY_TEXT: Final = _text(r"^[^\u0000]*$")


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a request.

    Parameters
    ----------
    schema
        JSON Schema of its value.
    where
        Part of the request it stands in.
    required
        Whether nothing is answered without it.
    listed
        Several values: "repeated" for the parameter more than once, "commas" for a list.
    """

    name: str
    text: str
    schema: Schema = field(default_factory=lambda: dict(ANY_TEXT))
    where: Literal["query", "header"] = "query"
    required: bool = False
    listed: Literal["", "repeated", "commas"] = ""


@dataclass(frozen=True, slots=True)
class Described:
    """What an operation takes and gives.

    Parameters
    ----------
    title
        Name of the transaction, as PS3.18 has it where it does.
    clause
        Where it is specified; "" for what is ours.
    gives
        Media types of a success; the first is the default. Empty: no body.
    schema
        Which component describes a JSON body.
    takes
        Media types of the request's body.
    statuses
        Of successes, the common one first.
    failures
        Statuses beside those anything may answer with.
    tells
        Media types of a failure.
    """

    title: str
    clause: str
    gives: tuple[str, ...] = ()
    schema: str = ""
    takes: tuple[str, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    statuses: tuple[int, ...] = (200,)
    failures: tuple[int, ...] = ()
    tells: tuple[str, ...] = (PROBLEM,)

    @property
    def all_failures(self) -> tuple[int, ...]:
        """Every status of a failure, in order."""
        return tuple(sorted({*_ALWAYS, *self.failures}))


def _whole(minimum: int, maximum: int) -> Schema:
    return {"type": "integer", "minimum": minimum, "maximum": maximum}


_DATE: Final = "(19|20)[0-9]{2}(0[1-9]|1[0-2])(0[1-9]|1[0-9]|2[0-8])"
_DATES: Final = _text(f"^({_DATE}|{_DATE}-|-{_DATE})?$")
_ATTRIBUTE: Final = _text(r"^[A-Za-z0-9.]+$")
_ACCEPT: Final = Parameter(
    "accept",
    "Acceptable media types, in the place of the header (PS3.18 §8.3.3.1).",
)
_NONE_MATCH: Final = Parameter(
    "If-None-Match", "Entity tags that the asker holds (RFC 9110 §13.1.2).", where="header"
)
_RANGE: Final = Parameter("Range", "Bytes of one body (RFC 9110 §14.2).", where="header")
_TRUTH: Final[Schema] = {"type": "string", "enum": ["true", "false"]}

_SEARCH: Final = (
    _ACCEPT,
    _NONE_MATCH,
    Parameter("limit", "At most so many matches.", _whole(0, 5000)),
    Parameter("offset", "So many matches are left out first.", _whole(0, 2**31)),
    Parameter("includefield", "Attributes to give, or ``all``.", _ATTRIBUTE, listed="repeated"),
    Parameter("fuzzymatching", "Names that sound alike match (§8.3.4.2).", _TRUTH),
    Parameter("emptyvaluematching", 'Empty values match "" (§8.3.4.3).', _TRUTH),
    Parameter("multiplevaluematching", "All of several values match (§8.3.4.4).", _TRUTH),
    Parameter(
        "orderby",
        "Attributes to sort by, ``-`` before those that descend.",
        _text("^-?[A-Za-z0-9.]+(,-?[A-Za-z0-9.]+)*$"),
    ),
    Parameter("count", "Tell the number of all matches in X-Total-Count.", _TRUTH),
    Parameter("strict", "An unknown key is an error.", _TRUTH),
    Parameter("PatientName", "A key; any attribute is one, by keyword, tag or path."),
    Parameter("PatientID", "A key."),
    Parameter("StudyDate", "A key: a date, or a range of dates.", _DATES),
    Parameter("ModalitiesInStudy", "A key."),
    Parameter("StudyInstanceUID", "A key.", UID, listed="commas"),
)
_RENDER: Final = (
    _ACCEPT,
    _NONE_MATCH,
    Parameter("window", "centre,width,function (§8.3.5.1.4)."),
    Parameter("viewport", "width,height,x,y,width,height (§8.3.5.1.3)."),
    Parameter("quality", "Of lossy compression (§8.3.5.1.2).", _whole(1, 100)),
    Parameter("annotation", "patient, technique or both (§8.3.5.1.1)."),
    Parameter("iccprofile", "no, yes, srgb, adobergb, rommrgb or displayp3 (§8.3.5.1.5)."),
    Parameter("overlays", "Whether overlay planes are drawn; an extension."),
    Parameter("charset", "Acceptable character sets (§8.3.3.2)."),
)
_BYTES: Final = (_ACCEPT, _NONE_MATCH, _RANGE)
_PARTS: Final = (200, 206, 304)
_WHOLE: Final = (200, 304)

DESCRIBED: Final[dict[str, Described]] = {
    "search": Described(
        "Search",
        "10.6",
        (DICOM_JSON, PARTS_OF_XML, JSON, "application/x-ndjson", "text/csv"),
        "DataSets",
        parameters=_SEARCH,
        statuses=_WHOLE,
        failures=(406, 412),
    ),
    "count": Described("Count matches", "", (JSON,), "Count", parameters=_SEARCH),
    "store": Described(
        "Store Instances",
        "10.5",
        (DICOM_JSON, DICOM_XML, JSON),
        "DataSet",
        takes=(MULTIPART, DICOM, DICOM_JSON, DICOM_XML),
        statuses=(200, 202),
        failures=(406, 409, 411, 413, 415),
        tells=(PROBLEM, DICOM_JSON, DICOM_XML, JSON),  # what became of each instance
    ),
    "retrieve": Described(
        "Retrieve Instances",
        "10.4.1.1.1",
        (PARTS_OF_DICOM, DICOM, ZIP),
        parameters=(
            *_BYTES,
            Parameter("dicomdir", "A zip is a file-set with its DICOMDIR.", _TRUTH),
        ),
        statuses=_PARTS,
        failures=(404, 406, 412, 416),
    ),
    "metadata": Described(
        "Retrieve Metadata",
        "10.4.1.1.2",
        (DICOM_JSON, PARTS_OF_XML, JSON),
        "DataSets",
        parameters=(
            _ACCEPT,
            _NONE_MATCH,
            Parameter("charset", "Acceptable character sets (§8.3.3.2)."),
        ),
        statuses=_WHOLE,
        failures=(404, 406, 412),
    ),
    "rendered": Described(
        "Retrieve Rendered",
        "10.4.1.1.3",
        _RENDERED,
        parameters=(*_RENDER, _RANGE),
        statuses=_PARTS,
        failures=(404, 406, 412, 416),
    ),
    "thumbnail": Described(
        "Retrieve Thumbnail",
        "10.4.1.1.4",
        _RENDERED[:4],
        parameters=(
            _ACCEPT,
            _NONE_MATCH,
            Parameter("viewport", "width,height (§8.3.5.2)."),
            _RANGE,
        ),
        statuses=_PARTS,
        failures=(404, 406, 412, 416),
    ),
    "frames": Described(
        "Retrieve Frames",
        "10.4.1.1.6",
        (PARTS_OF_BYTES, OCTETS, *_PIXELS),
        parameters=_BYTES,
        statuses=_PARTS,
        failures=(404, 406, 412, 416),
    ),
    "pixeldata": Described(
        "Retrieve Pixel Data",
        "10.4.1.1.7",
        (PARTS_OF_BYTES, OCTETS, *_PIXELS),
        parameters=_BYTES,
        statuses=_PARTS,
        failures=(404, 406, 412, 416),
    ),
    "bulkdata": Described(
        "Retrieve Bulk Data",
        "10.4.1.1.5",
        (ANY,),  # a document is given as what it says it is
        parameters=_BYTES,
        statuses=_PARTS,
        failures=(404, 406, 412, 416),
    ),
    "delete": Described(
        "Delete",
        "",
        parameters=(
            Parameter(
                "reason", "Why; is kept in the change feed.", ANY_TEXT | {"maxLength": 1024}
            ),
        ),
        statuses=(204,),
        failures=(404,),
    ),
    "changes": Described(
        "Retrieve changes",
        "",
        (JSON, "application/x-ndjson", "text/event-stream"),
        "ChangePage",
        parameters=(
            _ACCEPT,
            Parameter(
                "since",
                "Changes after this number, or ``latest``: those to come.",
                {"anyOf": [SEQUENCE, {"const": "latest"}]},
            ),
            Parameter("limit", "At most so many.", _whole(1, 10_000)),
            Parameter("wait", "Seconds to wait for one where there is none.", _whole(0, 300)),
            Parameter("study", "Of this study only.", UID),
            Parameter("kind", "Of these only.", {"enum": list(CHANGE_KINDS)}, listed="commas"),
            Parameter("Last-Event-ID", "Where events go on.", SEQUENCE, where="header"),
        ),
        failures=(406,),
    ),
    "changes-latest": Described("Latest change", "", (JSON,), "LatestChange"),
    "capabilities": Described(
        "Retrieve Capabilities", "8.9", (WADL, JSON), "Description", failures=(406,)
    ),
    "service": Described("The studies service", "", (JSON, WADL), "Service", failures=(406,)),
    "openapi": Described("This description", "", (JSON,), "Description"),
    "reference": Described("This description, to be read", "", (HTML,)),
    "uri": Described(
        "Retrieve by URI",
        "9",
        (DICOM, *_RENDERED),
        parameters=(
            Parameter("requestType", "WADO.", {"const": "WADO"}, required=True),
            Parameter("studyUID", "Its study.", UID, required=True),
            Parameter("seriesUID", "Its series.", UID, required=True),
            Parameter("objectUID", "The instance.", UID, required=True),
            Parameter("contentType", "Acceptable media types."),
            Parameter("charset", "Acceptable character sets."),
            Parameter("transferSyntax", "Of DICOM; ``*`` for as it is stored."),
            Parameter("frameNumber", "From 1.", _whole(1, 2**31)),
            Parameter("rows", "Height in pixels.", _whole(1, 2**15)),
            Parameter("columns", "Width in pixels.", _whole(1, 2**15)),
            Parameter("region", "left,top,right,bottom, each 0.0 to 1.0."),
            Parameter("windowCenter", "With windowWidth.", {"type": "number"}),
            Parameter("windowWidth", "With windowCenter.", {"type": "number"}),
            Parameter("imageQuality", "Of lossy compression.", _whole(1, 100)),
            Parameter("imageAnnotation", "patient, technique or both."),
            Parameter("presentationUID", "Refused: presentation states are not applied."),
            Parameter("presentationSeriesUID", "Refused, as presentationUID."),
            Parameter("anonymize", "Refused: nothing is de-identified here."),
            _NONE_MATCH,
            _RANGE,
        ),
        statuses=_PARTS,
        failures=(404, 406, 412, 416),
    ),
    "page": Described("What is here", "", (HTML,)),
    "health": Described("Whether it lives, or is ready", "", (JSON,), "Health"),
    "metrics": Described("Numbers for Prometheus", "", ("text/plain",)),
    "viewer": Described(
        "The viewer's files",
        "",
        (ANY,),
        statuses=(200, 304, 308),
        failures=(404,),
        tells=(HTML, PROBLEM),
    ),
    "options": Described("Methods", "", statuses=(204,)),
}
