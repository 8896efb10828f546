"""What people ask of image policies: what they chose, what they hold and why, lock, unlock.

Answers are plain values, ready to be written as JSON. Targets, sources and clusters are `control`'s.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from gitsyncd.core.reference import reference
from gitsyncd.engine.status import moment, trouble
from gitsyncd.model.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gitsyncd.engine.image_loop import PolicyLoop
    from gitsyncd.engine.ports import Clock
    from gitsyncd.engine.update_loop import UpdateLoop
    from gitsyncd.model.image import Origin


class ImageControl:
    """The policies and updates of a daemon, as its commands see them."""

    def __init__(self, policies: Sequence[PolicyLoop], updates: Sequence[UpdateLoop], *, clock: Clock) -> None:
        self._policies = policies
        self._updates = updates
        self._clock = clock

    def status(self, names: Sequence[str] = ()) -> dict[str, Any]:
        """The JSON of `gitsyncd images`. Raises `UsageError` for a name that is no policy."""
        chosen = [self._policy(name) for name in names] if names else list(self._policies)
        updates = [update for update in self._updates if any(loop in update.policies for loop in chosen)]
        return {
            "policies": [_policy_status(loop) for loop in chosen],
            "updates": [_update_status(loop) for loop in updates],
        }

    def made_from(self, images: Iterable[str]) -> list[dict[str, str]]:
        """Of those images, as they stand in manifests, that some policy selected: the code that they say to be of."""
        return [{"image": image, **_origin(origin)} for image in images if (origin := self._made_from(image))]

    def _made_from(self, image: str) -> Origin | None:
        try:
            named = reference(image)
        except ValueError:
            return None
        return next((origin for loop in self._policies if (origin := loop.made_from(named))), None)

    def lock(self, name: str, reason: str, duration: timedelta | None) -> dict[str, Any]:
        """Write nothing for a policy, for so long or until it is unlocked. Raises `UsageError`."""
        loop = self._policy(name)
        until = self._clock.now() + duration if duration is not None else None
        loop.lock_for(reason, until)
        return {"policy": name, "locked": _lock(loop)}

    def unlock(self, name: str) -> dict[str, Any]:
        """Raises `UsageError`."""
        loop = self._policy(name)
        was = loop.lock is not None
        loop.unlock()
        return {"policy": name, "was_locked": was}

    def _policy(self, name: str) -> PolicyLoop:
        for loop in self._policies:
            if loop.policy.name == name:
                return loop
        known = ", ".join(sorted(loop.policy.name for loop in self._policies))
        raise UsageError(f"there is no policy {name!r}", hint=f"Policies: {known or 'none'}")


def _policy_status(loop: PolicyLoop) -> dict[str, Any]:
    selected = loop.selected or loop.known
    written = [
        {"update": branch.update, "file": file, "line": mark.line, "part": mark.part, "value": mark.value}
        for branch in loop.branches
        for file, mark in branch.seen.marks.get(loop.policy.name, ())
    ]
    return {
        "policy": loop.policy.name,
        "image": loop.policy.image,
        "state": policy_state(loop),
        "tag": selected.tag if selected else None,
        "digest": selected.digest if selected else None,
        "created": moment(selected.created) if selected else None,
        "made_from": _origin(selected.made_from) if selected and selected.made_from else None,
        "since": moment(loop.since),
        "looked": moment(loop.looked_at),
        "held": [{"tag": held.tag, "reason": str(held.reason), "detail": held.detail} for held in loop.held],
        "written": written,
        "locked": _lock(loop),
        **trouble(loop.error),
    }


def policy_state(loop: PolicyLoop) -> str:
    """What one word says of a policy."""
    if loop.error is not None:
        return "failed"
    if loop.is_locked:
        return "locked"
    return "selected" if loop.selected is not None or loop.stands else "unknown" if loop.looked_at is None else "held"


def update_state(loop: UpdateLoop) -> str:
    """What one word says of an update."""
    return "failed" if loop.error or loop.problems else "ready" if loop.branch.seen.commit else "unknown"


def _update_status(loop: UpdateLoop) -> dict[str, Any]:
    update = loop.update
    return {
        "update": update.name,
        "source": update.source,
        "branch": update.pushed,
        "state": update_state(loop),
        "commit": loop.last.commit if loop.last else None,
        "committed": moment(loop.last_at),
        "pull_request": loop.request_url or None,
        "waits_for": list(loop.waits_for),
        "problems": [
            {"file": problem.file, "line": problem.line, "error": problem.message, "hint": problem.hint}
            for problem in loop.problems
        ],
        **trouble(loop.error),
    }


def _origin(origin: Origin) -> dict[str, str]:
    return {"source": origin.source, "revision": origin.revision}


def _lock(loop: PolicyLoop) -> dict[str, Any] | None:
    lock = loop.lock if loop.is_locked else None
    return {"reason": lock.reason, "since": moment(lock.since), "until": moment(lock.until)} if lock else None
