"""SOP Class Extended Negotiation (PS3.7 §D.3.3.5): what each byte asks, and what is agreed.

=========  ====  ===============================================  ========
classes    byte  means                                            answered
=========  ====  ===============================================  ========
C-FIND     1     relational queries (PS3.4 §C.5.1.1)              agreed
           2     combined date-time matching                      agreed
           3     fuzzy semantic matching of person names          agreed
           4     timezone query adjustment                        agreed
           5     enhanced multi-frame image conversion            declined
           6     empty value matching                             agreed
           7     multiple value matching                          agreed
C-MOVE,    1     relational retrieval (§C.5.2.1, §C.5.3.1)        agreed
C-GET      2     enhanced multi-frame image conversion            declined
storage    1     level of support (§B.3.1.2)                      2: all is kept
           3     level of digital signature support               3: to the bit
           5     element coercion                                 0: none
=========  ====  ===============================================  ========

An answer has as many bytes as the request, as far as they have a meaning; a byte that asks for
nothing (0) is answered by 0.
"""

from dataclasses import dataclass
from typing import Any, Final

from archive.dicom.sop_class import is_storage
from dimse.contexts import FIND_CLASSES, RETRIEVE_CLASSES

# Which of the bytes of a query, or a retrieval, can be agreed upon.
_FIND_SUPPORTED: Final = bytes([1, 1, 1, 1, 0, 1, 1])
_RETRIEVE_SUPPORTED: Final = bytes([1, 0])
_STORAGE: Final = bytes([2, 0, 3, 0, 0, 0])


@dataclass(frozen=True, slots=True)
class QueryOptions:
    """What was agreed for the queries of one SOP class; nothing, unless it was asked for.

    Parameters
    ----------
    relational
        Keys of every level in any combination. Such identifiers are answered in any case.
    combined_date_time
        A date range and the time range beside it are one range of moments.
    fuzzy
        Person names match by how they sound too.
    zone
        Timezone Offset From UTC says how times are meant, in the request and in answers.
    empty_values
        A value of two quotation marks matches what is empty.
    multiple_values
        Each value of a list must match.
    """

    relational: bool = False
    combined_date_time: bool = False
    fuzzy: bool = False
    zone: bool = False
    empty_values: bool = False
    multiple_values: bool = False

    @classmethod
    def of(cls, answer: bytes) -> "QueryOptions":
        """Return what an answer agrees to; bytes that are not there are 0."""
        agreed = [byte == 1 for byte in answer.ljust(len(_FIND_SUPPORTED), b"\0")]
        relational, combined, fuzzy, zone, _, empty, multiple = agreed
        return cls(relational, combined, fuzzy, zone, empty, multiple)


NOTHING_AGREED: Final = QueryOptions()


def answer(sop_class_uid: str, asked: bytes) -> bytes:
    """Return the Service-class-application-information to answer with; empty for none."""
    if sop_class_uid in FIND_CLASSES:
        return _agreed(asked, _FIND_SUPPORTED)
    if sop_class_uid in RETRIEVE_CLASSES:
        return _agreed(asked, _RETRIEVE_SUPPORTED)
    return _STORAGE[: len(asked)] if is_storage(sop_class_uid) else b""


def _agreed(asked: bytes, supported: bytes) -> bytes:
    return bytes(int(a == 1 and s == 1) for a, s in zip(asked, supported, strict=False))


def on_extended(event: Any) -> dict[Any, bytes]:  # noqa: ANN401 - pynetdicom's Event
    """Answer the sub-items of a request, and remember on the association what they agree to.

    A class that no presentation context proposes is passed over (PS3.7 §D.3.3.5).
    """
    contexts = event.assoc.requestor.primitive.presentation_context_definition_list
    proposed = {str(context.abstract_syntax) for context in contexts}
    answers = {
        uid: information
        for uid, asked in event.app_info.items()
        if str(uid) in proposed and (information := answer(str(uid), asked))
    }
    event.assoc.query_options = {
        str(uid): QueryOptions.of(information)
        for uid, information in answers.items()
        if str(uid) in FIND_CLASSES
    }
    return answers
