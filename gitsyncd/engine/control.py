"""What people ask of a running daemon: status, sync, approve, suspend, resume, delete.

Answers are plain values, ready to be written as JSON. Does not belong here: how a request arrives (`edges/web`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from gitsyncd.core.admission import REWOUND
from gitsyncd.core.ledger import settle
from gitsyncd.core.plan import Scene, plan
from gitsyncd.engine.apply import GONE_WITHIN_S, Actuator
from gitsyncd.engine.journal import Journal, held_hint, refusal_hint
from gitsyncd.engine.target_loop import Suspension
from gitsyncd.model.errors import GitsyncdError, KindUnknown, PlanRefused, StandingBy, UsageError
from gitsyncd.model.inventory import Entry, EntryState
from gitsyncd.model.manifest import Desired
from gitsyncd.model.observed import Observed
from gitsyncd.model.plan import Operation
from gitsyncd.model.report import HealthStatus, TargetState
from gitsyncd.model.source import Repository, Source
from gitsyncd.model.target import Policy, Target
from gitsyncd.model.units import rfc3339

if TYPE_CHECKING:
    from gitsyncd.engine.chronicle import Chronicle
    from gitsyncd.engine.cluster_view import ClusterView
    from gitsyncd.engine.image_control import ImageControl
    from gitsyncd.engine.ports import Calendar, Clock, Log, Store
    from gitsyncd.engine.rollback import Rollback
    from gitsyncd.engine.source_loop import SourceLoop, Track
    from gitsyncd.engine.target_loop import TargetLoop
    from gitsyncd.model.history import Passage
    from gitsyncd.model.ids import ObjectId
    from gitsyncd.model.target import Configuration

_SUSPENSIONS = "suspensions"
_LOOK_EVERY_S = 0.5


class Control:
    """The daemon as its commands see it."""

    def __init__(
        self,
        configuration: Configuration,
        version: str,
        targets: Sequence[TargetLoop],
        sources: Sequence[SourceLoop],
        views: Mapping[str, ClusterView],
        images: ImageControl,
        chronicles: Mapping[str, Chronicle],
        rollbacks: Rollback,
        *,
        calendar: Calendar,
        clock: Clock,
        log: Log,
        store: Store,
    ) -> None:
        self.configuration = configuration
        self.images = images
        self._chronicles = chronicles
        self._rollbacks = rollbacks
        self.refusal: GitsyncdError | None = None
        """Why the agent file as it stands now is not in force."""
        self._version = version
        self._targets = targets
        self._sources = sources
        self._views = views
        self._calendar = calendar
        self._clock = clock
        self._log = log
        self._store = store

    # --- status --------------------------------------------------------------------------------------------------

    def status(self, names: Sequence[str] = ()) -> dict[str, Any]:
        """The JSON of `gitsyncd status`. Raises `UsageError` for a name that is no target."""
        unmanaged = [left for left in self._unmanaged() if not names or _named(left["target"], names)]
        found = [name for name in names if any(_named(left["target"], [name]) for left in unmanaged)]
        managed = [
            name for name in names if name not in found or any(_named(loop.target.id, [name]) for loop in self._targets)
        ]
        chosen = self._chosen(managed) if names else list(self._targets)
        return {
            "agent": self.configuration.agent.name,
            "version": self._version,
            "configuration": self._configuration_status(),
            "targets": [self._target_status(loop) for loop in chosen] + unmanaged,
            "sources": [_source_status(track) for loop in self._sources for track in loop.tracks],
            "clusters": [_cluster_status(view) for view in self._views.values()],
        }

    def _configuration_status(self) -> dict[str, Any]:
        refusal = self.refusal
        return {
            "file": str(self.configuration.file),
            "error": refusal.message if refusal else None,
            "hint": refusal.hint if refusal else None,
        }

    def in_sync(self, names: Sequence[str] = ()) -> bool:
        """Whether all of these targets are."""
        return all(state_of(loop) is TargetState.IN_SYNC for loop in (self._chosen(names) if names else self._targets))

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
            "since": _moment(loop.since),
            "objects": loop.objects,
            "health": health.status,
            "health_message": health.message,
            "last_turn": _moment(loop.last_turn),
            "progress": {"done": progress.done, "total": progress.total} if progress else None,
            "problems": self._problems(loop),
            "plan": loop.refused.digest if loop.refused else None,
            "suspended": {"until": _moment(loop.suspension.until), "reason": loop.suspension.reason}
            if loop.suspension
            else None,
        }

    def _problems(self, loop: TargetLoop) -> list[dict[str, Any]]:
        problems = [_problem(str(object_id) if object_id else "", error) for object_id, error in loop.problems.items()]
        if loop.refused is not None and loop.refused.refused is not None:
            error = PlanRefused(loop.refused.refused.reason, hint=refusal_hint(loop.target.id, loop.refused))
            problems.append(_problem("", error))
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
            problems.append(_problem("", loop.track.error))
        if loop.view.error is not None and loop.problems.get(None) is not loop.view.error:
            problems.append(_problem("", loop.view.error))
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

    # --- sync ----------------------------------------------------------------------------------------------------

    async def sync(self, names: Sequence[str], *, wait: bool) -> dict[str, Any]:
        """Look at the remote and at the cluster now.

        With `wait`, until the turn is over and the target healthy, failed or timed out.
        """
        chosen = self._chosen(names)
        before = {loop.target.id: loop.finished for loop in chosen}
        for source in self._sources:
            if any(loop.track in source.tracks for loop in chosen):
                await source.look()
        for loop in chosen:
            loop.bell.ring()
        healthy = (
            await asyncio.gather(*(self._settled(loop, before[loop.target.id]) for loop in chosen)) if wait else []
        )
        return {"synced": all(healthy) and self.in_sync(names) if wait else None, **self.status(names)}

    async def _settled(self, loop: TargetLoop, turns_before: int) -> bool:
        await loop.tried.wait()  # a step before the cluster was first asked is no turn
        await loop.until_turned(turns_before)
        while loop.state is TargetState.SYNCING:
            await loop.until_turned(loop.finished)
        if loop.state is not TargetState.IN_SYNC or loop.track.error is not None:
            return False  # what the remote could not be asked for is not in sync
        return not loop.target.wait or await loop.until_healthy(lambda: loop.state is not TargetState.SYNCING)

    # --- approvals -----------------------------------------------------------------------------------------------

    def approve_plan(self, name: str, digest: str) -> dict[str, Any]:
        """Let exactly that refused plan through, once.

        Raises `UsageError` when it is not the plan that is refused now.
        """
        for loop in self._chosen([name]):
            # Whole: whoever may push could search for another plan with the same first digits.
            if loop.refused is not None and loop.refused.digest == digest:
                loop.reconciler.approved.add(loop.refused.digest)
                loop.bell.ring()
                return {"approved": loop.refused.digest, "target": loop.target.id}
        raise UsageError(
            f"{digest} is not a plan that {name} has refused now",
            hint=f"See what is refused now: gitsyncd plan {name}",
        )

    async def approve_revision(self, source: str, commit: str) -> dict[str, Any]:
        """Admit exactly that held head, once. Raises `UsageError` when it is not the head that is held."""
        tracks = [track for loop in self._sources for track in loop.tracks if track.source.name == source]
        if not tracks:
            names = sorted({track.source.name for loop in self._sources for track in loop.tracks})
            raise UsageError(f"there is no source {source!r}", hint=f"Sources: {', '.join(names)}")
        for track in tracks:
            # Whole: whoever may push could search for another commit with the same first digits.
            if track.head == commit and await track.approve(commit):
                return {"approved": track.head, "source": source}
        raise UsageError(
            f"{commit} is not a head of {source} that is held now", hint="See which revision is held: gitsyncd status"
        )

    # --- going back ----------------------------------------------------------------------------------------------

    async def history(self, name: str, limit: int | None) -> dict[str, Any]:
        """Each revision of a target, the newest first. Raises `UsageError`, `ClusterError`."""
        shown = []
        for loop in self._chosen([name]):
            history = await self._chronicles[loop.target.id].history()
            shown.append(
                {
                    "target": loop.target.id,
                    "revisions": [
                        {**_passage(passage), "made_from": self.images.made_from(passage.images or ())}
                        for passage in history.passages[:limit]
                    ],
                    "damage": history.damage or None,
                }
            )
        return {"targets": shown}

    async def rollback(
        self, name: str, to: str, *, confirmed: bool, reason: str, by_request: bool = False
    ) -> dict[str, Any]:
        """Write the commit that takes a target back, or only say what it would be.

        Raises `UsageError` for a wrong question, `SourceError` when it could not be pushed.
        """
        chosen = self._chosen([name])
        if len(chosen) > 1:
            ids = ", ".join(loop.target.id for loop in chosen)
            raise UsageError(f"{name} is on several clusters: {ids}", hint="Name one of them as TARGET@CLUSTER.")
        loop = chosen[0]
        history = await self._chronicles[loop.target.id].history()
        way = await self._rollbacks.way(loop, to, history, by_request=by_request)
        if not confirmed:
            return way.as_json()
        return await self._rollbacks.commit(loop, way, reason, by_request=by_request)

    # --- pausing -------------------------------------------------------------------------------------------------

    def suspend(self, name: str, duration: timedelta, reason: str) -> dict[str, Any]:
        """Pause with an end."""
        until = self._clock.now() + duration
        for loop in self._chosen([name]):
            loop.suspend(Suspension(until, reason))
            self._calendar.at(loop.target.id, until, loop.bell.ring)
        self._remember_suspensions()
        return self.status([name])

    def resume(self, name: str) -> dict[str, Any]:
        """End a pause that `suspend` began. Raises `UsageError` for one that stands in the agent file."""
        for loop in self._chosen([name]):
            if loop.target.suspend:
                raise UsageError(
                    f"{loop.target.id} is suspended in the agent file", hint="Remove `suspend: true` from the target."
                )
            loop.resume()
        self._remember_suspensions()
        return self.status([name])

    def restore_suspensions(self) -> None:
        """After a restart: what was suspended stays so until its time is over."""
        stored = self._store.load(_SUSPENSIONS)
        for loop in self._targets:
            kept = stored.get(loop.target.id)
            if isinstance(kept, Mapping) and loop.suspension is None:
                until = datetime.fromisoformat(str(kept["until"]))
                loop.suspension = Suspension(until, str(kept.get("reason", "")))
                self._calendar.at(loop.target.id, until, loop.bell.ring)

    def _remember_suspensions(self) -> None:
        self._store.save(
            _SUSPENSIONS,
            {
                loop.target.id: {"until": rfc3339(loop.suspension.until), "reason": loop.suspension.reason}
                for loop in self._targets
                if loop.suspension is not None and loop.suspension.until is not None
            },
        )

    # --- delete --------------------------------------------------------------------------------------------------

    async def delete(self, name: str) -> dict[str, Any]:
        """Prune everything that a target owns. It must be suspended, or gone from the agent file.

        Raises `UsageError` when it is neither, or owns nothing, and then nothing is deleted on any cluster.
        """
        base, _, cluster = name.partition("@")
        views = [view for view in self._views.values() if cluster in {"", view.cluster.name}]
        for view in views:
            self._require_deletable(base, view)
        results = [await self._delete_on(base, view) for view in views if base in view.inventories]
        if not results:
            raise UsageError(f"no target {name!r} owns anything", hint="See what there is: gitsyncd status")
        return {
            "deleted": sum(result.deleted for result in results),
            "released": sum(result.released for result in results),
            "remaining": [item for result in results for item in result.left],
        }

    def _require_deletable(self, name: str, view: ClusterView) -> None:
        if not view.resources:
            raise UsageError(
                f"cluster {view.cluster.name} has not answered, so what {name} owns there is not known",
                hint=f"Wait until it answers, or name another cluster: gitsyncd delete {name}@CLUSTER --yes",
            )
        if name not in view.inventories:
            return
        loop = self._loop_on(name, view)
        if loop is not None and loop.suspension is None:
            raise UsageError(
                f"{loop.target.id} is in the agent file and not suspended: its objects would be created again at once",
                hint=f"Remove it from the file, or first: gitsyncd suspend {loop.target.id} --for 1h --reason …",
            )
        view.require()

    def _loop_on(self, name: str, view: ClusterView) -> TargetLoop | None:
        return next((loop for loop in self._targets if loop.target.name == name and loop.view is view), None)

    async def _delete_on(self, name: str, view: ClusterView) -> _Deleted:
        loop = self._loop_on(name, view)
        target = loop.target if loop is not None else self._ghost(name, view)
        if loop is None:
            return await self._prune_all(target, view)
        async with loop.turning:
            return await self._prune_all(target, view)

    def _ghost(self, name: str, view: ClusterView) -> Target:
        """A target that is only known by its inventory."""
        nowhere = Source(name="", repository=Repository(url=""), branch="", interval=timedelta(0), timeout=timedelta(0))
        return Target(name=name, cluster=view.cluster.name, source=nowhere, path="", policy=Policy())

    async def _prune_all(self, target: Target, view: ClusterView) -> _Deleted:
        """Delete, and look again while finalizers hold something, for as long as a person would wait."""
        before = len(view.inventories[target.name].entries)
        released: set[ObjectId] = set()
        deadline = self._clock.monotonic() + GONE_WITHIN_S
        while True:
            left, let_go = await self._prune_once(target, view)
            released |= let_go
            remaining = view.inventories[target.name].entries if target.name in view.inventories else {}
            held = [object_id for object_id, entry in remaining.items() if entry.state is EntryState.DELETING]
            if not held or left or self._clock.monotonic() > deadline:
                break
            await asyncio.sleep(_LOOK_EVERY_S)
        left += [
            {
                "object": str(object_id),
                "error": "its deletion was accepted, and a finalizer holds it",
                "remedy": "wait",
                "hint": f"When it is gone, run this again: gitsyncd delete {target.id} --yes",
            }
            for object_id in held
        ]
        return _Deleted(deleted=before - len(remaining) - len(released), released=len(released), left=left)

    async def _prune_once(self, target: Target, view: ClusterView) -> tuple[list[dict[str, Any]], set[ObjectId]]:
        """One pass over what a target owns: what could not be deleted, and what is no longer its own and stays."""
        inventory = view.inventories[target.name]
        observed: dict[ObjectId, Observed] = {}
        unseen: dict[ObjectId, GitsyncdError] = {}

        async def look(object_id: ObjectId, entry: Entry) -> None:
            try:
                live = await view.api.read(view.resource(object_id, entry.api_version), object_id)
            except KindUnknown as error:
                unseen[object_id] = error  # its API may be down: nothing is said of it, and the rest goes on
            else:
                if live is not None:
                    observed[object_id] = view.reduce(object_id, live)

        await asyncio.gather(*(look(object_id, entry) for object_id, entry in inventory.entries.items()))
        seen = {object_id: entry for object_id, entry in inventory.entries.items() if object_id not in unseen}
        scene = Scene(
            target=target.name,
            target_id=target.id,
            agent=view.agent.name,
            revision="",
            commit="",
            desired=Desired(manifests={}),
            inventory=replace(inventory, entries=seen),
            observed=observed,
            policy=replace(target.policy, prune=replace(target.policy.prune, enabled=True)),
            agent_namespace=view.agent.cluster_namespace,
            claims={i: other for other, claims in view.claims.items() if other != target.name for i in claims.ids},
            final=True,
        )
        todo = plan(scene)
        actuator = Actuator(target, view, Journal(target.id, log=self._log, clock=self._clock), clock=self._clock)
        outcomes = await actuator.carry_out(todo, scene.desired, lambda: False)
        settled = settle(inventory, todo, outcomes, commit="")
        if settled.entries:
            view.inventories[target.name] = await view.api.save_inventory(target.name, settled)
        else:
            await view.api.drop_inventory(target.name)
            await view.api.drop_history(target.name)
            view.inventories.pop(target.name, None)
        failed = [(o.change.id, o.error) for o in outcomes if o.error is not None]
        released = {c.id for c in todo.changes if c.operation is Operation.RELEASE and c.observed is not None}
        return [_problem(str(object_id), error) for object_id, error in [*failed, *unseen.items()]], released

    def _chosen(self, names: Sequence[str]) -> list[TargetLoop]:
        """Loops by `name` or `name@cluster`. Raises `UsageError` for a name that matches none."""
        return choose(self._targets, names)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Deleted:
    """What came of deleting all that a target owns on one cluster."""

    deleted: int
    released: int
    """Objects that stay: of another target by now, or told by an annotation not to be deleted."""
    left: list[dict[str, Any]]


def _named(target: str, names: Sequence[str]) -> bool:
    """Whether `name@cluster` is among these, as such or as `name`."""
    return target in names or target.partition("@")[0] in names


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


def _passage(passage: Passage) -> dict[str, Any]:
    return {
        "revision": passage.revision,
        "commit": passage.commit,
        "admitted": _moment(passage.admitted),
        "applied": _moment(passage.applied),
        "in_sync": _moment(passage.in_sync),
        "healthy": _moment(passage.healthy),
        "failed": _moment(passage.failed),
        "error": passage.error or None,
        "images": list(passage.images) if passage.images is not None else None,
    }


def _problem(name: str, error: GitsyncdError) -> dict[str, Any]:
    return {
        "object": name,
        "error": str(error) if not name else error.message,
        "remedy": error.remedy,
        "hint": error.hint,
    }


def _trouble(error: GitsyncdError | None) -> dict[str, Any]:
    """What is wrong with a source or a cluster."""
    if error is None:
        return {"error": None, "remedy": None, "hint": None}
    return {"error": str(error), "remedy": error.remedy, "hint": error.hint}


def _source_status(track: Track) -> dict[str, Any]:
    state = "held" if track.held else "unreachable" if track.error else "ready" if track.admitted else "unknown"
    return {
        "source": track.source.name,
        "branch": track.source.branch,
        "state": state,
        "revision": str(track.admitted) if track.admitted else None,
        "since": _moment(track.since),
        "answered": _moment(track.answered_at),
        **_trouble(track.error),
    }


def _cluster_status(view: ClusterView) -> dict[str, Any]:
    standing_by = isinstance(view.error, StandingBy)
    state = "standby" if standing_by else "unreachable" if view.error else "ready" if view.resources else "unknown"
    return {
        "cluster": view.cluster.name,
        "state": state,
        "since": _moment(view.since),
        **_trouble(None if standing_by else view.error),
        "writer": view.writer or None,
        "server_version": view.version or None,
    }


def state_of(loop: TargetLoop) -> TargetState:
    """What was in sync when its cluster last answered is not known to be so while it does not."""
    unheard = loop.view.error is not None and loop.state is TargetState.IN_SYNC
    return TargetState.UNKNOWN if unheard else loop.state


def _moment(moment: datetime | None) -> str | None:
    return rfc3339(moment) if moment is not None else None
