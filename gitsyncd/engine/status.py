"""What is shown of a running daemon: each target, source and cluster as plain values, ready to be written as JSON.

Belongs here: the JSON of `gitsyncd status`, and which targets a name means. Does not belong here: anything that changes
something (`control`), images (`image_control`), how it looks on a terminal (`text`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gitsyncd.core.admission import REWOUND
from gitsyncd.engine.journal import held_hint, refusal_hint
from gitsyncd.model.errors import GitsyncdError, PlanRefused, StandingBy, UsageError
from gitsyncd.model.report import HealthStatus, TargetState
from gitsyncd.model.units import rfc3339

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from gitsyncd.engine.cluster_view import ClusterView
    from gitsyncd.engine.source_loop import SourceLoop, Track
    from gitsyncd.engine.target_loop import TargetLoop
    from gitsyncd.model.target import Configuration


class Status:
    """The daemon as it is seen, from a command or over HTTP."""

    def __init__(
        self,
        configuration: Configuration,
        version: str,
        targets: Sequence[TargetLoop],
        sources: Sequence[SourceLoop],
        views: Mapping[str, ClusterView],
    ) -> None:
        self.configuration = configuration
        self.refusal: GitsyncdError | None = None
        """Why the agent file as it stands now is not in force."""
        self._version = version
        self._targets = targets
        self._sources = sources
        self._views = views

    def of(self, names: Sequence[str] = ()) -> dict[str, Any]:
        """The JSON of `gitsyncd status`. Raises `UsageError` for a name that is no target."""
        unmanaged = [left for left in self._unmanaged() if not names or _named(left["target"], names)]
        found = [name for name in names if any(_named(left["target"], [name]) for left in unmanaged)]
        managed = [
            name for name in names if name not in found or any(_named(loop.target.id, [name]) for loop in self._targets)
        ]
        chosen = choose(self._targets, managed) if names else list(self._targets)
        return {
            "agent": self.configuration.agent.name,
            "version": self._version,
            "configuration": self._configuration_status(),
            "targets": [self._target_status(loop) for loop in chosen] + unmanaged,
            "sources": [_source_status(track) for loop in self._sources for track in loop.tracks] + self._unused(),
            "clusters": [_cluster_status(view) for view in self._views.values()],
        }

    def _unused(self) -> list[dict[str, Any]]:
        """Sources that nobody asks for anything: no target follows them, and no update writes to them."""
        asked = {track.source.name for loop in self._sources for track in loop.tracks}
        asked |= {update.source for update in self.configuration.images.updates}
        return [
            {
                "source": source.name,
                "branch": source.branch,
                "state": "unused",
                "revision": None,
                "since": None,
                "answered": None,
                **trouble(None),
            }
            for source in self.configuration.sources
            if source.name not in asked
        ]

    def _configuration_status(self) -> dict[str, Any]:
        refusal = self.refusal
        return {
            "file": str(self.configuration.file),
            "error": refusal.message if refusal else None,
            "hint": refusal.hint if refusal else None,
        }

    def in_sync(self, names: Sequence[str] = ()) -> bool:
        """Whether all of these targets are."""
        return all(
            state_of(loop) is TargetState.IN_SYNC for loop in (choose(self._targets, names) if names else self._targets)
        )

    def _target_status(self, loop: TargetLoop) -> dict[str, Any]:
        health = loop.health()
        track, progress = loop.track, loop.reconciler.progress
        return {
            "target": loop.target.id,
            "source": track.source.name,
            "state": state_of(loop),
            "revision": str(loop.revision) if loop.revision else None,
            "admitted": str(track.admitted) if track.admitted else None,
            "head": f"{track.source.branch}@sha1:{track.head}" if track.head else None,
            "since": moment(loop.since),
            "objects": loop.objects,
            "health": health.status,
            "health_message": health.message,
            "last_turn": moment(loop.last_turn),
            "progress": {"done": progress.done, "total": progress.total} if progress else None,
            "problems": self._problems(loop),
            "plan": loop.refused.digest if loop.refused else None,
            "suspended": {"until": moment(loop.suspension.until), "reason": loop.suspension.reason}
            if loop.suspension
            else None,
        }

    def _problems(self, loop: TargetLoop) -> list[dict[str, Any]]:
        problems = [problem(str(object_id) if object_id else "", error) for object_id, error in loop.problems.items()]
        if loop.refused is not None and loop.refused.refused is not None:
            error = PlanRefused(loop.refused.refused.reason, hint=refusal_hint(loop.target.id, loop.refused))
            problems.append(problem("", error))
        if (loop.track.held or loop.held_back) and loop.track.head:
            hint = held_hint(loop.track.source.name, loop.track.head, loop.track.held or REWOUND)
            problems.append(
                {
                    "object": "",
                    "error": f"the head {loop.track.head} is held: {loop.track.held or REWOUND}",
                    "remedy": "approve",
                    "hint": hint,
                }
            )
        if loop.track.error is not None and loop.problems.get(None) is not loop.track.error:
            problems.append(problem("", loop.track.error))
        if loop.view.error is not None and loop.problems.get(None) is not loop.view.error:
            problems.append(problem("", loop.view.error))
        return problems

    def _unmanaged(self) -> list[dict[str, Any]]:
        """Targets that own objects on a cluster and are no longer in the agent file."""
        known = {(loop.target.name, loop.target.cluster) for loop in self._targets}
        return [
            {
                "target": f"{name}@{view.cluster.name}",
                "state": TargetState.UNMANAGED,
                "revision": None,
                "admitted": None,
                "head": None,
                "since": None,
                "objects": len(inventory.entries),
                "health": HealthStatus.UNKNOWN,
                "last_turn": None,
                "progress": None,
                "problems": [
                    {
                        "object": "",
                        "error": "this target is not in the agent file any more; its objects stay as they are",
                        "remedy": "fix-config",
                        "hint": f"Add it again, or delete them: gitsyncd delete {name}@{view.cluster.name} --yes",
                    }
                ],
            }
            for view in self._views.values()
            for name, inventory in view.inventories.items()
            if (name, view.cluster.name) not in known
        ]


def choose(loops: Sequence[TargetLoop], names: Sequence[str]) -> list[TargetLoop]:
    """Loops of the targets that are named, as `name` (all its clusters) or `name@cluster`.

    Raises `UsageError` for a name that matches none.
    """
    chosen: list[TargetLoop] = []
    for name in names:
        matching = [loop for loop in loops if name in {loop.target.id, loop.target.name}]
        if not matching:
            known = sorted(loop.target.id for loop in loops)
            raise UsageError(f"there is no target {name!r}", hint=f"Targets: {', '.join(known) or 'none'}")
        chosen += [loop for loop in matching if loop not in chosen]
    return chosen


def _named(target: str, names: Sequence[str]) -> bool:
    """Whether `name@cluster` is among these, as such or as `name`."""
    return target in names or target.partition("@")[0] in names


def state_of(loop: TargetLoop) -> TargetState:
    """What was in sync when its cluster last answered is not known to be so while it does not."""
    unheard = loop.view.error is not None and loop.state is TargetState.IN_SYNC
    return TargetState.UNKNOWN if unheard else loop.state


def _source_status(track: Track) -> dict[str, Any]:
    state = "held" if track.held else "unreachable" if track.error else "ready" if track.admitted else "unknown"
    return {
        "source": track.source.name,
        "branch": track.source.branch,
        "state": state,
        "revision": str(track.admitted) if track.admitted else None,
        "since": moment(track.since),
        "answered": moment(track.answered_at),
        **trouble(track.error),
    }


def _cluster_status(view: ClusterView) -> dict[str, Any]:
    standing_by = isinstance(view.error, StandingBy)
    state = "standby" if standing_by else "unreachable" if view.error else "ready" if view.resources else "unknown"
    return {
        "cluster": view.cluster.name,
        "state": state,
        "since": moment(view.since),
        **trouble(None if standing_by else view.error),
        "writer": view.writer or None,
        "server_version": view.version or None,
    }


def problem(name: str, error: GitsyncdError) -> dict[str, Any]:
    """What is wrong with one object, or with the whole target where `name` is empty."""
    return {
        "object": name,
        "error": str(error) if not name else error.message,
        "remedy": error.remedy,
        "hint": error.hint,
    }


def trouble(error: GitsyncdError | None) -> dict[str, Any]:
    """What is wrong with a source or a cluster."""
    if error is None:
        return {"error": None, "remedy": None, "hint": None}
    return {"error": str(error), "remedy": error.remedy, "hint": error.hint}


def moment(at: datetime | None) -> str | None:
    """As RFC 3339, or null."""
    return rfc3339(at) if at is not None else None
