"""Retrieve Capabilities (PS3.18 §8.9): the interface as WADL, as OpenAPI, as a page."""

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Final

import orjson
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from archive.errors import NotAcceptableError
from dicomweb.context import SERVICE_PATH, root_url
from dicomweb.interface import DESCRIBED, JSON, WADL, Described
from dicomweb.negotiation import accepted
from dicomweb.openapi import describe, operation_id, template
from dicomweb.resources import Operation, Resource

_XML: Final = (WADL, "application/xml", "text/xml")
_JSONS: Final = (JSON, "application/vnd.oai.openapi+json")
_CACHE: Final = {"Cache-Control": "no-cache", "Vary": "Accept"}


def retrieve_capabilities(request: Request) -> Response:
    """Describe the resource of the path and those below it.

    Raises
    ------
    NotAcceptableError
        If neither WADL nor JSON is acceptable.
    """
    target = request.scope["route"]
    path = "" if target.path == "/" else target.path
    below = [
        resource
        for resource in _resources(request)
        if resource is target or resource.path.startswith(path + "/")
    ]
    response = _described(request, below, (*_XML, *_JSONS))
    response.headers["Allow"] = target.allow
    return response


def retrieve_service(request: Request) -> Response:
    """Say where the studies service is and how it is described."""
    if _chosen(request, (*_JSONS, *_XML)) in _XML:
        return retrieve_capabilities(request)
    root = root_url(request)
    body = {
        "service": "DICOMweb studies service (PS3.18 §10)",
        "studies": f"{root}{SERVICE_PATH}/studies",
        "changes": f"{root}/api/changes",
        "openapi": f"{root}/api/openapi.json",
    }
    return Response(orjson.dumps(body), media_type=JSON, headers=_CACHE)


def openapi_document(request: Request) -> Response:
    """Return the description of everything that is here (OpenAPI 3.1)."""
    return Response(
        _openapi(_resources(request), root_url(request)), media_type=JSON, headers=_CACHE
    )


def _described(request: Request, below: Sequence[Resource], offered: Sequence[str]) -> Response:
    chosen = _chosen(request, offered)
    if chosen in _XML:
        body = "".join(_wadl(below, root_url(request))).encode()
    else:
        body = _openapi(below, root_url(request))
    return Response(body, media_type=chosen, headers=_CACHE)


def _chosen(request: Request, offered: Sequence[str]) -> str:
    for wanted in accepted(request):
        for media_type in offered:
            if wanted.covers(media_type):
                return media_type
    raise NotAcceptableError(f"capabilities are described as {WADL} or {JSON}")


def _resources(request: Request) -> tuple[Resource, ...]:
    routes = request.app.router.routes
    return tuple(route for route in routes if isinstance(route, Resource))


def _openapi(resources: Sequence[Resource], root: str) -> bytes:
    return orjson.dumps(describe(resources, version=version("fileroom"), root=root))


# -- WADL --------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Node:
    """A resource of the tree, or a step on the way to one."""

    resource: Resource | None = None
    below: dict[str, "_Node"] = field(default_factory=dict)


def _wadl(resources: Sequence[Resource], root: str) -> Iterator[str]:
    """Write a WADL document: the tree of resources, each with its methods (Annex H)."""
    service = all(of.path.startswith(SERVICE_PATH) for of in resources)
    base = SERVICE_PATH if service else ""
    top = _Node()
    for resource in resources:
        node = top
        for part in filter(None, template(resource).removeprefix(base).split("/")):
            node = node.below.setdefault(part, _Node())
        node.resource = resource
    yield '<?xml version="1.0" encoding="UTF-8"?>\n'
    yield '<application xmlns="http://wadl.dev.java.net/2009/02">\n'
    yield f'<resources base="{html.escape(root + base)}">\n'
    if top.resource is not None:
        yield from _wadl_resource("", _Node(top.resource))
    for part, node in top.below.items():
        yield from _wadl_resource(part, node)
    yield "</resources>\n</application>\n"


