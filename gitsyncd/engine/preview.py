"""What a turn would do, shown before anything is done: the answers of `plan` and `diff`.

Belongs here: walking one target up to the guard, and the three values of each field that would change. Nothing here
writes: what Git's text becomes on a server is asked by a dry run.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import orjson

from gitsyncd.core.compare import removes
from gitsyncd.core.fields import FieldPath, changed_values, children
from gitsyncd.core.guard import NEEDS_APPROVAL
from gitsyncd.core.ignore import keep_live
from gitsyncd.core.ownership import blame
from gitsyncd.core.redact import redact_value, redact_values
from gitsyncd.model.answers import ApplyOptions
from gitsyncd.model.errors import GitsyncdError, Immutable
from gitsyncd.model.plan import Operation
from gitsyncd.model.units import rfc3339

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gitsyncd.engine.cluster_view import ClusterView
    from gitsyncd.engine.facts import Gatherer
    from gitsyncd.engine.ports import Json
    from gitsyncd.engine.reconcile import Reconciler
    from gitsyncd.model.ids import ObjectId
    from gitsyncd.model.manifest import Desired
    from gitsyncd.model.plan import Change, Plan
    from gitsyncd.model.source import Revision
    from gitsyncd.model.target import Target

MAX_FIELDS = 200
_REPORTED = "only reported: `drift.action: report`"
_COMPARED = frozenset({Operation.UPDATE, Operation.REVERT, Operation.ADOPT})


class Preview:
    """The plan of one target as a value for people and programs."""

    def __init__(self, target: Target, view: ClusterView, gatherer: Gatherer, reconciler: Reconciler) -> None:
        self._target = target
        self._view = view
        self._gatherer = gatherer
        self._reconciler = reconciler
        self._old: dict[str, Mapping[ObjectId, Json]] = {}

    async def show(self, revision: Revision, *, fields: bool) -> dict[str, Any]:
        """The JSON of one target in `plan` (`fields` off) and `diff` (on).

        Raises `GitsyncdError` where no plan can be made.
        """
        facts, plan = await self._reconciler.look(revision)
        unknown = self._unknown(plan, facts.desired)
        changes = await asyncio.gather(
            *(self._change(change, fields=fields) for change in _all(plan) if change.id not in unknown)
        )
        return {
            "target": self._target.id,
            "revision": str(revision),
            "plan": plan.digest,
            "refused": _refused(plan),
            "changes": [
                *changes,
                *(_blocked(object_id, error) for object_id, error in unknown.items()),
                *(_blocked(object_id, error) for object_id, error in facts.unseen.items()),
            ],
            "keep": plan.keep,
        }

    def _unknown(self, plan: Plan, wanted: Desired) -> dict[ObjectId, GitsyncdError]:
        """Objects of the plan whose kind neither the cluster nor Git knows: a turn sends nothing of them."""
        found: dict[ObjectId, GitsyncdError] = {}
        for change in plan.changes:
            manifest = wanted.unknown.get(change.id)
            if manifest is not None:
                try:
                    self._view.resource(change.id, manifest.api_version)
                except GitsyncdError as error:
                    found[change.id] = error
        return found

    async def _change(self, change: Change, *, fields: bool) -> dict[str, Any]:
        path = change.manifest.origin.file if change.manifest else change.entry.path if change.entry else ""
        shown: dict[str, Any] = {
            "object": str(change.id),
            "operation": change.operation,
            "reason": change.reason,
            "path": path,
            "fields": [],
        }
        notes = [change.manifest.left_out if change.manifest else "", _REPORTED if change.report_only else ""]
        if any(notes):
            shown["note"] = "; ".join(filter(None, notes))
        # Only the API server knows whether an object has to be made anew.
        is_spared = (change.id.group, change.id.kind) in NEEDS_APPROVAL
        may_recreate = change.manifest is not None and change.manifest.controls.recreate and not is_spared
        if (fields or may_recreate) and change.operation in _COMPARED:
            try:
                rows = await self._fields(change)
            except GitsyncdError as error:
                if may_recreate and isinstance(error, Immutable):
                    shown["operation"] = Operation.RECREATE
                elif fields:
                    shown |= {"error": error.message, "remedy": error.remedy, "hint": error.hint}
            else:
                shown["fields"] = rows if fields else []
        return shown

    async def _fields(self, change: Change) -> list[dict[str, Any]]:
        manifest = change.manifest
        assert manifest is not None
        manager = self._view.agent.field_manager
        resource = self._view.resource(change.id, manifest.api_version)
        live = await self._view.api.read(resource, change.id)
        if live is None:
            return []
        body = keep_live(manifest.body, live, manifest.yields, manager) if manifest.yields else manifest.body
        answer = await self._view.api.apply(resource, change.id, body, ApplyOptions(dry_run=True))
        changed = changed_values(live, answer, manager, limit=MAX_FIELDS)
        shown = redact_values(change.id.group, change.id.kind, changed)
        before = await self._last_applied(change)
        rows = [
            self._row(change.id, live, path=c.path, keys=c.keys, git=c.after, cluster=c.before, before=before)
            for c in shown
        ]
        return rows + self._added(change, live, orjson.loads(manifest.body))

    def _added(self, change: Change, live: Json, wanted: Json) -> list[dict[str, Any]]:
        """Fields that somebody added and that the turn would remove: Git has no value for them.

        Of an object that is adopted everything is somebody else's: what Git names too is no addition.
        """
        if change.observed is None:
            return []
        return [
            self._row(
                change.id,
                live,
                path=path,
                keys=keys,
                git=None,
                cluster=redact_value(change.id.group, change.id.kind, keys, value_at(live, keys)),
            )
            for addition in change.observed.additions
            if removes(addition, self._target.policy)
            for path, keys in zip(addition.fields, addition.keys, strict=True)
            if not is_named(wanted, live, keys)
        ]

    def _row(
        self,
        object_id: ObjectId,
        live: Json,
        *,
        path: str,
        keys: FieldPath,
        git: Any,
        cluster: Any,
        before: Json | None = None,
    ) -> dict[str, Any]:
        writer = blame(live, (path,), self._view.agent.field_manager, self._view.writers)
        last = redact_value(object_id.group, object_id.kind, keys, value_at(before, keys))
        return {
            "path": path,
            "last_applied": last,
            "git": git,
            "cluster": cluster,
            "differs": True,  # what is the same on both sides has no row; of a Secret this is all that is told
            "manager": writer.manager,
            "written_at": rfc3339(writer.at) if writer.at else None,
        }

    async def _last_applied(self, change: Change) -> Json | None:
        """What the commit that was last applied to this object says of it; the mirror still has it."""
        commit = change.entry.commit if change.entry else ""
        if not commit:
            return None
        if commit not in self._old:
            try:
                wanted = await self._gatherer.at(commit)
            except GitsyncdError:
                self._old[commit] = {}
            else:
                self._old[commit] = bodies(wanted)
        return self._old[commit].get(change.id)


def bodies(wanted: Desired) -> dict[ObjectId, Json]:
    """The decoded manifests."""
    return {object_id: orjson.loads(manifest.body) for object_id, manifest in wanted.manifests.items()}


def is_named(wanted: Json, live: Json, keys: FieldPath) -> bool:
    """Whether Git has a value of its own for what stands at a path, and nothing below it is left to be removed."""
    value = value_at(wanted, keys)
    return value is not None and (not isinstance(value, dict | list) or value == value_at(live, keys))


def value_at(value: Any, keys: FieldPath) -> Any:
    """What stands at a path of managedFields' elements; None where nothing does."""
    for key in keys:
        value = children(value, {key: {}}).get(key)
        if value is None:
            return None
    return value


def _all(plan: Plan) -> list[Change]:
    return [*plan.changes, *plan.withheld]


def _refused(plan: Plan) -> dict[str, Any] | None:
    refused = plan.refused
    return {"reason": refused.reason, "prune": refused.prune, "limit": refused.limit} if refused else None


def _blocked(object_id: ObjectId, error: GitsyncdError) -> dict[str, Any]:
    return {
        "object": str(object_id),
        "operation": Operation.BLOCK,
        "reason": error.message,
        "path": "",
        "fields": [],
        "remedy": error.remedy,
        "hint": error.hint,
    }
