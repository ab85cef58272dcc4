"""What the archive accepts on an association (PS3.8 §7.1.1.13, PS3.4 Annex B and C)."""

from typing import Final

from pynetdicom.presentation import PresentationContext, build_context

VERIFICATION: Final = "1.2.840.10008.1.1"
_QUERY_ROOT: Final = "1.2.840.10008.5.1.4.1.2."

FIND_PATIENT: Final = _QUERY_ROOT + "1.1"
MOVE_PATIENT: Final = _QUERY_ROOT + "1.2"
GET_PATIENT: Final = _QUERY_ROOT + "1.3"
FIND_STUDY: Final = _QUERY_ROOT + "2.1"
MOVE_STUDY: Final = _QUERY_ROOT + "2.2"
GET_STUDY: Final = _QUERY_ROOT + "2.3"
PATIENT_ROOT: Final = frozenset({FIND_PATIENT, MOVE_PATIENT, GET_PATIENT})

IMPLICIT_LITTLE_ENDIAN: Final = "1.2.840.10008.1.2"
EXPLICIT_LITTLE_ENDIAN: Final = "1.2.840.10008.1.2.1"


def service_contexts() -> list[PresentationContext]:
    """Return the contexts of every service but storage.

    Storage needs none: every class the services here do not claim, standard or private, is
    accepted in the first transfer syntax that is proposed, whichever that is, because what
    arrives is kept as it arrives.
    """
    return [
        build_context(uid, [EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN])
        for uid in (
            VERIFICATION,
            FIND_PATIENT,
            MOVE_PATIENT,
            GET_PATIENT,
            FIND_STUDY,
            MOVE_STUDY,
            GET_STUDY,
        )
    ]
