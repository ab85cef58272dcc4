"""Every resource and what may be done with it, grouped under the clauses of PS3.18."""

from functools import partial
from typing import Final

from archive.query.request import Level
from dicomweb.bulkdata import (
    retrieve_all_bulk_data,
    retrieve_bulk_data,
    retrieve_pixel_data,
)
from dicomweb.capabilities import (
    openapi_document,
    reference_page,
    retrieve_capabilities,
    retrieve_service,
)
from dicomweb.changes import latest_change, retrieve_changes
from dicomweb.context import SERVICE_PATH
from dicomweb.deletion import delete_resource
from dicomweb.frames import retrieve_frames
from dicomweb.health import live, metrics, ready
from dicomweb.inline import AtOnce
from dicomweb.metadata import retrieve_metadata
from dicomweb.pages import index_page
from dicomweb.qido import count_handler, search_handler
from dicomweb.rendered import retrieve_rendered, retrieve_thumbnail
from dicomweb.resources import Operation, Resource
from dicomweb.stow import store_instances
from dicomweb.uri import URI_PATH, retrieve_by_uri
from dicomweb.viewer import VIEWER_PATH, viewer_file, viewer_redirect
from dicomweb.wado import retrieve_instances

# §8.9 Retrieve Capabilities: such a resource describes itself, and those below it.
_described: Final = partial(Resource, options=Operation(retrieve_capabilities, "capabilities"))

_STUDIES: Final = SERVICE_PATH + "/studies"
_STUDY: Final = _STUDIES + "/{study}"
_SERIES: Final = _STUDY + "/series/{series}"
_INSTANCE: Final = _SERIES + "/instances/{instance}"
_FRAMES: Final = _INSTANCE + "/frames/{frames}"

_RETRIEVE: Final = Operation(AtOnce(retrieve_instances), "retrieve")
_METADATA: Final = Operation(AtOnce(retrieve_metadata), "metadata")
_RENDERED: Final = Operation(AtOnce(retrieve_rendered), "rendered")
_THUMBNAIL: Final = Operation(AtOnce(retrieve_thumbnail), "thumbnail")
_PIXELS: Final = Operation(retrieve_pixel_data, "pixeldata")
_BULK: Final = Operation(retrieve_all_bulk_data, "bulkdata")
_DELETE: Final = Operation(delete_resource, "delete")
_STORE: Final = Operation(store_instances, "store")
_SEARCH_PATIENTS, _SEARCH_STUDIES, _SEARCH_SERIES, _SEARCH_INSTANCES = (
    Operation(search_handler(level), "search")
    for level in (Level.PATIENT, Level.STUDY, Level.SERIES, Level.INSTANCE)
)

# §10.6 Search, §10.5 Store
_SEARCHED: Final = [
    _described(SERVICE_PATH, get=Operation(retrieve_service, "service")),
    _described(_STUDIES, get=_SEARCH_STUDIES, post=_STORE),
    _described(SERVICE_PATH + "/series", get=_SEARCH_SERIES),
    _described(SERVICE_PATH + "/instances", get=_SEARCH_INSTANCES),
    # Extensions: patients, and how many matches there are.
    _described(SERVICE_PATH + "/patients", get=_SEARCH_PATIENTS),
    *(
        _described(f"{SERVICE_PATH}/{name}/count", get=Operation(count_handler(level), "count"))
        for name, level in (
            ("studies", Level.STUDY),
            ("series", Level.SERIES),
            ("instances", Level.INSTANCE),
        )
    ),
    _described(_STUDY + "/series", get=_SEARCH_SERIES),
    _described(_STUDY + "/instances", get=_SEARCH_INSTANCES),
    _described(_SERIES + "/instances", get=_SEARCH_INSTANCES),
]

# §10.4 Retrieve, and deletion at the same addresses
_RETRIEVED: Final = [
    _described(_STUDY, get=_RETRIEVE, post=_STORE, delete=_DELETE),
    _described(_SERIES, get=_RETRIEVE, delete=_DELETE),
    _described(_INSTANCE, get=_RETRIEVE, delete=_DELETE),
    *(_described(path + "/metadata", get=_METADATA) for path in (_STUDY, _SERIES, _INSTANCE)),
    *(
        _described(path + "/rendered", get=_RENDERED)
        for path in (_STUDY, _SERIES, _INSTANCE, _FRAMES)
    ),
    *(
        _described(path + "/thumbnail", get=_THUMBNAIL)
        for path in (_STUDY, _SERIES, _INSTANCE, _FRAMES)
    ),
    _described(_FRAMES, get=Operation(AtOnce(retrieve_frames), "frames")),
    *(_described(path + "/pixeldata", get=_PIXELS) for path in (_STUDY, _SERIES, _INSTANCE)),
    *(_described(path + "/bulkdata", get=_BULK) for path in (_STUDY, _SERIES, _INSTANCE)),
    _described(
        _INSTANCE + "/bulkdata/{path:path}",
        get=Operation(retrieve_bulk_data, "bulkdata"),
    ),
]

_API: Final = [
    _described("/api", get=Operation(reference_page, "reference")),
    _described("/api/openapi.json", get=Operation(openapi_document, "openapi")),
    _described("/api/changes", get=Operation(retrieve_changes, "changes")),
    _described("/api/changes/latest", get=Operation(latest_change, "changes-latest")),
]

# §9 URI
_BY_URI: Final = [_described(URI_PATH, get=Operation(retrieve_by_uri, "uri"))]

_PAGES: Final = [_described("/", get=Operation(index_page, "page"))]

# What every node answers, whatever its role.
HEALTH_ROUTES: Final = [
    Resource("/health/live", get=Operation(live, "health")),
    Resource("/health/ready", get=Operation(ready, "health")),
    Resource("/metrics", get=Operation(metrics, "metrics")),
]

_VIEWER: Final = [
    Resource(VIEWER_PATH, get=Operation(viewer_redirect, "viewer")),
    Resource(VIEWER_PATH + "/{path:path}", get=Operation(viewer_file, "viewer")),
]

ROUTES: Final = [*_SEARCHED, *_RETRIEVED, *_BY_URI, *_API, *_PAGES, *HEALTH_ROUTES, *_VIEWER]
