"""What the archive accepts on an association (PS3.8 §7.1.1.13, PS3.4 Annex B and C)."""

from typing import Any, Final

from pynetdicom import acse
from pynetdicom.presentation import (
    PresentationContext,
    build_context,
    negotiate_as_acceptor,
    negotiate_unrestricted,
)

from archive.dicom.sop_class import is_storage

VERIFICATION: Final = "1.2.840.10008.1.1"
STORAGE_COMMITMENT: Final = "1.2.840.10008.1.20.1"
_QUERY_ROOT: Final = "1.2.840.10008.5.1.4.1.2."

FIND_PATIENT: Final = _QUERY_ROOT + "1.1"
MOVE_PATIENT: Final = _QUERY_ROOT + "1.2"
GET_PATIENT: Final = _QUERY_ROOT + "1.3"
FIND_STUDY: Final = _QUERY_ROOT + "2.1"
MOVE_STUDY: Final = _QUERY_ROOT + "2.2"
GET_STUDY: Final = _QUERY_ROOT + "2.3"
# Retired with PS3.4-2004; devices of that age still ask with nothing else.
FIND_PATIENT_STUDY_ONLY: Final = _QUERY_ROOT + "3.1"
MOVE_PATIENT_STUDY_ONLY: Final = _QUERY_ROOT + "3.2"
GET_PATIENT_STUDY_ONLY: Final = _QUERY_ROOT + "3.3"

FIND_CLASSES: Final = frozenset({FIND_PATIENT, FIND_STUDY, FIND_PATIENT_STUDY_ONLY})
RETRIEVE_CLASSES: Final = frozenset(
    {
        MOVE_PATIENT,
        GET_PATIENT,
        MOVE_STUDY,
        GET_STUDY,
        MOVE_PATIENT_STUDY_ONLY,
        GET_PATIENT_STUDY_ONLY,
    }
)
PATIENT_ROOT: Final = frozenset({FIND_PATIENT, MOVE_PATIENT, GET_PATIENT})
PATIENT_STUDY_ONLY: Final = frozenset(
    {FIND_PATIENT_STUDY_ONLY, MOVE_PATIENT_STUDY_ONLY, GET_PATIENT_STUDY_ONLY}
)

IMPLICIT_LITTLE_ENDIAN: Final = "1.2.840.10008.1.2"
EXPLICIT_LITTLE_ENDIAN: Final = "1.2.840.10008.1.2.1"
DEFLATED_EXPLICIT_LITTLE_ENDIAN: Final = "1.2.840.10008.1.2.1.99"
EXPLICIT_BIG_ENDIAN: Final = "1.2.840.10008.1.2.2"
# In the order in which one is chosen of those that a peer proposes for a context: with VRs the
# private keys of an identifier can be read, which implicit VR leaves to guessing; deflating
# small identifiers only costs; big endian is for devices that speak nothing else.
IDENTIFIER_SYNTAXES: Final = (
    EXPLICIT_LITTLE_ENDIAN,
    IMPLICIT_LITTLE_ENDIAN,
    DEFLATED_EXPLICIT_LITTLE_ENDIAN,
    EXPLICIT_BIG_ENDIAN,
)


def service_contexts() -> list[PresentationContext]:
    """Return the contexts of every service but storage.

    Storage needs none: every class that `is_storage`, standard or private, is accepted in the
    first transfer syntax that is proposed, whichever that is, because what arrives is kept as
    it arrives.
    """
    return [
        build_context(uid, list(IDENTIFIER_SYNTAXES))
        for uid in (VERIFICATION, *sorted(FIND_CLASSES), *sorted(RETRIEVE_CLASSES))
    ] + [_commitment()]


def _commitment() -> PresentationContext:
    # The archive is the SCP of this service alone: whoever calls may be its SCU, not more.
    context = build_context(STORAGE_COMMITMENT, list(IDENTIFIER_SYNTAXES))
    context.scu_role, context.scp_role = True, False
    return context


def negotiate(proposed: list[Any], supported: list[Any], roles: Any = None) -> Any:  # noqa: ANN401 - pynetdicom's signature
    """Answer the contexts of a request: storage in any syntax, the services, nothing else.

    pynetdicom takes whatever its tables have no name for, a worklist query included, for
    storage; it would be accepted here, and never served.
    """
    storage = [context for context in proposed if is_storage(str(context.abstract_syntax))]
    others = [context for context in proposed if context not in storage]
    contexts, answered = negotiate_unrestricted(storage, supported, roles)
    further, more = negotiate_as_acceptor(others, supported, roles)
    return (
        sorted([*contexts, *further], key=lambda context: int(context.context_id or 0)),
        [*answered, *more],
    )


# The name by which pynetdicom's association control finds its own.
_association_control: Any = acse
_association_control.negotiate_unrestricted = negotiate
