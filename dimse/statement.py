"""Tables of docs/conformance/dimse.md that follow from the code: ``make docs`` writes them."""

import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from pydicom.uid import UID

from archive.config import AuthSection, CommitmentSection, DimseSection, Peer
from archive.dicom.part10 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from archive.errors import ArchiveError, NotAcceptableError, NotFoundError, PeerError
from archive.ingest.outcome import Remark
from dimse.contexts import IDENTIFIER_SYNTAXES, service_contexts
from dimse.messages import MAXIMUM_PDU
from dimse.status import STATUSES, WARNINGS

DOCUMENT: Final = Path("docs/conformance/dimse.md")
_BLOCK: Final = re.compile(
    r"(<!-- made of (?P<name>[a-z-]+) -->\n).*?(<!-- end -->)", flags=re.DOTALL
)


_REMARKS: Final = {
    Remark.SOP_CLASS_MISMATCH: "the data set is of another SOP class than the command says",
    Remark.SOP_INSTANCE_MISMATCH: "the data set has another SOP Instance UID than the command",
    Remark.UID_ELSEWHERE: "the SOP Instance UID is also in another series or study",
    Remark.PREAMBLE: "its preamble makes the object another kind of file as well",
    Remark.COERCED: "elements were coerced",
    Remark.DISCARDED: "elements were discarded",
}
# What no C-STORE meets.
_NOT_OF_STORE: Final = frozenset({PeerError, NotFoundError, NotAcceptableError})


def _table(heads: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    lines = [list(heads)]
    lines += [["---"] * len(lines[0]), *([str(cell) for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _name(uid: str) -> str:
    return UID(uid).name


def _services() -> str:
    uids = [str(context.abstract_syntax) for context in service_contexts()]
    return _table(
        ("SOP class", "UID", "role"), ((_name(uid), f"`{uid}`", "SCP") for uid in uids)
    )


def _identifier_syntaxes() -> str:
    return _table(
        ("chosen", "transfer syntax", "UID"),
        ((n, _name(uid), f"`{uid}`") for n, uid in enumerate(IDENTIFIER_SYNTAXES, 1)),
    )


def _why(error: type[ArchiveError]) -> str:
    first = (error.__doc__ or "").strip().splitlines()[0].rstrip(".")
    return f"{first[:1].lower()}{first[1:].replace(';', ',')}"


def _store_statuses() -> str:
    rows: list[tuple[str, str]] = [("0000", "stored; or stored before with the same content")]
    by_code: dict[int, list[str]] = {}
    for remark in Remark:
        if WARNINGS[remark]:
            by_code.setdefault(WARNINGS[remark], []).append(_REMARKS[remark])
    rows += [(f"{code:04X}", "; ".join(by_code[code])) for code in sorted(by_code)]
    return _table(("status", "when"), rows + _refusals("store"))


def _query_statuses() -> str:
    return _table(("status", "when"), _refusals("query"))


def _refusals(service: str) -> list[tuple[str, str]]:
    by_code: dict[int, list[str]] = {}
    for error, codes in STATUSES.items():
        code: int = getattr(codes, service)
        if code and not (service == "store" and error in _NOT_OF_STORE):
            by_code.setdefault(code, []).append(_why(error))
    return [(f"{code:04X}", "; ".join(by_code[code])) for code in sorted(by_code)]


def _identity() -> str:
    return _table(
        ("", ""),
        (
            ("Implementation Class UID", f"`{IMPLEMENTATION_CLASS_UID}`"),
            ("Implementation Version Name", f"`{IMPLEMENTATION_VERSION_NAME}`"),
            ("Application Context Name", "`1.2.840.10008.3.1.1.1`"),
            ("Maximum PDU received", f"{MAXIMUM_PDU} bytes"),
        ),
    )


def _settings() -> str:
    sections = (
        ("[dimse]", DimseSection),
        ("[[dimse.peers]]", Peer),
        ("[commitment]", CommitmentSection),
        ("[auth]", AuthSection),
    )
    return _table(
        ("setting", "meaning"),
        (
            (f"`{name} {key}`", (field.description or "").replace("|", "or"))
            for name, section in sections
            for key, field in section.model_fields.items()
        ),
    )


BLOCKS: Final[dict[str, Callable[[], str]]] = {
    "services": _services,
    "identifier-syntaxes": _identifier_syntaxes,
    "store-statuses": _store_statuses,
    "query-statuses": _query_statuses,
    "identity": _identity,
    "settings": _settings,
}


def renewed(text: str) -> str:
    """Return the document with every table made anew.

    Raises
    ------
    KeyError
        If it names a table there is none of.
    """
    return _BLOCK.sub(lambda m: f"{m[1]}{BLOCKS[m['name']]()}{m[3]}", text)


def main() -> None:
    """Write the tables into the document."""
    before = DOCUMENT.read_text()
    after = renewed(before)
    DOCUMENT.write_text(after)
    sys.stdout.write(f"{DOCUMENT} {'is as it was' if after == before else 'written'}\n")


if __name__ == "__main__":
    main()
