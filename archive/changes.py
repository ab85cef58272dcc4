"""The change feed, and the archive at a glance."""

from archive.auth.principal import Principal, Right
from archive.errors import ForbiddenError, storage_translated
from storage.index.report import IndexReport
from storage.index.rows import ChangeRow, Totals, UnusualInstance


class ChangeService:
    """Reads what happened, in order.

    Parameters
    ----------
    report
        The index.
    """

    def __init__(self, report: IndexReport) -> None:
        self._report = report

    def since(
        self, principal: Principal, sequence: int, *, limit: int = 1000
    ) -> list[ChangeRow]:
        """Return up to ``limit`` changes numbered above ``sequence``, in order."""
        _require_read(principal)
        with storage_translated():
            return self._report.changes(principal.scope, sequence, limit)

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
