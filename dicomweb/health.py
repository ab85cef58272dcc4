"""Whether the archive lives, is ready, and how much it does."""

from http import HTTPStatus

import orjson
from starlette.requests import Request
from starlette.responses import Response

from archive.auth.principal import OPERATOR
from archive.errors import ArchiveError
from archive.metrics import CONTENT_TYPE, exposition
from archive.readiness import read_readiness
from dicomweb.context import archive_of
from dicomweb.responses import RETRY_AFTER_S, problem


def live(_request: Request) -> Response:
    """Answer that this process answers."""
    return Response(orjson.dumps({"status": "live"}), media_type="application/json")


def ready(request: Request) -> Response:
    """Answer whether every part is up: all workers, the index, the store."""
    archive = archive_of(request)
    state = read_readiness(archive.config.archive.data_dir)
    faults = [f"{name} is not up" for name, up in state.items() if not up]
    try:
        archive.changes.since(OPERATOR, 0, limit=1)
    except ArchiveError as error:
        faults.append(f"the index: {error}")
    if faults:
        retry = {"Retry-After": str(RETRY_AFTER_S)}
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, "; ".join(faults), headers=retry)
    accepts = archive.ingest.has_room()
    body = {"status": "ready", "accepts_instances": accepts}
    return Response(orjson.dumps(body), media_type="application/json")


def metrics(_request: Request) -> Response:
    """Return the numbers of every worker process."""
    return Response(exposition(), media_type=CONTENT_TYPE)
