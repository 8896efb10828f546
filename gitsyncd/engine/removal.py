"""Deleting all that a target owns: what `gitsyncd delete` asks for, and nothing else ever does.

The target is suspended, or gone from the agent file: otherwise its objects would be created again at once.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from gitsyncd.core.ledger import settle
from gitsyncd.core.plan import Scene, plan
from gitsyncd.engine.apply import GONE_WITHIN_S, Actuator
from gitsyncd.engine.journal import Journal
from gitsyncd.engine.status import problem
from gitsyncd.model.errors import GitsyncdError, KindUnknown, UsageError
from gitsyncd.model.immutable import immutable
from gitsyncd.model.inventory import Entry, EntryState
from gitsyncd.model.manifest import Desired
from gitsyncd.model.observed import Observed
from gitsyncd.model.plan import Operation
from gitsyncd.model.source import Repository, Source
from gitsyncd.model.target import Policy, Target

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gitsyncd.engine.cluster_view import ClusterView
    from gitsyncd.engine.ports import Clock, Log
    from gitsyncd.engine.target_loop import TargetLoop
    from gitsyncd.model.ids import ObjectId

_LOOK_EVERY_S = 0.5


class Removal:
    """Of one target after another, on every cluster or on one."""

    def __init__(
        self, targets: Sequence[TargetLoop], views: Mapping[str, ClusterView], *, clock: Clock, log: Log
    ) -> None:
        self._targets = targets
        self._views = views
        self._clock = clock
        self._log = log

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
        target = loop.target if loop is not None else _ghost(name, view)
        if loop is None:
            return await self._prune_all(target, view)
        async with loop.turning:
            return await self._prune_all(target, view)

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
        return [problem(str(object_id), error) for object_id, error in [*failed, *unseen.items()]], released


@immutable
class _Deleted:
    """What came of deleting all that a target owns on one cluster."""

    deleted: int
    released: int
    """Objects that stay: of another target by now, or told by an annotation not to be deleted."""
    left: list[dict[str, Any]]


def _ghost(name: str, view: ClusterView) -> Target:
    """A target that is only known by its inventory."""
    nowhere = Source(name="", repository=Repository(url=""), branch="", interval=timedelta(0), timeout=timedelta(0))
    return Target(name=name, cluster=view.cluster.name, source=nowhere, path="", policy=Policy())
