"""Carrying out a plan: stage by stage, many objects at once, one outcome per object.

Belongs here: the requests for one change and what has to be waited for before the next. Nothing is decided here: a
change that turns out not to fit any more ends as `Changed` and is planned again. What is said of it: `journal`.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING

import orjson

from gitsyncd.core.compare import removes
from gitsyncd.core.fields import changed_paths
from gitsyncd.core.guard import NEEDS_APPROVAL
from gitsyncd.core.ignore import keep_live
from gitsyncd.core.ledger import Outcome
from gitsyncd.core.marks import LAST_APPLIED
from gitsyncd.core.order import CRD
from gitsyncd.core.ownership import blame, take_over, writers_beyond
from gitsyncd.core.writers import classify, is_client_side_tool
from gitsyncd.engine.supervise import bug
from gitsyncd.model.answers import ApplyOptions
from gitsyncd.model.errors import (
    Changed,
    ClusterError,
    ClusterUnreachable,
    Conflict,
    GitsyncdError,
    Immutable,
    KindUnknown,
    NotFound,
)
from gitsyncd.model.immutable import immutable
from gitsyncd.model.manifest import Apply
from gitsyncd.model.observed import Addition, Blame
from gitsyncd.model.plan import DriftKind, Operation
from gitsyncd.model.report import HealthStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gitsyncd.engine.cluster_view import ClusterView, News
    from gitsyncd.engine.journal import Journal
    from gitsyncd.engine.ports import Clock, Json
    from gitsyncd.model.ids import ObjectId, ResourceType
    from gitsyncd.model.manifest import Desired
    from gitsyncd.model.observed import Observed
    from gitsyncd.model.plan import Change, Plan
    from gitsyncd.model.target import Target

SERVED_WITHIN_S = 30.0
"""A new CustomResourceDefinition is served a moment after it was accepted; objects of its kind wait so long."""
GONE_WITHIN_S = 60.0
"""An object that is recreated must be gone first; finalizers may hold it."""
_POLL_S = 0.1
_SUPERSEDED_WITHIN_S = 1.0
"""Until a wait for health notices that its turn is over."""
_TRIES = 5
_FIRST_OF_DELETES = frozenset({Operation.PRUNE, Operation.RELEASE})


@immutable(kw_only=False)
class Restored:
    """What a revert changed back, and who had changed it."""

    fields: tuple[str, ...]
    blame: Blame | None


@dataclass(slots=True)
class Progress:
    """How far a plan is: changes that are over, of all."""

    total: int
    done: int = 0


class Actuator:
    """Carries out plans of one target. One plan at a time."""

    def __init__(self, target: Target, view: ClusterView, journal: Journal, *, clock: Clock) -> None:
        self._target = target
        self._view = view
        self._journal = journal
        self._clock = clock
        self._news: dict[ObjectId, News] = {}
        self.progress: Progress | None = None
        """Of the plan that is being carried out; None between plans."""

    async def carry_out(
        self, plan: Plan, desired: Desired, superseded: Callable[[], bool], news: dict[ObjectId, News] | None = None
    ) -> list[Outcome]:
        """One outcome per change, in no order.

        Once `superseded` says so no further object is begun: the rest is `skipped`.

        `news` is what the watches said of the objects that changed.
        """
        self._news = news or {}
        self.progress = Progress(len(plan.changes))
        try:
            return await self._stages(plan, desired, superseded, self.progress)
        finally:
            self.progress = None

    async def _stages(
        self, plan: Plan, desired: Desired, superseded: Callable[[], bool], progress: Progress
    ) -> list[Outcome]:
        """One stage after the other, and many objects of a stage at once."""
        outcomes: list[Outcome] = []
        done: dict[ObjectId, asyncio.Future[Outcome]] = {
            change.id: asyncio.get_running_loop().create_future() for change in plan.changes
        }
        for _, stage in groupby(plan.changes, key=lambda change: (change.operation in _FIRST_OF_DELETES, change.stage)):
            changes = list(stage)
            pending = iter(changes)

            async def worker(pending: Iterable[Change] = pending) -> None:
                for change in pending:
                    outcome = await self._one(change, plan.revision, desired, done, superseded)
                    done[change.id].set_result(outcome)
                    outcomes.append(outcome)
                    progress.done += 1

            workers = min(len(changes), self._view.cluster.parallel)
            if workers == 1:
                await worker()  # the usual revert: no task, and no turn of the event loop before its request
            else:
                await asyncio.gather(*(worker() for _ in range(workers)))
        return outcomes

    async def _one(
        self,
        change: Change,
        revision: str,
        desired: Desired,
        done: dict[ObjectId, asyncio.Future[Outcome]],
        superseded: Callable[[], bool],
    ) -> Outcome:
        if superseded():
            return Outcome(change=change, skipped=True)
        begun = self._clock.monotonic()
        try:
            self._refuse_unknown(change, desired)
            await self._wait_for_needs(change, desired, done, superseded)
            if superseded():
                return Outcome(change=change, skipped=True)  # waiting took its time: Git or the cluster has moved on
            outcome = await self._do(change)
        except GitsyncdError as error:
            if isinstance(error, ClusterUnreachable):
                self._view.doubtful = True
            outcome = Outcome(change=change, error=error)
        except Exception as error:  # noqa: BLE001 - a bug met at one object must not hide the outcomes of the others
            outcome = Outcome(change=change, error=bug(error))
        heard = self._news.get(change.id)
        outcome = replace(outcome, took_s=self._clock.monotonic() - (heard.at if heard else begun))
        self._journal.outcome(outcome, revision)
        return outcome

    def _refuse_unknown(self, change: Change, desired: Desired) -> None:
        """Nothing is sent of a kind that was unknown when the turn began: the intent does not name it."""
        manifest = desired.unknown.get(change.id)
        if manifest is not None:
            self._view.resource(change.id, manifest.api_version)
            raise Changed("its kind is served since a moment ago", subject=str(change.id))

    async def _do(self, change: Change) -> Outcome:
        match change.operation:
            case Operation.RELEASE:
                return Outcome(change=change)
            case Operation.BLOCK:
                raise _blocked(change)
            case Operation.PRUNE:
                return Outcome(change=change, observed=await self._delete(change))
            case _ if change.report_only:
                return await self._report(change)
            case _:
                return await self._apply(change)

    # --- writing one object --------------------------------------------------------------------------------------

    async def _apply(self, change: Change) -> Outcome:
        manifest = change.manifest
        assert manifest is not None
        resource = self._view.resource(change.id, manifest.api_version)
        self._view.writing(change.id)
        answer: Json | None = None
        operation = change.operation
        try:
            before = await self._before(change, resource)
            try:
                answer = await self._send(change, resource, before)
            except Immutable as error:
                if (change.id.group, change.id.kind) in NEEDS_APPROVAL:
                    raise _never_recreated(change, error) from error
                if not manifest.controls.recreate:
                    raise
                answer = await self._recreate(change, resource)
                operation = Operation.RECREATE
        finally:
            observed = self._view.wrote(change.id, answer, resource.type)
        assert answer is not None
        restored = self._compare(change, before, answer)
        drift = change.drift
        if drift is DriftKind.CHANGED and not restored.fields and not manifest.yields:
            drift = DriftKind.OWNERSHIP  # every value was as we had set it: only the entry in managedFields was not
        return Outcome(
            change=replace(change, operation=operation, drift=drift),
            observed=observed,
            fields=restored.fields,
            blame=restored.blame,
        )

    async def _before(self, change: Change, resource: ResourceType) -> Json | None:
        """The whole live object, where something has to be told from it; the record alone is enough for a plain
        apply.
        """
        observed, manifest = change.observed, change.manifest
        assert manifest is not None
        if observed is None:
            return None
        needed = (
            change.operation in {Operation.REVERT, Operation.ADOPT}
            or change.drift is not None
            or observed.takeover
            or bool(manifest.yields)
        )
        if not needed:
            return None
        news = self._news.get(change.id)
        if news is not None and news.body:
            live: Json = orjson.loads(news.body)
            if live["metadata"]["resourceVersion"] == observed.resource_version:
                return live
        current = await self._view.api.read(resource, change.id)
        if current is None:
            self._view.forget(change.id)
            raise Changed("it was deleted a moment ago", subject=str(change.id), hint="It is looked at again at once.")
        return current

    async def _send(self, change: Change, resource: ResourceType, before: Json | None) -> Json:
        """Bound to the UID and not to the version: Git is right whatever a controller wrote meanwhile."""
        manifest = change.manifest
        assert manifest is not None
        body = manifest.body
        if before is not None:
            if manifest.controls.apply is not Apply.MERGE:
                before = await self._take_over(change, resource, before)
            if manifest.yields:
                body = keep_live(body, before, manifest.yields, self._view.agent.field_manager)
        uid = change.observed.uid if change.observed is not None else ""
        options = ApplyOptions(force=change.operation is not Operation.CREATE, uid=uid)
        try:
            return await self._view.api.apply(resource, change.id, body, options)
        except Conflict as error:
            if change.operation is not Operation.CREATE:
                raise
            # Nothing was there when this was planned; whether it may be taken over is for the next plan to say.
            raise Changed("somebody created it a moment ago", subject=str(change.id)) from error

    async def _take_over(self, change: Change, resource: ResourceType, before: Json) -> Json:
        """Make fields that are to disappear our own: the apply that follows removes what Git does not name.

        Those are what client-side tools left on an object that is adopted, and what policy has removed.
        """
        assert change.manifest is not None
        policy, table = self._target.policy, self._view.writers
        # What Git names becomes ours by the forced apply itself: the usual hand edit costs one request, not two.
        beyond = writers_beyond(before, orjson.loads(change.manifest.body))

        def taken(manager: str, operation: str) -> bool:
            if change.operation is Operation.ADOPT and is_client_side_tool(manager, operation):
                return True
            writer = classify(manager, operation, "", table)
            addition = Addition(manager=manager, writer=writer, operation=operation, at=None, fields=())
            return removes(addition, policy) and (manager, operation) in beyond

        for left in reversed(range(_TRIES)):
            managed = take_over(before, self._view.agent.field_manager, taken)
            if managed is None:
                return before
            version = str(before["metadata"]["resourceVersion"])
            try:
                return await self._view.api.patch_managed_fields(
                    resource, change.id, managed, version, _stale_annotations(before)
                )
            except Changed:
                # Controllers write the status of a busy object many times a second.
                current = await self._view.api.read(resource, change.id) if left else None
                if current is None:
                    raise
                before = current
        raise AssertionError("the last try returns or raises")

    async def _recreate(self, change: Change, resource: ResourceType) -> Json:
        assert change.manifest is not None and change.observed is not None
        if not await self._view.api.delete(resource, change.id, uid=change.observed.uid):
            await self._until_gone(change.id, resource)
        self._view.forget(change.id)
        return await self._view.api.apply(resource, change.id, change.manifest.body, ApplyOptions())

    async def _until_gone(self, object_id: ObjectId, resource: ResourceType) -> None:
        try:
            async with asyncio.timeout(GONE_WITHIN_S):
                while await self._view.api.read(resource, object_id) is not None:  # noqa: ASYNC110 - only the server knows
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            raise Changed(
                "deleted for being recreated, but a finalizer holds it",
                subject=str(object_id),
                hint="It is created as soon as it is gone; see `metadata.finalizers` of the object.",
            ) from None

    async def _delete(self, change: Change) -> Observed | None:
        """None when the object is gone; its record while finalizers still hold it."""
        assert change.entry is not None and change.observed is not None
        resource = self._view.resource(change.id, change.entry.api_version)
        try:
            gone = await self._view.api.delete(resource, change.id, uid=change.observed.uid)
        except NotFound:
            gone = True
        if gone:
            self._view.deleted(change.id)
            return None
        return change.observed

    async def _report(self, change: Change) -> Outcome:
        """Drift that is only reported: who changed what, without a write. What Git wants comes from a dry run."""
        manifest = change.manifest
        assert manifest is not None
        resource = self._view.resource(change.id, manifest.api_version)
        before = await self._before(change, resource)
        if before is None:
            return Outcome(change=change, skipped=True)
        answer = await self._view.api.apply(resource, change.id, manifest.body, ApplyOptions(dry_run=True))
        restored = self._compare(change, before, answer)
        additions = (
            tuple(path for addition in change.observed.additions for path in addition.fields) if change.observed else ()
        )
        return Outcome(change=change, skipped=True, fields=restored.fields or additions, blame=restored.blame)

    def _compare(self, change: Change, before: Json | None, answer: Json) -> Restored:
        if before is None or change.drift is None:
            return Restored((), None)
        manager = self._view.agent.field_manager
        fields = changed_paths(before, answer, manager, include_removed=True)
        return Restored(fields, blame(before, fields, manager, self._view.writers))

    # --- waiting -------------------------------------------------------------------------------------------------

    async def _wait_for_needs(
        self,
        change: Change,
        desired: Desired,
        done: dict[ObjectId, asyncio.Future[Outcome]],
        superseded: Callable[[], bool],
    ) -> None:
        """Raises when something that this object needs has failed, or is not usable in time. Ends early once
        `superseded`.
        """
        if change.manifest is None:
            return
        for need in desired.waits.get(change.id, ()):
            if need in done:
                outcome = await done[need]
                if outcome.error is not None or outcome.skipped:
                    raise NotFound(f"{need}, which it needs, could not be applied", hint=f"See the failure of {need}.")
            if need in change.manifest.controls.depends_on:
                await self._until_healthy(need, superseded)
            elif (need.group, need.kind) == CRD:
                await self._until_served(change)

    async def _until_served(self, change: Change) -> None:
        assert change.manifest is not None
        try:
            async with asyncio.timeout(SERVED_WITHIN_S):
                while change.manifest.type not in self._view.resources:
                    await self._view.rediscover()
        except TimeoutError:
            raise KindUnknown(
                f"{change.manifest.type} is not served, {SERVED_WITHIN_S:.0f} s after its definition was applied",
                subject=str(change.id),
                hint="See the conditions of the CustomResourceDefinition.",
            ) from None

    async def _until_healthy(self, need: ObjectId, superseded: Callable[[], bool]) -> None:
        news = asyncio.Event()
        self._view.news.add(news)
        try:
            async with asyncio.timeout(self._target.timeout.total_seconds()):
                while not superseded():
                    observed = self._view.objects.get(need)
                    if observed and observed.health and observed.health.status is HealthStatus.CURRENT:
                        return
                    news.clear()
                    with suppress(TimeoutError):  # a turn is superseded without news of any object
                        async with asyncio.timeout(_SUPERSEDED_WITHIN_S):
                            await news.wait()
        except TimeoutError:
            raise NotFound(
                f"{need}, which it depends on, did not become healthy in time", hint=f"See the status of {need}."
            ) from None
        finally:
            self._view.news.discard(news)


def _blocked(change: Change) -> ClusterError:
    subject = str(change.id)
    if change.observed is not None and change.observed.deleting:
        return Changed(change.reason, subject=subject, hint="Nothing to do, unless a finalizer holds it for ever.")
    if change.manifest is None:
        hint = "Remove those objects from Git as well, or put the Namespace back."
    else:
        hint = "Remove it from one of the two places, or set `adopt` for this target if it is meant to take the object."
    return Conflict(change.reason, subject=subject, hint=hint)


def _never_recreated(change: Change, error: Immutable) -> Immutable:
    return Immutable(
        error.message,
        fields=error.fields,
        subject=error.subject,
        hint=f"gitsyncd deletes no {change.id.kind} to make it anew, since data would be lost: take the change back, "
        "give the object another name, or delete it yourself.",
    )


def _stale_annotations(live: Json) -> dict[str, None]:
    annotations = live["metadata"].get("annotations") or {}
    return {LAST_APPLIED: None} if LAST_APPLIED in annotations else {}
