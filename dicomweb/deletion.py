"""DELETE on a study, a series or an instance.

PS3.18 has no such transaction; other archives answer it at the addresses of the Retrieve
transaction, and so do we. What is deleted is out of sight at once for every protocol, and comes
back with `fileroom restore` until it is purged.
"""

from http import HTTPStatus
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from archive.errors import InvalidRequestError
from dicomweb.context import archive_of, principal_of, resource_of
from dicomweb.wado import retrieve_instances

_LONGEST_REASON: Final = 1024
_CONDITIONS: Final = frozenset({"if-match", "if-unmodified-since"})


def delete_resource(request: Request) -> Response:
    """Take what the path names out of sight; ``reason=`` goes into the change feed.

    Whoever names the state that is to go takes no other one out of sight: If-Match and
    If-Unmodified-Since are tried on what GET would answer (RFC 9110 §13.1.1, §13.1.4).

    Raises
    ------
    NotFoundError
        If nothing is there, or nothing that the asker may see.
    """
    reason = request.query_params.get("reason", "")
    if len(reason) > _LONGEST_REASON:
        raise InvalidRequestError(f"reason is longer than {_LONGEST_REASON} characters")
    if _CONDITIONS & set(request.headers.keys()):
        current = retrieve_instances(request)
        if current.status_code == HTTPStatus.PRECONDITION_FAILED:
            return current
    ref = resource_of(request)
    archive_of(request).lifecycle.delete(principal_of(request), ref, reason=reason)
    return Response(status_code=HTTPStatus.NO_CONTENT)
