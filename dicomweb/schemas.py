"""What JSON answers look like, as JSON Schema (draft 2020-12, as OpenAPI 3.1 uses it)."""

from typing import Any, Final

from archive.changes import CHANGE_KINDS

Schema = dict[str, Any]

UID: Final[Schema] = {
    "type": "string",
    "pattern": r"^[0-9]+(\.[0-9]+)*$",
    "maxLength": 64,
    "description": "UID (PS3.5 §9.1)",
}
SEQUENCE: Final[Schema] = {"type": "integer", "minimum": 0, "maximum": 2**63 - 1}
# Of an attribute of the feed it may be empty: not every act is of one instance.
_UID_OR_NONE: Final[Schema] = {"type": "string", "pattern": r"^[0-9.]*$"}
_TAG: Final = "^[0-9A-F]{8}$"


def reference(name: str) -> Schema:
    """Return a reference to one of `COMPONENTS`."""
    return {"$ref": f"#/components/schemas/{name}"}


def _object(required: dict[str, Schema], **more: Any) -> Schema:  # noqa: ANN401 - JSON Schema
    return {"type": "object", "required": list(required), "properties": required, **more}


COMPONENTS: Final[dict[str, Schema]] = {
    "Problem": _object(
        {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer", "minimum": 400, "maximum": 599},
            "detail": {"type": "string"},
        },
        description="An error (RFC 9457).",
    ),
    "Attribute": {
        "type": "object",
        "required": ["vr"],
        "properties": {
            "vr": {"type": "string", "pattern": "^[A-Z]{2}$"},
            "Value": {"type": "array", "minItems": 1},
            "BulkDataURI": {"type": "string"},
            "InlineBinary": {"type": "string"},
        },
        "additionalProperties": False,
        "description": "One attribute (PS3.18 §F.2.2).",
    },
    "DataSet": {
        "type": "object",
        "patternProperties": {_TAG: reference("Attribute")},
        "additionalProperties": False,
        "description": "A data set in the DICOM JSON Model (PS3.18 Annex F).",
    },
    "DataSets": {"type": "array", "items": reference("DataSet")},
    "Change": _object(
        {
            "sequence": SEQUENCE,
            "at": {"type": "string", "format": "date-time"},
            "kind": {"type": "string", "enum": list(CHANGE_KINDS)},
            "study_instance_uid": _UID_OR_NONE,
            "series_instance_uid": _UID_OR_NONE,
            "sop_instance_uid": _UID_OR_NONE,
            "version": {"type": "integer", "minimum": 1},
            "sha256": {"type": "string", "pattern": "^[0-9a-f]*$"},
            "site": {"type": "string"},
            "collection": {"type": "string"},
            "principal": {"type": "string"},
            "reason": {"type": "string"},
        },
        additionalProperties=False,
        description="One line of the change feed.",
    ),
    "ChangePage": _object(
        {
            "changes": {"type": "array", "items": reference("Change")},
            "next": SEQUENCE,
            "more": {"type": "boolean"},
        },
        description="Changes in order, and where to go on.",
    ),
    "LatestChange": _object({"sequence": SEQUENCE}),
    "Count": _object({"count": {"type": "integer", "minimum": 0}}),
    "Health": _object({"status": {"type": "string", "enum": ["live", "ready"]}}),
    "Service": _object({"service": {"type": "string"}, "studies": {"type": "string"}}),
    "Description": _object({"openapi": {"type": "string"}, "paths": {"type": "object"}}),
}
