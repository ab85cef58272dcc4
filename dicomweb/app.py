"""The HTTP application: routes, errors, and what surrounds every request."""

from collections.abc import Sequence
from http import HTTPStatus

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response

from archive.assembly import Archive
from archive.config import WEB_ROLES
from archive.errors import ArchiveError
from dicomweb.admission import Admission, Gate
from dicomweb.conditional import RangeError, range_response
from dicomweb.context import archive_of
from dicomweb.cors import Cors, Origins, Preflight
from dicomweb.express import Express
from dicomweb.lanes import STORING_THREADS, lanes_by_operation
from dicomweb.metadata_cache import MetadataCache
from dicomweb.resources import Resource
from dicomweb.responses import error_response, problem
from dicomweb.routes import ROUTES
from dicomweb.surround import Surround
from dicomweb.watch import ChangeWatch


def _http_exception(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    headers = dict(error.headers or {})
    detail = error.detail
    if error.status_code == HTTPStatus.NOT_FOUND:
        role = archive_of(request).config.archive.role
        detail = "there is nothing at this address; " + (
            "the studies service is at /dicom-web/studies"
            if role in WEB_ROLES
            else f"this node serves no DICOMweb (its role is {role}), ask one that does"
        )
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        detail = f"this resource takes {headers.get('Allow', 'other methods')}"
    return problem(error.status_code, detail, headers=headers)


def create_app(archive: Archive, routes: Sequence[Resource] = ROUTES) -> Starlette:
    """Return the application that serves ``archive``, or some of its resources."""
    gate, origins = Gate(archive.config), Origins(archive.config.http.cors_origins)
    app = Starlette(
        routes=routes,
        middleware=[
            # Outside everything else, so that errors too can be read by other origins.
            Middleware(Cors, origins=origins),
            Middleware(Surround),
            # Before anything asks who it is: browsers show no credentials here.
            Middleware(Preflight),
            Middleware(Admission, gate=gate),
        ],
        exception_handlers={
            ArchiveError: error_response,
            RangeError: range_response,
            HTTPException: _http_exception,
        },
    )
    # A redirect for the sake of a slash would lose the body of what is stored.
    app.router.redirect_slashes = False
    app.state.archive = archive
    app.state.metadata = MetadataCache()
    app.state.lanes = lanes_by_operation()
    app.state.storing_threads = anyio.CapacityLimiter(STORING_THREADS)
    app.state.express = Express(app, routes, gate, origins)
    app.state.watch = ChangeWatch(archive.changes.counter)
    return app