def _wadl_resource(part: str, node: _Node) -> Iterator[str]:
    yield f'<resource path="{html.escape(part)}">\n'
    if part.startswith("{"):
        yield f'<param name="{part[1:-1]}" style="template" required="true"/>\n'
    if node.resource is not None:
        for method, operation in node.resource.operations.items():
            yield from _wadl_method(node.resource, method, operation)
    for below, child in node.below.items():
        yield from _wadl_resource(below, child)
    yield "</resource>\n"


def _wadl_method(resource: Resource, method: str, operation: Operation) -> Iterator[str]:
    described = DESCRIBED[operation.name]
    name = operation_id(resource, method, operation)
    yield f'<method name="{method}" id="{name}">\n'
    yield f'<doc title="{html.escape(described.title)}"/>\n<request>\n'
    given = [html.escape(media_type) for media_type in described.gives]
    if given:
        yield f'<param name="Accept" style="header" default="{given[0]}">\n'
        yield from (f'<option value="{media_type}"/>\n' for media_type in given)
        yield "</param>\n"
    for parameter in described.parameters:
        yield (
            f'<param name="{parameter.name}" style="{parameter.where}" '
            f'required="{str(parameter.required).lower()}" '
            f'repeating="{str(bool(parameter.listed)).lower()}"/>\n'
        )
    for media_type in described.takes:
        yield f'<representation mediaType="{media_type}"/>\n'
    yield "</request>\n"
    yield from _wadl_responses(described, given)
    yield "</method>\n"


def _wadl_responses(described: Described, given: Sequence[str]) -> Iterator[str]:
    for status in described.statuses:
        yield f'<response status="{status}">\n'
        if status < 300:
            yield from (f'<representation mediaType="{of}"/>\n' for of in given)
        yield "</response>\n"
    failures = " ".join(map(str, described.all_failures))
    yield f'<response status="{failures}">\n'
    yield '<representation mediaType="application/problem+json"/>\n</response>\n'


# -- a page ------------------------------------------------------------------------------------

_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Fileroom: the interface</title>
<style>
body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; }}
body {{ padding: 0 1rem; }}
code {{ background: #8881; padding: .1rem .3rem; border-radius: .3rem; }}
summary {{ cursor: pointer; padding: .2rem 0; overflow-wrap: anywhere; }}
dd {{ margin: 0 0 .3rem 1.5rem; }}
</style>
</head>
<body>
<main>
<h1>The interface</h1>
<p>Everything that can be asked of this archive over HTTP; for programs it is
<a href="{root}/api/openapi.json">openapi.json</a>. Every resource answers OPTIONS, and HEAD
where it answers GET; every error is <code>application/problem+json</code>.</p>
{entries}
</main>
</body>
</html>
"""


def reference_page(request: Request) -> Response:
    """Return the description of everything that is here, to be read."""
    entries = "".join(
        _entry(resource, method, operation)
        for resource in _resources(request)
        for method, operation in resource.operations.items()
    )
    page = _PAGE.format(root=html.escape(root_url(request)), entries=entries)
    return HTMLResponse(page, headers={"Cache-Control": "no-cache"})


def _entry(resource: Resource, method: str, operation: Operation) -> str:
    described = DESCRIBED[operation.name]
    clause = f" (PS3.18 §{described.clause})" if described.clause else ""
    statuses = ", ".join(map(str, (*described.statuses, *described.all_failures)))
    lines = [("statuses", statuses)]
    if described.gives:
        lines.insert(0, ("gives", ", ".join(described.gives)))
    if described.takes:
        lines.insert(0, ("takes", ", ".join(described.takes)))
    lines += [(f"{of.where} {of.name}", of.text) for of in described.parameters]
    terms = "".join(
        f"<dt><code>{html.escape(term)}</code></dt><dd>{html.escape(text)}</dd>"
        for term, text in lines
    )
    head = f"<code>{method} {html.escape(template(resource))}</code> {described.title}{clause}"
    return f"<details><summary>{head}</summary><dl>{terms}</dl></details>\n"
