"""What the queue of forwarding is made of: jobs, and what is asked of them."""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, and_, true

from storage.index.tables import forward_job

WAITING: Final = "waiting"
SENDING: Final = "sending"
DONE: Final = "done"
DEAD: Final = "dead"
CANCELLED: Final = "cancelled"


@dataclass(frozen=True, slots=True)
class ForwardJob:
    """A study on its way to a destination, or a part of one.

    Parameters
    ----------
    rule
        Name of the rule that wants it; "" for an operator.
    change
        Number of the last change it answers to.
    due_at, since, lease_until, updated_at
        Microseconds since 1970.
    sent, refused
        Instances, over all its tries.
    failed
        Instances that the last try left to be tried again.
    claim
        Who sends it; "" for nobody.
    """

    id: int
    rule: str
    destination: str
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    state: str
    change: int
    due_at: int
    since: int
    attempts: int
    sent: int
    refused: int
    failed: int
    reason: str
    claim: str
    lease_until: int
    principal: str
    updated_at: int


@dataclass(frozen=True, slots=True)
class Arming:
    """A study that a rule wants sent once it has settled."""

    rule: str
    destination: str
    study_instance_uid: str
    change: int
    due_at: int


@dataclass(frozen=True, slots=True)
class Pulse:
    """What there may be to do, in one look.

    Parameters
    ----------
    last_change
        Number of the last change of all.
    cursor
        Up to which change the feed has been followed; None: it never was.
    next_due
        When the next job may be claimed; None when none waits.
    """

    last_change: int
    cursor: int | None
    next_due: int | None


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs are meant; what is empty does not narrow."""

    destination: str = ""
    rule: str = ""
    study_instance_uid: str = ""
    states: tuple[str, ...] = ()

    def condition(self) -> ColumnElement[bool]:
        """Return what their rows meet."""
        condition: ColumnElement[bool] = true()
        for name in ("destination", "rule", "study_instance_uid"):
            if value := getattr(self, name):
                condition = and_(condition, forward_job.c[name] == value)
        if self.states:
            condition = and_(condition, forward_job.c.state.in_(self.states))
        return condition
