"""What came of it: health of objects, outcomes of changes, the state of a target."""

from __future__ import annotations

from enum import StrEnum

from gitsyncd.model.immutable import immutable


class HealthStatus(StrEnum):
    """kstatus' words; worked out by `core.health`."""

    CURRENT = "current"
    IN_PROGRESS = "in-progress"
    FAILED = "failed"
    TERMINATING = "terminating"
    NOT_FOUND = "not-found"
    UNKNOWN = "unknown"


@immutable(kw_only=False)
class Health:
    """Status of one object, or of a whole target, with the reason in the cluster's own words."""

    status: HealthStatus
    message: str = ""


CURRENT = Health(HealthStatus.CURRENT)


class TargetState(StrEnum):
    """The one word that `status` shows: `docs/reference/json.md`."""

    IN_SYNC = "in-sync"
    SYNCING = "syncing"
    FAILED = "failed"
    REFUSED = "refused"
    HELD = "held"
    WAITING = "waiting"
    SUSPENDED = "suspended"
    UNMANAGED = "unmanaged"
    UNKNOWN = "unknown"
