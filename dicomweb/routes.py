"""Every route, grouped under its clause of PS3.18."""

from typing import Final

from starlette.routing import Route

from archive.query.request import Level
from dicomweb.bulkdata import retrieve_bulk_data, retrieve_pixel_data
from dicomweb.context import SERVICE_PATH
from dicomweb.health import live, metrics, ready
from dicomweb.pages import index_page
from dicomweb.qido import search_handler
from dicomweb.rendered import retrieve_rendered, retrieve_thumbnail
from dicomweb.stow import store_instances
from dicomweb.viewer import VIEWER_PATH, viewer_file, viewer_redirect
from dicomweb.wado import retrieve_frames, retrieve_instances, retrieve_metadata

_STUDIES: Final = SERVICE_PATH + "/studies"
_STUDY: Final = _STUDIES + "/{study}"
_SERIES: Final = _STUDY + "/series/{series}"
_INSTANCE: Final = _SERIES + "/instances/{instance}"
_FRAMES: Final = _INSTANCE + "/frames/{frames}"

# §10.5 Store
_STORE: Final = [
    Route(_STUDIES, store_instances, methods=["POST"], name="store"),
    Route(_STUDY, store_instances, methods=["POST"], name="store"),
]

# §10.6 Search
_SEARCH: Final = [
    Route(path, search_handler(level), methods=["GET"], name="search")
    for path, level in (
        (_STUDIES, Level.STUDY),
        (SERVICE_PATH + "/series", Level.SERIES),
        (SERVICE_PATH + "/instances", Level.INSTANCE),
        (_STUDY + "/series", Level.SERIES),
        (_STUDY + "/instances", Level.INSTANCE),
        (_SERIES + "/instances", Level.INSTANCE),
    )
]

# §10.4 Retrieve
_RETRIEVE: Final = [
    *(
        Route(path, retrieve_instances, methods=["GET"], name="retrieve")
        for path in (_STUDY, _SERIES, _INSTANCE)
    ),
    *(
        Route(path + "/metadata", retrieve_metadata, methods=["GET"], name="metadata")
        for path in (_STUDY, _SERIES, _INSTANCE)
    ),
    *(
        Route(path + "/rendered", retrieve_rendered, methods=["GET"], name="rendered")
        for path in (_STUDY, _SERIES, _INSTANCE, _FRAMES)
    ),
    *(
        Route(path + "/thumbnail", retrieve_thumbnail, methods=["GET"], name="thumbnail")
        for path in (_STUDY, _SERIES, _INSTANCE, _FRAMES)
    ),
    Route(_FRAMES, retrieve_frames, methods=["GET"], name="frames"),
    Route(_INSTANCE + "/pixeldata", retrieve_pixel_data, methods=["GET"], name="pixeldata"),
    Route(
        _INSTANCE + "/bulkdata/{path:path}",
        retrieve_bulk_data,
        methods=["GET"],
        name="bulkdata",
    ),
]

_OPERATE: Final = [
    Route("/", index_page, methods=["GET"], name="page"),
    Route("/health/live", live, methods=["GET"], name="health"),
    Route("/health/ready", ready, methods=["GET"], name="health"),
    Route("/metrics", metrics, methods=["GET"], name="metrics"),
]

_VIEWER: Final = [
    Route(VIEWER_PATH, viewer_redirect, methods=["GET"], name="viewer"),
    Route(VIEWER_PATH + "/{path:path}", viewer_file, methods=["GET"], name="viewer"),
]

ROUTES: Final = [*_STORE, *_SEARCH, *_RETRIEVE, *_OPERATE, *_VIEWER]
