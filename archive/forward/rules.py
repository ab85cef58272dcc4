"""Forwarding rules: those of the settings, and those added since."""

import threading
import time
from collections.abc import Iterable
from typing import Final

from archive.auth.principal import Principal, Right
from archive.config import Config, ConfigError, ForwardRule
from archive.errors import ForbiddenError, InvalidRequestError, storage_translated
from archive.query.where import parse_where
from storage.index.forward_rules import ForwardRuleRows

__all__ = ["ForwardRule", "ForwardRules", "check_rules"]

# How old what a process knows of added rules may be: a change is live everywhere after this.
_FRESH_S: Final = 1.0


class ForwardRules:
    """Knows the rules, and changes them while the archive runs.

    A rule of the settings hides one of the same name that was added.

    Parameters
    ----------
    config
        The settings.
    rows
        The table of those that were added.
    """

    def __init__(self, config: Config, rows: ForwardRuleRows) -> None:
        self._configured = {rule.name: rule for rule in config.dimse.forward}
        self._rows = rows
        self._lock = threading.Lock()
        self._known: dict[str, ForwardRule] = {}
        self._since: dict[str, int] = {}
        self._known_since = float("-inf")

    def all(self) -> list[ForwardRule]:
        """Return every rule, by name."""
        known = self._added() | self._configured
        return [known[name] for name in sorted(known)]

    def find(self, name: str) -> ForwardRule | None:
        """Return a rule; None when there is none of that name."""
        return self._configured.get(name) or self._added().get(name)

    def since(self, name: str) -> int:
        """Return the number of the last change that a rule says nothing of."""
        self._added()
        return self._since.get(name, 0)

    def is_configured(self, name: str) -> bool:
        """Tell whether a rule stands in the settings, and cannot be changed here."""
        return name in self._configured

    def add(self, principal: Principal, rule: ForwardRule) -> bool:
        """Make a rule; return whether it replaced one of the same name.

        Raises
        ------
        ForbiddenError
            If the principal may not administer.
        InvalidRequestError
            If its search is wrong, or the settings have a rule of that name.
        """
        self._require(principal, rule.name)
        parse_where(rule.where)
        with storage_translated():
            replaced = self._rows.put(
                rule.name, rule.model_dump_json(), principal=principal.name
            )
        self._forget()
        return replaced

    def remove(self, principal: Principal, name: str) -> bool:
        """Forget a rule; return whether there was one.

        Raises
        ------
        ForbiddenError
            If the principal may not administer.
        InvalidRequestError
            If it stands in the settings.
        """
        self._require(principal, name)
        with storage_translated():
            removed = self._rows.remove(name)
        self._forget()
        return removed

    def _require(self, principal: Principal, name: str) -> None:
        if Right.ADMIN not in principal.rights:
            raise ForbiddenError(f"{principal.name} may not change forwarding")
        if name in self._configured:
            raise InvalidRequestError(
                f"rule {name} stands in the settings ([[dimse.forward]]): change it there"
            )

    def _added(self) -> dict[str, ForwardRule]:
        with self._lock:
            if time.monotonic() - self._known_since > _FRESH_S:
                with storage_translated():
                    rows = self._rows.all()
                self._known = {
                    name: ForwardRule.model_validate_json(row.definition)
                    for name, row in rows.items()
                    if row.definition
                }
                self._since = {name: row.since for name, row in rows.items()}
                self._known_since = time.monotonic()
            return self._known

    def _forget(self) -> None:
        with self._lock:
            self._known_since = float("-inf")


def check_rules(rules: Iterable[ForwardRule]) -> None:
    """Make sure that the rules of the settings can be carried out.

    Raises
    ------
    ConfigError
        If a search is wrong, or two rules have one name.
    """
    names: set[str] = set()
    for rule in rules:
        if rule.name in names:
            raise ConfigError(f"[[dimse.forward]] has two rules named {rule.name}")
        names.add(rule.name)
        try:
            parse_where(rule.where)
        except InvalidRequestError as error:
            raise ConfigError(f"[[dimse.forward]] {rule.name}: where: {error}") from error
