"""What every handler needs of a request: the archive, who asks, and how links are written."""

from urllib.parse import urlsplit

from starlette.requests import Request

from archive.assembly import Archive
from archive.auth.principal import Principal, anonymous_principal
from archive.identity import InstanceRef, SeriesRef, StudyRef, require_uid
from archive.ingest.incoming import Source
from archive.retrieve.values import StoredInstance
from dicomweb.admission import ASKER_KEY, Asker

SERVICE_PATH = "/dicom-web"


def archive_of(request: Request) -> Archive:
    """Return the archive this application serves."""
    archive: Archive = request.scope["app"].state.archive
    return archive


def principal_of(request: Request) -> Principal:
    """Return who asks: everyone is a stranger, whose rights the settings say."""
    return anonymous_principal(
        archive_of(request).config, local=asker_of(request).is_local_program
    )


def asker_of(request: Request) -> Asker:
    """Return what the gate noted of who asks."""
    asker: Asker = request.scope[ASKER_KEY]
    return asker


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

    The configured public URL, else what a trusted proxy says, else the request's own host.
    """
    return asker_of(request).reached.url


def warning(request: Request, text: str) -> str:
    """Return a value of Warning (RFC 7234 §5.5): the service is named by its authority."""
    return f'299 {urlsplit(root_url(request)).netloc} "{text}"'


def base_url(request: Request) -> str:
    """Return the root of the studies service."""
    return root_url(request) + SERVICE_PATH


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
