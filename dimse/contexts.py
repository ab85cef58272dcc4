"""What the archive accepts on an association (PS3.8 §7.1.1.13, PS3.4 Annex B and C)."""

from typing import Any, Final

from pynetdicom import acse
from pynetdicom.presentation import PresentationContext, build_context, negotiate_as_acceptor

from archive.dicom.sop_class import is_storage
from archive.dicom.transfer_syntax import is_transfer_syntax

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
    """Return the contexts of every service but storage, which has one for each proposal."""
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
    storage; it would be accepted here, and never served. Each proposal holds one transfer
    syntax by now (`dimse.proposal`).
    """
    return negotiate_as_acceptor(proposed, [*supported, *_storage(proposed)], roles)


def _storage(proposed: list[Any]) -> list[PresentationContext]:
    """Return a context for each storage class that is proposed, known or private."""
    syntaxes: dict[str, set[str]] = {}
    for context in proposed:
        uid = str(context.abstract_syntax)
        if is_storage(uid):
            acceptable = {str(s) for s in context.transfer_syntax if is_transfer_syntax(str(s))}
            syntaxes.setdefault(uid, set()).update(acceptable)
    contexts = []
    for uid, acceptable in syntaxes.items():
        # Without one the class is supported all the same: result 4, not 3.
        context = build_context(uid, sorted(acceptable) or [IMPLICIT_LITTLE_ENDIAN])
        # Either role may be asked for: of C-GET the peer is the SCP (PS3.7 §D.3.3.4).
        context.scu_role = context.scp_role = True
        contexts.append(context)
    return contexts


# The name by which pynetdicom's association control finds its own.
_association_control: Any = acse
_association_control.negotiate_unrestricted = negotiate
