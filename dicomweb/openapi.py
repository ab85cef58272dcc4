"""The interface as OpenAPI 3.1, written from the table of resources."""

import re
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from typing import Any, Final

from dicomweb.interface import DESCRIBED, PROBLEM, Described, Parameter
from dicomweb.resources import Operation, Resource
from dicomweb.schemas import COMPONENTS, UID, reference

Json = dict[str, Any]
_PLACE: Final = re.compile(r"\{(\w+)(?::\w+)?\}")
_FRAMES: Final[Json] = {
    "type": "string",
    "pattern": "^[1-9][0-9]{0,8}(,[1-9][0-9]{0,8})*$",
    "description": "Frame numbers from 1, separated by commas",
}
_PLACES: Final[dict[str, Json]] = {
    "study": UID,
    "series": UID,
    "instance": UID,
    "frames": _FRAMES,
    "path": {"type": "string", "minLength": 1},
}
_HEADERS: Final = ("x-request-id", "access-control-allow-origin")


def describe(resources: Iterable[Resource], *, version: str, root: str) -> Json:
    """Return the description of ``resources``.

    Parameters
    ----------
    version
        Of this software.
    root
        Where the asker reaches them.
    """
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Fileroom",
            "version": version,
            "description": "DICOMweb (PS3.18 2026a) and what is beside it.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": root}],
        "paths": {template(resource): _path_item(resource) for resource in resources},
        "components": {"schemas": COMPONENTS, "responses": {"Problem": _problem()}},
    }


def template(resource: Resource) -> str:
    """Return the path without what Starlette alone understands."""
    return _PLACE.sub(r"{\1}", resource.path)


def _path_item(resource: Resource) -> Json:
    item: Json = {}
    places = [
        {"name": name, "in": "path", "required": True, "schema": _PLACES[name]}
        for name in _PLACE.findall(resource.path)
    ]
    if places:
        item["parameters"] = places
    for method, operation in resource.answered.items():
        item[method.lower()] = _operation(resource, method, operation)
    return item


def _operation(resource: Resource, method: str, operation: Operation) -> Json:
    described = DESCRIBED[operation.name]
    clause = f" (PS3.18 §{described.clause})" if described.clause else ""
    operation_json: Json = {
        "operationId": operation_id(resource, method, operation),
        "summary": described.title,
        "description": f"{described.title}{clause}.",
        "tags": [_tag(resource)],
        "responses": dict(_responses(described, method)),
    }
    if described.parameters:
        operation_json["parameters"] = [_parameter(of) for of in described.parameters]
    if described.takes:
        operation_json["requestBody"] = {
            "required": True,
            "content": {of: {"schema": {"type": "string"}} for of in described.takes},
        }
    return operation_json


def operation_id(resource: Resource, method: str, operation: Operation) -> str:
    """Return a name that no other operation has."""
    words = re.findall(r"\w+", _PLACE.sub("", resource.path)) or ["root"]
    places = _PLACE.findall(resource.path)
    words = [word for word in words if word not in ("dicom", "web")] or ["service"]
    prefix = method.lower() if method in ("HEAD", "OPTIONS") else operation.name
    return "_".join([prefix.replace("-", "_"), *words, *(["by", *places] if places else [])])


def _tag(resource: Resource) -> str:
    first = resource.path.strip("/").partition("/")[0]
    return {"dicom-web": "DICOMweb", "wado": "DICOMweb", "api": "API"}.get(first, "Operation")


def _parameter(parameter: Parameter) -> Json:
    schema: Json = parameter.schema
    if parameter.listed:
        schema = {"type": "array", "items": schema}
    given: Json = {
        "name": parameter.name,
        "in": parameter.where,
        "description": parameter.text,
        "required": parameter.required,
        "schema": schema,
    }
    if parameter.listed:
        given |= {"style": "form", "explode": parameter.listed == "repeated"}
    return given


def _responses(described: Described, method: str) -> Iterator[tuple[str, Json]]:
    for status in described.statuses:
        answer: Json = {"description": HTTPStatus(status).phrase}
        if described.gives and status in (200, 202, 206) and method != "HEAD":
            answer["content"] = {
                _plain(media_type): _content(described, media_type)
                for media_type in described.gives
            }
        yield str(status), answer
    for status in described.all_failures:
        yield str(status), _failure(described)


def _plain(media_type: str) -> str:
    """Return a media type without parameters: OpenAPI tells answers apart by that."""
    return media_type.partition(";")[0]


def _content(described: Described, media_type: str) -> Json:
    if described.schema and media_type.endswith("json") and "ndjson" not in media_type:
        return {"schema": reference(described.schema)}
    return {}


def _failure(described: Described) -> Json:
    if described.tells == (PROBLEM,):
        return {"$ref": "#/components/responses/Problem"}
    others: Json = {media_type: {} for media_type in described.tells if media_type != PROBLEM}
    problem = _problem()
    return problem | {"content": problem["content"] | others}


def _problem() -> Json:
    return {
        "description": "What was wrong, where, and what to do (RFC 9457)",
        "content": {PROBLEM: {"schema": reference("Problem")}},
    }
