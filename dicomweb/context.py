"""What every handler needs of a request: the archive, who asks, and how links are written."""

import ipaddress

from starlette.requests import Request

from archive.assembly import Archive
from archive.auth.principal import ANONYMOUS, Principal
from archive.identity import InstanceRef, SeriesRef, StudyRef, require_uid
from archive.ingest.incoming import Source
from archive.retrieve.values import StoredInstance

SERVICE_PATH = "/dicom-web"


def archive_of(request: Request) -> Archive:
    """Return the archive this application serves."""
    archive: Archive = request.app.state.archive
    return archive


def principal_of(request: Request) -> Principal:  # noqa: ARG001 - until accounts exist
    """Return who asks."""
    return ANONYMOUS


def source_of(request: Request) -> Source:
    """Return where what this request stores comes from."""
    settings = archive_of(request).config.archive
    return Source(
        site=settings.site,
        collection=settings.collection,
        protocol="STOW-RS",
        principal=principal_of(request).name,
        remote=request.client.host if request.client else "",
    )


def root_url(request: Request) -> str:
    """Return how the asker reaches this server, without a slash at the end.

    The configured public URL, else the request's own host; forwarded headers are believed
    only from a proxy on this machine.
    """
    public = archive_of(request).config.archive.public_url
    if public:
        return public.rstrip("/")
    scheme, host, prefix = request.url.scheme, request.headers.get("host", "localhost"), ""
    if request.client and _is_local(request.client.host):
        scheme = request.headers.get("x-forwarded-proto", scheme).split(",")[0].strip()
        host = request.headers.get("x-forwarded-host", host).split(",")[0].strip()
        prefix = request.headers.get("x-forwarded-prefix", "").rstrip("/")
    return f"{scheme}://{host}{prefix}"


def base_url(request: Request) -> str:
    """Return the root of the studies service."""
    return root_url(request) + SERVICE_PATH


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def resource_of(request: Request) -> StudyRef | SeriesRef | InstanceRef:
    """Return the study, series or instance of the path.

    Raises
    ------
    InvalidRequestError
        If a UID of it is malformed.
    """
    values = request.path_params
    study = require_uid(values["study"], "the study in the path")
    if "series" not in values:
        return StudyRef(study)
    series = require_uid(values["series"], "the series in the path")
    if "instance" not in values:
        return SeriesRef(study, series)
    return InstanceRef(
        study, series, require_uid(values["instance"], "the instance in the path")
    )


def instance_of(request: Request) -> InstanceRef:
    """Return the instance of the path."""
    ref = resource_of(request)
    if not isinstance(ref, InstanceRef):
        raise TypeError("this route names no instance")
    return ref


def ref_of(stored: StoredInstance) -> InstanceRef:
    """Return the UIDs of a stored instance."""
    return InstanceRef(
        stored.study_instance_uid, stored.series_instance_uid, stored.sop_instance_uid
    )


def instance_url(request: Request, ref: InstanceRef) -> str:
    """Return where an instance is retrieved."""
    return (
        f"{base_url(request)}/studies/{ref.study_instance_uid}"
        f"/series/{ref.series_instance_uid}/instances/{ref.sop_instance_uid}"
    )
