"""The change feed, and the archive at a glance."""

from dataclasses import dataclass
from typing import Final

from archive.auth.principal import Principal, Right
from archive.errors import ForbiddenError, storage_translated
from storage.index.changes import ChangeFilter
from storage.index.report import IndexReport
from storage.index.rows import ChangeRow, Totals, UnusualInstance

__all__ = ["CHANGE_KINDS", "ChangePage", "ChangeRow", "ChangeService"]

# What can happen to an instance, as the feed calls it.
CHANGE_KINDS: Final = (
    "stored",
    "duplicate",
    "held",
    "replaced",
    "deleted",
    "restored",
    "purged",
)


@dataclass(frozen=True, slots=True)
class ChangePage:
    """Some lines of the feed.

    Parameters
    ----------
    changes
        In order.
    next_sequence
        Where to go on: ask for what comes after it.
    more
        Whether there was more than was asked for.
    """

    changes: list[ChangeRow]
    next_sequence: int
    more: bool


class ChangeService:
    """Reads what happened, in order.

    Parameters
    ----------
    report
        The index.
    """

    def __init__(self, report: IndexReport) -> None:
        self._report = report

    def page(
        self,
        principal: Principal,
        after: int,
        *,
        limit: int = 1000,
        study_instance_uid: str = "",
        kinds: frozenset[str] = frozenset(),
    ) -> ChangePage:
        """Return what happened after the change numbered ``after``, in order.

        Parameters
        ----------
        study_instance_uid, kinds
            Only of this study, only of these kinds; empty for all.
        """
        _require_read(principal)
        asked = ChangeFilter(after, limit, study_instance_uid, kinds)
        with storage_translated():
            rows, last = self._report.changes(principal.scope, asked)
        more = len(rows) == asked.limit
        # What the filters left out is behind us too.
        behind = rows[-1].sequence if rows else asked.after
        return ChangePage(rows, behind if more else max(behind, last), more)

    def since(
        self, principal: Principal, sequence: int, *, limit: int = 1000
    ) -> list[ChangeRow]:
        """Return up to ``limit`` changes numbered above ``sequence``, in order."""
        return self.page(principal, sequence, limit=limit).changes

    def latest(self, principal: Principal) -> int:
        """Return the number of the last change that ``principal`` may see; 0 for none."""
        _require_read(principal)
        with storage_translated():
            return self._report.latest_change(principal.scope)

    def counter(self) -> int:
        """Return a number that grows with every change, whoever may see it; cheap to ask."""
        with storage_translated():
            return self._report.change_counter()

    def totals(self, principal: Principal) -> Totals:
        """Count what ``principal`` may see."""
        _require_read(principal)
        with storage_translated():
            return self._report.totals(principal.scope)

    def unusual(self, principal: Principal, *, limit: int = 50) -> list[UnusualInstance]:
        """Return held versions and SOP Instance UIDs stored twice, newest first."""
        _require_read(principal)
        with storage_translated():
            return self._report.unusual(principal.scope, limit)


def _require_read(principal: Principal) -> None:
    if Right.READ not in principal.rights:
        raise ForbiddenError(f"{principal.name} may not read here")
